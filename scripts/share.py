"""Run a command, or take what it would make from a folder that a team shares.

An entry's key is a digest over everything that the result depends on: the command's flags, the content of the files and
folders that they name, the code, the versions of packages, and what the backend says an engine depends on (the
processor, the GPU, CANN). An entry whose files are not exactly those that were stored, byte by byte, is not used but
made again. Failures are not stored.

  scripts/share.py --store /team/smlp --key code=1f2e… --output bs8.om --output bs8.json -- python scripts/compile.py …

The store is a folder, --store or SMLP_STORE; without one the command is just run.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from smlp.core import cli, files
from smlp.core.cli import UserError
from smlp.core.provenance import Facts

_ENTRY = "entry.json"
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
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    entry = Path(flags.store, key[:2], key)
    if restore(entry, about, flags.output):
        cli.say(f"taken from {entry}")
        return 0
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        store(entry, about, flags.output)
    return status


def describe(flags: argparse.Namespace, command: Sequence[str]) -> Facts | None:
    """Everything that the result of `command` depends on; None if a backend cannot say what its engines fit."""
    from smlp import backends  # only here: without a store this command must cost next to nothing

    made_for = None
    if flags.backend:
        identity = backends.load(flags.backend).made_for
        if identity is None:
            return None
        options = dict(word.split("=", 1) for flag, word in zip(command, command[1:]) if flag == "--option")
        made_for = identity(options)
    outputs = {str(path) for path in flags.output}
    words = [
        "an output" if word in outputs else _content(word, flags.shard_of)
        for before, word in zip(command[1:], command[2:])
        if word not in _NO_MATTER and before not in _NO_MATTER
    ]
    return {"command": Path(command[1]).name, "words": words, "key": sorted(flags.key), "made_for": made_for}


def _content(word: str, shard_of: Sequence[str] | None) -> str:
    """A word of a command line, with the content of the file or folder that it names in place of its name."""
    name, equals, value = word.partition("=")
    if equals and not word.startswith("/") and Path(value).exists():
        return f"{name}={_content(value, shard_of)}"
    if shard_of and word == shard_of[0]:
        from smlp.data import dataset

        root, split, part = shard_of
        index, _, count = part.partition("/")
        entries = dataset.shard(dataset.list_images(root, split), int(index), int(count))
        return _digest_of(f"{entry.image}\0{entry.label}\0{files.digest(Path(root, entry.image))}" for entry in entries)
    path = Path(word)
    if path.is_file():
        return files.digest(path)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and file.name != ".snakemake_timestamp")
        return _digest_of(f"{file.relative_to(path)}\0{files.digest(file)}" for file in found)
    return word


def _digest_of(lines: Iterator[str]) -> str:
    checksum = hashlib.sha256()
    for line in lines:
        checksum.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return checksum.hexdigest()


def store(entry: Path, about: Facts, outputs: Sequence[Path]) -> None:
    """Copy the outputs, and what was written beside a file under the same stem, into `entry`, whole or not at all.

    A store that cannot be written costs a line on stderr, not the result.
    """
    parent, digests = outputs[0].parent, {}
    if any(path.suffix == ".json" and "failed" in files.read_json(path, "a sidecar") for path in outputs):
        return
    found = [file for path in outputs for file in (path.rglob("*") if path.is_dir() else parent.glob(f"{path.stem}.*"))]
    try:
        with files.whole_folder(entry, own=r"entry\.json|files") as partial:
            for file in sorted({file for file in found if file.is_file() and file.name != ".snakemake_timestamp"}):
                name = str(file.relative_to(parent))
                copy = partial / "files" / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
                digests[name] = files.digest(copy)
            files.write_json(partial / _ENTRY, {"about": about, "files": digests})
    except (OSError, UserError) as error:
        cli.say(f"{entry}: not stored ({error})")


def restore(entry: Path, about: Facts, outputs: Sequence[Path]) -> bool:
    """Copy what `entry` holds to the outputs' places; False, and nothing is written, if it is absent or damaged."""
    if not entry.exists():
        return False
    try:
        record = files.read_json(entry / _ENTRY, "an entry of a shared store")
        digests = record["files"]
        if record["about"] != about or not all(_belongs(name, outputs) for name in digests):
            raise Damaged("it is about something else")
        _place(entry, digests, outputs)
    except (Damaged, UserError, OSError, KeyError, TypeError, AttributeError) as error:
        cli.say(f"{entry}: is damaged and not used ({error}); it is made again")
        shutil.rmtree(entry, ignore_errors=True)
        return False
    return True


def _belongs(name: str, outputs: Sequence[Path]) -> bool:
    first, *rest = Path(name).parts
    if ".." in rest or Path(name).is_absolute():
        return False
    return any(first == path.name if rest else Path(first).stem == path.stem for path in outputs)


def _place(entry: Path, digests: dict[str, str], outputs: Sequence[Path]) -> None:
    parent = outputs[0].parent
    folders = {Path(name).parts[0] for name in digests if len(Path(name).parts) > 1}
    loose = [name for name in digests if len(Path(name).parts) == 1]
    if not loose:
        raise Damaged("it holds no sidecar")
    with contextlib.ExitStack() as stack:
        places = {folder: stack.enter_context(files.whole_folder(parent / folder, own="(?!)")) for folder in folders}
        beside = stack.enter_context(files.whole_file(parent / loose[0])).parent
        for name, digest in digests.items():
            first, *rest = Path(name).parts
            copy = places[first].joinpath(*rest) if rest else beside / name
            shutil.copyfile(entry / "files" / name, copy)
            if files.digest(copy) != digest:
                raise Damaged(f"{name} is not the file that was stored")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--store", default=os.environ.get("SMLP_STORE"), help="the shared folder")
    parser.add_argument("--key", action="append", default=[], help="what else the result depends on, repeatable")
    parser.add_argument("--backend", help="whose engine the command makes")
    parser.add_argument(
        "--shard_of", nargs=3, metavar=("ROOT", "SPLIT", "K/N"), help="of the dataset ROOT only this part is read"
    )
    parser.add_argument("--output", type=Path, action="append", required=True, help="what it makes, repeatable")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
