"""What the jobs of Snakemake find in their environment."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from .targets import Settings


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
