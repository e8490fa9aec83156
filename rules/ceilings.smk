"""Ceilings: what this host can reach at most, once per host and usable processors.

Needs: nothing.
Makes: results/ceilings/{device}.json for cpu and cuda, if a target runs on it.
"""


rule measure_ceilings:
    """Measure matrix products in each precision and the bandwidth of memory, nothing else running."""
    output:
        "results/ceilings/{device}.json",
    log:
        "results/logs/ceilings/{device}.log",
    benchmark:
        "results/benchmarks/ceilings/{device}.tsv"
    wildcard_constraints:
        device="|".join(ceilings.MEASURED),
    conda:
        "../envs/pytorch.yaml"
    threads: ALL_CORES
    resources:
        gpu=lambda wildcards: int(wildcards.device == "cuda"),
        mem_mb=growing(4000),
        runtime=growing(10),
        where="here" if HOST else "submitted",
    params:
        flags=lambda wildcards: ceilings.command_flags(config, wildcards.device),
        fingerprint=lambda wildcards: ceilings.fingerprint(wildcards.device, HOST),
        code=code_digest("ceilings"),
        tools=versions(["torch"]),
    message:
        "measure the ceilings of {wildcards.device}"
    shell:
        "python scripts/ceilings.py"
        " {params.flags:q}"
        " --where {resources.where}"
        " --output {output:q}"
        " > {log:q} 2>&1"
