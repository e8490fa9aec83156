"""Bytes and seconds of scripts/preprocess.py in each layout, on the same images.

The images are those of bench/preprocess.py: generated JPEGs of ImageNet's typical size (500x375, about 110 kB). The
whole command is timed, from its start to flushed files, in alternating rounds; medians count. The ratios are to the
guide's layout, one float32 file an image.

    python bench/layouts.py
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import preprocess

from smlp.core import cli

_WAYS = [("files", "float32"), ("packed", "float32"), ("packed", "uint8")]


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    where = common.machine()
    with tempfile.TemporaryDirectory(prefix="bench-layouts-") as scratch:
        rows = compare(Path(scratch), flags.images, flags.rounds, flags.workers)
    common.show(f"preprocess: {flags.images} JPEGs of about 500x375, {flags.rounds} alternating rounds, medians", rows)
    common.write_csv(flags.output, [{**row, **where} for row in rows])
    return 0


def compare(scratch: Path, images: int, rounds: int, workers: int) -> list[dict[str, Any]]:
    """One row a layout. `scratch` is an empty folder."""
    preprocess.make_images(scratch / "data", 0, images)
    seconds: dict[tuple[str, str], list[float]] = {way: [] for way in _WAYS}
    peaks_mb = dict.fromkeys(_WAYS, 0.0)
    written: dict[tuple[str, str], list[int]] = {}
    for _ in range(rounds):
        for way in _WAYS:
            bins = scratch / "bins"
            layout = ["--layout", way[0], "--pixels", way[1]]
            taken, peak_mb = preprocess.whole_command(scratch / "data", bins, workers, layout)
            seconds[way].append(taken)
            peaks_mb[way] = max(peaks_mb[way], peak_mb)
            written[way] = [path.stat().st_size for path in bins.iterdir()]
            shutil.rmtree(bins)
    guide = _WAYS[0]
    return [
        {
            "layout": way[0],
            "pixels": way[1],
            "images": images,
            "workers": workers,
            "rounds": rounds,
            "seconds_p50": round(statistics.median(seconds[way]), 2),
            "images_per_s": round(images / statistics.median(seconds[way]), 1),
            "speed_ratio_p50": round(
                statistics.median(a / b for a, b in zip(seconds[guide], seconds[way], strict=True)), 2
            ),
            "files": len(written[way]),
            "bytes": sum(written[way]),
            "bytes_ratio": round(sum(written[guide]) / sum(written[way]), 2),
            "peak_rss_mb_largest_process": round(peaks_mb[way], 1),
        }
        for way in _WAYS
    ]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", type=cli.positive_int, default=2000, help="JPEGs to generate")
    parser.add_argument("--rounds", type=cli.positive_int, default=3, help="runs of each layout")
    parser.add_argument("--workers", type=cli.positive_int, default=cli.default_workers(), help="processes")
    parser.add_argument("--output", type=Path, default=common.RESULTS / "layouts.csv", help="CSV to write")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
