"""Take an engine's latency and throughput from a summary that ais_bench wrote on another host.

Reads its summary JSON (`<dir>_summary.json`, of version 0.0.1 `sumary.json`) and writes what measure.py writes. It
computes the throughput anew from the times and --batchsize: ais_bench prints any batch size that it is told.

  scripts/measure_import.py --summary shard-0_summary.json --model_label smlpnet_tiny --precision high \\
      --batchsize 8 --output bs8.json
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smlp import backends
from smlp.backends.base import duration_ms
from smlp.core import cli, files, identity, provenance
from smlp.core.cli import UserError
from smlp.core.code import code_digest
from smlp.core.provenance import Facts
from smlp.core.runs import RunFacts
from smlp.results import chain, statistics


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    summary = files.read_json(flags.summary, "the summary of ais_bench")
    theirs = summary.get("smlp", {}) if isinstance(summary, dict) else {}  # stated if infer.py wrote it
    identity.verify(theirs, flags.summary)
    known = RunFacts.read(theirs)
    run = RunFacts(flags.model_label, flags.backend, flags.precision, flags.variant, flags.batchsize)
    run = dataclasses.replace(run, engine_id=known.engine_id or chain.imported_id(flags.summary), start=known.start)
    state = identity.state(
        "measurement",
        {"summary": files.digest(flags.summary)},
        made_from={"engine": run.engine_id or ""},
        flags={"batch": flags.batchsize},
        code=code_digest("measure_import"),
    )
    report = {
        "smlp": provenance.describe(
            {"summary": flags.summary},
            state=state,
            **run.identity(),
            **run.made_by(),
            device=f"{flags.backend}, measured by ais_bench",
            stable=None,
            **figures(flags.summary, summary, flags.batchsize),
        )
    }
    files.write_json(flags.output, report)
    return 0


def figures(path: Path, summary: Facts, batch_size: int) -> Facts:
    """Throughput in images/s and latencies in ms of one summary. Raises UserError if it has no compute times."""
    try:
        # with several threads, and from 2024 on, entries are pairs of start and end
        times_ms = np.array([duration_ms(entry) for entry in summary.get("npu_compute_time_list", [])])
        mean_ms = float(times_ms.mean() if len(times_ms) else summary["NPU_compute_time"]["mean"])
        median_ms = float(np.median(times_ms) if len(times_ms) else summary["NPU_compute_time"].get("median", mean_ms))
        if not 0 < mean_ms < float("inf") or not 0 < median_ms < float("inf"):
            raise ValueError(f"mean {mean_ms} ms")
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{path}: has no times of NPU_compute_time above 0 ({error!r}); a summary of ais_bench was expected"
        ) from None
    found = {"latency_ms_mean": mean_ms, "latency_ms_p50": median_ms, "images_per_s": 1000 * batch_size / mean_ms}
    if len(times_ms) > 1:
        low, high = statistics.bootstrap_interval_mean_throughput(times_ms, batch_size)
        found.update(runs=len(times_ms), images_per_s_low=low, images_per_s_high=high)
        found.update(statistics.latency_percentiles(times_ms))
    return found


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    elsewhere = [backend.name for backend in backends.every() if backend.ready_made]
    parser = cli.parser(__doc__)
    parser.add_argument("--summary", type=Path, required=True, help="summary that ais_bench wrote")
    parser.add_argument("--model_label", required=True, help="the model's name in tables")
    parser.add_argument(
        "--backend",
        choices=backends.names(),
        default=elsewhere[0] if len(elsewhere) == 1 else None,
        required=len(elsewhere) != 1,
        help="backend of the engine",
    )
    parser.add_argument("--precision", required=True, help="precision of the engine")
    parser.add_argument("--variant", default="", help="name of the target's variant; a plain target has none")
    parser.add_argument("--batchsize", type=cli.positive_int, required=True, help="batch size of the engine")
    parser.add_argument("--output", type=Path, required=True, help="summary to write, ending in .json")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
