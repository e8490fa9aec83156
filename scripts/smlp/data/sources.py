"""What the files of a data set state: its images, in order, and of each the name or the number of its class.

Standard library only, and quick to import: the workflow lists the images each time it starts.

These layouts are read below `data_root`, the folder that contains val/:
  val/<class>/*.JPEG   as torchvision's ImageFolder: the folder names the class
  val/*.JPEG           with a label file in `data_root` or in val/, see label_files.py
  val/images/*.JPEG    with val/val_annotations.txt, as Tiny ImageNet has it
  archives and tables  see packed.py
"""

from __future__ import annotations

import collections
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

from ..core.cli import UserError
from . import class_lists, label_files, packed
from .pictures import IMAGE_EXTENSIONS as IMAGE_EXTENSIONS
from .pictures import Found as Found
from .pictures import Picture as Picture
from .pictures import count_others, is_by_system, is_image


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
    if archives := packed.files_of(root, split):
        return packed.find(root, split, archives, labels, columns, labelled)
    if not folder.is_dir():
        raise UserError(
            f"{root}: contains no folder {split}/; put the images into {folder}/<class>/, or check the path"
        )

    with os.scandir(folder) as found:
        children = sorted((child.name, child.is_dir()) for child in found)
    left_out: collections.Counter[str] = collections.Counter()
    classes = [name for name, is_folder in children if is_folder and not is_by_system(name, left_out)]
    loose = [name for name, is_folder in children if not is_folder and is_image(name)]
    annotations = folder / f"{split}_annotations.txt"
    if labels is None and classes == ["images"] and not loose and annotations.is_file():
        labels = annotations
    if labels is None and classes and not loose and labelled:
        labels = _beside_folders(root, split, classes)
    if labels is not None:
        return _by_file(root, split, _images_below(str(folder), left_out), Path(labels), columns, left_out)
    count_others(left_out, (name for name, is_folder in children if not is_folder))
    if classes and loose:
        raise UserError(
            f"{folder}: contains class folders ({classes[0]}, …) and images beside them ({loose[0]}, …), which would "
            "have no label; keep one or the other"
        )
    if classes:
        names = _own_list(root, split) if labelled else None
        return Found(list(_by_folder(root, split, classes, left_out)), names, dict(left_out))
    if loose and not labelled and len(label_files.candidates(root, split)) != 1:
        return Found([Picture(f"{split}/{name}", "", 0) for name in loose], None, dict(left_out))
    if loose:
        return _by_file(root, split, loose, label_files.choose(root, split), columns, left_out)
    raise UserError(f"{folder}: contains no images ({' '.join(IMAGE_EXTENSIONS)}); put them into {folder}/<class>/")


def _beside_folders(root: Path, split: str, classes: Sequence[str]) -> Path | None:
    """The label file that states what the only folder, which holds all images, does not tell; None if there is none.

    Raises UserError if class folders and a label file tell two stories.
    """
    found = label_files.candidates(root, split)
    if len(classes) == 1 and len(found) == 1:
        return found[0]
    ours = next((path for path in found if path.name == f"{split}_label.txt"), None)
    if ours:
        raise UserError(
            f"{ours}: states labels, and so do the class folders in {root / split} ({classes[0]}, …); name it in "
            "dataset.labels (--labels) to use it, or remove it"
        )
    return None


def _own_list(root: Path, split: str) -> tuple[str, ...] | None:
    """The classes in the order that a file beside the class folders states."""
    names = ("class_to_idx.json", "LOC_synset_mapping.txt")
    found = [folder / name for folder in (root, root / split) for name in names]
    path = next((path for path in found if path.is_file()), None)
    return class_lists.read(str(path)).names if path else None


def places(data_root: str | os.PathLike, split: str) -> list[str]:
    """The folders and archives of which at least one changes when an image is added or removed."""
    if archives := packed.files_of(Path(data_root), split):
        return sorted({os.fspath(place) for file in archives for place in (file, file.parent)})
    return [place for place, _, _ in os.walk(Path(data_root, split), followlinks=True)]


def read(data_root: str | os.PathLike, image: str) -> bytes:
    """The content of an image that `find` named."""
    place = packed.locate(data_root, image)
    return packed.read(*place) if place else Path(data_root, image).read_bytes()


def digest(data_root: str | os.PathLike, image: str) -> str:
    """SHA-256 of the content of an image."""
    return hashlib.sha256(read(data_root, image)).hexdigest()


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
        folders[:] = [name for name in folders if not is_by_system(name, left_out)]
        for name in folders:
            target = os.path.realpath(os.path.join(place, name))
            if (
                os.path.islink(os.path.join(place, name))
                and os.path.commonpath([target, os.path.realpath(place)]) == target
            ):
                raise UserError(
                    f"{place}/{name}: is a link to a folder around it; its images would count again and again"
                )
        levels.append((place, sorted(filter(is_image, names))))
        count_others(left_out, names)
    return [os.path.join(place, name)[len(folder) + 1 :] for place, names in sorted(levels) for name in names]


def _raise(error: OSError) -> NoReturn:
    """os.walk would otherwise take an unreadable folder for an empty one."""
    raise error


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
