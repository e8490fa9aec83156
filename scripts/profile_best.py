"""Find a model's best row, and profile it.

The best row is the one that the tables name: the fastest of all on a real device whose accuracy holds. Reads the JSON
files of evaluate.py (--accuracy), measure.py (--throughput) and confirm.py (--confirmed) of one model, and runs the
command of the row that wins (--row, once for each engine), with --threads and --output added: the command of
scripts/profile_engine.py. If there is no best row, or it was measured elsewhere, the file says so.

  scripts/profile_best.py --model tiny --accuracy acc/*.json --throughput perf/*.json --output best.json \\
      --row tiny/onnxruntime/fp32/bs8 "python scripts/profile_engine.py --model bs8.onnx --input bins/"
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from smlp.core import cli, files
from smlp.core.runs import RunFacts
from smlp.results import best


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    row = best.best_row(flags)
    if row is None:
        reason = "the model has no best row on a real device, see the throughput table; name a row in profile.rows"
        return _without(flags, RunFacts(flags.model, "none", "none", batch=1), reason)
    name, commands = best.name(row), dict(flags.row)
    if name not in commands:
        facts = RunFacts(flags.model, row.backend, row.precision, row.variant or "", row.batch)
        return _without(flags, facts, f"the best row, {name}, was measured elsewhere; profile its engine there")
    cli.say(f"{flags.model}: the best row is {name}")
    return best.run(commands[name], ["--threads", str(flags.threads)], flags.output)


def _without(flags: argparse.Namespace, facts: RunFacts, reason: str) -> int:
    cli.say(f"{flags.model}: nothing to profile: {reason}")
    files.write_json(flags.output, facts.failure(reason))
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    best.add_flags(parser)
    parser.add_argument("--confirmed", type=Path, nargs="*", default=[], help="JSON files of confirm.py")
    return best.parse(parser, argv)


if __name__ == "__main__":
    cli.run(main)
