"""Run a command, or take what it would make from a folder that a team shares.

An entry's key is a digest over everything that the result depends on: the command's flags, the ids of the artefacts
that they name (the content of what has no sidecar), the code, the versions of packages, and what the backend says an
engine depends on (the processor, the GPU, CANN). An entry that is not, byte by byte, the artefact that its sidecar
states, made from what is here, is not used but made again. Failures are not stored, nor what was made while its inputs
changed.

  scripts/share.py --store /team/smlp --key code=1f2e… --output bs8.om -- python scripts/compile.py …

The store is a folder, --store or SMLP_STORE; without one the command is just run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from smlp.core import cli, files, identity
from smlp.core.cli import UserError
from smlp.core.provenance import Facts

_ENTRY = "entry.json"
# what an artefact is called in its entry
_ARTEFACT = "artefact"
# flags that change how a command works, not what it makes
_NO_MATTER = ("--workers",)


class Damaged(Exception):
    """An entry that is not what was stored."""


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    split = argv.index("--") if "--" in argv else len(argv)
    flags, command = _parse(argv[:split]), argv[split + 1 :]
    if len(command) < 2:
        raise UserError("nothing to run: give the command behind --, python scripts/compile.py … for instance")
    about = describe(flags, command) if flags.store else None
    if about is None:
        os.execvp(command[0], command)
    entry = Path(flags.store, identity.digest(about)[:2], identity.digest(about))
    if restore(entry, about, flags.output):
        cli.say(f"taken from {entry}")
        return 0
    status = subprocess.run(command, check=False).returncode
    if status == 0 and _is_still(about, flags, command):
        store(entry, about, flags.output)
    return status


def describe(flags: argparse.Namespace, command: Sequence[str]) -> Facts | None:
    """Everything that the result of `command` depends on; None if a backend cannot say what its engines fit.

    Raises UserError if a file is not as its sidecar says.
    """
    from smlp import backends  # only here: without a store this command must cost next to nothing

    made_for = None
    if flags.backend:
        tells = backends.load(flags.backend).made_for
        if tells is None:
            return None
        options = dict(word.split("=", 1) for flag, word in zip(command, command[1:]) if flag == "--option")
        made_for = tells(options)
    words = [
        "an output"
        if word == str(flags.output)
        else _images(command)
        if flags.reads_images and before == "--data_root"
        else _content(word)
        for before, word in zip(command[1:], command[2:])
        if word not in _NO_MATTER and before not in _NO_MATTER
    ]
    return {"command": Path(command[1]).name, "words": words, "key": sorted(flags.key), "made_for": made_for}


def _is_still(about: Facts, flags: argparse.Namespace, command: Sequence[str]) -> bool:
    """Whether the inputs are still those that the key was made of; else nobody can tell which of them were used."""
    with contextlib.suppress(OSError, UserError):
        if describe(flags, command) == about:
            return True
    cli.say("not stored: an input has changed meanwhile")
    return False


def _content(word: str) -> str:
    """A word of a command line; in place of the name of an artefact its id, of another file or folder its content."""
    name, equals, value = word.partition("=")
    if equals and not word.startswith("/") and Path(value).exists():
        return f"{name}={identity.known(value).id if Path(value).is_dir() else files.digest(value)}"
    return identity.known(word).id if Path(word).exists() else word


def _images(command: Sequence[str]) -> str:
    """The content of the images that a command reads: positions, labels and bytes of those of its shard."""
    from smlp.data import listing
    from smlp.data.manifest import images_digest

    return images_digest(listing.contents_of(command[2:]))


def store(entry: Path, about: Facts, output: Path) -> None:
    """Copy the files of an artefact, and its sidecar, into `entry`, whole or not at all.

    A store that cannot be written costs a line on stderr, not the result.
    """
    facts = identity.known(output).facts
    if "identity" not in facts or "failed" in facts:
        return
    try:
        with files.whole_folder(entry, own=rf"entry\.json|{_ARTEFACT}.*") as partial:
            _copy(output, partial / _ARTEFACT, facts)
            shutil.copyfile(identity.sidecar_of(output), partial / f"{_ARTEFACT}.json")
            files.write_json(partial / _ENTRY, about)
    except (OSError, UserError) as error:
        cli.say(f"{entry}: not stored ({error})")


def restore(entry: Path, about: Facts, output: Path) -> bool:
    """Copy what `entry` holds to the output's place; False, and nothing is written, if it is absent or damaged."""
    if not entry.exists() or (output.is_dir() and any(output.iterdir())):
        return False
    try:
        if files.read_json(entry / _ENTRY, "an entry of a shared store") != about:
            raise Damaged("it is about something else")
        is_folder = (entry / _ARTEFACT).is_dir()
        with contextlib.ExitStack() as stack:
            if is_folder:
                place = stack.enter_context(files.whole_folder(output, own="(?!)"))
                sidecar = stack.enter_context(files.whole_file(output.with_name(f"{output.name}.json")))
            else:
                place = stack.enter_context(files.whole_file(output))
                sidecar = files.sidecar_path(place)
            shutil.copyfile(entry / f"{_ARTEFACT}.json", sidecar)
            facts = _believed(sidecar, about, is_folder, output.suffix)
            _copy(entry / _ARTEFACT, place, facts)
            identity.check_files(facts, sidecar, place)
    except (Damaged, UserError, OSError, LookupError, AttributeError, TypeError, ValueError, RecursionError) as error:
        cli.say(f"{entry}: is damaged and not used ({error}); it is made again")
        shutil.rmtree(entry, ignore_errors=True)
        return False
    return True


def _believed(sidecar: Path, about: Facts, is_folder: bool, suffix: str) -> Facts:
    """The facts of a stored sidecar, which may come from anybody; raises Damaged if they do not fit."""
    facts = files.read_json(sidecar, "a stored sidecar")
    if not isinstance(facts, dict) or identity.verify(facts, sidecar) is None or "failed" in facts:
        raise Damaged("it states no id")
    names = facts["identity"]["files"]
    if is_folder:
        fit = not any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in names)
    else:  # with_suffix takes no path
        fit = suffix in names and ".json" not in names
    if not fit:
        raise Damaged("it holds other files")
    here = {word.rpartition("=")[2] for word in about["words"]}
    if not here.issuperset(facts["identity"]["made_from"].values()):
        raise Damaged("it is made from something else")
    return facts


def _copy(source: Path, target: Path, facts: Facts) -> None:
    """Copy the files that a sidecar states: those in a folder, or a file and its companions."""
    for name in facts["identity"]["files"]:
        copy = target / name if source.is_dir() else identity.place(target, name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(identity.place(source, name), copy)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--store", default=os.environ.get("SMLP_STORE"), help="the shared folder")
    parser.add_argument("--key", action="append", default=[], help="what else the result depends on, repeatable")
    parser.add_argument("--backend", help="whose engine the command makes")
    parser.add_argument(
        "--reads_images", action="store_true", help="the command's --data_root is a data set, read as its flags say"
    )
    parser.add_argument("--output", type=Path, required=True, help="what it makes, beside which it writes a sidecar")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
