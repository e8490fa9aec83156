"""Confirm: the best row of a model, measured again in turn with those that it can hardly be told from.

Needs: every accuracy and throughput of the model, what says which of them cannot be, engines with their sidecars, and
the first shard's bins.
Makes: results/confirm/{model}.json.
"""

from scripts.smlp.workflow.confirming import Confirming

confirming = Confirming(sweep, config)


rule confirm_best:
    """Choose a model's finalists, and measure them again in turn, nothing else running."""
    input:
        accuracy=of_model(confirming.candidates.files, "evaluate"),
        throughput=of_model(confirming.candidates.files, "measure"),
        ceilings=cli.or_fail(sweep.files, "ceilings"),
        graphs=cli.or_fail(ceilings.graphs, sweep),
        sheet="resources/ceilings.csv",
        engines=of_model(confirming.candidates.engine_files),
        bins=of_model(sweep.bins, 0),
        bins_sidecar=of_model(sweep.bins_sidecar, 0),
    output:
        "results/confirm/{model}.json",
    log:
        "results/logs/confirm/{model}.log",
    benchmark:
        "results/benchmarks/confirm/{model}.tsv"
    conda:
        "../envs/pytorch.yaml"
    threads: ALL_CORES
    resources:
        **confirming.candidates.devices(),
        mem_mb=growing(4000),
        runtime=growing(120),
        # no parameter: it makes nothing stale
        where="here" if HOST else "submitted",
    params:
        rows=of_model(confirming.rows),
        flags=of_model(confirming.flags),
        code=of_model(confirming.code),
        tools=of_model(confirming.candidates.tools),
    message:
        "{wildcards.model}: confirm the best row"
    shell:
        "python scripts/confirm.py"
        " --accuracy {input.accuracy:q}"
        " --throughput {input.throughput:q}"
        " --ceilings {input.ceilings:q}"
        " --graphs {input.graphs:q}"
        " --ceiling_sheet {input.sheet:q}"
        " {params.flags:q}"
        " {params.rows:q}"
        " --threads {threads}"
        " --where {resources.where}"
        " --output {output:q}"
        " > {log:q} 2>&1"
