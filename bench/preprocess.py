"""Images/s of scripts/preprocess.py beside the model-zoo guide's way, and its memory.

The guide's way: torchvision's ImageFolder and transforms, a DataLoader with one worker and batch size 1,
`images.numpy().tofile(...)`. Both read the same generated JPEGs of ImageNet's typical size (500x375, about 110 kB)
and their bins are compared byte by byte. Rounds alternate; the medians count.

Both are timed from the first image to the last, without starting Python (the guide's imports of torch take seconds);
ours with starting its workers, the manifest and flushing to disk. The whole command, as a user waits for it, stands
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
from typing import Any

import common

from smlp.core import cli

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
_OURS = """
import sys, time
from pathlib import Path
data_root, save_dir, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
import preprocess
entries = preprocess.dataset.list_images(data_root)
transform = preprocess.preprocessing.resolve("smlpnet_tiny")
start = time.perf_counter()
preprocess.preprocess(entries, data_root, save_dir, transform, workers=workers)
print(time.perf_counter() - start)
"""


def whole_command(data_root: Path, save_dir: Path, workers: int, more: Sequence[str] = ()) -> tuple[float, float]:
    """Run the command; return its seconds from start to end and the peak RSS in MB of its largest process."""
    command = [sys.executable, _COMMAND, "--data_root", data_root, "--save_dir", save_dir, "--workers", str(workers)]
    command += more
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
    files = sorted(data.glob("val/*/*"))
    for file in files:
        target = linked / file.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        for copy in range(_COPIES):
            os.link(file, target.with_stem(f"{file.stem}-{copy}"))

    def seconds_of(*command: object) -> float:
        environment = {**os.environ, "PYTHONPATH": str(_COMMAND.parent)}
        run = subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.PIPE, env=environment)
        return float(run.stdout)

    our_runs, command_runs, guide_runs, same = [], [], [], []
    for _ in range(rounds):
        our_runs.append(seconds_of("-c", _OURS, data, our_dir, workers))
        guide_runs.append(seconds_of(__file__, "--guide", data, guide_dir))
        same.append(identical(our_dir, guide_dir, images))
        shutil.rmtree(guide_dir)
        command_runs.append(whole_command(data, our_dir, workers))
    large = whole_command(linked, our_dir, workers)

    def ratio(seconds: list[float]) -> float:
        return statistics.median(theirs / own for theirs, own in zip(guide_runs, seconds, strict=True))

    command_seconds = [run[0] for run in command_runs]
    runs = [
        ("guide", images, guide_runs, None, None, None),
        ("ours", images, our_runs, ratio(our_runs), all(same), None),
        ("ours, whole command", images, command_seconds, ratio(command_seconds), None, max(r for _, r in command_runs)),
        ("ours, whole command", images * _COPIES, [large[0]], None, None, large[1]),
    ]
    mean_kb = statistics.fmean(file.stat().st_size for file in files) / 1000
    return [
        {
            "way": way,
            "workers": workers if way.startswith("ours") else 1,
            "images": count,
            "file_kb_mean": round(mean_kb, 1),
            "runs": len(seconds),
            "seconds_p50": round(statistics.median(seconds), 2),
            "images_per_s": round(count / statistics.median(seconds), 1),
            "ratio_to_guide_p50": None if to_guide is None else round(to_guide, 2),
            "bins_identical": None if equal is None else str(equal),
            "peak_rss_mb_largest_process": None if rss is None else round(rss, 1),
        }
        for way, count, seconds, to_guide, equal, rss in runs
    ]


if __name__ == "__main__":
    cli.run(main)
