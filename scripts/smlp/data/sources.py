"""What the files of a data set state: its images, in order, and of each the name or the number of its class.

Standard library only, and quick to import: the workflow lists the images each time it starts.

These layouts are read below `data_root`, the folder that contains val/:
  val/<class>/*.JPEG   as torchvision's ImageFolder: the folder names the class
  val/*.JPEG           with a label file in `data_root` or in val/, see label_files.py
  val/images/*.JPEG    with val/val_annotations.txt, as Tiny ImageNet has it
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NoReturn

from ..core.cli import UserError
from . import label_files

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


def find(
    data_root: str | os.PathLike,
    split: str,
    labels: str | os.PathLike | None = None,
    columns: Sequence[str] | None = None,
    labelled: bool = True,
) -> Found:
    """The images of the split, in torchvision's order (class folders) or sorted by name (with a label file).

    labels: the label file, where the layout does not tell; columns: those of a table with the image and its class;
    labelled: False if labels do not matter, so that none need be there.
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
    annotations = folder / f"{split}_annotations.txt"
    if labels is None and classes == ["images"] and not loose and annotations.is_file():
        labels = annotations
    if labels is not None:
        return _by_file(root, split, _images_below(str(folder), left_out), Path(labels), columns, left_out)
    _count_others(left_out, (name for name, is_folder in children if not is_folder))
    if classes and loose:
        raise UserError(
            f"{folder}: contains class folders ({classes[0]}, …) and images beside them ({loose[0]}, …), which would "
            "have no label; keep one or the other"
        )
    if classes:
        return Found(list(_by_folder(root, split, classes, left_out)), None, dict(left_out))
    if loose and not labelled and len(label_files.candidates(root, split)) != 1:
        return Found([Picture(f"{split}/{name}", "", 0) for name in loose], None, dict(left_out))
    if loose:
        return _by_file(root, split, loose, label_files.choose(root, split), columns, left_out)
    raise UserError(f"{folder}: contains no images ({' '.join(IMAGE_EXTENSIONS)}); put them into {folder}/<class>/")


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
        left_out[f"folders {name}"] += 1
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

    Other files are counted in `left_out`. Folders of systems are not entered: in them file servers keep a thumbnail of
    every image.
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
        _count_others(left_out, names)
    return [os.path.join(place, name)[len(folder) + 1 :] for place, names in sorted(levels) for name in names]


def _raise(error: OSError) -> NoReturn:
    """os.walk would otherwise take an unreadable folder for an empty one."""
    raise error


def _count_others(left_out: collections.Counter[str], names: Iterable[str]) -> None:
    """Count the files that are no images by their names: nobody should wonder where his .heic files are."""
    for name in names:
        if not _is_image(name):
            left_out[f"files {os.path.splitext(name)[1].lower()[:20] or 'without a suffix'}"] += 1


def _by_file(
    root: Path,
    split: str,
    images: list[str],
    path: Path,
    columns: Sequence[str] | None,
    left_out: collections.Counter[str],
) -> Found:
    """Pictures whose classes a label file states. images: paths relative to the split's folder, in order."""
    if path.parent == root / split:  # it is no image, and nobody would look for it
        left_out.subtract([f"files {path.suffix.lower()}"])
    labels = label_files.read(path, columns)
    found, absent = label_files.assign(labels, root / split, images)
    left_out[f"lines of {path.name} whose image is not there"] += absent
    pictures = [Picture(f"{split}/{image}", *label) for image, label in zip(images, found, strict=True)]
    return Found(pictures, labels.names, dict(+left_out))
