"""Images inside archives, read in place: where each lies, and which class the archive states of it.

Nothing is unpacked. Only regular files inside the archive are read: links, devices, absolute names and names that lead
out of it are refused, and so are archives that end too early or go on behind their end. An archive of archives, as
ILSVRC's training set, counts as one whose folders are those archives. What is particular to zips is in zips.py.

Standard library only, and quick to import: the workflow lists images each time it starts.
"""

from __future__ import annotations

import collections
import json
import os
import tarfile
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from ..core.cli import UserError
from . import zips
from .label_files import class_of
from .pictures import count_others, is_by_system, is_image, relative

SUFFIX = ".tar"
SUFFIXES = (SUFFIX, zips.SUFFIX)
# What WebDataset has beside an image: its class by number or by name, or an object with the key `label`.
_CLASS, _OBJECT = ".cls", ".json"
_LONGEST_CLASS, _LONGEST_OBJECT = 1 << 10, 1 << 20
# A header may state the name of a file, or what it was on the disk that it comes from; no honest one is longer.
_LONGEST_HEADER = 1 << 16
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_BLOCK = 512


class Index(NamedTuple):
    """What an archive holds.

    images: name -> [offset, bytes], of a zip what `zips.read` takes, in the archive's order; labels: WebDataset's name
    of a sample -> number or name of its class; others: what else there is, in words, and how many; signature: of the
    file that this was read from.
    """

    signature: list[int]
    images: dict[str, list[int]]
    labels: dict[str, int | str]
    others: dict[str, int]


# What this process knows of archives, by their paths.
_known: dict[str, Index] = {}


def known() -> dict[str, list[Any]]:
    """Everything that this process knows of archives, for `know` in another process; as JSON can hold it."""
    return {path: list(index) for path, index in _known.items()}


def know(found: object) -> None:
    """Believe what another process found out. What is damaged, or of a file that has changed since, is not used."""
    kinds = list(map(type, Index([], {}, {}, {})))
    for path, fields in found.items() if isinstance(found, dict) else ():
        if isinstance(fields, list) and list(map(type, fields)) == kinds:
            _known[path] = Index(*fields)


def index(path: str | os.PathLike) -> Index:
    """What an archive holds; read once by each process, unless the file changes.

    Raises UserError that names the archive and what is wrong in it.
    """
    key = os.fspath(path)
    signature = _signature(key)
    found = _known.get(key)
    if found is None or found.signature != signature:
        found = _known[key] = _read_index(key, signature)
    return found


def read(path: str | os.PathLike, name: str) -> bytes:
    """The content of an image in an archive."""
    try:
        offset, size, *more = index(path).images[name]
    except KeyError:
        raise UserError(f"{path}: holds no image {name}; was the archive changed?") from None
    if more:
        return zips.read(os.fspath(path), name, offset, size, *more)
    with open(path, "rb") as stream:
        stream.seek(offset)
        content = stream.read(size)
    if len(content) != size:
        raise UserError(f"{path}: ends within {name}; was the archive changed?")
    return content


def sample(name: str) -> str:
    """WebDataset's name of the sample that a file is of: its path up to the first dot of its name."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _signature(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _read_index(path: str, signature: list[int]) -> Index:
    index = Index(signature, {}, {}, {})
    others: collections.Counter[str] = collections.Counter()
    if path.lower().endswith(zips.SUFFIX):
        for name, place in zips.members(path):
            if not _is_hidden(name, others):
                _take(path, name, place, index, others)
    else:
        with open(path, "rb") as stream:
            _scan(path, stream, 0, "", index, others)
    index.others.update(others)
    return index


def _scan(
    path: str,
    stream: IO[bytes],
    base: int,
    folder: str,
    index: Index,
    others: collections.Counter[str],
) -> None:
    """Add what a tar holds to `index`. base: where in the file it begins; folder: what its names are below."""
    where = f"{path}/{folder}".rstrip("/")
    for member, name, content in _members(where, stream):
        name = folder + name
        base_name = name.rpartition("/")[2]
        suffix = os.path.splitext(base_name)[1].lower()
        if _is_hidden(name, others):
            continue
        if suffix == SUFFIX and not folder:
            _scan(path, content, member.offset_data, f"{name}/", index, others)
        elif suffix in (_CLASS, _OBJECT):
            label = _label(f"{where}/{name}", suffix, member.size, content)
            if label is None:
                count_others(others, [base_name])
            elif index.labels.setdefault(sample(name), label) != label:
                raise UserError(f"{where}: {sample(name)} has two classes; keep one of {_CLASS} and {_OBJECT}")
        else:
            _take(where, name, [base + member.offset_data, member.size], index, others)


def _is_hidden(name: str, others: collections.Counter[str]) -> bool:
    """Whether a file is in a folder that systems make; then that is counted."""
    return any([is_by_system(folder, others) for folder in name.split("/")[:-1]])


def _take(where: str, name: str, place: list[int], index: Index, others: collections.Counter[str]) -> None:
    """Add a file to `index` if it is an image, else count it. place: as `Index` has it."""
    base_name = name.rpartition("/")[2]
    if not is_image(base_name):
        count_others(others, [base_name])
        return
    if name in index.images:
        raise UserError(f"{where}: {name} occurs a second time; pack the archive anew")
    index.images[name] = place


def _label(where: str, suffix: str, size: int, content: IO[bytes]) -> int | str | None:
    """The class that a file of a sample states; None of an object that states none, as others call theirs .json."""
    if suffix == _CLASS:
        text = content.read(_LONGEST_CLASS + 1).decode(errors="replace").strip()
        if not text or len(text) > _LONGEST_CLASS:
            raise UserError(f"{where}: has {size} bytes, the number or the name of a class was expected")
        label = class_of(text)
        if label is None:
            raise UserError(f"{where}: {text[:40]!r} is neither a whole number of at least 0 nor the name of a class")
        return label
    try:
        found = json.loads(content.read(_LONGEST_OBJECT)) if size <= _LONGEST_OBJECT else None
    except (ValueError, RecursionError):
        found = None
    return class_of(found.get("label")) if isinstance(found, dict) else None


class _Header(tarfile.TarInfo):
    """One that may not be of any length: tarfile reads it into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)


def _members(where: str, stream: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, str, IO[bytes]]]:
    """Header, name and content of every regular file of a tar, one after the other, to its very end."""
    try:
        with tarfile.TarFile(fileobj=stream, mode="r", tarinfo=_Header) as archive:
            while member := archive.next():
                archive.members = []  # it would keep every header
                name = _checked(where, member)
                if member.isfile():
                    content = archive.extractfile(member)
                    yield member, name, content
            _check_end(where, stream, archive.offset)
    except (tarfile.TarError, EOFError, RecursionError, ValueError, OverflowError) as error:
        raise UserError(
            f"{where}: is not a whole tar archive ({error}); a compressed one must be uncompressed first (gunzip, zstd "
            "-d), a damaged one fetched again"
        ) from None


def _checked(where: str, member: tarfile.TarInfo) -> str:
    """The name of a member, relative to the archive. Raises UserError if it would lead elsewhere."""
    name = member.name.removeprefix("./")
    problem = None
    if member.islnk() or member.issym():
        problem = "is a link"
    elif not (member.isreg() or member.isdir()) or member.issparse():
        problem = "is not a plain file"
    elif name.startswith("/") or ".." in name.split("/"):
        problem = "leads out of the archive"
    elif "\0" in name or (not name.strip("./") and member.isreg()):
        problem = "is no name"
    if problem:
        raise UserError(f"{where}: {member.name[:200]} {problem}; pack the archive anew, with plain files only")
    return relative(name)


def _check_end(where: str, stream: IO[bytes], offset: int) -> None:
    """Raise UserError if a tar is cut off, or if something follows it: tarfile takes both for its end."""
    stream.seek(offset)
    block = stream.read(_BLOCK)
    if len(block) < _BLOCK:
        raise UserError(f"{where}: is cut off, it has no end mark; fetch it again")
    while block:
        if block.count(0) != len(block):
            raise UserError(
                f"{where}: goes on behind its end, or is damaged (byte {offset}); fetch it again, or if it was joined "
                "from several archives, keep these apart"
            )
        offset += len(block)
        block = stream.read(1 << 20)
