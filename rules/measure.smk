"""Measure: the performance pass, with the machine to itself.

Needs: an engine (or the checkpoint, for the reference), the first shard's bins, and the sidecars of both.
Makes: results/measure/{model}/{backend}/{precision}/bs{batch}/load-{load}.json and every latency of that load in
load-{load}.npy, and of all its loads bs{batch}.json; of imported results imported/bs{batch}.json; of a variant below
{precision}/{variant}/.
"""

from scripts.smlp.workflow import measuring

rounds = measuring.Measuring(sweep, config)


rule measure_load:
    """Measure latency and throughput of one load of an engine on real images, nothing else running."""
    input:
        engine=of_cell(sweep.engine),
        companions=of_cell(sweep.companions),
        sidecar=of_cell(sweep.engine_sidecar),
        bins=of_model(sweep.bins, 0),
        bins_sidecar=of_model(sweep.bins_sidecar, 0),
    output:
        summary="results/measure/{model}/{backend}/{precision}{variant}/bs{batch}/load-{load}.json",
        latencies="results/measure/{model}/{backend}/{precision}{variant}/bs{batch}/load-{load}.npy",
    log:
        "results/logs/measure/{model}/{backend}/{precision}{variant}/bs{batch}/load-{load}.log",
    benchmark:
        "results/benchmarks/measure/{model}/{backend}/{precision}{variant}/bs{batch}/load-{load}.tsv"
    # in rounds, without an edge from load to load: measuring one of them again makes no other one stale
    priority: lambda wildcards: measuring.priority(int(wildcards.load))
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
        flags=of_cell(rounds.flags),
        host=lambda wildcards: jobs.measured_on(rounds.load(Cell.of(wildcards), int(wildcards.load)), HOST),
        code=digest_of("measure"),
        tools=of_backend(hosts.tools),
    message:
        "{wildcards.model}: measure {wildcards.backend} {wildcards.precision}{wildcards.variant}, batch {wildcards.batch}, load {wildcards.load}"
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


rule measure_engine:
    """Make one row of the throughput table from an engine's loads."""
    input:
        of_cell(rounds.loads),
    output:
        "results/measure/{model}/{backend}/{precision}{variant}/bs{batch}.json",
    log:
        "results/logs/measure/{model}/{backend}/{precision}{variant}/bs{batch}.log",
    benchmark:
        "results/benchmarks/measure/{model}/{backend}/{precision}{variant}/bs{batch}.tsv"
    conda:
        "../envs/pytorch.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code_digest("measure_row"),
    message:
        "{wildcards.model}: the loads of {wildcards.backend} {wildcards.precision}{wildcards.variant}, batch {wildcards.batch}"
    shell:
        "python scripts/measure_row.py" " --loads {input:q}" " --output {output:q}" " > {log:q} 2>&1"


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
