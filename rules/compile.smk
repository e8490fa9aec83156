"""Compile: one engine per target and batch size.

Needs: results/export/{model}/{graph}.onnx, or results/retrieve/{model}/checkpoint.pth; calibration bins for int8; their
sidecars.
Makes: results/compile/{model}/{backend}/{precision}/bs{batch}.<suffix> and its sidecar bs{batch}.json; of a variant
below {precision}/{variant}/. If there can be no engine (too large for the memory, refused by its compiler), the
sidecar says why, and so do the tables.
"""


rule compile_engine:
    """Compile for a backend; each of those below adds its files and what its compiler takes of the host."""
    input:
        source=of_cell(sweep.source),
        sidecar=of_cell(sweep.source_sidecar),
        calibration=of_cell(sweep.calibration),
        calibration_sidecar=of_cell(sweep.calibration_sidecar),
        options=ancient(of_cell(sweep.option_files)),
    output:
        engine="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}",
        sidecar="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.json",
    log:
        "results/logs/compile/{model}/{backend}/{precision}{variant}/bs{batch}.log",
    benchmark:
        "results/benchmarks/compile/{model}/{backend}/{precision}{variant}/bs{batch}.tsv"
    wildcard_constraints:
        backend="(?!)",  # none: this rule itself makes nothing
    priority: FIRST
    conda:
        "../envs/{backend}.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    params:
        shown=of_cell(sweep.shown),
        set_up=of_backend(hosts.set_up),
        python=of_backend(hosts.compiling_python),
        source=of_cell(sweep.compile_source_flags),
        options=of_cell(sweep.option_flags),
        option_content=of_cell(contents.options),
        environment=of_backend(hosts.environment),
        code=digest_of("compile"),
        tools=of_backend(hosts.compiling_tools),
    message:
        "{wildcards.model}: compile for {wildcards.backend} {wildcards.precision}{wildcards.variant}, batch {wildcards.batch}"
    shell:
        "{params.shown}"
        "{params.set_up}"
        "python scripts/share.py"
        " --backend {wildcards.backend}"
        " --key {params.code}"
        " --key {params.tools:q}"
        " --output {output.engine:q}"
        " --"
        " {params.python} scripts/compile.py"
        " --backend {wildcards.backend}"
        " --precision {wildcards.precision:q}"
        " --batch_size {wildcards.batch}"
        " {params.source:q}"
        " {params.options:q}"
        " {params.environment:q}"
        " --output {output.engine:q}"
        " --record_failure"
        " > {log:q} 2>&1"


use rule compile_engine as compile_onnxruntime with:
    output:
        engine="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.onnx",
        sidecar="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.json",
    wildcard_constraints:
        backend="onnxruntime",


use rule compile_engine as compile_openvino with:
    output:
        engine="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.xml",
        weights="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.bin",
        sidecar="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.json",
    wildcard_constraints:
        backend="openvino",


use rule compile_engine as compile_aotinductor with:
    output:
        engine="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.pt2",
        sidecar="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.json",
    wildcard_constraints:
        backend="aotinductor",
    threads: 2
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
        gpu=counted("gpu"),


use rule compile_engine as compile_tensorrt with:
    output:
        engine="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.plan",
        sidecar="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.json",
    wildcard_constraints:
        backend="tensorrt",
    threads: 2
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
        gpu=counted("gpu"),


# atc needs CANN, but no NPU
use rule compile_engine as compile_ascend with:
    output:
        engine="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.om",
        sidecar="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.json",
    wildcard_constraints:
        backend="ascend",
    threads: 2
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
        cann=1,
