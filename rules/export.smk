"""Export: checkpoint to ONNX, proved against PyTorch.

Needs: results/retrieve/{model}/checkpoint.pth or model.onnx; config `export`.
Makes: results/export/{model}/{graph}.onnx and its sidecar {graph}.json; graph is reference or fused. Of another opset
than export.opset_version {graph}_opset17.onnx; of either {graph}…_uint8.onnx if the bins hold bytes.
"""


rule export_onnx:
    """Export a checkpoint to ONNX and prove it; a ready-made ONNX file gets the same checks."""
    input:
        source=of_model(sweep.start),
        sidecar=of_model(sweep.start_sidecar),
    output:
        onnx="results/export/{model}/{graph}{opset}.onnx",
        sidecar="results/export/{model}/{graph}{opset}.json",
    log:
        "results/logs/export/{model}/{graph}{opset}.log",
    benchmark:
        "results/benchmarks/export/{model}/{graph}{opset}.tsv"
    priority: FIRST
    conda:
        "../envs/pytorch.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        flags=lambda wildcards: sweep.export_flags(wildcards.model, wildcards.opset),
        transform=of_model(contents.model_transform),
        code=code_digest("export"),
        tools=versions(["torch", "torchvision", "timm", "einops", "onnx", "onnxscript", "onnxruntime", "numpy"]),
    message:
        "{wildcards.model}: export the {wildcards.graph} graph to ONNX and prove it"
    shell:
        "python scripts/share.py"
        " --key {params.code}"
        " --key {params.tools:q}"
        " --output {output.onnx:q}"
        " --"
        " python scripts/export.py"
        " {params.flags:q}"
        " --graph {wildcards.graph}"
        " --onnx_path {output.onnx:q}"
        " > {log:q} 2>&1"


rule export_uint8:
    """Put the normalisation into an ONNX file, so that its engines take the bytes of images."""
    input:
        source="results/export/{model}/{graph}{opset}.onnx",
        sidecar="results/export/{model}/{graph}{opset}.json",
    output:
        onnx="results/export/{model}/{graph}{opset}_uint8.onnx",
        sidecar="results/export/{model}/{graph}{opset}_uint8.json",
    log:
        "results/logs/export/{model}_{graph}{opset}_uint8.log",
    benchmark:
        "results/benchmarks/export/{model}_{graph}{opset}_uint8.tsv"
    priority: FIRST
    conda:
        "../envs/pytorch.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    params:
        transform=of_model(sweep.transforms.flags_of),
        transform_source=of_model(contents.model_transform),
        tolerance=config["export"]["tolerance"],
        code=code_digest("normalise"),
        tools=versions(["timm", "onnx", "onnxruntime", "numpy"]),
    message:
        "{wildcards.model}: put the normalisation into {wildcards.graph}{wildcards.opset}.onnx"
    shell:
        "python scripts/normalise.py"
        " {params.transform:q}"
        " --source_onnx_path {input.source:q}"
        " --tolerance {params.tolerance}"
        " --onnx_path {output.onnx:q}"
        " > {log:q} 2>&1"
