"""Measure: the performance pass, with the machine to itself.

Needs: an engine (or the checkpoint, for the reference), the first shard's bins, and the sidecars of both.
Makes: results/measure/{model}/{backend}/{precision}/bs{batch}.json and every latency in bs{batch}.npy,
results/measure/{model}/{backend}/{precision}/imported/bs{batch}.json of imported results; of a variant below
{precision}/{variant}/.
"""


rule measure_engine:
    """Measure latency and throughput of an engine on real images, nothing else running."""
    input:
        engine=of_cell(sweep.engine),
        companions=of_cell(sweep.companions),
        sidecar=of_cell(sweep.engine_sidecar),
        bins=of_model(sweep.bins, 0),
        bins_sidecar=of_model(sweep.bins_sidecar, 0),
    output:
        summary="results/measure/{model}/{backend}/{precision}{variant}/bs{batch}.json",
        latencies="results/measure/{model}/{backend}/{precision}{variant}/bs{batch}.npy",
    log:
        "results/logs/measure/{model}/{backend}/{precision}{variant}/bs{batch}.log",
    benchmark:
        "results/benchmarks/measure/{model}/{backend}/{precision}{variant}/bs{batch}.tsv"
    conda:
        "../envs/{backend}.yaml"
    threads: ALL_CORES
    resources:
        **DEVICES,
        mem_mb=growing(4000),
        runtime=growing(60),
        # no parameter: it makes nothing stale
        where="here" if HOST else "submitted",
    params:
        python=of_backend(hosts.interpreter),
        environment=of_backend(hosts.environment),
        flags=of_cell(sweep.measure_flags),
        host=of_cell(lambda cell: jobs.measured_on(sweep.throughput(cell), HOST)),
        code=digest_of("measure"),
        tools=of_backend(hosts.tools),
    message:
        "{wildcards.model}: measure {wildcards.backend} {wildcards.precision}{wildcards.variant}, batch {wildcards.batch}"
    shell:
        "{params.python} scripts/measure.py"
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


rule measure_import:
    """Take the throughput that ais_bench stated for imported results."""
    input:
        ancient(of_cell(sweep.imported_summary)),
    output:
        "results/measure/{model}/{backend}/{precision}{variant}/imported/bs{batch}.json",
    log:
        "results/logs/measure/{model}/{backend}/{precision}{variant}/imported/bs{batch}.log",
    benchmark:
        "results/benchmarks/measure/{model}/{backend}/{precision}{variant}/imported/bs{batch}.tsv"
    conda:
        "../envs/pytorch.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        variant=of_cell(sweep.variant_flags),
        content=of_cell(contents.imported_summary),
        code=code_digest("measure_import"),
    message:
        "{wildcards.model}: import the throughput of {wildcards.backend} {wildcards.precision}{wildcards.variant}, batch {wildcards.batch}"
    shell:
        "python scripts/measure_import.py"
        " --summary {input:q}"
        " --model_label {wildcards.model:q}"
        " --backend {wildcards.backend}"
        " --precision {wildcards.precision}"
        " {params.variant:q}"
        " --batchsize {wildcards.batch}"
        " --output {output:q}"
        " > {log:q} 2>&1"
