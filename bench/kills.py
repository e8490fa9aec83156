"""Kills a small sweep with -9 at random moments, recovers it as docs/recovery.md says, and compares every byte.

Each kill gets a copy of the undisturbed sweep from which everything from a random stage on is removed (the first stage:
all of it). At a random moment of the time that the rest took when it was not disturbed, one of three victims dies: a
job with all its processes, Snakemake with everything that it has started, or Snakemake alone, so that its jobs run on
as orphans. Then, where Snakemake died, what is still in a cluster's queue is cancelled, and `snakemake --unlock`; and
the same command again. Bins, manifests, ONNX files, outputs, predictions and accuracy tables must equal those of the
undisturbed sweep, nothing half-written may be left, and a further run must have nothing to do. One line a kill is
appended to the CSV as soon as it is known.

    python bench/kills.py --seed 0 --kills 20
    python bench/kills.py --seed 0 --kills 20 --profile profiles/slurm     # on a cluster: jobs die there, too

The second one needs nodes whose processes are seen here; the tests' own Slurm is such a cluster:

    tests/workflow/slurm.sh /tmp/slurm .venv/bin/python bench/kills.py --profile profiles/slurm \\
        --snakemake_flag=--default-resources --snakemake_flag=slurm_partition=both
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common

from smlp.core import cli
from smlp.core.cli import UserError
from smlp.workflow import leftovers

_SETTINGS = {
    "models": {"tiny": {"model_name": "test_resnet", "checkpoint": "demo"}},
    "dataset": {"name": "digits", "demo": {"train_images": 20, "val_images": 24}, "shards": 3},
    "targets": [{"backend": "pytorch"}, {"backend": "onnxruntime"}],
    "batch_sizes": [4],
    "accuracy": {"reference_batch_size": 4},
    "measure": {
        "loads": 1,
        "retry_max_s": 0,
        "min_time_s": 0.01,
        "min_runs": 3,
        "warmup_window_s": 0.001,
        "warmup_max_s": 0.01,
    },
    "profile": {"best": False},
}
# What must not depend on how often a sweep was killed; measured times do, and so do sidecars, which say when.
_COMPARED = ("**/*.bin", "preprocess/**/*.npy", "**/manifest.csv", "**/*.pth", "**/*.onnx", "infer/**/*.npy")
_COMPARED += ("evaluate/**/*.csv", "tables/accuracy.*", "tables/flips.csv")
# in the order in which a sweep makes them; tables/ is made by tabulate
STAGES = ("retrieve", "export", "compile", "preprocess", "infer", "evaluate", "measure", "tables")
_START_S = 2.0  # in which Snakemake plans, and the first command starts
_KEY = ("seed", "kill", "where")
VICTIMS = ("job", "snakemake and its jobs", "snakemake alone")


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    draw = random.Random(flags.seed)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="bench-kills-", dir=flags.scratch) as scratch:
        sweep = Sweep(Path(scratch) / "undisturbed", flags)
        started = time.monotonic()
        sweep.start().wait()
        undisturbed_s = time.monotonic() - started
        cli.say(f"undisturbed: {undisturbed_s:.1f} s")
        if "100%" not in sweep.output():
            raise UserError(f"the undisturbed sweep failed:\n{sweep.output()[-3000:]}")
        expected = sweep.contents()
        pace = (undisturbed_s - _START_S) / sweep.seconds(STAGES)  # jobs run side by side, or wait in a queue
        begun = time.monotonic()
        struck = number = 0
        while struck < flags.kills and time.monotonic() - begun < flags.at_most_s:
            stage, victim = draw.choice(STAGES), draw.choice(VICTIMS)
            moment_s = draw.uniform(0.5, _START_S + 0.8 * pace * sweep.seconds(STAGES[STAGES.index(stage) :]))
            row = {"seed": flags.seed, "kill": number, "where": flags.profile or "one machine", "from_stage": stage}
            copy = sweep.copy(Path(scratch) / f"kill {number}", stage)
            row.update(one_kill(copy, moment_s, victim, draw, expected))
            number += 1
            cli.say(", ".join(str(value) for value in row.values()))
            if row["struck"]:  # else it came too late, or between two jobs
                struck += 1
                failed += row["result"] != "identical"
                common.record(flags.output, {**row, **common.machine()}, _KEY)
    return int(failed > 0)


class Sweep:
    """A copy of the product in which a demo is swept."""

    def __init__(self, folder: Path, flags: argparse.Namespace, start: Path | None = None) -> None:
        import yaml

        self.folder, self._flags = folder, flags
        self.temporary = folder.with_name(folder.name + " tmp")  # device locks stand there: this sweep's own
        self.temporary.mkdir(parents=True)
        if start:
            shutil.copytree(start, folder, symlinks=True)
        else:
            common.copy_product(folder)
            (folder / "config.yaml").write_text(yaml.safe_dump(_SETTINGS, sort_keys=False), encoding="utf-8")
        self.on_cluster = bool(flags.profile)
        self.command = [sys.executable, "-m", "snakemake"]
        self.how = ["--profile", flags.profile] if flags.profile else ["--cores", str(flags.cores)]
        self.how += flags.snakemake_flag
        self._log = self.temporary / "output.txt"

    def copy(self, folder: Path, stage: str) -> Sweep:
        """Another, in which the results from `stage` on are yet to be made."""
        other = Sweep(folder, self._flags, self.folder)
        for name in STAGES[STAGES.index(stage) :]:
            shutil.rmtree(other.folder / "results" / name)
        return other

    def seconds(self, stages: Sequence[str]) -> float:
        """What the jobs of these stages took, by Snakemake's benchmarks."""
        places = [
            self.folder / "results" / "benchmarks" / ("tabulate.tsv" if name == "tables" else name) for name in stages
        ]
        times = [path for place in places for path in ([place] if place.is_file() else place.rglob("*.tsv"))]
        return sum(float(path.read_text().splitlines()[1].split("\t")[0]) for path in times)

    def start(self, *more: str) -> subprocess.Popen:
        """Snakemake, in a session of its own."""
        with open(self._log, "wb") as output:
            return subprocess.Popen(
                [*self.command, *(self.how if "--unlock" not in more else ["--cores", "1"]), *more],
                cwd=self.folder,
                env={**os.environ, **dict.fromkeys(("TMPDIR", "SMLP_LOCK_DIR"), str(self.temporary))},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def contents(self) -> dict[str, bytes]:
        """Of every file that must not differ."""
        results = self.folder / "results"
        found = {path for pattern in _COMPARED for path in results.glob(pattern) if path.is_file()}
        return {str(path.relative_to(results)): path.read_bytes() for path in sorted(found)}

    def scratch(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "results").rglob("*.partial"))

    def processes(self) -> dict[int, leftovers.Process]:
        """Living processes that work in the folder."""
        return leftovers.processes(self.folder)


def documented_cancelling() -> str:
    """The line of docs/cluster.md that cancels what a killed Snakemake left in a cluster's queue."""
    lines = (common.REPOSITORY / "docs" / "cluster.md").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("squeue --me "))


def with_descendants(root: int, processes: dict[int, leftovers.Process]) -> list[int]:
    """A process and everything that it has started, the root first."""
    found = [root]
    for pid in found:
        found += [child for child, process in processes.items() if process.parent == pid]
    return found


def kill(pids: Sequence[int]) -> None:
    """kill -9, and wait until they are gone."""
    descriptors = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            descriptors.append(os.pidfd_open(pid))
            os.kill(pid, signal.SIGSTOP)  # so that none starts another meanwhile
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for descriptor in descriptors:
        select.select([descriptor], [], [], 60)
        os.close(descriptor)


def one_kill(
    sweep: Sweep,
    moment_s: float,
    victim: str,
    draw: random.Random,
    expected: dict[str, bytes],
) -> dict[str, Any]:
    """Start a sweep, kill at the moment, recover, compare."""
    process = sweep.start()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment_s)
    struck = ""
    while victim == "job" and process.poll() is None and not leftovers.jobs(sweep.processes()):
        time.sleep(0.02)
    if process.poll() is None:
        processes = sweep.processes()
        running = {process.pid: name for process, name in leftovers.jobs(processes).items()}
        if victim == "job" and running:
            chosen = draw.choice(sorted(running))
            struck = running[chosen]
            kill(with_descendants(chosen, processes))
        elif victim != "job":
            struck = "snakemake" + "".join(f", {name}" for name in sorted(running.values()))
            kill([process.pid] if victim == "snakemake alone" else with_descendants(process.pid, processes))
        if victim == "snakemake and its jobs":
            kill(list(sweep.processes()))
    status = process.wait()
    orphans = len(leftovers.jobs(sweep.processes()))
    started = time.monotonic()
    recovery = []
    if not struck:
        return _result(moment_s, victim, struck, status, orphans, recovery, started, "not killed")
    if "snakemake" in victim:
        if sweep.on_cluster:
            recovery.append("squeue … | scancel")
            subprocess.run(["bash", "-c", documented_cancelling()], cwd=sweep.folder, check=True)
        recovery.append("snakemake --unlock")
        if sweep.start("--unlock").wait():
            return _result(
                moment_s, victim, struck, status, orphans, recovery, started, "unlock failed: " + sweep.output()
            )
    recovery.append(" ".join(["snakemake", *sweep.how]))
    if sweep.start().wait():
        tail = " ".join(sweep.output().split())[-300:]
        return _result(moment_s, victim, struck, status, orphans, recovery, started, f"the second run failed: {tail}")
    found = sweep.contents()
    different = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if different:
        result = f"{len(different)} files differ, {different[0]} first"
    elif sweep.scratch():
        result = f"left behind: {' '.join(sweep.scratch())}"
    elif sweep.start().wait() or "Nothing to be done" not in sweep.output():
        result = "a third run had something to do"
    else:
        result = "identical"
        shutil.rmtree(sweep.folder)
    return _result(moment_s, victim, struck, status, orphans, recovery, started, result)


def _result(moment_s, victim, struck, status, orphans, recovery, started, result) -> dict[str, Any]:
    return {
        "moment_s": round(moment_s, 2),
        "victim": victim,
        "struck": struck,
        "status": status,
        "orphans": orphans,
        "recovery": "; ".join(recovery),
        "recovery_s": round(time.monotonic() - started, 1),
        "result": " ".join(result.split())[-400:],
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--seed", type=cli.count, default=0, help="of moments and victims")
    parser.add_argument("--kills", type=cli.positive_int, default=20, help="how many that strike something")
    parser.add_argument("--at_most_s", type=cli.positive_number, default=86400, help="begin no kill after so long")
    parser.add_argument("--cores", type=cli.positive_int, default=2, help="for Snakemake")
    parser.add_argument("--profile", help="profile to run with instead of --cores, such as profiles/slurm")
    parser.add_argument(
        "--snakemake_flag", action="append", default=[], metavar="FLAG", help="more of Snakemake's, repeatable"
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        help="folder for the copies, which nodes must see, too; that for temporary files unless given",
    )
    parser.add_argument("--output", type=Path, default=common.RESULTS / "kills.csv", help="CSV to append to")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
