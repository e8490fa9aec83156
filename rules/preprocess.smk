"""Preprocess: images to bins, shard by shard.

Needs: config `dataset.root`, or the demo's images of results/retrieve/{dataset}/.
Makes: results/preprocess/{dataset}/{transform}/shard-{shard}/ with a manifest.csv, and a sidecar beside it;
results/preprocess/{dataset}/{transform}/calibration/, some images of the training split, if a target is int8.
"""


rule preprocess_shard:
    """Resize, crop and normalise one shard's images, bit for bit as the model was evaluated."""
    input:
        sweep.demo_images,
        lambda wildcards: cli.or_fail(needed.images),
    output:
        folder=directory("results/preprocess/{dataset}/{transform}/shard-{shard}"),
        sidecar="results/preprocess/{dataset}/{transform}/shard-{shard}.json",
    log:
        "results/logs/preprocess/{dataset}/{transform}/shard-{shard}.log",
    benchmark:
        "results/benchmarks/preprocess/{dataset}/{transform}/shard-{shard}.tsv"
    priority: FIRST
    conda:
        "../envs/pytorch.yaml"
    threads: 2
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        flags=sweep.preprocess_flags(),
        shards=len(sweep.shards),
        images=lambda wildcards: cli.or_fail(contents.shard, wildcards.shard),
        classes=lambda wildcards: cli.or_fail(contents.classes),
        transform_flags=lambda wildcards: sweep.transforms.flags(wildcards.transform),
        transform=lambda wildcards: cli.or_fail(contents.transform, wildcards.transform),
        code=code_digest("preprocess"),
        tools=versions(["pillow", "numpy", "pillow-heif"]),
    message:
        "{wildcards.dataset}: preprocess shard {wildcards.shard} for {wildcards.transform}"
    shell:
        "python scripts/share.py"
        " --key {params.code}"
        " --key {params.tools:q}"
        " --key classes={params.classes:q}"
        " --reads_images"
        " --output {output.folder:q}"
        " --"
        " python scripts/preprocess.py"
        " {params.flags:q}"
        " {params.transform_flags:q}"
        " --shard {wildcards.shard}/{params.shards}"
        " --workers {threads}"
        " --save_dir {output.folder:q}"
        " > {log:q} 2>&1"


rule preprocess_calibration:
    """Draw training images to calibrate int8 engines with, none of which is scored."""
    input:
        sweep.demo_images,
        lambda wildcards: cli.or_fail(needed.calibration),
        scored=lambda wildcards: sweep.scored(wildcards.transform),
        sidecars=lambda wildcards: sweep.scored_sidecars(wildcards.transform),
    output:
        folder=directory("results/preprocess/{dataset}/{transform}/calibration"),
        sidecar="results/preprocess/{dataset}/{transform}/calibration.json",
    log:
        "results/logs/preprocess/{dataset}/{transform}/calibration.log",
    benchmark:
        "results/benchmarks/preprocess/{dataset}/{transform}/calibration.tsv"
    priority: FIRST
    conda:
        "../envs/pytorch.yaml"
    threads: 2
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        flags=sweep.calibration_flags(),
        images=lambda wildcards: cli.or_fail(contents.calibration),
        transform_flags=lambda wildcards: sweep.transforms.flags(wildcards.transform),
        transform=lambda wildcards: cli.or_fail(contents.transform, wildcards.transform),
        code=code_digest("preprocess"),
        tools=versions(["pillow", "numpy", "pillow-heif"]),
    message:
        "{wildcards.dataset}: draw and preprocess calibration images for {wildcards.transform}"
    shell:
        "python scripts/preprocess.py"
        " {params.flags:q}"
        " {params.transform_flags:q}"
        " --not_in {input.scored:q}"
        " --workers {threads}"
        " --save_dir {output.folder:q}"
        " > {log:q} 2>&1"
