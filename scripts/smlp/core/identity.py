"""Which artefact is it? The id that a sidecar states, what the id is made of, and the checks that hold it.

A sidecar has these keys beside its own facts:
  identity  what makes the artefact this one and no other: `kind`; `files`, the SHA-256 of each of its files;
            `made_from`, the ids of what it was made from; `flags`; `code`, a digest; `versions` of packages; `host`,
            the features of this machine that the result depends on; `environment`, the variables that the settings
            ask for
  id        the digest of `identity`
  start     of everything that belongs to a model: {id, sha256, md5} of the checkpoint or ONNX file that it starts from,
            and `key` if the user chose among the weights in it
  seal      the digest of all the rest, so that a sidecar that was edited or mixed is noticed

Names of files are left out where they may change: an engine is named by its suffixes, a file in a folder by its path
in it. Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import files
from .cli import UserError

# The mark that Snakemake puts into folders.
_NOT_OURS = (".snakemake_timestamp",)
# Begins the name of a file that belongs to another one and is not named after that one: a path from its folder.
BESIDE = "./"
_PARTS = ("id", "identity", "seal")


class Known(NamedTuple):
    """What is known about an artefact. facts: its sidecar, {} if it has none."""

    id: str
    start: dict[str, Any] | None
    facts: dict[str, Any]


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value, as it reads from a file; the order of keys does not matter."""
    as_read = json.loads(json.dumps(value))  # keys that are numbers are texts there
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def contents(path: str | os.PathLike, companions: Iterable[str] = ()) -> dict[str, str]:
    """SHA-256 of every file of an artefact: of a file and its companions by suffix, of a folder by path in it.

    companions: suffixes, or names that begin with BESIDE.

    Links in a folder are not followed into other folders.
    """
    path = Path(path)
    if not path.is_dir():
        return {name: files.digest(place(path, name)) for name in (path.suffix, *companions)}
    found = (file for file in path.rglob("*") if file.is_file() and file.name not in _NOT_OURS)
    return {file.relative_to(path).as_posix(): files.digest(file) for file in sorted(found)}


def place(path: str | os.PathLike, name: str) -> Path:
    """Where the file of an artefact is that `contents` calls `name`."""
    path = Path(path)
    if path.is_dir():
        return path / name
    return path.parent / name[len(BESIDE) :] if name.startswith(BESIDE) else path.with_suffix(name)


def state(
    kind: str,
    content: Mapping[str, str],
    *,
    made_from: Mapping[str, str] = {},
    flags: Mapping[str, Any] = {},
    code: str | None = None,
    versions: Mapping[str, str | None] = {},
    host: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = {},
) -> dict[str, Any]:
    """The keys `id` and `identity` of a new artefact's sidecar.

    content: what `contents` found, or digests of what else the artefact consists of. made_from: role -> id. flags:
    those that decide what is made, none that only says where something is. host: None if the result is the same on any
    host.
    """
    identity = {
        "kind": kind,
        "files": dict(content),
        "made_from": dict(made_from),
        "flags": dict(flags),
        "code": code,
        "versions": dict(versions),
        "host": host,
        "environment": dict(environment),
    }
    return {"id": digest(identity), "identity": identity}


def sealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a sidecar with their seal. Nothing may be added to them afterwards."""
    rest = {key: value for key, value in facts.items() if key != "seal"}
    return {**rest, "seal": digest(rest)}


def verify(facts: Mapping[str, Any], where: str | os.PathLike) -> str | None:
    """The id that a sidecar states; None if it states none. where: the file that holds it.

    Raises UserError if the sidecar is not as it was written.
    """
    if not any(part in facts for part in _PARTS):
        return None
    if not isinstance(facts.get("identity"), dict) or facts.get("seal") != sealed(facts)["seal"]:
        raise UserError(f"{where}: is not as it was written, its seal is broken; remove the file to make it anew")
    if facts.get("id") != digest(facts["identity"]):
        raise UserError(f"{where}: its id is not that of its identity; remove the file to make it anew")
    return facts["id"]


def check_files(
    facts: Mapping[str, Any], where: str | os.PathLike, path: str | os.PathLike, only: Iterable[str] | None = None
) -> None:
    """Raise UserError, naming the file, if the files of the artefact `path` are not those that its sidecar states.

    only: names of the files to look at, as `contents` gives them; all unless given, and then there may be no others.
    """
    wanted = facts["identity"]["files"]
    path = Path(path)
    is_folder = path.is_dir()
    names = list(wanted) if only is None else list(only)
    if is_folder and only is None:
        present = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
        names += sorted(present - set(wanted) - set(_NOT_OURS))
    for name in names:
        file = place(path, name)
        if name not in wanted:
            raise UserError(f"{file}: is none of the files that {where} describes; remove it, or make {path} again")
        if not file.is_file():
            raise UserError(f"{file}: is missing, {where} describes it; make {path} again")
        if files.digest(file) != wanted[name]:
            raise UserError(f"{file}: is not the file that {where} describes; make {path} again")


def sidecar_of(path: str | os.PathLike) -> Path:
    """The sidecar of an artefact: a folder's has the folder's whole name, a file's has the file's stem."""
    path = Path(os.path.abspath(path))
    return path.with_name(path.name + ".json") if path.is_dir() else files.sidecar_path(path)


def known(path: str | os.PathLike, check: bool = True, companions: Iterable[str] = ()) -> Known:
    """What the sidecar of an existing artefact states, checked; of a file without one its content is the id.

    check: whether its files are read and compared, too. companions: suffixes of files that belong to one without a
    sidecar. Raises UserError, naming the file, if there is nothing, for a broken sidecar and for files that are not
    those that it states.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: no such file or folder; make it first, or check the path")
    sidecar = sidecar_of(path)
    facts = files.read_json(sidecar, "a sidecar") if sidecar.is_file() else {}
    if not isinstance(facts, dict):
        raise UserError(f"{sidecar}: is no sidecar; remove the file to make it anew")
    stated = verify(facts, sidecar)
    if stated and not Path(path).is_dir() and Path(path).suffix not in facts["identity"]["files"]:
        facts, stated = {}, None  # it describes another file of the same stem
    if stated is None:
        made = state("content", contents(path, companions))
        return Known(made["id"], start(made["id"], path), facts)
    if check:
        check_files(facts, sidecar, path)
    return Known(stated, facts.get("start"), facts)


def start(id_: str, path: str | os.PathLike) -> dict[str, Any] | None:
    """The key `start` of what a model starts from: the artefact `path` whose id is given; None of a folder."""
    if Path(path).is_dir():
        return None
    return {"id": id_, "sha256": files.digest(path), "md5": files.digest(path, "md5")}
