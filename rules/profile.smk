"""Profile: where the time goes, operator by operator, apart from the timed runs.

Needs: engines (or the checkpoint, for the reference) with their sidecars and the first shard's bins; for the best row
also every accuracy and throughput of the model, and what says which of them cannot be.
Makes: results/profile/{model}/{backend}/{precision}/bs{batch}.json of the rows that the settings name, of a variant
below {precision}/{variant}/, and results/profile/{model}/best.json of the best row.
"""

candidates = sweep.profiles.candidates


rule profile_engine:
    """Profile an engine on real images, nothing else running."""
    input:
        engine=of_cell(sweep.engine),
        companions=of_cell(sweep.companions),
        sidecar=of_cell(sweep.engine_sidecar),
        bins=of_model(sweep.bins, 0),
        bins_sidecar=of_model(sweep.bins_sidecar, 0),
    output:
        "results/profile/{model}/{backend}/{precision}{variant}/bs{batch}.json",
    log:
        "results/logs/profile/{model}/{backend}/{precision}{variant}/bs{batch}.log",
    benchmark:
        "results/benchmarks/profile/{model}/{backend}/{precision}{variant}/bs{batch}.tsv"
    conda:
        "../envs/{backend}.yaml"
    threads: ALL_CORES
    resources:
        **DEVICES,
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        python=of_backend(hosts.interpreter),
        environment=of_backend(hosts.environment),
        flags=of_cell(sweep.profiles.flags),
        code=digest_of("profile_engine"),
        tools=of_backend(hosts.tools),
    message:
        "{wildcards.model}: profile {wildcards.backend} {wildcards.precision}{wildcards.variant}, batch {wildcards.batch}"
    shell:
        "{params.python} scripts/profile_engine.py"
        " --model {input.engine:q}"
        " --model_label {wildcards.model:q}"
        " --batchsize {wildcards.batch}"
        " --threads {threads}"
        " {params.environment:q}"
        " --input {input.bins:q}"
        " {params.flags:q}"
        " --record_failure"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule profile_best:
    """Find a model's best row, and profile its engine."""
    input:
        accuracy=of_model(candidates.files, "evaluate"),
        throughput=of_model(candidates.files, "measure"),
        confirmed=of_model(sweep.confirmed),
        ceilings=cli.or_fail(sweep.files, "ceilings"),
        graphs=cli.or_fail(ceilings.graphs, sweep),
        sheet="resources/ceilings.csv",
        engines=of_model(candidates.engine_files),
        bins=of_model(sweep.bins, 0),
        bins_sidecar=of_model(sweep.bins_sidecar, 0),
    output:
        "results/profile/{model}/best.json",
    log:
        "results/logs/profile/{model}/best.log",
    benchmark:
        "results/benchmarks/profile/{model}/best.tsv"
    conda:
        "../envs/pytorch.yaml"
    threads: ALL_CORES
    resources:
        **candidates.devices(),
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        rows=of_model(sweep.profiles.rows),
        flags=of_model(candidates.best_flags),
        code=of_model(candidates.code, "profile_best", "profile_engine"),
        tools=of_model(candidates.tools),
    message:
        "{wildcards.model}: profile the best row"
    shell:
        "python scripts/profile_best.py"
        " --accuracy {input.accuracy:q}"
        " --throughput {input.throughput:q}"
        " --confirmed {input.confirmed:q}"
        " --ceilings {input.ceilings:q}"
        " --graphs {input.graphs:q}"
        " --ceiling_sheet {input.sheet:q}"
        " {params.flags:q}"
        " {params.rows:q}"
        " --threads {threads}"
        " --output {output:q}"
        " > {log:q} 2>&1"
