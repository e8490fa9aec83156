"""Export: checkpoint to ONNX, proved against PyTorch.

Needs: results/retrieve/{model}/checkpoint.pth or model.onnx; config `export`.
Makes: results/export/{model}/model.onnx and its sidecar model.json.
"""


rule export_onnx:
    """Export a checkpoint to ONNX and prove it; a ready-made ONNX file gets the same checks."""
    input:
        unpack(lambda wildcards: export_start(wildcards.model)),
    output:
        onnx="results/export/{model}/model.onnx",
        sidecar="results/export/{model}/model.json",
    log:
        "results/logs/export/{model}.log",
    benchmark:
        "results/benchmarks/export/{model}.tsv"
    conda:
        "../envs/pytorch.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        flags=lambda wildcards: export_flags(wildcards.model),
        code=code_digest("export"),
        tools=versions(["torch", "timm", "onnx", "onnxruntime"]),
    message:
        "{wildcards.model}: export to ONNX and prove it"
    shell:
        "python scripts/export.py {params.flags:q} --onnx_path {output.onnx:q} > {log:q} 2>&1"
