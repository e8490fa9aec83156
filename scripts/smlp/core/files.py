"""Files that appear whole or not at all, checksums, free space.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cli import UserError

_PARTIAL = ".partial"


def digest(path: str | os.PathLike, algorithm: str = "sha256") -> str:
    """Hexadecimal checksum of a file's bytes."""
    checksum = hashlib.new(algorithm)
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            checksum.update(block)
    return checksum.hexdigest()


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """A scratch path that takes the name `path` when the block ends well, and goes away otherwise.

    It is in a scratch folder, under the final name, because writers choose by suffix and refer to
    companions by name (OpenVINO's .xml to its .bin). Companions written beside it come along, `path` last.
    """
    path = Path(path)
    with _scratch_folder(path) as scratch:
        yield scratch / path.name
        beside = [file for file in scratch.rglob("*") if not file.is_dir()]
        for written in sorted(beside, key=lambda file: file == scratch / path.name):
            target = path.parent / written.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            # some writers (atc) leave files that only their owner can read
            os.chmod(written, 0o666 & ~_umask())
            _fsync(written)
            os.replace(written, target)
            _fsync(target.parent)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike, own: str) -> Iterator[Path]:
    """A scratch folder that takes the name `path` when the block ends well, replacing an older one of its kind.

    own: regular expression that matches every file name such a folder may hold. A folder with other
    contents is the user's and is never replaced.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file and a folder is to be written there; choose another name, or move the file")
    foreign = [file.name for file in path.iterdir() if not re.fullmatch(own, file.name)] if path.is_dir() else []
    foreign = [name for name in foreign if name != ".snakemake_timestamp"]
    if foreign:
        raise UserError(
            f"{path}: holds {foreign[0]!r}, which this command did not write; choose an empty or new folder"
        )
    with _scratch_folder(path) as scratch:
        partial = scratch / path.name
        partial.mkdir()
        yield partial
        _flush(partial)
        if path.exists():
            os.rename(path, scratch / "replaced")
        os.rename(partial, path)
        _fsync(path.parent)


@contextlib.contextmanager
def _scratch_folder(path: Path) -> Iterator[Path]:
    """A private folder beside `path`, removed afterwards, even if that is by a later run.

    The folder of a killed run is recognised by its lock, which the operating system has released. A live
    writer, for instance an orphan of another run, is never disturbed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*{_PARTIAL}"):
        with contextlib.suppress(OSError):
            lock = os.open(stale, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(stale, ignore_errors=True)
            finally:
                os.close(lock)
    scratch = lock = None
    try:
        while lock is None:
            # named before it is made: a Ctrl-C in between must find what to remove
            scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
            scratch.mkdir(0o700)
            # before it is locked, another run may take it for a dead one's and remove it: then make another
            with contextlib.suppress(FileNotFoundError):
                lock = os.open(scratch, os.O_RDONLY)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not scratch.exists():
                    os.close(lock)
                    lock = None
        yield scratch
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _flush(folder: Path) -> None:
    """Get everything below `folder` onto the disk. One call for the whole file system is far faster than one per file.

    Raises OSError if the disk did not take it all.
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None or not _syncfs_reports_errors():
        for written in (*folder.rglob("*"), folder):
            _fsync(written)
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)


def _syncfs_reports_errors() -> bool:
    """Linux does since 5.8. Before, syncfs succeeds even if the disk has refused data."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return bool(release) and tuple(map(int, release.groups())) >= (5, 8)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` (UTF-8) whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN is refused: no result contains one."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike, what: str) -> Any:
    """Parse a JSON file; `what` names it in the error ("the sidecar of an engine")."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; {what} was expected there") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: is not JSON ({error}); {what} was expected, remove the file to make it anew"
        ) from None


def sidecar_path(path: str | os.PathLike) -> Path:
    """The JSON file that describes an artefact: same folder, same stem."""
    return Path(path).with_suffix(".json")


def require_free_space(folder: str | os.PathLike, need_bytes: int, what: str) -> None:
    """Raise UserError, before the work starts, if the disk of `folder` cannot hold `need_bytes` more."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < need_bytes:
        raise UserError(
            f"{folder}: {what} needs {need_bytes / 1e9:.3f} GB but only {free_bytes / 1e9:.3f} GB are free; "
            "free some space, or put results/ on a larger disk"
        )
