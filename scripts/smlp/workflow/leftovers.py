"""What a killed run left in a folder: locks, marks, half-written files, jobs that run on; and what takes the disk.

Only processes of this machine are found.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import psutil


class Process(NamedTuple):
    """A living process. command: its words, blanks between them; slurm_job: number of the job that it belongs to."""

    pid: int
    parent: int
    command: str
    slurm_job: str | None = None


def processes(folder: str | os.PathLike) -> dict[int, Process]:
    """Living processes whose working directory is `folder`, by their ids. Those of another user are not told."""
    wanted = os.path.realpath(folder)
    found = {}
    # what another user's process keeps to itself is None
    for process in psutil.process_iter(["cwd", "cmdline", "ppid", "environ"]):
        known = process.info
        command = " ".join(known["cmdline"] or ()).encode(errors="replace").decode().strip()
        if known["cwd"] == wanted and command:  # without a command line: it has just ended
            job = (known["environ"] or {}).get("SLURM_JOB_ID")
            found[process.pid] = Process(process.pid, known["ppid"], command, job)
    return found


def runs(found: Mapping[int, Process]) -> list[Process]:
    """The Snakemakes among the processes that plan a sweep, not those that a cluster's job consists of."""
    words = re.compile(r"(^|\s|/)snakemake(\s|$)")
    return [
        process
        for process in found.values()
        if words.search(process.command) and "--mode" not in process.command and not _is_job(process)
    ]


def jobs(found: Mapping[int, Process]) -> dict[Process, str]:
    """The first process of every job of a sweep among the processes -> the name of its command, such as infer.

    The words of share.py come before those of the command that it runs.
    """
    return {
        process: re.findall(r"scripts/(\w+)\.py", process.command)[-1]
        for process in found.values()
        if _is_job(process) and not (process.parent in found and _is_job(found[process.parent]))
    }


def _is_job(process: Process) -> bool:
    return bool(re.search(r"(^|\s)scripts/\w+\.py(\s|$)", process.command))


def orphans(found: Mapping[int, Process]) -> dict[Process, str]:
    """The jobs whose Snakemake is gone. What a person started from a shell in the folder is none."""
    living = bool(runs(found))
    return {
        process: name
        for process, name in jobs(found).items()
        # a cluster's jobs never descend from Snakemake
        if process.parent not in found and not (process.slurm_job and living)
    }


def incomplete(folder: Path) -> list[str]:
    """Outputs that Snakemake has marked as being made. The mark is the path itself, encoded and cut into pieces."""
    marks = folder / ".snakemake" / "incomplete"
    found = []
    for mark in marks.rglob("*"):
        if mark.is_file():
            text = "".join(part.lstrip("@") for part in mark.relative_to(marks).parts)
            with contextlib.suppress(binascii.Error, UnicodeDecodeError):
                found.append(base64.urlsafe_b64decode(text).decode())
    return sorted(found)


def locked(folder: Path) -> bool:
    """Whether Snakemake would say that the folder is locked."""
    return any((folder / ".snakemake" / "locks").glob("*.lock"))


def half_written(folder: Path) -> list[Path]:
    """Scratch folders below `folder` whose writer is gone: its lock, were it alive, would be held."""
    found = []
    for place, folders, _ in os.walk(folder):
        for name in [name for name in folders if name.startswith(".") and name.endswith(".partial")]:
            folders.remove(name)
            if not _is_held(Path(place, name)):
                found.append(Path(place, name))
    return sorted(found)


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # it is just being removed
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def disk_use(results: Path) -> dict[str, tuple[int, int]]:
    """Bytes and files below each folder of `results`, the largest first."""
    if not results.is_dir():
        return {}
    sizes = {stage.name: _size(stage) for stage in results.iterdir() if stage.is_dir()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1][0]))


def _size(folder: Path) -> tuple[int, int]:
    total_bytes = files = 0
    waiting: list[str | os.PathLike] = [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:  # it is just being removed
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    total_bytes += entry.stat(follow_symlinks=False).st_size
                    files += 1
    return total_bytes, files
