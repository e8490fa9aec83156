"""Find a model's best row, and profile it.

The best row is the one that the tables name: the fastest of all on a real device whose accuracy holds. Reads the JSON
files of evaluate.py (--accuracy) and measure.py (--throughput) of one model, and runs the command of the row that wins
(--row, once for each engine), with --threads and --output added: the command of scripts/profile_engine.py. If there is
no best row, or it was measured elsewhere, the file says so.

  scripts/profile_best.py --model tiny --accuracy acc/*.json --throughput perf/*.json --output best.json \\
      --row tiny/onnxruntime/fp32/bs8 "python scripts/profile_engine.py --model bs8.onnx --input bins/"
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from pathlib import Path

from smlp import backends
from smlp.core import cli, files
from smlp.core.cli import UserError
from smlp.core.runs import RunFacts
from smlp.results import profiles, roofs
from smlp.results.reader import Target, read_accuracy, read_throughput
from smlp.results.verdicts import FAMILYWISE


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    reference = Target(flags.reference_backend, flags.reference_precision)
    records = read_accuracy(flags.accuracy), read_throughput(flags.throughput)
    ceilings = roofs.read(
        flags.ceilings, flags.graphs, flags.ceiling_sheet, [pair.split("=", 1) for pair in flags.chip]
    )
    best = profiles.best_row(*records, flags.model, reference, flags.familywise, ceilings)
    commands = dict(flags.row)
    if best is None:
        reason = "the model has no best row on a real device, see the throughput table; name a row in profile.rows"
        return _without(flags, RunFacts(flags.model, "none", "none", batch=1), reason)
    row = profiles.row_name(best)
    if row not in commands:
        facts = RunFacts(flags.model, best.backend, best.precision, best.variant or "", best.batch)
        return _without(flags, facts, f"the best row, {row}, was measured elsewhere; profile its engine there")
    cli.say(f"{flags.model}: the best row is {row}")
    command = f'{commands[row]} --threads {flags.threads} --output "$0"'
    return subprocess.run(["bash", "-c", f"set -euo pipefail; {command}", str(flags.output)]).returncode


def _without(flags: argparse.Namespace, facts: RunFacts, reason: str) -> int:
    cli.say(f"{flags.model}: nothing to profile: {reason}")
    files.write_json(flags.output, facts.failure(reason))
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
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
        help="an engine, as <model>/<backend>/<precision>[/<variant>]/bs<batch>, and what profiles it; repeatable",
    )
    parser.add_argument("--threads", type=cli.positive_int, default=cli.default_workers(), help="CPU threads")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    flags = parser.parse_args(argv)
    if flags.output.suffix != ".json":
        raise UserError(f"--output {flags.output}: a name ending in .json was expected")
    return flags


if __name__ == "__main__":
    cli.run(main)
