"""The validation set: which images, which labels, in which order; its shards; the manifest of the bins.

Standard library only, and quick to import: the workflow lists the images each time it starts.

Two layouts are read below `data_root`, the folder that contains val/:
  val/<class>/*.JPEG   as torchvision's ImageFolder: the label is the position of the class folder in sorted order
  val/*.JPEG           with val_label.txt in `data_root` or in val/, one line per image: `name label`
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NoReturn

from ..core import files
from ..core.cli import UserError

# The manifest belongs to the data set: commands that also list images take all of it from here.
from .manifest import MANIFEST as MANIFEST
from .manifest import Row as Row
from .manifest import read_manifest, whole_number
from .manifest import sidecar_path as sidecar_path
from .manifest import write_manifest as write_manifest

# torchvision.datasets.folder.IMG_EXTENSIONS, compared without regard to case, and what else people have: all that
# data/decode.py reads, and what it can only name. What a file is its content says.
IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    *(".jpe", ".jfif", ".gif", ".apng", ".avif", ".avifs", ".heic", ".heif", ".hif", ".jxl", ".dib", ".pbm", ".pnm"),
    *(".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".qoi"),
)
# What the folder of a shard holds, as a regular expression of file names
SHARD_FILES = r"manifest\.csv|pixels\.json|batch-\d{5,}\.bin|images-\d{5,}\.npy"


class Entry(NamedTuple):
    """One image of the split: its position in it, its path relative to data_root, its class folder and index."""

    index: int
    image: str
    class_name: str
    label: int


def list_images(data_root: str | os.PathLike, split: str = "val") -> list[Entry]:
    """Every image of the split with its label, in torchvision's order (class folders) or sorted by name (flat).

    Raises UserError if the folder is missing or empty, or does not give every image exactly one label.
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
    classes = [name for name, is_folder in children if is_folder]
    loose = [name for name, is_folder in children if not is_folder and _is_image(name)]
    if classes and loose:
        raise UserError(
            f"{folder}: contains class folders ({classes[0]}, …) and images beside them ({loose[0]}, …), which would "
            "have no label; keep one or the other"
        )
    if classes:
        return list(_labelled_by_folder(root, split, classes))
    if loose:
        return _labelled_by_file(root, split, loose)
    raise UserError(f"{folder}: contains no images ({' '.join(IMAGE_EXTENSIONS)}); put them into {folder}/<class>/")


def count_classes(entries: Sequence[Entry]) -> int | None:
    """How many class folders a whole split has; None of the flat layout, whose number of classes nobody states."""
    in_folders = entries[0].image.count("/") > 1
    return 1 + max(entry.label for entry in entries) if in_folders else None


def shard(entries: Sequence[Entry], index: int, count: int, batch_size: int = 1) -> list[Entry]:
    """Part `index` (from 0) of `count` contiguous parts that differ by at most one batch.

    Parts start where a batch starts, so that no bin belongs to two of them.
    """
    batches = -(-len(entries) // batch_size)
    first, last = (batches // count * part + min(part, batches % count) for part in (index, index + 1))
    return list(entries[first * batch_size : last * batch_size])


def draw(
    entries: Sequence[Entry],
    data_root: str | Path,
    count: int,
    seed: int,
    scored: Collection[str],
    digest: Callable[[Path], str] = files.digest,
) -> list[Entry]:
    """`count` of `entries`, chosen by `seed` and numbered anew, whose content is not among `scored` nor drawn before.

    They calibrate int8 engines: an image that is also scored would flatter the accuracy.
    scored: SHA-256 of image files; digest: what finds it. The order is that of a digest of seed and path: the same
    choice on every machine, and images that are added later move into it without shuffling the rest. Raises UserError
    if there are too few.
    """
    scored = frozenset(scored)
    drawn: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: _rank(seed, entry.image)):
        if len(drawn) == count:
            break
        sha256 = digest(Path(data_root, entry.image))
        if sha256 not in scored:
            drawn.setdefault(sha256, entry._replace(index=len(drawn)))
    if len(drawn) < count:
        raise UserError(
            f"{data_root}: has only {len(drawn)} different images to calibrate with that are not scored, {count} were "
            "asked for; ask for fewer (calibration.images), or add training images"
        )
    return list(drawn.values())


def _rank(seed: int, image: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{image}".encode("utf-8", "surrogateescape")).digest()


def checksums(manifests: Sequence[str | Path]) -> frozenset[str]:
    """SHA-256 of every image that the manifests list. Raises UserError for a manifest that lacks one."""
    found = set()
    for manifest in manifests:
        for row in read_manifest(manifest):
            if not row.sha256:
                raise UserError(f"{manifest}: has no sha256 of {row.image}; preprocess again")
            found.add(row.sha256)
    return frozenset(found)


def bin_name(number: int) -> str:
    """File name of a bin; `number` counts batches over the whole split, so shards never share a name."""
    return f"batch-{number:05d}.bin"


def packed_name(first_index: int) -> str:
    """File name of a packed shard; the number is that of its first image, so shards never share a name."""
    return f"images-{first_index:05d}.npy"


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_EXTENSIONS)


def _labelled_by_folder(root: Path, split: str, classes: list[str]) -> Iterator[Entry]:
    """Entries of the class-folder layout, in the order of torchvision.datasets.ImageFolder."""
    index = 0
    for label, class_name in enumerate(classes):
        folder = f"{split}/{class_name}"
        before = index
        for path in _images_below(os.path.join(root, folder)):
            yield Entry(index, f"{folder}/{path}", class_name, label)
            index += 1
        if index == before:
            raise UserError(
                f"{root / folder}: class folder without images ({' '.join(IMAGE_EXTENSIONS)}); fill it, or remove it "
                "(every class after it then moves down by one)"
            )


def _images_below(folder: str) -> list[str]:
    """Paths of all images below `folder`, relative to it, folder by folder as torchvision sorts them."""
    levels = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
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


def _labelled_by_file(root: Path, split: str, names: list[str]) -> list[Entry]:
    """Entries of the flat layout, labelled by the lines `name label` of val_label.txt."""
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
    return [Entry(index, f"{split}/{name}", str(labels[name]), labels[name]) for index, name in enumerate(names)]
