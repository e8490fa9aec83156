"""How every command talks to the person who runs it: errors, exit statuses, flag types.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, NoReturn

from . import environment, host

# Set by a command that restarts with another environment, to its process id: it does so once.
_RESTARTED = "SMLP_RESTARTED"


class UserError(Exception):
    """A problem that a user can mend. The message names the file, key or value, what was expected and the fix."""


_OS_HINTS = {
    errno.ENOSPC: "free some space, or put results/ on a larger disk",
    errno.EDQUOT: "free some space, or put results/ on a larger disk",
    errno.EACCES: "change its permissions, or run as the user who owns it",
    errno.EPERM: "change its permissions, or run as the user who owns it",
    errno.EROFS: "choose a writable place",
    errno.ENOENT: "check the path",
}


def run(main: Callable[[Sequence[str] | None], int | None]) -> NoReturn:
    """Run `main` and leave with 0 (done), 1 (one clear line on stderr) or 2 (wrong usage, by argparse).

    A command starts anew first if its environment holds what nobody asked for (see environment.py).
    """
    try:
        if main.__module__ == "__main__":
            _mend_environment()
            faulthandler.enable()  # a runtime that crashes would leave an empty log
        status = main(None)
    except UserError as error:
        fail(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        hint = _OS_HINTS.get(error.errno)
        fail(f"{place}{error.strerror}" + (f"; {hint}" if hint else ""))
    except MemoryError:
        fail("out of memory; use a smaller --batch_size or fewer --workers")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(status or 0)


def _mend_environment() -> None:
    """Start this command anew if the environment is not as asked: runtimes read it when they are loaded."""
    restarted = os.environ.pop(_RESTARTED, None) == str(os.getpid())
    wanted = environment.asked(sys.argv[1:])
    names, mended = environment.unasked(os.environ, wanted), environment.mended(os.environ, wanted)
    if mended == os.environ:
        return
    if restarted:
        raise UserError(
            f"{', '.join(names or wanted)}: set anew whenever {sys.executable} starts; remove that from what it loads "
            "at its start (sitecustomize, *.pth), or ask for the value with --env"
        )
    if names:
        say(environment.refusal(names))
    words = getattr(sys, "orig_argv", ["", *sys.argv])[1:]  # Python 3.9 does not know its own flags
    os.execve(sys.executable, [sys.executable, *words], {**mended, _RESTARTED: str(os.getpid())})


def fail(message: str) -> NoReturn:
    """Print `message` as one line on stderr and leave with status 1."""
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(1)


def or_fail(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function` and end the process as `fail` does if it raises UserError, where no caller could handle that."""
    try:
        return function(*arguments)
    except UserError as error:
        fail(str(error))


def say(message: str) -> None:
    """One line about progress on stderr (stdout is for results)."""
    print(message, file=sys.stderr, flush=True)


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser that shows the command's module docstring and every default.

    Abbreviated flags are refused: `--out` must not silently mean `--output` today and `--outfmt` tomorrow.
    """
    return argparse.ArgumentParser(
        description=description,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def require_json(output: Path, more: str = "") -> None:
    """Raise UserError unless the flag --output names a JSON file. more: what else is said, as which files follow it."""
    if output.suffix != ".json":
        raise UserError(f"--output {output}: a name ending in .json was expected{more}")


def positive_int(text: str) -> int:
    """Flag type: a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def count(text: str) -> int:
    """Flag type: a whole number of at least 0."""
    return 0 if text == "0" else positive_int(text)


def positive_number(text: str) -> float:
    """Flag type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def seconds(text: str) -> float:
    """Flag type: a finite number of at least 0."""
    return 0.0 if text == "0" else positive_number(text)


def add_environment_flag(parser: argparse.ArgumentParser) -> None:
    """--env, which `run` reads before the command does."""
    parser.add_argument(
        environment.FLAG,
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the environment that may change arithmetic, threads or kernels, repeatable; no other does",
    )


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def default_workers() -> int:
    """Processors this process may use (a container or Slurm job may have fewer than the machine)."""
    return host.usable_processors()
