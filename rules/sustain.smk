"""Sustain: what heat and limits of power leave of an engine's rate, with the machine to itself.

Needs: engines (or the checkpoint, for the reference), the first shard's bins, and the sidecars of both.
Makes: results/sustain/{model}/{backend}/{precision}/bs{batch}.json and beside it in .npy how the run went, of the batch
sizes that measure.sustained_batch_sizes names, or the largest one; of a variant below {precision}/{variant}/.
"""


rule sustain_engine:
    """Run an engine for minutes on real images, nothing else running."""
    input:
        engine=of_cell(sweep.engine),
        companions=of_cell(sweep.companions),
        sidecar=of_cell(sweep.engine_sidecar),
        bins=of_model(sweep.bins, 0),
        bins_sidecar=of_model(sweep.bins_sidecar, 0),
    output:
        summary="results/sustain/{model}/{backend}/{precision}{variant}/bs{batch}.json",
        series="results/sustain/{model}/{backend}/{precision}{variant}/bs{batch}.npy",
    log:
        "results/logs/sustain/{model}/{backend}/{precision}{variant}/bs{batch}.log",
    benchmark:
        "results/benchmarks/sustain/{model}/{backend}/{precision}{variant}/bs{batch}.tsv"
    conda:
        "../envs/{backend}.yaml"
    # priority: that of most jobs, below all loads, which a hot machine would change
    threads: ALL_CORES
    resources:
        **DEVICES,
        mem_mb=growing(4000),
        runtime=growing(60 + round(config["measure"]["sustained_s"] / 60)),
        # no parameter: it makes nothing stale
        where="here" if HOST else "submitted",
    params:
        python=of_backend(hosts.interpreter),
        environment=of_backend(hosts.environment),
        flags=of_cell(rounds.sustained_flags),
        host=lambda wildcards: jobs.measured_on(sustaining.file(Cell.of(wildcards)), HOST),
        code=digest_of("sustain"),
        tools=of_backend(hosts.tools),
    message:
        "{wildcards.model}: sustained load of {wildcards.backend} {wildcards.precision}{wildcards.variant}, batch {wildcards.batch}"
    shell:
        "{params.python} scripts/sustain.py"
        " --model {input.engine:q}"
        " --model_label {wildcards.model:q}"
        " --batchsize {wildcards.batch}"
        " --threads {threads}"
        " {params.environment:q}"
        " --input {input.bins:q}"
        " {params.flags:q}"
        " --where {resources.where}"
        " --record_failure"
        " --output {output.summary:q}"
        " > {log:q} 2>&1"
