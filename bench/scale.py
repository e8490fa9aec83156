"""A sweep of ImageNet's size from end to end: what scheduling costs, what grows, what every process needs.

Makes a synthetic ImageNet of tiny JPEGs (every file different, 1,000 class folders), and runs the real workflow on it
with a tiny model in a copy of this project, stage by stage. One row a stage: jobs, wall seconds, the jobs' own
seconds (Snakemake's benchmarks), what Snakemake added to each, the largest peak of a single process, files and bytes.
Then a run with nothing to do, the proof that every image was scored, and what the overhead measured here would be of
a sweep of ImageNet at throughputs that are known.

    python bench/scale.py                                    # 50,000 images in 50 shards
    python bench/scale.py --images 500000 --shards 500 --stages plan
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import common

from smlp.core import cli
from smlp.core.cli import UserError

_POOL = 200  # JPEGs that are encoded; each file is one of them with a comment of its own
_SAMPLE_S = 0.2
_NOTHING: dict[str, Any] = {"seconds": None, "peaks_mb": {}}
# Stages, and how many of their jobs run at once, of `cores`: an engine takes them all
_STAGES = {"preprocess": None, "compile": 1, "infer": 1, "evaluate": None, "tabulate": 1}
_KEY = ("images", "shards", "layout", "pixels", "stage")
# of an ImageNet sweep: images/s of sMLPNet-T here (bench/results/measure.csv) and on the guide's Ascend 310P
_RATES = {"sMLPNet-T, this machine's CPU": None, "sMLPNet-T, published for Ascend 310P3": 290.0}


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    with contextlib.ExitStack() as stack:
        folder = flags.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-scale-")))
        project = folder / "project"
        make_images(folder / "imagenet", flags.images, flags.classes)
        make_project(project, folder / "imagenet", flags)
        rows = []
        for row in run(project, flags):
            rows.append({**row, **common.machine()})
            common.record(flags.output, rows[-1], _KEY)
    common.show(f"{flags.images} images, {flags.shards} shards", [_main_columns(row) for row in rows])
    return 0


def make_images(root: Path, images: int, classes: int) -> None:
    """ImageFolder of `images` different JPEGs below root/val; what stands there is left as it is."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    pool = []
    for _ in range(_POOL):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        stream = io.BytesIO()
        coarse.resize((64, 48), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=80)
        pool.append(stream.getvalue())
    for label in range(classes):
        folder = root / "val" / f"n{label:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(label, images, classes):
            path = folder / f"ILSVRC2012_val_{index:08d}.JPEG"
            if not path.exists():
                content, comment = pool[index % _POOL], f"image {index}".encode()
                # after the start-of-image marker: a comment segment, its length counts itself
                path.write_bytes(
                    content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]
                )


def make_project(project: Path, images: Path, flags: argparse.Namespace) -> None:
    """A copy of the product with the settings of this sweep, and random weights for its model."""
    import torch
    import yaml

    from smlp.models import architectures

    common.copy_product(project)
    # of an ONNX file the run in ONNX Runtime is the reference: one pass over the images
    start = {"checkpoint": "tiny.pth"} if "pytorch" in flags.targets else {"onnx": "tiny.onnx"}
    if not (project / next(iter(start.values()))).exists():
        torch.manual_seed(0)
        model = architectures.create("test_resnet", flags.classes)
        torch.save(model.state_dict(), project / "tiny.pth")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                (torch.zeros(2, 3, 160, 160),),
                str(project / "tiny.onnx"),
                opset_version=11,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
                dynamo=False,
            )
    settings = {
        "models": {"tiny": {"model_name": "test_resnet", "num_classes": flags.classes, **start}},
        "dataset": {
            "name": "synthetic",
            "root": str(images),
            "shards": flags.shards,
            "layout": flags.layout,
            "pixels": flags.pixels,
        },
        "targets": [{"backend": name} for name in flags.targets],
        "batch_sizes": [8],
        "measure": {
            "loads": 1,
            "retry_max_s": 0,
            "min_time_s": 0.1,
            "min_runs": 10,
            "warmup_window_s": 0.05,
            "warmup_max_s": 1,
        },
        "profile": {"best": False},
    }
    (project / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def run(project: Path, flags: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row a stage."""
    about = {"images": flags.images, "shards": flags.shards, "layout": flags.layout, "pixels": flags.pixels}
    if "plan" in flags.stages:
        plan = snakemake(project, flags.cores, "--dry-run", "--quiet", "rules")
        yield {**about, **_row("plan, nothing done yet", plan, jobs=_planned(plan["output"]))}
    for stage in filter(flags.stages.__contains__, _STAGES):
        before = _benchmarks(project)
        # one worker a job: most of a shard's time is the start of its command, and that has one thread
        done = snakemake(project, flags.cores, stage, "--set-threads", "preprocess_shard=1")
        new = {path: seconds for path, seconds in _benchmarks(project).items() if before.get(path) != seconds}
        places = {"compile": ("retrieve", "export", "compile"), "tabulate": ("measure", "tables")}.get(stage, (stage,))
        row = _row(
            stage,
            done,
            jobs=len(new),
            jobs_s=sum(seconds for seconds, _ in new.values()),
            at_once=_STAGES[stage] or flags.cores,
            places=[project / "results" / place for place in places],
        )
        yield {**about, **row}
        if stage == "infer" and row["overhead_s_per_job"]:
            yield from ({**about, **share} for share in share_of_imagenet(row["overhead_s_per_job"]))
    if "again" in flags.stages:
        again = snakemake(project, flags.cores)
        if "Nothing to be done" not in again["output"]:
            raise UserError(f"{project}: the finished sweep had something to do:\n{again['output'][-2000:]}")
        yield {**about, **_row("nothing to do", again, jobs=0)}
        scored = [json.loads(path.read_text())["images"] for path in project.glob("results/evaluate/**/bs8.json")]
        if set(scored) != {flags.images}:
            raise UserError(f"{project}: {scored} images were scored, not {flags.images}")
        yield {**about, **_row("coverage", _NOTHING), "images_scored": scored[0]}


def share_of_imagenet(overhead_s: float) -> Iterator[dict[str, Any]]:
    """What `overhead_s` a job is of the wall time of three models x five targets x six batch sizes over ImageNet."""
    models, targets, batches, shards, images = 3, 5, 6, 50, 50_000
    cells = models * targets * batches
    # preprocess, infer, evaluate (and the references), measure, compile, retrieve and export, tabulate
    jobs = shards + cells * shards + cells + models + cells + models * (targets - 1) * batches + 2 * models + 1
    for name, images_per_s in _RATES.items():
        rate = images_per_s or _rate_here()
        if rate:
            work_s = cells * images / rate  # inference alone: the rest of the work would only make the share smaller
            row = _row(f"share of ImageNet, {name}", _NOTHING, jobs=jobs)
            share = 100 * jobs * overhead_s / (work_s + jobs * overhead_s)
            yield {
                **row,
                "overhead_s_per_job": round(overhead_s, 3),
                "images_per_s": rate,
                "share_percent": round(share, 2),
            }


def _rate_here() -> float | None:
    """The best images/s that bench/measure.py recorded."""
    path = common.RESULTS / "measure.csv"
    if not path.exists():
        return None
    with open(path, encoding="utf-8", newline="") as stream:
        return max(float(row["ours_images_per_s"]) for row in csv.DictReader(stream))


def snakemake(project: Path, cores: int, *flags: str) -> dict[str, Any]:
    """Run Snakemake; its seconds, output and the peak resident memory in MB of every process, by what it is."""
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "SMLP_LOCK_DIR"), str(project))}
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), *flags]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=project, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        with Peaks(project) as peaks:
            status = process.wait()
        seconds = time.perf_counter() - started
        output.seek(0)
        said = output.read().decode(errors="replace")
    if status:
        raise UserError(f"snakemake {' '.join(flags)} failed:\n{said[-3000:]}")
    return {"seconds": seconds, "output": said, "peaks_mb": peaks.found_mb}


class Peaks:
    """Watches the processes that work in a folder: the largest peak resident memory of each kind, in MB."""

    def __init__(self, folder: Path) -> None:
        self.found_mb: dict[str, float] = {}
        self._folder = str(folder.resolve())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            for process in os.listdir("/proc"):
                if process.isdecimal():
                    with contextlib.suppress(OSError):  # it ended, or is another user's
                        self._look(Path("/proc", process))

    def _look(self, process: Path) -> None:
        if os.readlink(process / "cwd") != self._folder:
            return
        peak = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        kind = next((Path(word).stem for word in words if word.startswith("scripts/")), None)
        kind = kind or (
            "snakemake" if "snakemake" in words else "worker" if "multiprocessing" in " ".join(words) else ""
        )
        if peak and kind:
            self.found_mb[kind] = max(self.found_mb.get(kind, 0), int(peak[1]) * 1024 / 1e6)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()


def _row(
    stage: str, done: dict[str, Any], jobs: int | None = None, jobs_s: float | None = None, at_once: int = 1, places=()
) -> dict:
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    peaks = done["peaks_mb"]
    seconds = done["seconds"]
    return {
        "stage": stage,
        "jobs": jobs,
        "jobs_at_once": at_once if jobs_s else None,
        "wall_s": None if seconds is None else round(seconds, 2),
        "jobs_s": None if jobs_s is None else round(jobs_s, 2),
        "overhead_s_per_job": round((seconds - jobs_s / at_once) / jobs, 3) if jobs_s and jobs else None,
        "peak_rss_mb_snakemake": round(peaks["snakemake"], 1) if "snakemake" in peaks else None,
        "peak_rss_mb_command": round(max((mb for kind, mb in peaks.items() if kind != "snakemake"), default=0), 1)
        or None,
        "files": len(files) or None,
        "bytes": sum(path.stat().st_size for path in files) or None,
        "images_scored": None,
        "images_per_s": None,
        "share_percent": None,
    }


def _main_columns(row: dict[str, Any]) -> dict[str, Any]:
    names = list(row)[4 : list(row).index("share_percent") + 1]
    return {name: row[name] for name in names}


def _benchmarks(project: Path) -> dict[Path, tuple[float, float]]:
    """Seconds of every job that Snakemake has timed, and when."""
    found = {}
    for path in project.glob("results/benchmarks/**/*.tsv"):
        seconds = path.read_text().splitlines()[1].split("\t")[0]
        found[path] = (float(seconds), path.stat().st_mtime)
    return found


def _planned(output: str) -> int:
    total = re.search(r"^total\s+(\d+)", output, re.MULTILINE)
    return int(total[1]) if total else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", type=cli.positive_int, default=50_000, help="JPEGs to make")
    parser.add_argument("--shards", type=cli.positive_int, default=50, help="parts of the data set")
    parser.add_argument("--classes", type=cli.positive_int, default=1000, help="class folders")
    parser.add_argument("--layout", choices=("files", "packed"), default="packed", help="dataset.layout")
    parser.add_argument("--pixels", choices=("float32", "uint8"), default="uint8", help="dataset.pixels")
    parser.add_argument(
        "--targets", nargs="+", default=["onnxruntime"], help="backends; with pytorch it is the reference"
    )
    parser.add_argument("--cores", type=cli.positive_int, default=cli.default_workers(), help="for Snakemake")
    stages = ["plan", *_STAGES, "again"]
    parser.add_argument(
        "--stages", nargs="+", choices=stages, default=stages, help="with --folder, one after the other"
    )
    parser.add_argument("--folder", type=Path, help="work here and leave everything; a temporary folder unless given")
    parser.add_argument("--output", type=Path, default=common.RESULTS / "scale.csv", help="CSV to write")
    flags = parser.parse_args(argv)
    if flags.images < max(flags.classes, flags.shards):
        raise UserError(f"--images {flags.images}: at least one a class and shard was expected")
    return flags


if __name__ == "__main__":
    cli.run(main)
