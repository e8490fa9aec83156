"""Compile: one engine per backend, precision and batch size.

Needs: results/export/{model}/{graph}.onnx, or results/retrieve/{model}/checkpoint.pth; calibration bins for int8.
Makes: results/compile/{model}/{backend}/{precision}/bs{batch}.<suffix> and its sidecar bs{batch}.json. Where there can
be no engine (too large for the memory, refused by its compiler), the sidecar says why, and so do the tables.
"""


rule compile_onnxruntime:
    """Fix the batch dimension and optimise the graph for this processor, offline."""
    input:
        unpack(lambda wildcards: compile_sources(wildcards.model, wildcards.backend, wildcards.precision)),
    output:
        engine="results/compile/{model}/{backend}/{precision}/bs{batch}.onnx",
        sidecar="results/compile/{model}/{backend}/{precision}/bs{batch}.json",
    log:
        "results/logs/compile/{model}/{backend}/{precision}/bs{batch}.log",
    benchmark:
        "results/benchmarks/compile/{model}/{backend}/{precision}/bs{batch}.tsv"
    wildcard_constraints:
        backend="onnxruntime",
    conda:
        "../envs/{backend}.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    params:
        environment=lambda wildcards: environment(wildcards.backend),
        python=lambda wildcards: python(wildcards.backend),
        source=lambda wildcards: compile_source_flags(wildcards.model, wildcards.backend),
        options=lambda wildcards: compile_flags(wildcards.model, wildcards.backend, wildcards.precision),
        code=lambda wildcards: code_digest("compile", wildcards.backend),
        tools=lambda wildcards: tools(wildcards.backend),
    message:
        "{wildcards.model}: compile for {wildcards.backend} {wildcards.precision}, batch {wildcards.batch}"
    shell:
        "{params.environment}python scripts/share.py --backend {wildcards.backend} --key {params.code} --key {params.tools:q}"
        " --output {output.engine:q} --output {output.sidecar:q} --"
        " {params.python} scripts/compile.py --backend {wildcards.backend} --precision {wildcards.precision:q}"
        " --batch_size {wildcards.batch} {params.source:q} {params.options:q} --output {output.engine:q}"
        " --record_failure > {log:q} 2>&1"


use rule compile_onnxruntime as compile_openvino with:
    output:
        engine="results/compile/{model}/{backend}/{precision}/bs{batch}.xml",
        sidecar="results/compile/{model}/{backend}/{precision}/bs{batch}.json",
    wildcard_constraints:
        backend="openvino",


use rule compile_onnxruntime as compile_aotinductor with:
    output:
        engine="results/compile/{model}/{backend}/{precision}/bs{batch}.pt2",
        sidecar="results/compile/{model}/{backend}/{precision}/bs{batch}.json",
    wildcard_constraints:
        backend="aotinductor",
    threads: 2
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
        gpu=counted("gpu"),


use rule compile_onnxruntime as compile_tensorrt with:
    output:
        engine="results/compile/{model}/{backend}/{precision}/bs{batch}.plan",
        sidecar="results/compile/{model}/{backend}/{precision}/bs{batch}.json",
    wildcard_constraints:
        backend="tensorrt",
    threads: 2
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
        gpu=counted("gpu"),


rule compile_ascend:
    """Let atc make an .om for an Ascend NPU; that needs CANN, but no NPU."""
    input:
        unpack(lambda wildcards: compile_sources(wildcards.model, "ascend", wildcards.precision)),
        settings=lambda wildcards: ascend_files(wildcards.precision),
    output:
        engine="results/compile/{model}/ascend/{precision}/bs{batch}.om",
        sidecar="results/compile/{model}/ascend/{precision}/bs{batch}.json",
    log:
        "results/logs/compile/{model}/ascend/{precision}/bs{batch}.log",
    benchmark:
        "results/benchmarks/compile/{model}/ascend/{precision}/bs{batch}.tsv"
    conda:
        "../envs/ascend.yaml"
    threads: 2
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
        cann=1,
    params:
        atc=lambda wildcards: atc(wildcards.model, wildcards.precision, wildcards.batch),
        environment=environment("ascend"),
        options=lambda wildcards: option_flags(ascend_options(wildcards.precision)),
        code=code_digest("compile", "ascend"),
    message:
        "{wildcards.model}: compile for ascend {wildcards.precision}, batch {wildcards.batch}"
    shell:
        "# in a scratch folder: {params.atc}\n"
        "{params.environment}python scripts/share.py --backend ascend --key {params.code}"
        " --output {output.engine:q} --output {output.sidecar:q} -- python scripts/compile.py --backend ascend --precision {wildcards.precision:q}"
        " --batch_size {wildcards.batch} --onnx_path {input.onnx:q} {params.options:q} --output {output.engine:q}"
        " --record_failure > {log:q} 2>&1"
