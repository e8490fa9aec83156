"""Infer: the accuracy pass, one shard of bins through one engine.

Needs: an engine (or the checkpoint, for the reference), a folder of bins, and the sidecars of both.
Makes: results/infer/{model}/{backend}/{precision}/{dataset}/bs{batch}/shard-{shard}/ and shard-{shard}_summary.json;
of a variant below {precision}/{variant}/.
"""


rule infer_shard:
    """Run every image of a shard through an engine, as ais_bench does."""
    input:
        engine=of_cell(sweep.engine),
        companions=of_cell(sweep.companions),
        sidecar=of_cell(sweep.engine_sidecar),
        bins=lambda wildcards: sweep.bins(wildcards.model, wildcards.shard),
        bins_sidecar=lambda wildcards: sweep.bins_sidecar(wildcards.model, wildcards.shard),
    output:
        folder=directory("results/infer/{model}/{backend}/{precision}{variant}/{dataset}/bs{batch}/shard-{shard}"),
        summary="results/infer/{model}/{backend}/{precision}{variant}/{dataset}/bs{batch}/shard-{shard}_summary.json",
    log:
        "results/logs/infer/{model}/{backend}/{precision}{variant}/{dataset}/bs{batch}/shard-{shard}.log",
    benchmark:
        "results/benchmarks/infer/{model}/{backend}/{precision}{variant}/{dataset}/bs{batch}/shard-{shard}.tsv"
    conda:
        "../envs/{backend}.yaml"
    threads: of_backend(hosts.threads)
    resources:
        **DEVICES,
        mem_mb=growing(4000),
        runtime=growing(240),
        # any of them will do, and another list of them makes nothing stale, as a parameter would
        devices=lambda wildcards: ",".join(hosts.devices(wildcards.backend)),
    params:
        python=of_backend(hosts.interpreter),
        environment=of_backend(hosts.environment),
        variant=of_cell(sweep.variant_flags),
        output=subpath(output.folder, parent=True),
        code=digest_of("infer"),
        tools=of_backend(hosts.tools),
    message:
        "{wildcards.model}: infer shard {wildcards.shard} with {wildcards.backend} {wildcards.precision}{wildcards.variant}, batch {wildcards.batch}"
    shell:
        "{params.python} scripts/infer.py"
        " --model {input.engine:q}"
        " --model_label {wildcards.model:q}"
        " {params.variant:q}"
        " --batchsize {wildcards.batch}"
        " --threads {threads}"
        " {params.environment:q}"
        " --input {input.bins:q}"
        " --output {params.output:q}"
        " --output_dirname shard-{wildcards.shard}"
        " --outfmt NPY"
        " --device {resources.devices:q}"
        " --record_failure"
        " > {log:q} 2>&1"
