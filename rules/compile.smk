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
