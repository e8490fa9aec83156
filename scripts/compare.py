"""Did anything get worse? Compare two finished sweeps row by row, for a pull request and for a gate.

Each side is a folder of results (or of the project that has one), an entry of a history, a folder of history (its
latest entry; of the base, the latest that is not the head's), or a file of measure.py or evaluate.py.
Speed: faster, same, slower or undecided, by the ratio of loads with its interval against --margin_percent. Accuracy:
better, same, worse or undecided, image by image, by Tango's interval. Lists what is new, missing or failed, and what
differs in settings, versions and host. Prints Markdown.

Exit status: 0 if nothing got worse, 1 if anything did (slower, less accurate, or newly failed; also after an error).

  scripts/compare.py results/history results
  scripts/compare.py ../main/results results --remeasure --rounds 10

Two sweeps are measured at different times. On a host that is not idle, only --remeasure tells an engine's change from
the host's: it takes the engines of both folders and measures them in turn, each load in a fresh process.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from smlp.core import cli, files, lock
from smlp.core.cli import UserError
from smlp.results import finished, gate, history, regression_tables, regressions
from smlp.results.columns import printable
from smlp.results.history import Entry
from smlp.results.regressions import Comparison
from smlp.results.report import markdown


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    found = compare(flags)
    text = printable(make_markdown(found))
    if flags.output:
        files.write_text(flags.output, text)
    sys.stdout.reconfigure(errors="replace")  # a terminal without → is no reason to fail
    print(text, end="")
    return 1 if found.got_worse else 0


def compare(flags: argparse.Namespace) -> Comparison:
    """What the flags ask for."""
    with lock.hold("cpu", exclusive=False):
        head = read_side(flags.head)
        base = read_side(flags.base, besides=[head.id])
    both = {table: base.by_key(table).keys() & head.by_key(table).keys() for table in history.TABLES}
    if not any(both.values()):
        raise UserError(
            f"{flags.base} and {flags.head} have no row in common; name sweeps of the same models and targets"
        )
    interleaved = None
    if flags.remeasure:
        import compare_remeasure

        for path in (flags.base, flags.head):
            if not path.is_dir() or history.paths(path):
                raise UserError(f"--remeasure: {path} is no folder of results, and only such a folder has engines")
        names = ("min_time_s", "min_runs", "warmup_window_s", "warmup_max_s", "retry_max_s")
        bounds = {name: getattr(flags, name) for name in names if getattr(flags, name) is not None}
        sides = [(side, finished.results_of(path)) for side, path in ((base, flags.base), (head, flags.head))]
        interleaved = compare_remeasure.measure_in_turn(*sides, flags.rounds, bounds, flags.only)
    return regressions.compare(
        base,
        head,
        margin_percent=flags.margin_percent,
        familywise=flags.familywise,
        accept_points=flags.accept_points,
        margin_points=flags.margin_points,
        interleaved=interleaved,
    )


def read_side(path: Path, besides: Sequence[str] = ()) -> Entry:
    """One side of a comparison. besides: ids of entries that a folder of history does not stand for.

    Raises UserError if there is nothing to compare at `path`.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name results, an entry of a history, or a result file")
    if path.is_dir():
        return history.choose(path, besides) if history.paths(path) else finished.read_folder(path)
    return history.read(path) if path.suffix == ".jsonl" else finished.read_files([path])


def make_markdown(found: Comparison) -> str:
    """The comparison for a pull request: a title, what got worse, the tables."""
    lines = [
        "# Comparison",
        "",
        f"base: {found.base}",
        "",
        f"head: {found.head}",
        "",
        regression_tables.summary(found),
        "",
    ]
    return "\n".join(lines) + "\n" + markdown(regression_tables.make_tables(found))


def _percent(text: str) -> float:
    value = cli.positive_number(text)
    if value >= 50:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage above 0 and below 50")
    return value


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("base", type=Path, help="what to compare with: results, an entry of a history, or a file")
    parser.add_argument("head", type=Path, help="what may have got worse")
    parser.add_argument("--output", type=Path, help="file for the Markdown, beside stdout")
    parser.add_argument(
        "--margin_percent", type=_percent, default=gate.MARGIN_PERCENT, help="a change of speed that does not count"
    )
    parser.add_argument(
        "--familywise",
        choices=gate.FAMILYWISE,
        default=gate.FAMILYWISE[0],
        help="judge the speed of every row by itself, or of all rows together by Holm's method",
    )
    parser.add_argument(
        "--accept_points", type=_points, default=0.0, help="top-1 that may be lost in points; worse is above that"
    )
    parser.add_argument(
        "--margin_points", type=cli.positive_number, default=1.0, help="an interval within this is the same accuracy"
    )
    again = parser.add_argument_group("measuring again")
    again.add_argument("--remeasure", action="store_true", help="measure the engines of both folders in turn")
    again.add_argument("--rounds", type=_rounds, default=7, help="loads of each engine")
    again.add_argument("--only", default="", help="only rows with this in their name, as the tables have it")
    again.add_argument("--min_time_s", type=cli.positive_number, help="measure at least this long; see measure.py")
    again.add_argument("--min_runs", type=cli.positive_int, help="and at least this often")
    again.add_argument("--warmup_window_s", type=cli.positive_number, help="length of a warm-up window")
    again.add_argument("--warmup_max_s", type=cli.positive_number, help="longest warm-up")
    again.add_argument("--retry_max_s", type=cli.seconds, default=0, help="take disturbed loads again for so long")
    return parser.parse_args(argv)


def _points(text: str) -> float:
    return 0.0 if text in ("0", "0.0") else cli.positive_number(text)


def _rounds(text: str) -> int:
    value = cli.positive_int(text)
    if value < gate.MIN_LOADS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {gate.MIN_LOADS}")
    return value


if __name__ == "__main__":
    cli.run(main)
