"""Retrieve: fetch what a sweep starts from.

Needs: config `models` (checkpoint, onnx or om, a path or URL), `dataset.demo` for the demo.
Makes: results/retrieve/{model}/checkpoint.pth, model.onnx or bs{batch}.om, results/retrieve/{dataset}/ for the demo.
"""


rule retrieve_checkpoint:
    """Fetch a checkpoint, or make the demo's, and make sure that it fits its model."""
    input:
        ancient(of_model(sweep.source_file, "checkpoint")),
        demo=of_model(sweep.trained_on),
    output:
        checkpoint="results/retrieve/{model}/checkpoint.pth",
        sidecar="results/retrieve/{model}/checkpoint.json",
    log:
        "results/logs/retrieve/{model}/checkpoint.log",
    benchmark:
        "results/benchmarks/retrieve/{model}/checkpoint.tsv"
    priority: FIRST
    conda:
        "../envs/pytorch.yaml"
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        flags=of_model(sweep.source_flags, "checkpoint"),
        content=of_model(contents.source, "checkpoint"),
        transform=of_model(contents.demo_transform),
        code=code_digest("retrieve"),
    message:
        "{wildcards.model}: retrieve the checkpoint"
    shell:
        "python scripts/retrieve.py checkpoint" " {params.flags:q}" " --output {output.checkpoint:q}" " > {log:q} 2>&1"


rule retrieve_onnx:
    """Fetch a ready-made ONNX file."""
    input:
        ancient(of_model(sweep.source_file, "onnx")),
    output:
        onnx="results/retrieve/{model}/model.onnx",
        sidecar="results/retrieve/{model}/model.json",
    log:
        "results/logs/retrieve/{model}/onnx.log",
    benchmark:
        "results/benchmarks/retrieve/{model}/onnx.tsv"
    priority: FIRST
    conda:
        "../envs/pytorch.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        flags=of_model(sweep.source_flags, "onnx"),
        content=of_model(contents.source, "onnx"),
        code=code_digest("retrieve"),
    message:
        "{wildcards.model}: retrieve the ONNX file"
    shell:
        "python scripts/retrieve.py onnx" " {params.flags:q}" " --output {output.onnx:q}" " > {log:q} 2>&1"


rule retrieve_om:
    """Fetch a ready-made engine; what it contains is checked when it is opened."""
    input:
        ancient(lambda wildcards: cli.or_fail(sweep.source_file, wildcards.model, "om", wildcards.batch)),
    output:
        engine="results/retrieve/{model}/bs{batch}.om",
        sidecar="results/retrieve/{model}/bs{batch}.json",
    log:
        "results/logs/retrieve/{model}/bs{batch}.log",
    benchmark:
        "results/benchmarks/retrieve/{model}/bs{batch}.tsv"
    priority: FIRST
    conda:
        "../envs/pytorch.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        flags=lambda wildcards: sweep.ready_made_flags(wildcards.model, "om", wildcards.batch),
        content=lambda wildcards: cli.or_fail(contents.source, wildcards.model, "om", wildcards.batch),
        code=code_digest("retrieve"),
    message:
        "{wildcards.model}: retrieve the .om file for batch {wildcards.batch}"
    shell:
        "python scripts/retrieve.py om" " {params.flags:q}" " --output {output.engine:q}" " > {log:q} 2>&1"


rule retrieve_dataset:
    """Make the demo's images: handwritten digits in ImageNet's shape."""
    output:
        folder=directory("results/retrieve/{dataset}"),
        sidecar="results/retrieve/{dataset}.json",
    log:
        "results/logs/retrieve/{dataset}.log",
    benchmark:
        "results/benchmarks/retrieve/{dataset}.tsv"
    priority: FIRST
    conda:
        "../envs/pytorch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        flags=sweep.demo_flags(),
        code=code_digest("retrieve"),
        tools=versions(["pillow", "scikit-learn", "numpy"]),
    message:
        "{wildcards.dataset}: make the demo's images"
    shell:
        "python scripts/retrieve.py dataset" " {params.flags:q}" " --output {output.folder:q}" " > {log:q} 2>&1"
