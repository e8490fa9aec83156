"""Infer: the accuracy pass, one shard of bins through one engine.

Needs: an engine (or the checkpoint, for the reference) and a folder of bins.
Makes: results/infer/{model}/{backend}/{precision}/{dataset}/bs{batch}/shard-{shard}/ and shard-{shard}_summary.json.
"""


rule infer_shard:
    """Run every image of a shard through an engine, as ais_bench does."""
    input:
        engine=lambda wildcards: engine(wildcards.model, wildcards.backend, wildcards.precision, wildcards.batch),
        bins=lambda wildcards: bins(wildcards.model, wildcards.shard),
    output:
        folder=directory("results/infer/{model}/{backend}/{precision}/{dataset}/bs{batch}/shard-{shard}"),
        summary="results/infer/{model}/{backend}/{precision}/{dataset}/bs{batch}/shard-{shard}_summary.json",
    log:
        "results/logs/infer/{model}/{backend}/{precision}/{dataset}/bs{batch}/shard-{shard}.log",
    benchmark:
        "results/benchmarks/infer/{model}/{backend}/{precision}/{dataset}/bs{batch}/shard-{shard}.tsv"
    conda:
        "../envs/{backend}.yaml"
    threads: lambda wildcards: host_threads(wildcards.backend)
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
        npu=counted("npu"),
        gpu=counted("gpu"),
        # any of them will do, and another list of them makes nothing stale, as a parameter would
        devices=lambda wildcards: ",".join(settings.devices(config, wildcards.backend)),
    params:
        code=lambda wildcards: code_digest("infer", wildcards.backend),
        tools=lambda wildcards: tools(wildcards.backend),
        output=subpath(output.folder, parent=True),
        python=lambda wildcards: interpreter(wildcards.backend),
    message:
        "{wildcards.model}: infer shard {wildcards.shard} with {wildcards.backend} {wildcards.precision}, batch {wildcards.batch}"
    shell:
        "{params.python} scripts/infer.py --model {input.engine:q} --model_label {wildcards.model:q} --batchsize {wildcards.batch}"
        " --threads {threads} --input {input.bins:q} --output {params.output:q}"
        " --output_dirname shard-{wildcards.shard} --outfmt NPY --device {resources.devices:q} --record_failure > {log:q} 2>&1"
