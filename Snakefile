"""Take trained image classifiers to accelerators, and prove what they do there.

`snakemake --cores N` runs the sweep that config.yaml describes; `--configfile` names another one.
Each stage is also a target: retrieve, export, compile, preprocess, infer, evaluate, ceilings, measure, confirm,
sustain, profile, tabulate.
"""

import atexit
import os
from pathlib import Path

from snakemake.utils import min_version

from scripts.smlp.core import cli, environment
from scripts.smlp.workflow import jobs, outdated, plan, settings, why

min_version("9.0")

if Path.cwd() != Path(workflow.basedir):
    cli.fail(f"run snakemake from {workflow.basedir}: commands and results have paths relative to it")
if os.path.lexists("results") and not Path("results").is_dir():
    cli.fail("results: is not a folder but a file, or a link to nowhere; move it away, or mend the link")

# A configuration file is a whole sweep: merging it over the demo's would add the demo's models to it.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


config = cli.or_fail(settings.complete, config, str((workflow.overwrite_configfiles or ["config.yaml"])[-1]))

if (unasked := jobs.clear_environment()) and workflow.is_main_process:
    cli.say(environment.refusal(unasked))
shell.prefix(jobs.SHELL_PREFIX)
jobs.use_this_interpreter()
jobs.use_store(config)


include: "rules/common.smk"


if workflow.is_main_process:  # also of a dry run; jobs on a cluster's nodes write nothing
    atexit.register(contents.watch.save)


for stage in plan.STAGES:

    include: f"rules/{stage}.smk"


onstart:
    cli.or_fail(contents.require_images)
    contents.watch.save()
    why.note_code()
    if not workflow.touch:
        outdated.set_aside((job.rule.name for job in workflow.dag.needrun_jobs() if job.output))


onsuccess:
    outdated.settle()


onerror:
    outdated.settle()


rule all:
    default_target: True
    input:
        rules.tabulate.output,


for stage in plan.STAGES[:-1]:  # the last one is a rule itself

    rule:
        name:
            stage
        input:
            cli.or_fail(sweep.files, stage),
