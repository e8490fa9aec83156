"""Measure: the performance pass, with the machine to itself.

Needs: an engine (or the checkpoint, for the reference) and the first shard's bins.
Makes: results/measure/{model}/{backend}/{precision}/bs{batch}.json and every latency in bs{batch}.npy,
results/measure/{model}/{backend}/{precision}/imported/bs{batch}.json where results are imported.
"""


rule measure_engine:
    """Measure latency and throughput of an engine on real images, nothing else running."""
    input:
        engine=lambda wildcards: engine(wildcards.model, wildcards.backend, wildcards.precision, wildcards.batch),
        bins=lambda wildcards: bins(wildcards.model, 0),
    output:
        summary="results/measure/{model}/{backend}/{precision}/bs{batch}.json",
        latencies="results/measure/{model}/{backend}/{precision}/bs{batch}.npy",
    log:
        "results/logs/measure/{model}/{backend}/{precision}/bs{batch}.log",
    benchmark:
        "results/benchmarks/measure/{model}/{backend}/{precision}/bs{batch}.tsv"
    conda:
        "../envs/{backend}.yaml"
    threads: ALL_CORES
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        npu=counted("npu"),
        gpu=counted("gpu"),
    params:
        flags=lambda wildcards: measure_flags(wildcards.backend),
        python=lambda wildcards: interpreter(wildcards.backend),
        code=lambda wildcards: code_digest("measure", wildcards.backend),
        tools=lambda wildcards: tools(wildcards.backend),
    message:
        "{wildcards.model}: measure {wildcards.backend} {wildcards.precision}, batch {wildcards.batch}"
    shell:
        "{params.python} scripts/measure.py --model {input.engine:q} --model_label {wildcards.model:q} --batchsize {wildcards.batch}"
        " --threads {threads} --input {input.bins:q} {params.flags:q} --record_failure --output {output.summary:q} > {log:q} 2>&1"


rule measure_import:
    """Take the throughput that ais_bench stated for imported results."""
    input:
        lambda wildcards: summaries(
            imported(wildcards.model, wildcards.backend, wildcards.precision, wildcards.batch)
        )[0],
    output:
        "results/measure/{model}/{backend}/{precision}/imported/bs{batch}.json",
    log:
        "results/logs/measure/{model}/{backend}/{precision}/imported/bs{batch}.log",
    benchmark:
        "results/benchmarks/measure/{model}/{backend}/{precision}/imported/bs{batch}.tsv"
    conda:
        "../envs/pytorch.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code_digest("measure_import"),
    message:
        "{wildcards.model}: import the throughput of {wildcards.backend} {wildcards.precision}, batch {wildcards.batch}"
    shell:
        "python scripts/measure_import.py --summary {input:q} --model_label {wildcards.model:q}"
        " --backend {wildcards.backend} --precision {wildcards.precision} --batchsize {wildcards.batch}"
        " --output {output:q} > {log:q} 2>&1"
