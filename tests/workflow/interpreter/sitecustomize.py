"""On PYTHONPATH of a workflow under test: brings its commands to moments that tests would otherwise have to wait for.

HOLD_BEFORE  absolute path of a file or folder: the command that makes it stands still just before it gets its name
HOLD_OPENING absolute path of a file: the command that opens it stands still just before; "lock": one that waits for a
             device's lock
HOLD_PIPES   folder with two named pipes: that command says in `reached` that it is there, once, and goes on when
             somebody opens `go` for writing
NO_WAITS     retrieve.py tries again at once, and Snakemake looks after its jobs on a cluster every second

It watches the interpreter's own audit events, so that the product's code is the one that users run.
"""

import contextlib
import fcntl
import os
import sys
import time


def _reached(event, arguments):
    if event == "os.rename":
        return os.path.abspath(arguments[1]) == os.environ.get("HOLD_BEFORE")
    if event == "fcntl.flock":
        return os.environ.get("HOLD_OPENING") == "lock" and not arguments[1] & fcntl.LOCK_NB
    if event == "open" and isinstance(arguments[0], str):
        return os.path.abspath(arguments[0]) == os.environ.get("HOLD_OPENING")
    return False


def _hold(event, arguments):
    if event in ("os.rename", "fcntl.flock", "open") and _reached(event, arguments):
        pipes = os.environ["HOLD_PIPES"]
        with contextlib.suppress(FileNotFoundError):
            reached = os.open(os.path.join(pipes, "reached"), os.O_WRONLY)
            os.unlink(os.path.join(pipes, "reached"))
            os.write(reached, b"here")
            with open(os.path.join(pipes, "go")):
                os.close(reached)


if "HOLD_PIPES" in os.environ and any(word.startswith("scripts/") for word in sys.orig_argv):
    sys.addaudithook(_hold)
if "NO_WAITS" in os.environ and "scripts/retrieve.py" in sys.orig_argv:
    time.sleep = lambda seconds: None
if "NO_WAITS" in os.environ and "--profile" in sys.orig_argv:
    import asyncio

    _sleep = asyncio.sleep
    asyncio.sleep = lambda seconds, result=None: _sleep(min(seconds, 1), result)
