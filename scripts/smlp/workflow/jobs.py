"""What the jobs of Snakemake find in their environment."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from ..core import cli, environment, host
from .targets import Settings

# Snakemake sets these to a job's threads (snakemake/shell.py); our commands are told their threads by a flag. The first
# words are Snakemake's own prefix, which this one replaces.
_SET_BY_SNAKEMAKE = (
    *("OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"),
)
SHELL_PREFIX = f"set -euo pipefail; unset {' '.join(_SET_BY_SNAKEMAKE)}; "


def use_this_interpreter() -> None:
    """Let jobs find, as `python`, the interpreter that runs Snakemake, whether its environment is activated or not.

    Jobs of a cluster begin with that interpreter's path, which Snakemake does not quote.
    """
    from snakemake_interface_executor_plugins.executors.real import RealExecutor

    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command, plain = RealExecutor.format_job_exec, f"{sys.executable} -m snakemake"
    quoted = f"{shlex.quote(sys.executable)} -m snakemake"
    RealExecutor.format_job_exec = lambda executor, job: command(executor, job).replace(plain, quoted)


def use_store(settings: Settings) -> None:
    """Let jobs find the shared store, if there is one, as scripts/share.py looks for it: setting it reruns nothing."""
    if "store" in settings:
        os.environ["SMLP_STORE"] = os.path.abspath(settings["store"])


def clear_environment() -> list[str]:
    """Keep from jobs what changes arithmetic, threads or kernels; returns the names of what was set.

    Commands would drop it too, each with a restart of its own. What the settings ask for, they get by flags.
    """
    names = environment.unasked(os.environ)
    for name in names:
        del os.environ[name]
    return names


def measured_on(measurement: str, own: Settings) -> Settings:
    """The host that a measurement counts for: `own`, or {} if a scheduler chose it, whatever host plans now."""
    try:
        stated = json.loads(Path(measurement).read_text(encoding="utf-8"))["smlp"]["fingerprint"]
        return {} if stated["where"] == "submitted" else own
    except (OSError, ValueError, LookupError, TypeError):  # not measured, or by another tool
        return own


def usable_cores(workflow: Any) -> int:
    """The cores of this run, 1 if it only submits jobs. More than this process may keep busy are cut off, with a word.

    More threads than that would wait for each other, and the figures would be those of the waiting.
    """
    asked, usable = workflow.resource_settings.cores, host.usable_processors()
    if not asked or asked <= usable:
        return asked or 1
    if workflow.is_main_process:
        about = host.processors()
        quota = "none" if about["quota"] is None else f"{about['quota']:g}"
        cli.say(
            f"--cores {asked}: cut to {usable}, all that this process may use (affinity {about['affinity']}, CPU quota "
            f"{quota})"
        )
    workflow.resource_settings.cores = workflow.global_resources["_cores"] = usable
    return usable
