"""Many hosts, one table: join finished sweeps of one checkpoint and one image list.

Each argument is a folder of results, or of the project that has one, from another host (copy results/measure,
results/evaluate and results/tables), or an entry of a history. Refuses sweeps of other checkpoints or images, and names
what differs. Prints the table as Markdown: model x device x precision, with accuracy, drop, verdict, images/s at batch
size 1, 8 and the best one, power and memory. With --output_dir also merged.csv, .parquet and .md.

  scripts/merge.py host1/results host2/results --output_dir merged
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from smlp.core import cli, files, lock
from smlp.core.cli import UserError
from smlp.results import finished, history, merging
from smlp.results.columns import printable
from smlp.results.history import Entry
from smlp.results.report import csv_text, markdown, parquet_bytes


def main(argv: Sequence[str] | None = None) -> int:
    merge(_parse(argv))
    return 0


@lock.hold("cpu", exclusive=False)
def merge(flags: argparse.Namespace) -> None:
    """Everything that the flags ask for."""
    hosts = read_hosts(flags.results)
    merging.check(hosts)
    table = merging.merge(hosts)
    if not len(table):
        raise UserError(f"{flags.results[0]}: none of these sweeps has a row that was measured; run their sweeps first")
    text = printable(markdown([merging.make_merged_table(table, hosts)]))
    if flags.output_dir:
        contents = {
            "merged.csv": printable(csv_text(merging.MERGED, table)).encode(),
            "merged.parquet": parquet_bytes(merging.MERGED, table),
            "merged.md": text.encode(),
        }
        for name, content in contents.items():
            with files.whole_file(flags.output_dir / name) as partial:
                partial.write_bytes(content)
    sys.stdout.reconfigure(errors="replace")  # a terminal without → is no reason to fail
    print(text, end="")


def read_hosts(paths: Sequence[Path]) -> dict[str, Entry]:
    """Every sweep by what its host is called: the folder that has its results. Raises UserError for one given twice."""
    places = [path.resolve() for path in paths]
    for place in places:
        if places.count(place) > 1:
            raise UserError(f"{place}: is given twice; give each host once")
    names = [place.parent.name if place.name == "results" else place.stem for place in places]
    found = {}
    for path, name in zip(paths, names):
        if not path.exists():
            raise UserError(f"{path}: no such folder; name the results of a finished sweep")
        entry = finished.read_folder(path) if path.is_dir() else history.read(path)
        found[name if names.count(name) == 1 else str(path)] = entry
    return found


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="folders of results, or entries of a history")
    parser.add_argument("--output_dir", type=Path, help="folder for merged.csv, .parquet and .md")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
