"""Seconds for a sweep with nothing to do: what every later call costs before its first job.

Needs a finished sweep (`make sweep`). Times `snakemake --cores all` and `make sweep`, and refuses to report a run
that did something.

    python bench/rerun.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import common

from smlp.core import cli
from smlp.core.cli import UserError


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    commands = {
        "snakemake --cores all": [sys.executable, "-m", "snakemake", "--cores", "all"],
        "make sweep": ["make", "--no-print-directory", "sweep"],
    }
    rows = []
    for name, command in commands.items():
        seconds = [_time(command) for _ in range(flags.rounds)]
        rows.append({"command": name, "seconds_median": round(statistics.median(seconds), 2), "rounds": flags.rounds})
    common.show("A sweep with nothing to do", rows)
    common.write_csv(flags.output, [{**row, **common.machine()} for row in rows])
    return 0


def _time(command: list[str]) -> float:
    started = time.perf_counter()
    run = subprocess.run(command, cwd=common.REPOSITORY, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if run.returncode or "Nothing to be done" not in run.stdout + run.stderr:
        raise UserError("the sweep is not finished; run make sweep first, then this")
    return seconds


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--rounds", type=cli.positive_int, default=3, help="runs each")
    parser.add_argument("--output", type=Path, default=common.RESULTS / "rerun.csv", help="CSV to write")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
