"""Data sets in archives and tables, read in place: which files are of a split, and what they hold.

The files of the split `val` have it, or `validation`, as a word in their names, in `data_root` or in its folder data/,
or are all that is in val/:
  ILSVRC2012_img_val.tar, val.zip    class folders, or flat with a label file beside the archive
  val/n01440764.tar …                one archive a class; train.tar may hold such archives
  …-val-000000.tar …                 WebDataset: x.jpg beside x.cls, or beside x.json with the key `label`
  …-validation-00000-of-00014.parquet …   rows with `image.bytes` and `label`

Order: class folders and flat archives as if they were unpacked, by class and name; WebDataset and tables as they are
stored. Standard library only, and quick to import; pyarrow is imported to read tables.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..core.cli import UserError
from . import archives, label_files, rows
from .pictures import Found, Picture, is_by_system, is_image

_ALIASES = {"val": ("val", "validation"), "validation": ("validation", "val")}
_COMPRESSED = (".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
# A number behind a separator, with leading zeros or a total: one of several parts, not the name of a class.
_PART = re.compile(r"(?P<name>(?:.*?[-_.])?)(?P<number>\d{3,})(?:-of-(?P<total>\d+))?")
_INSIDE = re.compile(r"(.*?\.(?:tar|zip|parquet))/(.+)", re.DOTALL | re.IGNORECASE)


def files_of(root: Path, split: str) -> list[Path]:
    """The archives or tables of a split, in order; none if its images lie in a folder, or nowhere.

    Raises UserError if it is not certain which files belong together, or if parts are missing.
    """
    folders = [root / name for name in _aliases(split) if (root / name).is_dir()]
    if folders:
        with os.scandir(folders[0]) as children:
            if any(is_image(child.name) or (child.is_dir() and not is_by_system(child.name)) for child in children):
                return []
        named = sorted(folders[0].iterdir())
    else:
        places = [place for place in (root, root / "data") if place.is_dir()]
        words = "|".join(map(re.escape, _aliases(split)))
        of_split = re.compile(rf"(?:.*[^A-Za-z])?(?:{words})(?:[^A-Za-z].*)?", re.IGNORECASE)
        named = [child for place in places for child in sorted(place.iterdir()) if of_split.fullmatch(child.stem)]
    found = [child for child in named if _is_packed(child)]
    compressed = [child for child in named if child.suffix.lower() in _COMPRESSED and child.is_file()]
    if compressed and not found:
        raise UserError(_how_to_unpack(compressed[0], root / split))
    if not folders and len(found) > 1 and not _are_parts(found):
        raise UserError(
            f"{root}: which of {', '.join(child.name for child in found[:5])} holds the split {split}? Keep one of "
            "them here, or parts that are numbered 000, 001, …"
        )
    if len(kinds := {child.suffix.lower() for child in found}) > 1:
        raise UserError(
            f"{found[0].parent}: holds files of several kinds of the split {split} ({', '.join(sorted(kinds))}); keep "
            "those of one"
        )
    _require_all_parts(found)
    return found


def find(
    root: Path,
    split: str,
    files: Sequence[Path],
    labels: str | os.PathLike | None,
    columns: Sequence[str] | None,
    labelled: bool,
) -> Found:
    """The images in the archives or tables of a split. The other arguments are those of `sources.find`."""
    if files[0].suffix.lower() == rows.SUFFIX:
        if labels is not None:
            raise UserError(f"{labels}: is not used, {files[0]} states its classes itself; leave out dataset.labels")
        return _in_tables(root, files, columns, labelled)
    left_out: collections.Counter[str] = collections.Counter()
    held = {file: archives.index(file) for file in files}
    for index in held.values():
        left_out.update(index.others)
    if not any(index.images for index in held.values()):
        raise UserError(f"{files[0]}: contains no images")
    if labels is None and labelled and any(index.labels for index in held.values()):
        return Found(list(_samples(root, held, left_out)), None, dict(left_out))
    inside = [(file, name) for file, index in held.items() for name in index.images]
    is_class = len(files) > 1 and not _are_parts(files)
    if is_class and labels is None:
        empty = next((file for file, index in held.items() if not index.images), None)
        if empty:
            raise UserError(f"{empty}: archive of a class without images; fill it, or remove it")
        return Found(_sorted(root, ((file.stem, file, name) for file, name in inside)), None, dict(left_out))
    shown = _as_unpacked(split, held)
    if labels is None and all("/" in path for path in shown.values()):
        groups = ((path.partition("/")[0], file, name) for (file, name), path in shown.items())
        return Found(_sorted(root, ((_class(group), file, name) for group, file, name in groups)), None, dict(left_out))
    if labels is None and any("/" in path for path in shown.values()):
        stray = next(path for path in shown.values() if "/" not in path)
        raise UserError(f"{files[0]}: contains class folders and images beside them ({stray}, …); pack it anew")
    if labels is None and not labelled and len(label_files.candidates(root, split)) != 1:
        pictures = [Picture(_image(root, *place), "", 0) for place in sorted(shown, key=shown.get)]
        return Found(pictures, None, dict(left_out))
    path = Path(labels) if labels is not None else label_files.choose(root, split)
    stated = label_files.read(path, columns)
    order = sorted(shown, key=lambda place: (os.path.split(shown[place]), place))
    found, absent = label_files.assign(stated, root / split, [shown[place] for place in order])
    left_out[f"lines of {path.name} whose image is not there"] += absent
    pictures = [Picture(_image(root, *place), *label) for place, label in zip(order, found, strict=True)]
    return Found(pictures, stated.names, dict(+left_out))


@functools.lru_cache(maxsize=4096)
def _is_file(path: str) -> bool:
    return os.path.isfile(path)


def locate(root: str | os.PathLike, image: str) -> tuple[str, str] | None:
    """The archive or table that an image lies in, and its name in there; None if it is a file by itself."""
    found = _INSIDE.fullmatch(image)
    if found is None or not _is_file(os.path.join(root, found[1])):  # a folder may have such a name, too
        return None
    return os.path.join(root, found[1]), found[2]


def read(file: str, name: str) -> bytes:
    """The content of an image in an archive or a table."""
    if file.lower().endswith(rows.SUFFIX):
        return rows.read(file, name)
    return archives.read(file, name)


def digest(file: str, name: str) -> str:
    """SHA-256 of an image in an archive or a table."""
    return hashlib.sha256(read(file, name)).hexdigest()


def known_of(root: str | os.PathLike, images: Iterable[str]) -> Mapping[str, object]:
    """What another process needs to know of the archives that these images lie in, for `archives.know`."""
    names: dict[str, list[str]] = {}
    for image in images:
        place = locate(root, image)
        if place and not place[0].lower().endswith(rows.SUFFIX):
            names.setdefault(place[0], []).append(place[1])
    found = {}
    for file, wanted in names.items():
        index = archives.index(file)
        found[file] = [index.signature, {name: index.images[name] for name in wanted}, {}, {}]
    return found


def _aliases(split: str) -> tuple[str, ...]:
    return _ALIASES.get(split, (split,))


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() in (*archives.SUFFIXES, rows.SUFFIX) and path.name[0] != "." and path.is_file()


def _how_to_unpack(file: Path, folder: Path) -> str:
    """What to do with an archive in which no image can be read without all those before it."""
    how = f"unpack it into {folder}/"
    if file.suffix.lower() not in (".7z", ".rar"):
        command = f"mkdir -p {shlex.quote(str(folder))}; tar -xf {shlex.quote(str(file))} -C {shlex.quote(str(folder))}"
        how += f" (`{command}`), or uncompress it to .tar (gunzip, unxz, zstd -d)"
    return f"{file}: is compressed as a whole, so that no image in it can be read by itself; {how}"


def _are_parts(files: Sequence[Path]) -> bool:
    """Whether files are numbered parts of one set, and not something by itself each."""
    found = [_PART.fullmatch(file.stem) for file in files]
    return all(found) and len({(one["name"], len(one["number"]), one["total"]) for one in found}) == 1


def _require_all_parts(files: Sequence[Path]) -> None:
    """Raise UserError if names of files say that there are more: nobody would miss the images."""
    for file in files:
        part = _PART.fullmatch(file.stem)
        if part and part["total"] and int(part["total"]) != len(files):
            raise UserError(
                f"{file.parent}: holds {len(files)} of {int(part['total'])} parts ({files[0].name}, …); fetch the "
                "others, or rename these if no more are wanted"
            )


def _as_unpacked(split: str, held: Mapping[Path, archives.Index]) -> dict[tuple[Path, str], str]:
    """(archive, name) of each image -> its path below the folder that stands for the split."""
    shown = {}
    for file, index in held.items():
        # folders around everything: those down to one called as the split, or one called as the archive
        around = os.path.commonprefix([name.split("/")[:-1] for name in index.images])
        of_split = [depth for depth, folder in enumerate(around, 1) if folder in _aliases(split)]
        cut = of_split[-1] if of_split else int(around[:1] == [file.stem])
        shown.update({(file, name): "/".join(name.split("/")[cut:]) for name in index.images})
    return shown


def _class(folder: str) -> str:
    """The class that a folder in an archive stands for; an archive in an archive is one, too."""
    return folder[: -len(archives.SUFFIX)] if folder.lower().endswith(archives.SUFFIX) else folder


def _image(root: Path, file: Path, name: str) -> str:
    return f"{file.relative_to(root).as_posix()}/{name}"


def _sorted(root: Path, found: Iterable[tuple[str, Path, str]]) -> list[Picture]:
    """Pictures of (class, archive, name), in the order of class folders."""
    order = sorted(found, key=lambda one: (one[0], os.path.split(one[2]), one[1]))
    return [Picture(_image(root, file, name), group, None) for group, file, name in order]


def _samples(root: Path, held: Mapping[Path, archives.Index], left_out: collections.Counter[str]) -> Iterator[Picture]:
    """Pictures of WebDataset's archives, in their order."""
    first = None
    for file, index in held.items():
        seen: dict[str, str] = {}
        for name in index.images:
            sample = archives.sample(name)
            if seen.setdefault(sample, name) != name:
                raise UserError(f"{file}: sample {sample} has several images ({seen[sample]}, {name}); keep one")
            label = index.labels.get(sample)
            if label is None:
                raise UserError(
                    f"{file}: {name} has no class; {sample}.cls was expected, or {sample}.json with the key 'label'"
                )
            first = label if first is None else first
            if isinstance(label, str) != isinstance(first, str):
                raise UserError(f"{file}: {name} is of class {str(label)[:40]!r}, others are {str(first)[:40]!r}")
            yield Picture(_image(root, file, name), *((label, None) if isinstance(label, str) else ("", label)))
        if absent := len(index.labels.keys() - seen.keys()):
            left_out["samples without an image"] += absent


def _in_tables(root: Path, files: Sequence[Path], columns: Sequence[str] | None, labelled: bool) -> Found:
    """Pictures of the rows of Parquet files, in their order; an image is called by its row."""
    pictures: list[Picture] = []
    names = None
    for file in files:
        table = rows.describe(file, columns, labelled)
        if pictures and table.names != names:
            raise UserError(f"{file}: names other classes than {files[0].name}; these are parts of different sets")
        names = table.names
        for row, value in enumerate(rows.classes(table) if labelled else [0] * table.ends[-1]):
            label = (value, None) if isinstance(value, str) else ("", value)
            pictures.append(Picture(_image(root, file, rows.name(table, row)), *label))
    if not pictures:
        raise UserError(f"{files[0]}: contains no images")
    return Found(pictures, names, {})
