"""Lists of class names in a model's order: those shipped in resources/classes, timm's own, and files of users.

Standard library only, and quick to import: the workflow lists the images each time it starts.

A file is one of
  a text         one name per line, in the model's order; of lines such as `n01440764 tench, Tinca tinca` the synset;
                 lines that are numbered, such as `0 cat` or `cat 0`, are sorted by their number
  a JSON file    {"cat": 0, …} as class_to_idx.json, {"0": "cat", …} or {"0": ["n02123045", "tabby"], …} as Keras has
                 it, the same below the key id2label or label2id, or ["cat", …]
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core import identity
from ..core.cli import UserError

_SHIPPED = Path(__file__).resolve().parents[3] / "resources" / "classes"
# timm's own lists, below timm/data/_info, by the names that timm gives them
_OF_TIMM = {
    "imagenet-12k": "imagenet12k_synsets.txt",
    "imagenet-21k-goog": "imagenet21k_goog_synsets.txt",
    "imagenet-21k-miil": "imagenet21k_miil_synsets.txt",
    "imagenet-22k": "imagenet22k_synsets.txt",
    "imagenet-22k-ms": "imagenet22k_ms_synsets.txt",
}
# A list of classes is small; what is not is another file.
_MAX_BYTES = 16 << 20
_SYNSET = re.compile(r"(n\d{8})\s+\S")
_BACKGROUND = ("background", "__background__", "dummy")


class ClassList(NamedTuple):
    """The classes of a model.

    title: what messages call it; names: by index; index: of a name, which may have several spellings, as `spelled`
    gives it.
    """

    title: str
    names: tuple[str, ...]
    index: dict[str, int]

    def find(self, name: str) -> int | None:
        """The index of a class by its name, None if it is none of these."""
        return self.index.get(spelled(name))

    def near(self, name: str) -> str:
        """The known names that a person may have meant, or the first ones."""
        found = difflib.get_close_matches(name, self.names, n=1, cutoff=0.75)
        return f"did you mean {found[0]!r}?" if found else f"its first is {self.names[0]!r}"

    @property
    def digest(self) -> str:
        """Of what decides labels: which name has which index."""
        return identity.digest(sorted(self.index.items()))

    @property
    def has_background(self) -> bool:
        """Whether class 0 is what data sets have not."""
        return self.names[0].lower() in _BACKGROUND


def spelled(name: str) -> str:
    """A name as it is compared: macOS writes é as two characters, where others write one."""
    return unicodedata.normalize("NFC", name)


def of(title: str, names: Sequence[str]) -> ClassList:
    """The list of these names in their order. Raises UserError if one occurs twice or is empty."""
    index: dict[str, int] = {}
    for place, name in enumerate(names):
        if not name:
            raise UserError(f"{title}: class {place} has no name; give every class one, in the model's order")
        first = index.setdefault(spelled(name), place)
        if first != place:
            raise UserError(f"{title}: {name!r} is class {first} and class {place}; give every class a name of its own")
    if not index:
        raise UserError(f"{title}: names no class; one name per line was expected, in the model's order")
    return ClassList(title, tuple(names), index)


def shipped() -> list[str]:
    """The names of all lists that need no file of the user."""
    return sorted({path.stem for path in _SHIPPED.glob("*.txt")} | set(_OF_TIMM))


def read(name: str) -> ClassList:
    """A shipped list by its name, or that of a file. Raises UserError that names the file and what is wrong in it."""
    path = _place(name) or Path(name)
    if not path.is_file():
        raise UserError(
            f"dataset.classes: {name}: no such file; give a file with one name per line in the model's order, a "
            f"class_to_idx.json, or one of {', '.join(shipped())}"
        )
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise UserError(f"{path}: has {size} bytes; a list of class names was expected, one per line")
    return _parse(name, path, path.read_bytes())


def knowing(names: Sequence[str]) -> dict[str, int]:
    """The shipped lists that know all of these names, and how many classes each has."""
    lists = [read(path.stem) for path in sorted(_SHIPPED.glob("*.txt"))]
    return {known.title: len(known.names) for known in lists if all(known.find(name) is not None for name in names)}


def _place(name: str) -> Path | None:
    """The file of a list that needs none of the user."""
    if re.fullmatch(r"[a-z0-9-]+", name) and (_SHIPPED / f"{name}.txt").is_file():
        return _SHIPPED / f"{name}.txt"
    if name not in _OF_TIMM:
        return None
    timm = importlib.util.find_spec("timm")
    for folder in (timm and timm.submodule_search_locations) or ():
        if (Path(folder) / "data" / "_info" / _OF_TIMM[name]).is_file():
            return Path(folder) / "data" / "_info" / _OF_TIMM[name]
    raise UserError(f"dataset.classes: {name}: is a list of timm, which is not installed here; give a file of names")


@functools.lru_cache(maxsize=8)
def _parse(title: str, path: Path, content: bytes) -> ClassList:
    """The list that a file with this content holds."""
    text = content.decode("utf-8-sig", "surrogateescape")
    if path.suffix.lower() == ".json":
        return _of_json(title, path, text)
    return of(title, _of_lines(path, text))


def _of_lines(path: Path, text: str) -> list[str]:
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line:
            raise UserError(
                f"{path}, line {number}: is empty, so that nobody can tell how the next ones count; fill it"
            )
        if "\0" in line:
            raise UserError(f"{path}, line {number}: is no text; one name per line was expected")
    if lines and all(_SYNSET.match(line) for line in lines):
        return [line.split()[0] for line in lines]
    for pattern in (r"(?P<number>\d+)[\s,:]+(?P<name>\S.*)", r"(?P<name>\S.*?)[\s,:]+(?P<number>\d+)"):
        found = [re.fullmatch(pattern, line, re.ASCII) for line in lines]
        if len(lines) > 1 and all(found) and all(len(one["number"]) < 9 for one in found):
            names = {int(one["number"]): one["name"].strip() for one in found}
            first = min(names)
            # numbered from 0 or 1, each once, and what is left are names: else the numbers belong to the names
            if first < 2 and sorted(names) == list(range(first, first + len(lines))) and _differ(names.values()):
                return [names[number] for number in sorted(names)]
    return lines


def _differ(names: Sequence[str] | Any) -> bool:
    return len(set(names)) == len(names)


def _of_json(title: str, path: Path, text: str) -> ClassList:
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no list of classes in JSON ({error}); {_JSON_FORMS}") from None
    if isinstance(content, Mapping):
        content = next((content[key] for key in ("label2id", "id2label", "class_to_idx") if key in content), content)
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return of(title, content)
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: holds neither names nor their indices; {_JSON_FORMS}")
    if all(type(value) is int for value in content.values()):
        names: dict[int, list[str]] = {}
        for name, index in content.items():
            names.setdefault(index, []).append(name)
        twice = next((index for index, found in names.items() if len(found) > 1), None)
        if twice is not None:
            raise UserError(f"{path}: {names[twice][0]!r} and {names[twice][1]!r} are both class {twice}; mend one")
    elif all(re.fullmatch(r"\d{1,8}", key, re.ASCII) for key in content):
        names = {}
        for key, value in content.items():
            spellings = [value] if isinstance(value, str) else value
            is_list = isinstance(spellings, list) and spellings and all(isinstance(one, str) for one in spellings)
            if not is_list or int(key) in names:
                raise UserError(f"{path}: class {key} is not one name; {_JSON_FORMS}")
            names[int(key)] = spellings
    else:
        raise UserError(f"{path}: holds neither names nor their indices; {_JSON_FORMS}")
    if sorted(names) != list(range(len(names))):
        lacking = next(index for index in range(len(names)) if index not in names)
        raise UserError(f"{path}: names {len(names)} classes but none is class {lacking}; number them from 0")
    # a synset comes first and tells classes apart; the words beside it may not
    return of(title, [names[index][0] for index in range(len(names))])


_JSON_FORMS = '{"cat": 0, …} as class_to_idx.json, {"0": "cat", …} or ["cat", …] was expected'


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, which would otherwise keep the last of two equal keys in silence."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice!r} occurs twice")
    return found
