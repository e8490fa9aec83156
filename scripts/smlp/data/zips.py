"""Images inside zip archives, read in place, with the same care as those in tars: see archives.py.

Each image is compressed by itself, so that one can be read without those before it. Standard library only.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator

from ..core.cli import UserError
from .pictures import relative

SUFFIX = ".zip"
# The part of a local header that all have; at its end the lengths of the name and of what follows it (APPNOTE 4.3.7).
_HEADER_BYTES, _HEADER = 30, b"PK\3\4"
_ENCRYPTED, _UTF_8 = 0x1, 0x800  # flags of a file
# What image files can be pressed together by; more is made to fill the memory of whoever reads it.
_HARMLESS_BYTES, _LARGEST_RATIO = 1 << 26, 100


def members(path: str) -> Iterator[tuple[str, list[int]]]:
    """Name, and what `read` needs, of every file in a zip, in its order. Raises UserError for what is not plain."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.header_offset < 0:
                    raise zipfile.BadZipFile("bad offset of a header")
                name = _checked(path, member)
                if not name.endswith("/"):
                    sizes = [member.file_size, member.compress_size]
                    yield name, [member.header_offset, *sizes, member.CRC, member.compress_type]
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: is not a whole zip archive ({error}); fetch it again") from None


def read(path: str, name: str, offset: int, size: int, compressed: int, crc: int, method: int) -> bytes:
    """The content of a file in a zip. offset: of its header; size, compressed: bytes of it, outside and inside."""
    with open(path, "rb") as stream:
        stream.seek(offset)
        header = stream.read(_HEADER_BYTES)
        flags, length, more = (int.from_bytes(header[place : place + 2], "little") for place in (6, 26, 28))
        own_name = stream.read(length).decode("utf-8" if flags & _UTF_8 else "cp437", "replace")
        stream.seek(offset + _HEADER_BYTES + length + more)
        content = stream.read(compressed)
    if method == zipfile.ZIP_DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
        except zlib.error:
            content = b""
    # the directory at the end, which the name is from, has no checksum of its own
    is_it = header.startswith(_HEADER) and relative(own_name) == name
    if not is_it or len(content) != size or zlib.crc32(content) != crc:
        raise UserError(f"{path}: {name} is damaged; fetch the archive again")
    return content


def _checked(path: str, member: zipfile.ZipInfo) -> str:
    """The name of a member, relative to the archive; that of a folder ends with a slash.

    Raises UserError for one that is not plain or leads elsewhere.
    """
    name = member.filename.removeprefix("./")
    is_folder = name.endswith("/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    problem = None
    if kind == stat.S_IFLNK:
        problem = "is a link"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        problem = "is not a plain file"
    elif name.startswith("/") or ".." in name.split("/") or "\\" in name or name[1:2] == ":":
        problem = "leads out of the archive"
    elif is_folder and member.file_size or not is_folder and not name.strip("./"):
        problem = "is no name"
    elif member.flag_bits & _ENCRYPTED:
        problem = "is encrypted"
    elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        problem = f"is compressed by method {member.compress_type}, not by deflate"
    elif member.file_size > max(_HARMLESS_BYTES, _LARGEST_RATIO * member.compress_size):
        problem = f"would become {member.file_size:,} bytes out of {member.compress_size:,}"
    if problem:
        raise UserError(f"{path}: {member.filename[:200]} {problem}; pack the archive anew, with plain files only")
    return relative(name) + "/" * is_folder
