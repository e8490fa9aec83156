"""Make one row of the throughput table from the loads of an engine, each of which scripts/measure.py measured.

A row's figure is the mean over its loads, and its interval comes from how they differ. If a load failed, the row has.

  scripts/measure_row.py --loads bs8/load-0.json bs8/load-1.json bs8/load-2.json --output bs8.json
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smlp.core import cli, files, identity, provenance
from smlp.core.cli import UserError
from smlp.core.code import code_digest
from smlp.core.provenance import Facts
from smlp.results import aisbench, loads, reader

# What must be the same of all loads of a row.
_SAME = ("model", "backend", "precision", "variant", "batch", "device", "emulated", "engine", "threads")


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    files.write_json(flags.output, make_row(flags.loads))
    return 0


def make_row(paths: Sequence[Path]) -> Facts:
    """The summary of a row. Raises UserError for a file that is no load, or one of another engine."""
    contents = [files.read_json(path, "a load that measure.py measured") for path in paths]
    records = reader.check_loads(paths)
    for number, record in enumerate(records):
        if record.failed:
            return contents[number]
    found = [record.facts for record in records]
    for path, facts in zip(paths, found):
        differing = next((key for key in _SAME if facts.get(key) != found[0].get(key)), None)
        if differing:
            raise UserError(
                f"{path}: {differing} is {facts.get(differing)!r}, but {found[0].get(differing)!r} in {paths[0]}; "
                "measure the older one again, loads of one row are of one engine"
            )
    latencies_ms = [_latencies(path) for path in paths]
    state = identity.state(
        "measurement",
        {},
        made_from={f"load-{number}": facts["id"] for number, facts in enumerate(found)},
        code=code_digest("measure_row"),
        versions=provenance.versions(["numpy", "scipy"]),
    )
    row = loads.row(found, latencies_ms)
    compute_ms = np.concatenate([of_load[:, 0] for of_load in latencies_ms])
    return {
        "NPU_compute_time": aisbench.describe_ms(compute_ms),
        "throughput": row["images_per_s"],
        "smlp": identity.sealed({**row, **state}),
    }


def _latencies(path: Path) -> np.ndarray:
    """Every latency of a load, float64 (runs, 2); its digest was checked."""
    array = np.load(io.BytesIO(path.with_suffix(".npy").read_bytes()), allow_pickle=False)
    if array.dtype != np.float64 or array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise UserError(f"{path.with_suffix('.npy')}: has {array.dtype} {array.shape}, float64 (runs, 2) was expected")
    return array


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--loads", type=Path, nargs="+", required=True, help="summaries of measure.py, of one engine")
    parser.add_argument("--output", type=Path, required=True, help="summary to write, ending in .json")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
