"""One user of a device at a time, kept by the operating system: a lock dies with its holder, kill -9 included.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .cli import UserError, say


@contextlib.contextmanager
def hold(device: str, *, exclusive: bool) -> Iterator[None]:
    """Hold `device` ("cpu", "ascend:0") of this machine, alone or with others who share it; waits and says for whom."""
    path = Path(tempfile.gettempdir()) / f"smlp-sweep-{re.sub('[^A-Za-z0-9]+', '-', device)}.lock"
    # O_NOFOLLOW: the folder is everybody's, a planted link must not make us write elsewhere
    access = os.O_RDWR | os.O_NOFOLLOW
    try:
        try:
            descriptor = os.open(path, access)  # with O_CREAT, Linux refuses what others own in /tmp
        except FileNotFoundError:
            descriptor = os.open(path, access | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f"{path}: cannot open the lock of device {device} ({error.strerror}); remove the file"
        ) from None
    with contextlib.suppress(OSError):  # another user's file: theirs to chmod
        os.chmod(path, 0o666)
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            say(f"waiting for device {device}, used by {holder}")
            fcntl.flock(descriptor, kind)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} of user {os.getuid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
