"""The best row of a model before its tables are made, and the rows next to it: what is measured again, and profiled."""

from __future__ import annotations

import argparse
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas

from .. import backends
from ..core import cli
from . import plausibility, roofs
from .accuracy import make_accuracy, make_flips
from .columns import PERCENTILES, rows
from .confirmed import read_confirmed
from .decision import finalists, make_decision
from .reader import Target, read_accuracy, read_throughput
from .throughput import make_throughput
from .verdicts import FAMILYWISE, judge_together


class Judged(NamedTuple):
    """What is known about all rows of a model: the tables of throughput and of accuracy, and the reference's target."""

    throughput: pandas.DataFrame
    accuracy: pandas.DataFrame
    reference: Target


def read(flags: argparse.Namespace) -> Judged:
    """Read what the flags of `add_flags` name, and judge it as the tables do."""
    of_accuracy, of_throughput = read_accuracy(flags.accuracy), read_throughput(flags.throughput)
    reference = Target(flags.reference_backend, flags.reference_precision)
    accuracy = make_accuracy(of_accuracy, reference, {flags.model: []}, {})
    if flags.familywise == "holm":
        accuracy = judge_together(accuracy, make_flips(of_accuracy))
    chips = [pair.split("=", 1) for pair in flags.chip]
    ceilings = roofs.read(flags.ceilings, flags.graphs, flags.ceiling_sheet, chips)
    over = [ceilings.of_record(record) for record in of_throughput]
    throughput = make_throughput(of_throughput, over)
    starts = {record.model: record.start_id for record in of_throughput if record.start_id}
    throughput["implausible"], _ = plausibility.mark(throughput, over, {flags.model: []}, ceilings, starts)
    return Judged(throughput, accuracy, reference)


def best_row(flags: argparse.Namespace) -> Any | None:
    """The fastest of the model's best rows on a real device, as the tables name it; None if there is none."""
    known = read(flags)
    decision = make_decision(flags.model, *known, confirmed=read_confirmed(flags.confirmed).records)
    return next(rows(decision[decision["fastest_of_model"]]), None)


def final_rows(flags: argparse.Namespace) -> list[Any]:
    """The finalists, the fastest first: of all rows, and of those within the limit on latency if there is one."""
    limits: list[tuple[float | None, str | None]] = [(None, None)]
    if flags.latency_ms_max is not None:
        limits.append((flags.latency_ms_max, f"p{flags.latency_percentile}"))
    return finalists(flags.model, *read(flags), limits, flags.finalists)


def name(row: Any) -> str:
    """What a row is called in the settings and in paths."""
    parts = (row.model, row.backend, row.precision, row.variant, f"bs{row.batch}")
    return "/".join(part for part in parts if part)


def run(command: str, flags: Sequence[str], output: Path) -> int:
    """Run what a row's --row says, with these flags and --output added; the exit status."""
    words = f'{command} {shlex.join(flags)} --output "$0"'
    return subprocess.run(["bash", "-c", f"set -euo pipefail; {words}", str(output)]).returncode


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the best row is chosen from, how, and what runs each row."""
    parser.add_argument("--model", required=True, help="the model's name in tables")
    parser.add_argument("--accuracy", type=Path, nargs="+", required=True, help="JSON files of evaluate.py")
    parser.add_argument("--throughput", type=Path, nargs="+", required=True, help="JSON files of measure.py")
    parser.add_argument(
        "--reference_backend", default=backends.reference("checkpoint").name, help="backend of the reference rows"
    )
    parser.add_argument("--reference_precision", default="fp32", help="precision of the reference rows")
    parser.add_argument("--ceilings", type=Path, nargs="*", default=[], help="JSON files of ceilings.py")
    parser.add_argument("--graphs", type=Path, nargs="*", default=[], help="sidecars of export.py: what images cost")
    parser.add_argument("--ceiling_sheet", type=Path, default=roofs.SHEET, help="table of data sheets' ceilings")
    parser.add_argument(
        "--chip", nargs="*", default=[], metavar="BACKEND=CHIP", help="the chip of a backend's imported results"
    )
    parser.add_argument("--familywise", choices=FAMILYWISE, default=FAMILYWISE[0], help="as for tabulate.py")
    parser.add_argument(
        "--row",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "COMMAND"),
        help="an engine, as <model>/<backend>/<precision>[/<variant>]/bs<batch>, and what runs it; repeatable",
    )
    parser.add_argument("--threads", type=cli.positive_int, default=cli.default_workers(), help="CPU threads")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")


def add_limit_flags(parser: argparse.ArgumentParser) -> None:
    """The limit on the latency of best rows."""
    parser.add_argument(
        "--latency_ms_max",
        type=cli.positive_number,
        help="name also the best rows whose latency of a batch is at most this",
    )
    percents = [int(percentile.removeprefix("p")) for percentile in PERCENTILES]
    parser.add_argument(
        "--latency_percentile", type=int, choices=percents, default=percents[-1], help="of all rows, for that limit"
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags. Raises UserError if the output is no JSON file."""
    flags = parser.parse_args(argv)
    cli.require_json(flags.output)
    return flags
