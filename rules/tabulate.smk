"""Tabulate: the two tables, the plots and the report.

Needs: every accuracy, throughput, confirmation, sustained run and profile of the sweep, and the predictions of its
references; of resources/ the published figures, the format of the results and the page's template and script.
Makes: results/tables/, and an entry of the history, which is no output: Snakemake must never remove it.
"""


rule tabulate:
    """Put every figure of the sweep into the two tables."""
    input:
        accuracy=cli.or_fail(sweep.files, "evaluate"),
        throughput=cli.or_fail(sweep.files, "measure"),
        confirmed=cli.or_fail(sweep.files, "confirm"),
        profiles=cli.or_fail(sweep.files, "profile"),
        sustained=cli.or_fail(sweep.files, "sustain"),
        ceilings=cli.or_fail(sweep.files, "ceilings"),
        graphs=cli.or_fail(ceilings.graphs, sweep),
        references=past.references(sweep),
        published="resources/published.csv",
        sheet="resources/ceilings.csv",
        schema="resources/results.schema.yaml",
        template=["resources/report.html.j2", "resources/report.js"],
    output:
        "results/tables/answer.md",
        multiext("results/tables/accuracy", ".csv", ".parquet", ".md"),
        multiext("results/tables/throughput", ".csv", ".parquet", ".md", ".png", ".svg"),
        multiext("results/tables/tradeoff", ".png", ".svg"),
        multiext("results/tables/latency", ".png", ".svg"),
        multiext("results/tables/roofline", ".png", ".svg"),
        *(multiext("results/tables/sustained", ".png", ".svg") if sweep.files("sustain") else []),
        multiext("results/tables/decision", ".csv", ".parquet"),
        multiext("results/tables/flips", ".csv", ".parquet"),
        multiext("results/tables/profile", ".csv", ".parquet", ".md"),
        report="results/tables/report.html",
    log:
        "results/logs/tabulate.log",
    benchmark:
        "results/benchmarks/tabulate.tsv"
    conda:
        "../envs/pytorch.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        flags=sweep.table_flags() + past.flags(config) + ceilings.chips(config),
        # a function of the output, which Snakemake does not compare: settings that change no figure make no new tables
        settings=lambda wildcards, output: past.settings(config),
        output_dir=subpath(output.report, parent=True),
        code=code_digest("tabulate"),
    message:
        "put everything into the two tables"
    shell:
        "python scripts/tabulate.py"
        " --accuracy {input.accuracy:q}"
        " --throughput {input.throughput:q}"
        " --confirmed {input.confirmed:q}"
        " --profile {input.profiles:q}"
        " --sustained {input.sustained:q}"
        " --ceilings {input.ceilings:q}"
        " --graphs {input.graphs:q}"
        " --ceiling_sheet {input.sheet:q}"
        " --published {input.published:q}"
        " --references {input.references:q}"
        " {params.flags:q}"
        " --settings {params.settings:q}"
        " --output_dir {params.output_dir:q}"
        " > {log:q} 2>&1"
