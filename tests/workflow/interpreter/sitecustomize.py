"""On PYTHONPATH of a workflow under test: brings its commands to moments that tests would otherwise have to wait for.

HOLD_BEFORE  absolute path of a file or folder: the command that makes it stands still just before it gets its name
HOLD_PIPES   folder with two named pipes: that command says in `reached` that it is there, once, and goes on when
             somebody opens `go` for writing
NO_WAITS     retrieve.py tries again at once

It watches the interpreter's own audit events, so that the product's code is the one that users run.
"""

import contextlib
import os
import sys
import time


def _hold(event, arguments):
    if event == "os.rename" and os.path.abspath(arguments[1]) == os.environ["HOLD_BEFORE"]:
        pipes = os.environ["HOLD_PIPES"]
        with contextlib.suppress(FileNotFoundError), open(os.path.join(pipes, "reached"), "w") as reached:
            os.unlink(reached.name)
            reached.write("here")
            reached.flush()
            with open(os.path.join(pipes, "go")):
                pass


if "HOLD_BEFORE" in os.environ:
    sys.addaudithook(_hold)
if "NO_WAITS" in os.environ and "scripts/retrieve.py" in sys.orig_argv:
    time.sleep = lambda seconds: None
