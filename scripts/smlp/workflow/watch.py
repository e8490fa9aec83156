"""What comes from outside is watched by its content: no time of a file, new or old, says that it is unchanged.

A digest is remembered for as long as device, inode, size, and the times of content and of inode stay what they were.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core import cli, files
from ..core.cli import UserError

# A change within the clock's resolution leaves the times as they were: what is younger is read again next time.
SETTLED_NS = 2_000_000_000
# Most of the time goes into waiting for a network disk, and neither reading nor hashing holds the others up.
_THREADS, _CHUNK_FILES = 16, 100
_PATIENCE_S = 3
_ATTEMPTS = 3


class Watch:
    """SHA-256 of files that others make, remembered in the file `memory` from one plan to the next."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._remembered: dict[str, dict[str, Any]] | None = None
        self._is_new = False
        self._spent_s = 0.0

    def digest(self, path: str | os.PathLike) -> str:
        """Digest of a file's content. Raises UserError if it cannot be read."""
        return self.digests([path])[0]

    def digests(self, paths: Iterable[str | os.PathLike]) -> list[str]:
        """The digest of each file, many at once."""
        names = [os.fspath(path) for path in paths]
        known = self._known("files")
        found = list(map(known.get, names))
        chunks = [range(start, min(start + _CHUNK_FILES, len(names))) for start in range(0, len(names), _CHUNK_FILES)]

        def look(chunk: range) -> list[str]:
            return [self._look(names[place], found[place]) for place in chunk]

        with self.patience():
            if len(chunks) < 2:
                return [digest for chunk in chunks for digest in look(chunk)]
            with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
                return [digest for part in pool.map(look, chunks) for digest in part]

    def inside(self, path: str, names: Sequence[str], digest: Callable[[str], str]) -> list[str]:
        """The digests of parts of an archive, remembered for as long as the archive is as it was."""
        known, begin_ns = self._known("inside"), time.time_ns()
        before = signature(os.stat(path))
        entry = known.get(path)
        if not (isinstance(entry, dict) and entry.get("archive") == before and isinstance(entry.get("parts"), dict)):
            entry = {"archive": before, "parts": {}}
        if new := [name for name in names if name not in entry["parts"]]:
            with self.patience():
                entry["parts"] |= {name: digest(name) for name in new}
            after = os.stat(path)
            if signature(after) == before and is_settled(after, begin_ns):
                known[path], self._is_new = entry, True
        return [entry["parts"][name] for name in names]

    def folder(self, path: str | os.PathLike) -> str:
        """Digest of the names and contents of everything in a folder but Snakemake's time stamp."""

        def stop(error: OSError) -> None:
            raise _unreadable(error.filename, error)

        names = []
        for place, _, found in os.walk(path, onerror=stop):
            names += [os.path.join(place, name) for name in found if name != ".snakemake_timestamp"]
        inside = {os.path.relpath(name, path): digest for name, digest in zip(names, self.digests(names), strict=True)}
        return digest_of(f"{name}\0{digest}" for name, digest in sorted(inside.items()))

    def recall(self, key: str) -> Any:
        """What was remembered under a key beside the files; None if nothing was."""
        return self._known("more").get(key)

    def remember(self, key: str, value: Any) -> None:
        """Remember a JSON value beside the files."""
        self._known("more")[key] = value
        self._is_new = True

    def save(self) -> None:
        """Write what is new. Without it the next plan reads the files again, so a full disk costs a line."""
        if self._is_new:
            try:
                files.write_text(self._memory, json.dumps(self._remembered))
                self._is_new = False
            except OSError as error:
                cli.say(f"{self._memory}: not written ({error.strerror}); files from outside are read again next time")

    def _known(self, kind: str) -> dict[str, Any]:
        if self._remembered is None:
            try:
                found = json.loads(self._memory.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):  # absent or damaged
                found = None
            self._remembered = found if isinstance(found, dict) else {}
        found = self._remembered.get(kind)
        if not isinstance(found, dict):
            found = self._remembered[kind] = {}
        return found

    def _look(self, name: str, known: object) -> str:
        try:
            now = f"{signature(os.stat(name))} "
            if isinstance(known, str) and known.startswith(now):
                return known[len(now) :]
            return self._read(name)
        except OSError as error:
            raise _unreadable(name, error) from None

    def _read(self, name: str) -> str:
        for _ in range(_ATTEMPTS):
            begin_ns = time.time_ns()
            before = os.stat(name)
            digest = files.digest(name)
            after = os.stat(name)
            if signature(before) == signature(after):
                if is_settled(after, begin_ns):
                    self._known("files")[name] = f"{signature(after)} {digest}"
                    self._is_new = True
                break
        return digest

    @contextlib.contextmanager
    def patience(self) -> Iterator[None]:
        """Say once why the plan takes long."""
        begin = time.monotonic()
        waiting = threading.Timer(
            max(_PATIENCE_S - self._spent_s, 0), cli.say, ["reading what comes from outside, to see what has changed …"]
        )
        waiting.daemon = True
        if self._spent_s < _PATIENCE_S:
            waiting.start()
        try:
            yield
        finally:
            waiting.cancel()
            self._spent_s += time.monotonic() - begin


def signature(found: os.stat_result) -> str:
    """What the file system says about a file or folder: it moves whenever the content does."""
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def is_settled(found: os.stat_result, begin_ns: int) -> bool:
    """Whether a change since `begin_ns` is sure to show in the signature."""
    return found.st_ctime_ns < begin_ns - SETTLED_NS


def digest_of(lines: Iterable[str]) -> str:
    """Digest over lines of text, such as paths with their digests."""
    checksum = hashlib.sha256()
    for line in lines:
        checksum.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return checksum.hexdigest()


def _unreadable(name: str, error: OSError) -> UserError:
    return UserError(
        f"{name}: {error.strerror}; a plan reads all that comes from outside: restore it, or make it readable"
    )
