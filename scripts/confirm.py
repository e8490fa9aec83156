"""Measure a model's best rows again, in turn: the fastest of many rows wins partly by luck.

Reads the JSON files of evaluate.py (--accuracy) and measure.py (--throughput) of one model. The finalists are the rows
whose accuracy holds and whose images/s are within 5% of the fastest, at most --finalists of them, and the fastest row
of the reference, to which they are compared. With --latency_ms_max the same goes for the rows within that limit. Each
is loaded and measured --loads times by the command of its row (--row, once for each engine), with --threads, --where
and --output added: the command of scripts/measure.py. They take turns: in every second round in the opposite order.

  scripts/confirm.py --model tiny --accuracy acc/*.json --throughput perf/*.json --output tiny.json \\
      --row tiny/onnxruntime/fp32/bs8 "python scripts/measure.py --model bs8.onnx --input bins/"
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure_row import make_row

from smlp.core import cli, files, identity, provenance
from smlp.core.cli import UserError
from smlp.core.code import code_digest
from smlp.core.provenance import Facts
from smlp.results import best


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    files.write_json(flags.output, confirm(flags))
    return 0


def confirm(flags: argparse.Namespace) -> Facts:
    """What is known about the finalists after they were measured again."""
    commands, chosen = dict(flags.row), best.final_rows(flags)
    names = [best.name(row) for row in chosen]
    # against some of its rivals only, a figure would be no confirmation
    elsewhere = [name for name in names if name not in commands]
    unconfirmed = [f"{name} was measured elsewhere, so no row is measured again" for name in elsewhere]
    with tempfile.TemporaryDirectory(prefix="smlp-confirm-") as scratch:
        loads = {} if unconfirmed else _measure(names, commands, flags, Path(scratch))
        rows = {name: make_row(paths) for name, paths in loads.items()}
    return provenance.describe(
        state=identity.state(
            "confirmation",
            {},
            made_from={name: row["smlp"].get("id", "") for name, row in rows.items()},
            flags={"finalists": names, "loads": flags.loads},
            code=code_digest("confirm"),
        ),
        model=flags.model,
        finalists=names,
        rows=list(rows.values()),
        unconfirmed=unconfirmed,
    )


def _measure(names: Sequence[str], commands: dict[str, str], flags: Any, scratch: Path) -> dict[str, list[Path]]:
    """The loads of each row. Raises UserError if a command fails."""
    loads: dict[str, list[Path]] = {name: [] for name in names}
    for number in range(flags.loads):
        for place, name in list(enumerate(names))[:: 1 if number % 2 == 0 else -1]:
            cli.say(f"round {number + 1} of {flags.loads}: {name}")
            output = scratch / str(place) / f"load-{number}.json"
            output.parent.mkdir(exist_ok=True)
            status = best.run(commands[name], ["--threads", str(flags.threads), "--where", flags.where], output)
            if status:
                raise UserError(f"{name}: its command ended with status {status}, see what it said above")
            loads[name].append(output)
    return loads


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    best.add_flags(parser)
    best.add_limit_flags(parser)
    parser.add_argument("--loads", type=cli.positive_int, default=3, help="how often each row is loaded and measured")
    parser.add_argument("--finalists", type=cli.positive_int, default=3, help="most rows that take part")
    parser.add_argument("--where", choices=("here", "submitted"), default="here", help="as for measure.py")
    return best.parse(parser, argv)


if __name__ == "__main__":
    cli.run(main)
