"""One user of a device at a time, kept by the operating system: a lock dies with its holder, kill -9 included.

The locks of a host are in one folder, which every user and every batch job sees: /tmp may be private to a job.
Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import re
import shlex
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .cli import UserError, say

_FOLDERS = ("/run/lock", "/var/tmp", "/tmp")
# Kinds of devices -> the variable that renumbers a process's devices, so that the first one of two jobs need not be the
# same. Backends fill it in.
RENUMBERED: dict[str, str] = {}
_NEXT_LOOK_S = 1.0


def folder() -> Path:
    """Where this host's locks are: SMLP_LOCK_DIR, else the first of the usual folders that everybody may write to."""
    if "SMLP_LOCK_DIR" in os.environ:
        return Path(os.environ["SMLP_LOCK_DIR"])
    for name in _FOLDERS:
        with contextlib.suppress(OSError):
            # not whether this user may write: every user must come to the same folder
            if os.stat(name).st_mode & stat.S_IWOTH:
                return Path(name)
    raise UserError(f"no folder for device locks: {', '.join(_FOLDERS)} are not for everybody; name one: SMLP_LOCK_DIR")


def physical(device: str) -> str:
    """The host's own name of what this process calls `device` ("cpu", "ascend:0", "cuda:1")."""
    kind, _, number = device.partition(":")
    visible = [word.strip() for word in os.environ.get(RENUMBERED.get(kind, ""), "").split(",") if word.strip()]
    return f"{kind}:{visible[int(number)]}" if number.isdigit() and int(number) < len(visible) else device


@contextlib.contextmanager
def hold(*devices: str, exclusive: bool) -> Iterator[str]:
    """Hold one of `devices` of this host, alone or with others who share it; yields which. Also a decorator.

    Whatever makes the processors work shares "cpu", so that nothing of ours runs beside a measurement on it.
    Waits for the first that becomes free, and logs who holds them. Raises UserError if a lock cannot be opened.
    """
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    descriptors = {}
    try:
        for device in devices:
            descriptors[device] = _open(device)
        held = _take(descriptors, kind | fcntl.LOCK_NB)
        if held is None:
            for device, descriptor in descriptors.items():
                say(f"waiting for device {physical(device)}, used by {'; '.join(_holders(descriptor)) or 'another'}")
            if len(descriptors) == 1:
                held = _take(descriptors, kind)
        while held is None:  # there is no waiting for one of several locks
            time.sleep(_NEXT_LOOK_S)
            held = _take(descriptors, kind | fcntl.LOCK_NB)
        for device in devices:
            if device != held:
                os.close(descriptors.pop(device))
        _sign(descriptors[held], exclusive)
        yield held
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _open(device: str) -> int:
    path = folder() / f"smlp-sweep-{re.sub('[^A-Za-z0-9]+', '-', physical(device))}.lock"
    # O_NOFOLLOW: the folder is everybody's, a planted link must not make us write elsewhere
    access = os.O_RDWR | os.O_NOFOLLOW
    try:
        try:
            descriptor = os.open(path, access)  # with O_CREAT, Linux refuses what others own in /tmp
        except FileNotFoundError:
            descriptor = os.open(path, access | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f"{path}: cannot open the lock of device {device} ({error.strerror}); remove the file, or name another "
            "folder in SMLP_LOCK_DIR"
        ) from None
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1:  # a planted hard link is somebody's file too
        os.close(descriptor)
        raise UserError(f"{path}: cannot open the lock of device {device} (it is no file of its own); remove the file")
    with contextlib.suppress(OSError):  # another user's file: theirs to chmod
        os.chmod(descriptor, 0o666)
    return descriptor


def _take(descriptors: dict[str, int], kind: int) -> str | None:
    """The first device whose lock could be taken."""
    for device, descriptor in descriptors.items():
        try:
            fcntl.flock(descriptor, kind)
        except BlockingIOError:
            continue
        return device
    return None


def _sign(descriptor: int, exclusive: bool) -> None:
    """Write into the lock who holds it, for processes that wait: this process, and those that share it."""
    job = f" (Slurm job {os.environ['SLURM_JOB_ID']})" if "SLURM_JOB_ID" in os.environ else ""
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    command = " ".join(map(shlex.quote, sys.argv))[:300]
    own = f"process {os.getpid()} of user {os.getuid()}{job} since {since}: {command}"
    text = "\n".join([*([] if exclusive else _holders(descriptor)), " ".join(own.split()), ""])
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(errors="replace"), 0)


def _holders(descriptor: int) -> list[str]:
    """The lines of the holders, without those that have ended."""
    lines = os.pread(descriptor, 1 << 16, 0).decode(errors="replace").splitlines()
    found = [(re.match(r"process (\d+) ", line), line) for line in lines]
    return [line for match, line in found if match and os.path.exists(f"/proc/{match[1]}")]
