"""Compile: ONNX to one engine per backend, precision and batch size.

Needs: results/export/{model}/model.onnx.
Makes: results/compile/{model}/{backend}/{precision}/bs{batch}.<suffix> and its sidecar bs{batch}.json.
"""


rule compile_onnxruntime:
    """Fix the batch dimension and optimise the graph for this CPU, offline."""
    input:
        onnx="results/export/{model}/model.onnx",
        sidecar=ancient("results/export/{model}/model.json"),
    output:
        engine="results/compile/{model}/onnxruntime/{precision}/bs{batch}.onnx",
        sidecar="results/compile/{model}/onnxruntime/{precision}/bs{batch}.json",
    log:
        "results/logs/compile/{model}/onnxruntime/{precision}/bs{batch}.log",
    benchmark:
        "results/benchmarks/compile/{model}/onnxruntime/{precision}/bs{batch}.tsv"
    conda:
        "../envs/onnxruntime.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        code=code_digest("compile", "onnxruntime"),
        tools=tools("onnxruntime"),
    message:
        "{wildcards.model}: compile for onnxruntime {wildcards.precision}, batch {wildcards.batch}"
    shell:
        "python scripts/compile.py --backend onnxruntime --precision {wildcards.precision:q}"
        " --batch_size {wildcards.batch} --onnx_path {input.onnx:q} --output {output.engine:q} > {log:q} 2>&1"


rule compile_ascend:
    """Let atc make an .om for an Ascend NPU; that needs CANN, but no NPU."""
    input:
        onnx="results/export/{model}/model.onnx",
        sidecar=ancient("results/export/{model}/model.json"),
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
        mem_mb=8000,
        runtime=120,
    params:
        atc=lambda wildcards: atc(wildcards.model, wildcards.precision, wildcards.batch),
        environment=environment("ascend"),
        options=lambda wildcards: [
            word for pair in ascend_options(wildcards.precision).items() for word in ("--option", "=".join(pair))
        ],
        code=code_digest("compile", "ascend"),
    message:
        "{wildcards.model}: compile for ascend {wildcards.precision}, batch {wildcards.batch}"
    shell:
        "# in a scratch folder: {params.atc}\n"
        "{params.environment}python scripts/compile.py --backend ascend --precision {wildcards.precision:q}"
        " --batch_size {wildcards.batch} --onnx_path {input.onnx:q} {params.options:q} --output {output.engine:q}"
        " > {log:q} 2>&1"
