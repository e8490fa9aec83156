"""Images/s of scripts/preprocess.py beside the model-zoo guide's way, and its memory.

The guide's way: torchvision's ImageFolder and transforms, a DataLoader with one worker and batch size 1,
`images.numpy().tofile(...)`. Both read the same generated JPEGs of ImageNet's typical size (500x375, about 110 kB)
and their bins are compared byte by byte. Rounds alternate; the medians count.

The last row is a run of ten times as many images, which must not slow down. `ratio_to_steady_best` compares its best
rate with the best steady state of the short runs, which begins with the first result of every worker and ends with the
last result: without the start of Python and its workers, and without the flush to disk. Best with best, because noise
only ever slows a run.

Both are timed from the first image to the last, without starting Python (the guide's imports of torch take seconds);
ours with starting its workers, the manifest and flushing to disk. The whole command, as a user waits for it, is
beside.

    python bench/preprocess.py --output bench/results/preprocess.csv
"""

from __future__ import annotations

import concurrent.futures
import importlib
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import common

from smlp.core import cli, files

_COMMAND = common.REPOSITORY / "scripts" / "preprocess.py"
_IMAGES_PER_CLASS = 50
_COPIES = 10  # how many times each image is linked for the large memory run


def make_images(data_root: Path, first: int, last: int) -> None:
    """Write the JPEGs number `first` to `last` - 1 below data_root/val. The same numbers give the same bytes."""
    import numpy as np
    from PIL import Image

    for index in range(first, last):
        rng = np.random.default_rng(index)
        width, height = (500, 375) if index % 4 else (375, 500)
        # octaves of smooth noise have the spectrum of photographs; fine grain brings the file to its size
        pixels = np.full((height, width, 3), 120, np.float32)
        for cells, contrast in ((4, 60), (16, 40), (64, 25)):
            for channel in range(3):
                coarse = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
                pixels[..., channel] += contrast * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        pixels += 20 * rng.standard_normal((height, width, 1), np.float32)
        path = data_root / "val" / f"class_{index // _IMAGES_PER_CLASS:03d}" / f"{index:05d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)


def guide(data_root: Path, save_dir: Path) -> float:
    """Preprocess as the guide does; return the seconds of its loop."""
    importlib.import_module("smlp.models.architectures")  # makes torchvision importable beside every build of torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    transform = transforms.Compose(
        [
            transforms.Resize(int(256 / 224 * 224), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    save_dir.mkdir()
    start = time.perf_counter()
    loader = DataLoader(datasets.ImageFolder(data_root / "val", transform), batch_size=1, num_workers=1)
    for index, (images, _) in enumerate(loader):
        images.numpy().tofile(save_dir / f"batch_{index}.bin")
    return time.perf_counter() - start


# Run by itself: started from this file, worker processes would take it for scripts/preprocess.py.
# Prints the seconds of all, and the images/s from the first result of every worker to the last result.
_OURS = """
import contextlib, sys, time
from pathlib import Path
data_root, save_dir, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
import preprocess
results = []
@contextlib.contextmanager
def progress(what, total, unit):
    yield lambda images: results.append((time.perf_counter(), images))
preprocess.progress = progress
entries = preprocess.dataset.list_images(data_root)
transform = preprocess.preprocessing.resolve("smlpnet_tiny")
start = time.perf_counter()
preprocess.preprocess(entries, data_root, save_dir, transform, workers=workers)
print(time.perf_counter() - start)
# when the first result of every worker is there, none of the later work has begun
print(sum(images for _, images in results[workers:]) / (results[-1][0] - results[workers - 1][0]))
"""


def whole_command(data_root: Path, save_dir: Path, workers: int, more: Sequence[str] = ()) -> tuple[float, float]:
    """Run the command; return its seconds from start to end and the peak RSS in MB of its largest process."""
    command = [sys.executable, _COMMAND, "--data_root", data_root, "--save_dir", save_dir, "--workers", str(workers)]
    command += more
    shutil.rmtree(save_dir, ignore_errors=True)  # a first run: none that also removes an older folder
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise cli.UserError(f"scripts/preprocess.py failed: {log.read().decode()}")
    return seconds, usage.ru_maxrss / 1024


def identical(our_dir: Path, guide_dir: Path, images: int) -> bool:
    """Whether every bin of ours has the guide's bytes, and there is one for each image."""
    pairs = [(our_dir / f"batch-{index:05d}.bin", guide_dir / f"batch_{index}.bin") for index in range(images)]
    return len(list(our_dir.glob("*.bin"))) == images and all(a.read_bytes() == b.read_bytes() for a, b in pairs)


def equal_copies(our_dir: Path, images: int) -> bool:
    """Whether a long run has one bin for each link, and the links of an image have the same bytes."""
    groups = [
        [our_dir / f"batch-{image * _COPIES + copy:05d}.bin" for copy in range(_COPIES)] for image in range(images)
    ]
    return len(list(our_dir.glob("*.bin"))) == images * _COPIES and all(
        len({files.digest(path) for path in group}) == 1 for group in groups
    )


def peak_mb(runs: Sequence[tuple[float, float]]) -> float:
    return max(peak for _, peak in runs)


class Way(NamedTuple):
    """The runs of one way. to_guide, to_steady: ratios; steady: best images/s; same: whether the bins are right."""

    way: str
    images: int
    seconds: list[float]
    to_guide: float | None = None
    same: bool | None = None
    peak_rss_mb: float | None = None
    to_steady: float | None = None
    steady: float | None = None


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", type=cli.positive_int, default=500, help="JPEGs to generate")
    parser.add_argument("--rounds", type=cli.positive_int, default=3, help="runs of each way")
    parser.add_argument("--workers", type=cli.positive_int, default=cli.default_workers(), help="of our command")
    parser.add_argument("--output", type=Path, default=common.RESULTS / "preprocess.csv", help="CSV to write")
    parser.add_argument(
        "--guide", nargs=2, type=Path, metavar=("DATA", "BINS"), help="internal: one run of the guide's"
    )
    args = parser.parse_args(argv)
    if args.guide:
        print(guide(*args.guide))
        return 0

    where = common.machine()
    with tempfile.TemporaryDirectory(prefix="bench-preprocess-") as scratch:
        rows = compare(Path(scratch), args.images, args.rounds, args.workers)
    common.show(f"preprocess: {args.images} JPEGs of about 500x375, {args.rounds} alternating rounds, medians", rows)
    common.write_csv(args.output, [{**row, **where} for row in rows])
    cli.say(f"written to {args.output}")
    return 0


def compare(scratch: Path, images: int, rounds: int, workers: int) -> list[dict[str, Any]]:
    """One row a way and, for memory, one with each image linked ten times. `scratch` is an empty folder."""
    data, linked, our_dir, guide_dir = (scratch / name for name in ("data", "linked", "ours", "guide"))
    step = -(-images // cli.default_workers())
    with concurrent.futures.ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(make_images, data, at, min(at + step, images)) for at in range(0, images, step)]
        for job in jobs:
            job.result()
    jpegs = sorted(data.glob("val/*/*"))
    for file in jpegs:
        target = linked / file.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        for copy in range(_COPIES):
            os.link(file, target.with_stem(f"{file.stem}-{copy}"))

    def figures_of(*command: object) -> list[float]:
        environment = {**os.environ, "PYTHONPATH": str(_COMMAND.parent)}
        run = subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.PIPE, env=environment)
        return [float(figure) for figure in run.stdout.split()]

    our_runs, command_runs, guide_runs, long_runs, steady_rates, same = [], [], [], [], [], []
    for _ in range(rounds):
        shutil.rmtree(our_dir, ignore_errors=True)  # a first run, as in whole_command
        seconds, steady = figures_of("-c", _OURS, data, our_dir, workers)
        our_runs.append(seconds)
        steady_rates.append(steady)
        guide_runs += figures_of(__file__, "--guide", data, guide_dir)
        same.append(identical(our_dir, guide_dir, images))
        shutil.rmtree(guide_dir)
        command_runs.append(whole_command(data, our_dir, workers))
        long_runs.append(whole_command(linked, our_dir, workers))
        same.append(equal_copies(our_dir, images))

    def ratio(seconds: list[float]) -> float:
        return statistics.median(theirs / own for theirs, own in zip(guide_runs, seconds, strict=True))

    command_seconds, long_seconds = ([seconds for seconds, _ in runs] for runs in (command_runs, long_runs))
    to_steady = images * _COPIES / min(long_seconds) / max(steady_rates)
    runs = [
        Way("guide", images, guide_runs),
        Way("ours", images, our_runs, ratio(our_runs), all(same[::2]), steady=max(steady_rates)),
        Way("ours, whole command", images, command_seconds, ratio(command_seconds), None, peak_mb(command_runs)),
        Way(
            "ours, whole command",
            images * _COPIES,
            long_seconds,
            None,
            all(same[1::2]),
            peak_mb(long_runs),
            to_steady=to_steady,
        ),
    ]
    mean_kb = statistics.fmean(file.stat().st_size for file in jpegs) / 1000
    return [
        {
            "way": run.way,
            "workers": workers if run.way.startswith("ours") else 1,
            "images": run.images,
            "file_kb_mean": round(mean_kb, 1),
            "runs": len(run.seconds),
            "seconds_p50": round(statistics.median(run.seconds), 2),
            "images_per_s": round(run.images / statistics.median(run.seconds), 1),
            "images_per_s_best": round(run.images / min(run.seconds), 1),
            "steady_images_per_s_best": None if run.steady is None else round(run.steady, 1),
            "ratio_to_guide_p50": None if run.to_guide is None else round(run.to_guide, 2),
            "ratio_to_steady_best": None if run.to_steady is None else round(run.to_steady, 2),
            "bins_identical": None if run.same is None else str(run.same),
            "peak_rss_mb_largest_process": None if run.peak_rss_mb is None else round(run.peak_rss_mb, 1),
        }
        for run in runs
    ]


if __name__ == "__main__":
    cli.run(main)
