"""Files of the Hugging Face hub, fetched by its own client: with its cache, its mirrors and its offline mode.

Its client reads the environment: HF_ENDPOINT names a mirror, HF_HOME the folder of the cache, HF_HUB_OFFLINE=1 takes
only what is there, HF_TOKEN opens what needs a login. Standard library only, but for `fetch`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from . import files
from .cli import UserError, say

PREFIX = "hf-hub:"
TIMM = "timm:"
# What timm and others call the weights of a repository, the one that is taken first.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# The same of its ONNX file: where the hub's own exporter puts it comes first.
ONNX = ("onnx/model.onnx", "model.onnx")
_FORM = f"{PREFIX}owner/name@revision, or {PREFIX}owner/name/file@revision"


class Address(NamedTuple):
    """Where in the hub something is. file: "" for the repository's weights; revision: a branch, a tag or a commit."""

    repository: str
    file: str
    revision: str


class Fetched(NamedTuple):
    """A file in the hub's cache. revision: the commit that it is of, 40 hexadecimal digits."""

    path: Path
    repository: str
    file: str
    revision: str


def is_remote(source: str, kind: str = "checkpoint") -> bool:
    """Whether a source of this kind of file is none of this machine: a URL, of the hub, or published by timm."""
    elsewhere = {"checkpoint": (PREFIX, TIMM), "onnx": (PREFIX,)}.get(kind, ())
    return "://" in source or source.startswith(elsewhere)


def published_name(source: str) -> str:
    """The model and tag under which timm publishes a source, as in timm:resnet50.a1_in1k; "" if that is not stated."""
    if source.startswith(TIMM):
        return source[len(TIMM) :].partition("@")[0]
    found = re.fullmatch(rf"{PREFIX}timm/([A-Za-z0-9_]+\.[A-Za-z0-9_.-]+)(@.*)?", source)
    return found[1] if found else ""


def parse(source: str) -> Address:
    """The address in `hf-hub:owner/name[/file][@revision]`. Raises UserError if it is none."""
    name = r"[A-Za-z0-9][A-Za-z0-9._-]*"
    found = re.fullmatch(rf"{PREFIX}({name}/{name})((?:/{name})*)(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?", source)
    if not found or ".." in source:
        raise UserError(f"{source}: is no address in the hub; write {_FORM}")
    return Address(found[1], found[2].lstrip("/"), found[3] or "main")


def beside(fetched: Fetched, name: str) -> str:
    """The address, at the same commit, of the file `name`: a path from the folder that a fetched file is in."""
    folder, slash, _ = fetched.file.rpartition("/")
    return f"{PREFIX}{fetched.repository}/{folder}{slash}{name}@{fetched.revision}"


def fetch(source: str, names: Sequence[str] = WEIGHTS) -> Fetched:
    """Bring a file of the hub into its cache. names: those to look for if the source names no file.

    Raises UserError for everything that goes wrong, saying what to do.
    """
    address = parse(source)
    try:
        import huggingface_hub
        from huggingface_hub import errors, utils
    except ImportError:
        raise UserError(f"{source}: needs the Python package huggingface_hub; pip install huggingface_hub") from None
    if not sys.stderr.isatty() and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
        utils.disable_progress_bars()
    wanted = [address.file] if address.file else names
    by_hand = "or download it by hand and give the path of the file"
    unreachable = ""
    for name in wanted:
        try:
            path = Path(huggingface_hub.hf_hub_download(address.repository, name, revision=address.revision))
        except errors.GatedRepoError:
            problem = f"needs a login that may read it; set HF_TOKEN, {by_hand}"
        except errors.RepositoryNotFoundError:
            problem = f"the hub has no {address.repository}, or only for others; check the name, or set HF_TOKEN"
        except errors.RevisionNotFoundError:
            problem = f"{address.repository} has no revision {address.revision!r}; check it, or leave it out"
        except errors.LocalEntryNotFoundError as error:
            offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
            problem = "HF_HUB_OFFLINE is set" if offline else f"cannot reach the hub ({_reason(error)})"
            problem += f", and its cache does not have {name}; check the network, the proxy (https_proxy) and "
            problem += f"HF_ENDPOINT, {by_hand}"
            unreachable = unreachable or problem
            if name != wanted[-1]:
                continue  # the cache may have the next one
        except errors.EntryNotFoundError:
            if name != wanted[-1]:
                continue
            problem = f"has no {' and no '.join(wanted)} at {address.revision}; name the file, {_FORM}"
        except MemoryError:
            raise
        except Exception as error:  # the client lets through what its HTTP library raises, and that changes
            problem = f"the hub's client failed ({_reason(error)}); try again, {by_hand}"
        else:
            return _checked(source, address, name, path)
        raise UserError(f"{source}: {unreachable or problem}") from None
    raise UserError(f"{source}: no name of a file to look for; write {_FORM}")


def _checked(source: str, address: Address, name: str, path: Path) -> Fetched:
    """The cached file. Its cache names a large file by its SHA-256, and does not look at it again."""
    depth = len(name.split("/"))
    revision = path.parents[depth - 1].name
    if not re.fullmatch("[0-9a-f]{40}", revision):
        raise UserError(f"{source}: the hub's cache states no commit for {path}; remove that file and try again")
    blob = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
    if re.fullmatch("[0-9a-f]{64}", blob) and files.digest(path) != blob:
        raise UserError(f"{source}: {path} is not what the hub published (sha256 {blob}); remove it and try again")
    if address.revision != revision:
        say(f"{source}: {address.revision} is now the commit {revision}; to keep to it, write @{revision}")
    return Fetched(path, address.repository, name, revision)


def _reason(error: BaseException) -> str:
    """The first line of what went wrong, of the first cause that says something of its own."""
    cause = error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
