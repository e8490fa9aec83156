"""An image as the files of a data set state it, and what tells an image from other files by its name.

Standard library only, and quick to import.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable
from typing import NamedTuple

# torchvision.datasets.folder.IMG_EXTENSIONS, compared without regard to case, and what else people have: all that
# data/decode.py reads, and what it can only name. What a file is its content says.
IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    *(".jpe", ".jfif", ".gif", ".apng", ".avif", ".avifs", ".heic", ".heif", ".hif", ".jxl", ".dib", ".pbm", ".pnm"),
    *(".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".qoi"),
)

# Folders that file servers and systems make for themselves, in lower case; others begin with a dot or an @.
_BY_SYSTEMS = frozenset(
    (
        "__macosx",
        "lost+found",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "network trash folder",
        "temporary items",
        "~snapshot",
        "__pycache__",
        "found.000",
    )
)


def relative(name: str) -> str:
    """The name of a file in an archive as a path from the archive, without what leads nowhere."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


class Picture(NamedTuple):
    """One image as the data set's own files state it.

    image: path relative to data_root; group: the name of its class (a folder), "" if there is only a number;
    label: the number that a label file states, None if the class is named.
    """

    image: str
    group: str
    label: int | None


class Found(NamedTuple):
    """What the files of a data set state.

    pictures: in the stated order; names: all classes in the order that a file of the data set states, None if none
    does; left_out: what was not taken, in words, and how many of it.
    """

    pictures: list[Picture]
    names: tuple[str, ...] | None
    left_out: dict[str, int]


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    # macOS leaves ._name beside name on foreign disks, which is no image
    return name.lower().endswith(IMAGE_EXTENSIONS) and not name.startswith("._")


def is_by_system(name: str, left_out: collections.Counter[str] | None = None) -> bool:
    """Whether a folder is one that systems make and hide; then it is counted in `left_out`."""
    is_one = name.startswith((".", "@")) or name.lower() in _BY_SYSTEMS
    if is_one and left_out is not None:
        left_out[f"folders {name}"] += 1
    return is_one


def count_others(left_out: collections.Counter[str], names: Iterable[str]) -> None:
    """Count the files that are no images by their names: nobody should wonder where his .heic files are."""
    for name in names:
        if not is_image(name):
            left_out[f"files {os.path.splitext(name)[1].lower()[:20] or 'without a suffix'}"] += 1
