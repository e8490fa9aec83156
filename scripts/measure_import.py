"""Take an engine's latency and throughput from a summary that ais_bench wrote on another host.

Reads its summary JSON (`<dir>_summary.json`, of version 0.0.1 `sumary.json`) and writes what measure.py writes. It
computes the throughput anew from the times and --batchsize, because ais_bench prints any batch size that it is told.
--batchsize is checked too, against the runs that the summary counts and the files that they read. Where it tells
nothing, `batch_checked` is false: the row enters no ratio and is no best row.

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

_MADE_UP = "pure_infer_data"  # what ais_bench calls its input if it was given no file
_TOLERANCE = 0.05  # of a batch size that is called checked: less than what a second measurement moves
_MOST = 4096  # the largest batch size that ais_bench and the settings take


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    summary = files.read_json(flags.summary, "the summary of ais_bench")
    theirs = summary.get("smlp", {}) if isinstance(summary, dict) else {}  # stated if infer.py wrote it
    identity.verify(theirs, flags.summary)
    known = RunFacts.read(theirs)
    run = RunFacts(flags.model_label, flags.backend, flags.precision, flags.variant, flags.batchsize)
    found = figures(flags.summary, summary, flags.batchsize)
    found["batch_checked"] = check_batch(flags.summary, summary, flags.batchsize, flags.images_per_file)
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
            **found,
        )
    }
    files.write_json(flags.output, report)
    return 0


def check_batch(path: Path, summary: Facts, batch_size: int, images_per_file: int) -> bool:
    """Whether the summary tells, to within 5%, that this was the batch size. Raises UserError if it tells another one.

    Two things tell it, and not in every summary. Runs: ais_bench groups the files into runs of one batch, the last one
    padded, so that with F files per batch `runs` = ceil(files / F); warm-up is not counted, --loop repeats each run.
    The throughput: 1000 · batch / mean, where the batch is the engine's own unless --batchsize told another (before
    0.0.2 it was 1 then, so that 1 tells nothing).
    """
    told = {"its runs and files": _by_runs(summary, images_per_file), "its throughput": _by_throughput(summary)}
    for what, sizes in told.items():
        if sizes and batch_size not in sizes:
            found = f"{sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "")
            raise UserError(
                f"{path}: was measured with batch size {found} by {what}, but --batchsize is {batch_size}; put the "
                f"results into the folder of their batch size (or say --images_per_file, if a file holds several)"
            )
    least, most = (1 - _TOLERANCE) * batch_size, (1 + _TOLERANCE) * batch_size
    return any(sizes and least <= sizes[0] and sizes[-1] <= most for sizes in told.values())


def _by_runs(summary: Facts, images_per_file: int) -> range | None:
    """The batch sizes that fit the number of runs and of files; None if the summary does not count them."""
    entries, asked = summary.get("filesinfo"), _asked(summary)
    times = summary.get("npu_compute_time_list") or range(_times(summary).get("count", 0))
    read = [entry for entry in entries.values() if _reads_a_file(entry)] if isinstance(entries, dict) else []
    if not read or not times or asked is None or asked.loop < 1 or len(times) % asked.loop:
        return None
    runs = len(times) // asked.loop
    # runs hold all files, and one run less would not; a single run may have any number of padded places
    least = -(-len(read) // runs)
    most = (len(read) - 1) // (runs - 1) if runs > 1 else _MOST
    return range(images_per_file * least, images_per_file * most + 1, images_per_file) or None


def _by_throughput(summary: Facts) -> range | None:
    """The batch size that the throughput was computed with, if that is the engine's own."""
    asked, stated, times = _asked(summary), summary.get("throughput"), _times(summary)
    if asked is None or asked.batchsize or asked.threads > 1 or "count" not in times or not isinstance(stated, float):
        return None
    batch_size = stated * times.get("mean", 0.0) / 1000
    whole = round(batch_size)
    return range(whole, whole + 1) if whole > 1 and abs(batch_size - whole) < 1e-3 * whole else None


def _times(summary: Facts) -> Facts:
    times = summary.get("NPU_compute_time")
    return times if isinstance(times, dict) else {}


def _reads_a_file(entry: object) -> bool:
    infiles = entry.get("infiles") if isinstance(entry, dict) else None
    return bool(isinstance(infiles, list) and infiles and not str(infiles[0]).endswith(_MADE_UP))


def _asked(summary: Facts) -> argparse.Namespace | None:
    """What ais_bench was asked for, as far as it matters here; None if the summary does not say it."""
    words = summary.get("args")
    if not isinstance(words, list):
        return None
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--loop", "-l", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batchsize")
    try:
        return parser.parse_known_args([str(word) for word in words[1:]])[0]
    except (argparse.ArgumentError, SystemExit):  # before Python 3.13 some errors exit all the same
        return None


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
        found.update(runs=len(times_ms), **statistics.latency_percentiles(times_ms))
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
    parser.add_argument("--images_per_file", type=cli.positive_int, default=1, help="in each file that ais_bench read")
    parser.add_argument("--output", type=Path, required=True, help="summary to write, ending in .json")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
