"""Label files as people have them: which image is of which class, by its number or by its name.

The name of a file says how it is read; `val` stands for the split:
  val_label.txt, val.txt, val_map.txt      a line `name label` for each image
  ILSVRC2012_validation_ground_truth.txt   line n has the ILSVRC number of image n; the devkit's meta.mat, whose numbers
                                           are not the usual indices, turns it into a synset
  LOC_val_solution.csv                     Kaggle's: an image and its boxes, each with a synset; LOC_synset_mapping.txt
                                           beside it lists all synsets in order
  val_annotations.txt                      Tiny ImageNet's: an image, its synset and a box, separated by tabs
  *.csv *.tsv *.jsonl                      a table with a column for the image and one for its class

Standard library only, and quick to import: the workflow reads labels each time it starts. scipy is imported to read
meta.mat.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..core.cli import UserError
from .manifest import whole_number

# The columns of a table unless others are named: those of the image folders of the Hugging Face hub.
COLUMNS = ("file_name", "label")
TABLES = (".csv", ".tsv", ".jsonl")
_SYNSET = re.compile(r"n\d{8}")
# What is shown of a name or a value that may be of any length.
_SHOWN = 60


class Label(NamedTuple):
    """What a file states of one image: the name of its class, or "" and a number."""

    group: str
    number: int | None


def class_of(value: object) -> int | str | None:
    """The number or the name of a class that a file states; None if it is neither.

    A number may be written as text, and as 3.0, as spreadsheets and pandas do. Other numbers are none of a class, such
    as the -1 of an image without a label: taken for names they would get the position of their text among others.
    """
    if not isinstance(value, str):
        return value if type(value) is int and value >= 0 else None
    number = whole_number(re.sub(r"\.0+\Z", "", value))
    if number is not None:
        return number
    is_number = re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value, re.ASCII)
    return None if is_number else value or None


class Labels(NamedTuple):
    """What a label file states.

    of: image as the file writes it -> its label; some kinds of files leave out the suffix or the folder.
    names: all classes in the order that a file beside it states, None if none does.
    """

    path: Path
    of: dict[str, Label]
    names: tuple[str, ...] | None


def candidates(root: Path, split: str) -> list[Path]:
    """The label files of a split that are there, the only ones if one of them is ours."""
    ours = [folder / f"{split}_label.txt" for folder in (root, root / split)]
    found = [path for path in ours if path.is_file()]
    if found:
        return found[:1]
    names = [f"{split}.txt", f"{split}_map.txt", f"LOC_{split}_solution.csv", f"{split}_annotations.txt"]
    names += [f"{stem}{suffix}" for stem in (split, "metadata") for suffix in TABLES]
    places = [folder / name for folder in (root, root / split) for name in names]
    if split == "val":
        devkits = [root, root / split, *sorted(root.glob("ILSVRC2012_devkit*/data"))]
        places += [folder / "ILSVRC2012_validation_ground_truth.txt" for folder in devkits]
    return [path for path in places if path.is_file()]


def choose(root: Path, split: str) -> Path:
    """The one label file of a split. Raises UserError if there is none, or if it is not certain which."""
    found = candidates(root, split)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{root}: has several label files ({', '.join(str(path.relative_to(root)) for path in found)}); name the "
            "one to use: dataset.labels, or --labels"
        )
    raise UserError(
        f"{root / split}: contains images but no class folders, and there is no label file; add "
        f"{root / f'{split}_label.txt'} with a line `name label` for each image, or name yours: dataset.labels, or "
        "--labels"
    )


def read(path: Path, columns: Sequence[str] | None = None) -> Labels:
    """The labels of a file. columns: those of a table that hold the image and its class.

    Raises UserError that names the line of the first thing that is not as it should be.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such label file; check the path")
    if columns and path.suffix.lower() not in TABLES:
        raise UserError(f"{path}: is not a table ({' '.join(TABLES)}), so it has no columns; leave out dataset.columns")
    names = None
    if path.suffix.lower() == ".jsonl":
        lines = _json_lines(path, columns)
    elif re.fullmatch(r"LOC_\w+_solution\.csv", path.name) and not columns:
        names = _mapping(path.with_name("LOC_synset_mapping.txt"))
        lines = _kaggle(path, names)
    elif path.suffix.lower() in TABLES:
        lines = _table(path, columns)
    elif path.name.endswith("_ground_truth.txt"):
        synsets = _devkit(path)
        names = tuple(sorted(synsets.values()))
        lines = _ground_truth(path, synsets)
    elif path.name.endswith("_annotations.txt"):
        lines = _annotations(path)
    else:
        lines = _numbered(path)
    of: dict[str, Label] = {}
    for number, name, label in lines:
        if of.setdefault(name, label) is not label:
            raise UserError(f"{path}, line {number}: {_short(name)} occurs a second time; keep one line per image")
    return Labels(path, of, names)


def assign(labels: Labels, folder: Path, images: Sequence[str]) -> tuple[list[Label], int]:
    """The label of each image below `folder`, and how many labels are of images that are not there.

    images: paths relative to `folder`. A file may write an image's path from `folder` or from the folder around it,
    its name alone, or its name without the suffix, if only one image is called so. Raises UserError if an image has no
    label or several, and if no label is of an image.
    """
    places = _places(images)
    found: list[Label | None] = [None] * len(images)
    absent, first_absent = 0, ""
    for name, label in labels.of.items():
        place = places(name.removeprefix("./").removeprefix(f"{folder.name}/"))
        if place is None:
            absent, first_absent = absent + 1, first_absent or name
        elif place < 0:
            raise UserError(f"{labels.path}: {_short(name)} is the name of several images in {folder}; write its path")
        elif found[place] is not None:
            raise UserError(f"{labels.path}: has several lines for {images[place]}; keep one line per image")
        else:
            found[place] = label
    if absent == len(labels.of):
        raise UserError(
            f"{labels.path}: there is none of its {absent} images in {folder}"
            + (f", such as {_short(first_absent)}; check that it belongs to these images" if absent else "; fill it")
        )
    for image, label in zip(images, found, strict=True):
        if label is None:
            raise UserError(f"{labels.path}: has no line for {image}; add one, or remove the image")
    return found, absent


def _places(images: Sequence[str]) -> Callable[[str], int | None]:
    """A function: an image as a label file writes it -> its place among `images`, -1 if several could be meant."""
    whole = {image: place for place, image in enumerate(images)}
    names: dict[str, int] = {}
    stems: dict[str, int] = {}
    for place, image in enumerate(images):
        name = image.rpartition("/")[2]
        for known, key in ((names, name), (stems, name.rpartition(".")[0])):
            known[key] = -1 if key in known else place

    def place(name: str) -> int | None:
        found = whole.get(name)
        return names.get(name, stems.get(name)) if found is None else found

    return place


Line = tuple[int, str, Label]


def _numbered(path: Path) -> Iterator[Line]:
    """Lines `name label`."""
    for number, line in _lines(path):
        name, *rest = line.strip().rsplit(None, 1)
        if not rest:
            raise _wrong(path, number, f"{name!r} is not an image's name and its label, such as `name.JPEG 65`")
        label = whole_number(rest[0])
        if label is None:
            raise _wrong(
                path,
                number,
                f"label {rest[0]!r} of {name} is not a whole number of at least 0; names of classes are read from a "
                f"table ({' '.join(TABLES)})",
            )
        yield number, name, Label("", label)


def _ground_truth(path: Path, synsets: dict[int, str]) -> Iterator[Line]:
    """Line n: the ILSVRC number of the class of image n."""
    for place, (number, line) in enumerate(_lines(path), 1):
        synset = synsets.get(whole_number(line.strip()))
        if synset is None:
            raise _wrong(path, number, f"{line.strip()!r} is not one of the {len(synsets)} classes in meta.mat")
        yield number, f"ILSVRC2012_val_{place:08d}", Label(synset, None)


def _devkit(path: Path) -> dict[int, str]:
    """ILSVRC number -> synset of every class, from the meta.mat beside a ground truth."""
    meta = path.with_name("meta.mat")
    if not meta.is_file():
        raise UserError(
            f"{path}: its numbers are those of the devkit, not the usual indices; put the devkit's meta.mat beside it"
        )
    from scipy.io import loadmat

    try:
        synsets = loadmat(meta, squeeze_me=True, variable_names=["synsets"])["synsets"]
        rows = zip(*(synsets[field].tolist() for field in ("ILSVRC2012_ID", "WNID", "num_children")), strict=True)
        found = {int(number): str(synset) for number, synset, children in rows if int(children) == 0}
    except MemoryError:
        raise
    except Exception as error:  # on broken files scipy raises whatever it stumbles over
        raise UserError(f"{meta}: is not the meta.mat of the ILSVRC2012 devkit ({error})") from None
    if len(set(found.values())) != len(found) or not all(map(_SYNSET.fullmatch, found.values())):
        raise UserError(f"{meta}: is not the meta.mat of the ILSVRC2012 devkit (its synsets are not n00000000, …)")
    return found


def _kaggle(path: Path, names: tuple[str, ...] | None) -> Iterator[Line]:
    """Rows `ImageId,PredictionString`; the string has a synset and four numbers for each box."""
    known = frozenset(names or ())
    for number, (image, boxes) in _rows(path, ("ImageId", "PredictionString")):
        synsets = set(boxes.split()[::5])
        if len(synsets) != 1:
            raise _wrong(path, number, f"{_short(image)} has {len(synsets)} classes, one was expected")
        (synset,) = synsets
        if names is None and not _SYNSET.fullmatch(synset):
            raise _wrong(path, number, f"{_short(synset)!r} of {_short(image)} is not a synset such as n01440764")
        if names is not None and synset not in known:
            raise _wrong(path, number, f"{_short(synset)!r} of {_short(image)} is not in LOC_synset_mapping.txt")
        yield number, image, Label(synset, None)


def _mapping(path: Path) -> tuple[str, ...] | None:
    """The synsets of Kaggle's list, in its order."""
    if not path.is_file():
        return None
    found: dict[str, int] = {}
    for number, line in _lines(path):
        synset = line.split(None, 1)[0]
        if not _SYNSET.fullmatch(synset):
            raise _wrong(path, number, f"{_short(synset)!r} is not a synset such as n01440764")
        if synset in found:
            raise _wrong(path, number, f"{synset} occurs a second time")
        found[synset] = number
    return tuple(found)


def _annotations(path: Path) -> Iterator[Line]:
    """Lines of an image, its synset and perhaps more, separated by tabs."""
    for number, line in _lines(path):
        name, _, rest = line.partition("\t")
        synset = rest.partition("\t")[0].strip()
        if not _SYNSET.fullmatch(synset):
            raise _wrong(
                path, number, f"{_short(line)!r} is not an image and its synset, such as `val_0.JPEG n03444034`"
            )
        yield number, name, Label(synset, None)


def _table(path: Path, columns: Sequence[str] | None) -> Iterator[Line]:
    """Rows of a CSV file: an image, and a number or the name of a class; one kind for all of them."""
    wanted = tuple(columns or COLUMNS)
    return _one_kind(path, _rows(path, wanted))


def _json_lines(path: Path, columns: Sequence[str] | None) -> Iterator[Line]:
    """Objects, one a line: the class is a number, as a text too, or a name."""

    def lines() -> Iterator[tuple[int, tuple[str, object]]]:
        image_column, label_column = columns or COLUMNS
        for number, line in _lines(path):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                raise _wrong(path, number, f"{_short(line)!r} is not an object in JSON")
            if missing := [column for column in (image_column, label_column) if column not in record]:
                raise _no_column(f"{path}, line {number}", missing[0], record)
            image, value = record[image_column], record[label_column]
            if not isinstance(image, str) or not image:
                raise _wrong(path, number, f"{image_column} {_short(repr(image))} is not the name of an image")
            yield number, (image, value)

    return _one_kind(path, lines())


def _one_kind(path: Path, rows: Iterable[tuple[int, tuple[str, object]]]) -> Iterator[Line]:
    """Lines of rows that state an image and its class.

    Raises UserError if some classes are numbers and others are names: a slip in one of them.
    """
    first = None
    for number, (image, value) in rows:
        if value in ("", None):
            raise _wrong(path, number, f"{_short(image)} has no class")
        label = class_of(value)
        if label is None:
            raise _wrong(
                path,
                number,
                f"the class {_short(repr(value))} of {_short(image)} is neither a whole number of at least 0 nor a "
                "name; mend or remove the line",
            )
        first = first or (number, label)
        if isinstance(label, int) != isinstance(first[1], int):
            values = [_short(repr(one)) for one in (label, first[1])]
            raise _wrong(
                path, number, f"the class {values[0]}, but {values[1]} in line {first[0]}: a number or a name?"
            )
        yield number, image, Label("", label) if isinstance(label, int) else Label(label, None)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Line and values of two columns in each row of a CSV file, whose separator may be a comma, semicolon or tab."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        header = stream.readline()
        stream.seek(0)
        headers = {separator: next(csv.reader([header], delimiter=separator), []) for separator in ",;\t"}
        separator = next((mark for mark, names in headers.items() if set(columns) <= set(names)), None)
        if separator is None:
            names = max(headers.values(), key=len)
            missing = next((column for column in columns if column not in names), columns[0])
            raise _no_column(path, missing, names)
        places = [headers[separator].index(column) for column in columns]
        reader = csv.reader(stream, delimiter=separator, strict=True)
        try:
            next(reader)
            for row in reader:
                if not row:
                    continue
                if len(row) != len(headers[separator]) or not row[places[0]]:
                    raise _wrong(
                        path,
                        reader.line_num,
                        f"has {len(row)} values, {len(headers[separator])} were expected"
                        if row[0]
                        else "names no image",
                    )
                yield reader.line_num, (row[places[0]], row[places[1]].strip())
        except csv.Error as error:
            raise _wrong(path, reader.line_num, f"is not CSV ({error})") from None


def _no_column(where: object, missing: str, present: Iterable[str]) -> UserError:
    names = ", ".join(map(_short, list(present)[:20]))
    return UserError(
        f"{where}: has no column {missing!r}, its columns are {names}; name those of the image and of the class: "
        "dataset.columns (calibration.columns for training images), or --columns"
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers. Names that are not UTF-8 keep their bytes."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def _wrong(path: Path, number: int, problem: str) -> UserError:
    return UserError(f"{path}, line {number}: {problem}")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
