"""The manifest of a shard: which image lies in which bin, with which label. The only reader and writer of it.

Apart from dataset.py, because engines' commands need no more than this: their results do not depend on how images are
listed. Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from ..core import files, identity
from ..core.cli import UserError
from ..core.provenance import Facts

MANIFEST = "manifest.csv"
MANIFEST_COLUMNS = ("index", "bin", "image", "class", "label", "sha256")
# A manifest that a user writes may lack these: their values are then "".
_OPTIONAL = ("class", "sha256")
# classes of ImageNet's challenge; TensorFlow's models have one more
_IMAGENET = 1000


class Row(NamedTuple):
    """One image of a manifest. Several rows name the same bin if it holds a batch or a shard, in its order."""

    index: int
    bin: str
    image: str
    class_name: str
    label: int
    sha256: str


def images_digest(images: Iterable[tuple[int, str, int, str]]) -> str:
    """Digest over (position, path, label, SHA-256 of the content) of images; their order does not matter."""
    return identity.digest(sorted(images))


def write_manifest(path: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Write the manifest as CSV. Names that are not UTF-8 keep their bytes."""
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        plain = csv.writer(stream, lineterminator="\n")
        # a carriage return ends a line for readers, but Python before 3.13 does not quote it on its own account
        quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(MANIFEST_COLUMNS)
        for row in rows:
            (quoted if "\r" in row.image else plain).writerow(row)


def read_manifest(path: str | os.PathLike) -> list[Row]:
    """The rows of a manifest in their order, checked. This is the only reader of manifests.

    The columns may come in any order, among others, and behind a byte-order mark. A manifest of another tool may lack
    `class` and `sha256`, which are then "". Names that are not UTF-8 keep their bytes (surrogateescape).
    Raises UserError that names the file and line for a missing column, an invalid value, an index that occurs twice,
    or a bin whose rows are not consecutive (nothing tells where its images are).
    """
    rows = list(_checked(path))
    if not rows:
        raise UserError(f"{path}: lists no images; preprocess again")
    return rows


def images_per_bin(path: str | os.PathLike) -> collections.Counter[str]:
    """How many images each bin holds, by the manifest. Raises UserError as `read_manifest` does.

    Nothing is counted in a file without the columns of a manifest: other tools also call theirs manifest.csv.
    """
    header: Sequence[str] = ()
    with _open(path) as stream, contextlib.suppress(csv.Error):
        header = next(csv.reader(stream), ())
    return collections.Counter() if _lacking(header) else collections.Counter(row.bin for row in _checked(path))


def sidecar_path(shard_folder: str | os.PathLike) -> Path:
    """The JSON file beside the folder of a shard; a folder's name has no suffix to replace, even with a dot in it."""
    folder = Path(os.path.abspath(shard_folder))
    return folder.with_name(folder.name + ".json")


def read_sidecar(shard_folder: str | os.PathLike) -> Facts:
    """What preprocess.py says about a shard; nothing if another tool made it."""
    path = sidecar_path(shard_folder)
    facts = files.read_json(path, "the sidecar of preprocess.py") if path.exists() else {}
    return facts if isinstance(facts, dict) else {}


def images_of_shard(shard_folder: str | os.PathLike) -> list[tuple[int, str, int, str]]:
    """(position, path, label, SHA-256) of every image that a shard was made from, those that were left out too.

    Raises UserError as `read_manifest` does.
    """
    found = [(row.index, row.image, row.label, row.sha256) for row in read_manifest(Path(shard_folder, MANIFEST))]
    skipped = read_sidecar(shard_folder).get("skipped") or []
    return found + [(one["index"], one["image"], one["label"], one["sha256"]) for one in skipped]


def require_classes(shard_folders: Iterable[str | os.PathLike], num_classes: int | None, whose: str) -> int | None:
    """The number of classes that labels of these shards are indices of; None if no sidecar states it.

    num_classes: that of `whose`, such as "the engine bs8.onnx"; None if it does not tell. Raises UserError if labels
    cannot mean the same classes there: positions of other folders, names of another list, another class in front.
    """
    found = None
    for folder in shard_folders:
        facts = read_sidecar(folder)
        found = facts.get("classes") if isinstance(facts.get("classes"), int) else None
        labels = facts.get("labels")
        told = {**labels, "left_out": facts.get("left_out")} if isinstance(labels, dict) else {}
        why = None if num_classes is None else not_theirs(found, told, num_classes, whose)
        if why:
            raise UserError(f"{sidecar_path(folder)}: {why}")
    return found


def not_theirs(classes: int | None, labels: Facts, num_classes: int, whose: str) -> str | None:
    """Why labels are not indices of `num_classes` classes, and how to mend it; None if they may well be.

    classes: of how many classes they are indices, None if nobody states it; labels: how they were found (classes.label)
    """
    behind = labels.get("background_class") is not None
    if classes is None:
        return _numbers_not_theirs(labels, num_classes, whose, behind)
    if classes == num_classes:
        return None
    ways = {
        "list": f"labels are indices of the {classes - behind} classes of {labels.get('list')}",
        "names": f"labels are indices of the {classes - behind} classes of {labels.get('list')}",
    }
    way = ways.get(labels.get("by"), f"the data set has {classes - behind} class folders")
    way += f" and a background class, {classes} in all" if behind else ""
    mend = []
    if classes - behind == 1 and labels.get("by") == "folders":
        mend.append("if that one folder holds the images of all classes, add a label file (docs/inputs.md)")
    if behind and classes - 1 == num_classes:
        mend.append("remove dataset.background_class")
    if not behind and classes + 1 == num_classes:
        mend.append("if class 0 of the model is a background that the images have not, set dataset.background_class: 0")
    for order, count in (labels.get("orders") or {}).items():
        if count + behind == num_classes:
            level = "innermost" if order == "timm" else "outermost"
            mend.append(f"set dataset.order: {order}, which takes the {count} {level} folders for the classes")
    for known, count in (labels.get("knowing") or {}).items():
        if count in (num_classes, num_classes - 1):
            front = "" if count == num_classes else " and dataset.background_class: 0"
            mend.append(f"set dataset.classes: {known}{front}, which knows all of these folders")
    if labels.get("by") in ways:
        mend.append(f"name a list of the model's {num_classes} classes in dataset.classes")
    else:
        mend.append(
            f"name the model's {num_classes} classes in its order in dataset.classes (a file with one name per line, "
            "class_to_idx.json, or a shipped list such as imagenet-1k), so that labels are found by name"
        )
        mend.append("or remove what is no class")
    out = ", ".join(what for what in labels.get("left_out") or () if what.startswith("folders "))
    return (
        f"{way}, but {whose} gives {num_classes} classes, so that labels mean other classes; "
        f"{', '.join(mend)}{f' (left out already: {out})' if out else ''}"
    )


def _numbers_not_theirs(labels: Facts, num_classes: int, whose: str, behind: bool) -> str | None:
    """As `not_theirs`, of labels whose file does not state how many classes there are."""
    lowest, highest, present = (labels.get(key) for key in ("lowest", "highest", "present"))
    if highest is None:
        return None
    if highest >= num_classes:
        return (
            f"an image has label {highest}, but {whose} gives {num_classes} classes, 0 to {num_classes - 1}; "
            + ("remove dataset.background_class" if behind else f"labels count from 0{', not from 1' * (lowest == 1)}")
            + ", or score a model of this data set"
        )
    is_whole = (lowest, highest, present) == (0, num_classes - 2, num_classes - 1) and num_classes > 2
    if not behind and (num_classes == _IMAGENET + 1 or is_whole):
        return (
            f"labels are 0 to {highest}, but {whose} gives {num_classes} classes, one more than "
            f"{'ImageNet' if num_classes == _IMAGENET + 1 else 'the data set'} has; if class 0 of the model is a "
            "background, set dataset.background_class: 0; if the classes are the label file's, name all "
            f"{num_classes} in dataset.classes"
        )
    if behind and num_classes == _IMAGENET:
        return (
            f"labels stand behind a background class, but {whose} gives {num_classes} classes, as ImageNet has without "
            "one; remove dataset.background_class, or name the model's classes in dataset.classes"
        )
    return None


def _open(path: str | os.PathLike) -> TextIO:
    try:
        return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")
    except FileNotFoundError:
        raise UserError(f"{path}: not found; a manifest of scripts/preprocess.py was expected there") from None


def _lacking(header: Sequence[str]) -> list[str]:
    """Columns that a manifest must have and `header` has not; then also the optional ones that are missing."""
    missing = [column for column in MANIFEST_COLUMNS if column not in header]
    return missing if set(missing) - set(_OPTIONAL) else []


def _checked(path: str | os.PathLike) -> Iterator[Row]:
    indexes: set[int] = set()
    bins: set[str] = set()
    previous = None
    with _open(path) as stream:
        try:
            reader = csv.DictReader(stream, strict=True)
            if lacking := _lacking(reader.fieldnames or ()):
                raise UserError(
                    f"{path}: has no column {', '.join(lacking)}; a manifest of scripts/preprocess.py was expected "
                    f"(columns {','.join(MANIFEST_COLUMNS)})"
                )
            for record in reader:
                where = f"{path}, line {reader.line_num}"
                row = _row(record, where)
                if row.index in indexes:
                    raise UserError(f"{where}: index {row.index} occurs a second time; preprocess again")
                if row.bin != previous and row.bin in bins:
                    raise UserError(f"{where}: bin {row.bin} occurs again after other bins; preprocess again")
                indexes.add(row.index)
                bins.add(row.bin)
                previous = row.bin
                yield row
        except csv.Error as error:
            raise UserError(f"{path}: is not a manifest in CSV ({error}); preprocess again") from None


def _row(record: dict, where: str) -> Row:
    """A Row from a CSV record, its numbers parsed and its bin kept inside the manifest's folder."""
    if None in record or None in record.values():
        raise UserError(f"{where}: has not as many values as the header has columns; preprocess again")
    numbers = {column: whole_number(record[column]) for column in ("index", "label")}
    for column, number in numbers.items():
        if number is None:
            raise UserError(
                f"{where}: {column} {record[column]!r} is not a whole number of at least 0; preprocess again"
            )
    parts = record["bin"].split("/")
    if not parts[0] or ".." in parts:  # empty, absolute, or leading out
        raise UserError(f"{where}: bin {record['bin']!r} is not a path inside the manifest's folder; preprocess again")
    class_name, sha256 = (record.get(column, "") for column in _OPTIONAL)
    return Row(numbers["index"], record["bin"], record["image"], class_name, numbers["label"], sha256)


def whole_number(text: str) -> int | None:
    """A whole number of at least 0 written in plain digits, else None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
