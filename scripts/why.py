"""Say in words what a run of Snakemake would do and why: which input, setting or code has changed, old and new.

It takes the flags and targets of snakemake (--cores all unless given), plans as it would, and runs nothing.

  scripts/why.py                                what the sweep of config.yaml would run again
  scripts/why.py compile --configfile mine.yaml
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from smlp.core import cli

# Snakemake's own objects, which it gives no types: its workflow, its graph of jobs, a job.
Snakemake = Any
# Parameters that are the content of a job's inputs from outside.
_CONTENTS = ("content", "option_content", "imported")


def main(argv: Sequence[str] | None = None) -> int:
    from snakemake.api import DAGApi
    from snakemake.cli import args_to_api, parse_args

    parser = cli.parser(__doc__)
    _, words = parser.parse_known_args(argv)
    if not any(word.startswith(("--cores", "-c", "--jobs", "-j", "--profile")) for word in words):
        words += ["--cores", "all"]
    # --summary plans all and runs nothing; here it prints something else
    DAGApi.summary = lambda planned, detailed=False: explain(planned.workflow_api._workflow)
    parser, flags = parse_args([*words, "--summary", "--quiet", "all"])
    return 0 if args_to_api(flags, parser) else 1


def explain(workflow: Snakemake) -> None:
    """Print the jobs that the workflow would run, with their reasons."""
    workflow._prepare_dag(forceall=workflow.dag_settings.forceall, ignore_incomplete=False, lock_warn_only=True)
    workflow._build_dag()
    # the modules that the Snakefile has loaded
    from scripts.smlp.workflow import plan, why

    jobs = [job for level in workflow.dag.toposorted() for job in level if workflow.dag.needrun(job)]
    jobs = [job for job in jobs if job.output]  # a target only names files
    jobs.sort(key=lambda job: plan.STAGES.index(_stage(job)))  # and within a stage what is needed first
    print(why.page([why.Planned(_title(job), _place(job), tuple(_reasons(job, workflow, why))) for job in jobs]))


def _stage(job: Snakemake) -> str:
    return job.rule.name.partition("_")[0]


def _title(job: Snakemake) -> str:
    """ "compile", "preprocess calibration": the rule, without what its place or its stage already says."""
    stage, _, rest = job.rule.name.partition("_")
    return stage if rest in ("", "shard", "load", "engine", job.wildcards.get("backend")) else f"{stage} {rest}"


def _place(job: Snakemake) -> dict[str, str]:
    """What the job's wildcards say, but the data set, of which a sweep has one."""
    place = dict(job.wildcards.items())
    if "variant" in place:
        place["precision"] += place.pop("variant")
    if "graph" in place:
        place["graph"] += place.pop("opset", "")
    place.pop("dataset", None)
    # in this order, whatever the order in the paths is
    parts = ("shard", "load")
    return {key: place[key] for key in sorted(place, key=lambda key: (key in ("batch", *parts), key in parts))}


def _reasons(job: Snakemake, workflow: Snakemake, why: Any) -> Iterator[str]:
    """Why a job would run. Snakemake itself looks no further than the first reason that it finds."""
    reason, known = workflow.dag.reason(job), workflow.persistence
    if workflow.async_run(known.incomplete(job)):
        yield "was being made when a run was killed"
    elif reason.forced:
        yield "forced by a flag"
    missing = {str(file) for file in reason.missing_output}
    if missing and not any(known.metadata(file) for file in job.output):
        yield "not made yet"
        return
    if missing:
        yield "gone: " + ("its results" if len(missing) == len(job.output) else " ".join(sorted(_names(missing))))
    for file in sorted(reason.updated_input - reason.updated_input_run):
        yield f"{file}: other content{_checksums(job, file, workflow)}"
    # all outputs of a job have the same record
    record = next(filter(None, map(known.metadata, job.output)), None)
    if record:
        if reason.code_changed or any(known.code_changed(job)):
            yield f"its command line, in {Path(job.rule.snakefile).relative_to(workflow.basedir)}"
        if reason.software_stack_changed:
            yield "its conda environment"
        if any(known.input_changed(job)):
            yield from why.changed_inputs(record.input, known._input(job))
        if known.params_changed(job):
            kept = set(known._params(job))
            named = {name: known._serialize_param(value) for name, value in job.params.items()}
            outside = ", ".join(file for file in job.input if not file.startswith("results/"))
            names = {name: outside for name in _CONTENTS if outside} | _names_of_images(job, workflow, why)
            yield from why.changed_params(
                record.params, {names.get(name, name): text for name, text in named.items() if text in kept}
            )
    makers = {_title(maker) for maker in workflow.dag.dependencies[job] if workflow.dag.needrun(maker)}
    if makers:
        yield f"follows from {', '.join(sorted(makers))}"


def _names_of_images(job: Snakemake, workflow: Snakemake, why: Any) -> dict[str, str]:
    """What to call the parameter that stands for the images of a shard."""
    if job.rule.name != "preprocess_shard":
        return {}
    contents = workflow.globals["contents"]
    return {"images": why.some(contents.changed_images(job.output.folder, job.wildcards.shard)) or "order of images"}


def _names(paths: set[str]) -> list[str]:
    return [Path(path).name for path in paths]


def _checksums(job: Snakemake, file: Snakemake, workflow: Snakemake) -> str:
    """The SHA-256 of an input, then and now, as far as Snakemake keeps them: not of folders."""
    old = next((one for one in workflow.persistence.input_checksums(job, file) if one), None)
    new = workflow.async_run(file.checksum(workflow.dag.max_checksum_file_size))
    if not (old and new):
        return ""
    old, new = (checksum.rpartition(":")[2][:6] for checksum in (old, new))
    return f" ({old}… → {new}…)"


if __name__ == "__main__":
    cli.run(main)
