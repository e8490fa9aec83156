"""Take trained image classifiers to accelerators, and prove what they do there.

`snakemake --cores N` runs the sweep that config.yaml describes; `--configfile` names another one.
Each stage is also a target: retrieve, export, compile, preprocess, infer, evaluate, measure, tabulate.
"""

import os
from pathlib import Path

from snakemake.utils import min_version

from scripts.smlp.core import cli
from scripts.smlp.workflow import settings

min_version("9.0")

if Path.cwd() != Path(workflow.basedir):
    cli.fail(f"run snakemake from {workflow.basedir}: commands and results have paths relative to it")
if os.path.lexists("results") and not Path("results").is_dir():
    cli.fail("results: is not a folder but a file, or a link to nowhere; move it away, or mend the link")

# A configuration file is a whole sweep: merging it over the demo's would add the demo's models to it.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


config = cli.or_fail(settings.complete, config, str((workflow.overwrite_configfiles or ["config.yaml"])[-1]))

settings.use_this_interpreter()
settings.use_store(config)


include: "rules/common.smk"
include: "rules/retrieve.smk"
include: "rules/export.smk"
include: "rules/compile.smk"
include: "rules/preprocess.smk"
include: "rules/infer.smk"
include: "rules/evaluate.smk"
include: "rules/measure.smk"
include: "rules/tabulate.smk"


rule all:
    default_target: True
    input:
        rules.tabulate.output,


rule retrieve:
    input:
        sources(),


rule export:
    input:
        sorted(
            {
                onnx_file(model, backend)
                for model, backend, _, _ in cells()
                if backends.load(backend).compiles_from == "onnx"
            }
        ),


rule compile:
    input:
        [engine(*cell) for cell in cells()],


rule preprocess:
    input:
        shards(),


rule infer:
    input:
        [folder for cell in cells() for folder in outputs(*cell)],


rule evaluate:
    input:
        accuracies(),


rule measure:
    input:
        throughputs(),
