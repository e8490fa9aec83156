"""What the files of a data set state: its images, in order, and of each the name or the number of its class.

Standard library only, and quick to import: the workflow lists the images each time it starts.

Two layouts are read below `data_root`, the folder that contains val/:
  val/<class>/*.JPEG   as torchvision's ImageFolder: the folder names the class
  val/*.JPEG           with val_label.txt in `data_root` or in val/, one line per image: `name label`
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NoReturn

from ..core.cli import UserError
from .manifest import whole_number

# torchvision.datasets.folder.IMG_EXTENSIONS, compared without regard to case
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

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


def find(data_root: str | os.PathLike, split: str) -> Found:
    """The images of the split, in torchvision's order (class folders) or sorted by name (flat).

    Raises UserError if the folder is missing or empty, or does not give every image exactly one class.
    """
    root = Path(data_root)
    if not root.is_dir():
        raise UserError(f"{root}: no such dataset folder; give the folder that contains {split}/")
    if split in ("", "..") or split != PurePosixPath(split).name:
        raise UserError(f"split {split!r}: is not the name of a folder below {root}; val was expected")
    folder = root / split
    if not folder.is_dir():
        raise UserError(
            f"{root}: contains no folder {split}/; put the images into {folder}/<class>/, or check the path"
        )

    with os.scandir(folder) as found:
        children = sorted((child.name, child.is_dir()) for child in found)
    left_out: collections.Counter[str] = collections.Counter()
    classes = [name for name, is_folder in children if is_folder and not _is_by_system(name, left_out)]
    loose = [name for name, is_folder in children if not is_folder and _is_image(name)]
    if classes and loose:
        raise UserError(
            f"{folder}: contains class folders ({classes[0]}, …) and images beside them ({loose[0]}, …), which would "
            "have no label; keep one or the other"
        )
    if not (classes or loose):
        raise UserError(f"{folder}: contains no images ({' '.join(IMAGE_EXTENSIONS)}); put them into {folder}/<class>/")
    pictures = list(_by_folder(root, split, classes, left_out)) if classes else _by_file(root, split, loose)
    return Found(pictures, None, dict(left_out))


def read(data_root: str | os.PathLike, image: str) -> bytes:
    """The content of an image that `find` named."""
    return Path(data_root, image).read_bytes()


def _is_image(name: str) -> bool:
    # macOS leaves ._name beside name on foreign disks, which is no image
    return name.lower().endswith(IMAGE_EXTENSIONS) and not name.startswith("._")


def _is_by_system(name: str, left_out: collections.Counter[str]) -> bool:
    """Whether a folder is one that systems make and hide; then it is counted in `left_out`."""
    is_one = name.startswith((".", "@")) or name.lower() in _BY_SYSTEMS
    if is_one:
        left_out[f"folder {name}"] += 1
    return is_one


def _by_folder(root: Path, split: str, classes: list[str], left_out: collections.Counter[str]) -> Iterator[Picture]:
    """Pictures of the class-folder layout, in the order of torchvision.datasets.ImageFolder."""
    for class_name in classes:
        folder = f"{split}/{class_name}"
        paths = _images_below(os.path.join(root, folder), left_out)
        if not paths:
            raise UserError(
                f"{root / folder}: class folder without images ({' '.join(IMAGE_EXTENSIONS)}); fill it, or remove it "
                "(every class after it then moves down by one)"
            )
        yield from (Picture(f"{folder}/{path}", class_name, None) for path in paths)


def _images_below(folder: str, left_out: collections.Counter[str]) -> list[str]:
    """Paths of all images below `folder`, relative to it, folder by folder as torchvision sorts them.

    Folders of systems are not entered: in them file servers keep a thumbnail of every image.
    """
    levels = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        folders[:] = [name for name in folders if not _is_by_system(name, left_out)]
        for name in folders:
            target = os.path.realpath(os.path.join(place, name))
            if (
                os.path.islink(os.path.join(place, name))
                and os.path.commonpath([target, os.path.realpath(place)]) == target
            ):
                raise UserError(
                    f"{place}/{name}: is a link to a folder around it; its images would count again and again"
                )
        levels.append((place, sorted(filter(_is_image, names))))
    return [os.path.join(place, name)[len(folder) + 1 :] for place, names in sorted(levels) for name in names]


def _raise(error: OSError) -> NoReturn:
    """os.walk would otherwise take an unreadable folder for an empty one."""
    raise error


def _by_file(root: Path, split: str, names: list[str]) -> list[Picture]:
    """Pictures of the flat layout, labelled by the lines `name label` of val_label.txt."""
    candidates = [folder / f"{split}_label.txt" for folder in (root, root / split)]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise UserError(
            f"{root / split}: contains images but no class folders, and there is no label file; add {candidates[0]} "
            "with a line `name label` for each image"
        )
    present = set(names)
    labels: dict[str, int] = {}
    lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        name, *rest = line.strip().rsplit(None, 1)
        if not rest:
            raise UserError(f"{where}: {name!r} is not an image's name and its label, such as `name.JPEG 65`")
        label = whole_number(rest[0])
        if label is None:
            raise UserError(f"{where}: label {rest[0]!r} of {name} is not a whole number of at least 0")
        if name in labels:
            raise UserError(f"{where}: {name} occurs a second time; keep one line per image")
        if name not in present:
            raise UserError(f"{where}: there is no image {name} in {root / split}; restore it, or remove the line")
        labels[name] = label
    for name in names:
        if name not in labels:
            raise UserError(f"{path}: has no line for {name}; add `{name} label`")
    return [Picture(f"{split}/{name}", "", labels[name]) for name in names]
