"""Evaluate: outputs to top-1 and top-5, each engine against the reference.

Needs: the result folders of every shard and their summaries, the shards' manifests, and the sidecars of all that both
come from.
Makes: results/evaluate/{model}/reference/{dataset}.json and .csv (its prediction for every image),
results/evaluate/{model}/{backend}/{precision}/{dataset}/bs{batch}.json; of a variant below {precision}/{variant}/.
"""


rule evaluate_reference:
    """Score the reference and keep its prediction for every image."""
    input:
        results=of_reference(sweep.own_outputs),
        imported=ancient(of_reference(sweep.imported)),
        summaries=of_reference(sweep.own_summaries),
        bins=of_model(sweep.all_bins),
        made_from=of_reference(sweep.chain),
    output:
        figures="results/evaluate/{model}/reference/{dataset}.json",
        predictions="results/evaluate/{model}/reference/{dataset}.csv",
    log:
        "results/logs/evaluate/{model}/reference/{dataset}.log",
    benchmark:
        "results/benchmarks/evaluate/{model}/reference/{dataset}.tsv"
    conda:
        "../envs/pytorch.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        engine=of_reference(sweep.engine_flags),
        imported=of_reference(contents.imported),
        outside=of_reference(contents.made_from),
        code=code_digest("evaluate"),
    message:
        "{wildcards.model}: evaluate the reference"
    shell:
        "python scripts/evaluate.py"
        " --infer_result_dir {input.results:q} {input.imported:q}"
        " --labels {input.bins:q}"
        " --model_label {wildcards.model:q}"
        " {params.engine:q}"
        " --made_from {input.made_from:q}"
        " {params.outside:q}"
        " --json {output.figures:q}"
        " --predictions {output.predictions:q}"
        " > {log:q} 2>&1"


rule evaluate_engine:
    """Score an engine and compare it with the reference, image by image."""
    input:
        results=of_cell(sweep.own_outputs),
        imported=ancient(of_cell(sweep.imported)),
        summaries=of_cell(sweep.own_summaries),
        bins=of_model(sweep.all_bins),
        made_from=of_cell(sweep.chain),
        reference="results/evaluate/{model}/reference/{dataset}.csv",
        reference_figures="results/evaluate/{model}/reference/{dataset}.json",
    output:
        "results/evaluate/{model}/{backend}/{precision}{variant}/{dataset}/bs{batch}.json",
    log:
        "results/logs/evaluate/{model}/{backend}/{precision}{variant}/{dataset}/bs{batch}.log",
    benchmark:
        "results/benchmarks/evaluate/{model}/{backend}/{precision}{variant}/{dataset}/bs{batch}.tsv"
    conda:
        "../envs/pytorch.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        margin_points=config["accuracy"]["margin_points"],
        about=of_cell(sweep.about),
        engine=of_cell(sweep.engine_flags),
        imported=of_cell(contents.imported),
        outside=of_cell(contents.made_from),
        code=code_digest("evaluate"),
    message:
        "{wildcards.model}: evaluate {wildcards.backend} {wildcards.precision}{wildcards.variant}, batch {wildcards.batch}"
    shell:
        "python scripts/evaluate.py"
        " --infer_result_dir {input.results:q} {input.imported:q}"
        " --labels {input.bins:q}"
        " --model_label {wildcards.model:q}"
        " {params.about:q}"
        " {params.engine:q}"
        " --made_from {input.made_from:q}"
        " {params.outside:q}"
        " --reference {input.reference:q}"
        " --margin_points {params.margin_points}"
        " --json {output:q}"
        " > {log:q} 2>&1"
