"""Which label an image gets: the rules from what a data set's own files state to the index of a class of the model.

Standard library only, and quick to import: the workflow lists the images each time it starts.

A label is looked up by name in a list of the model's classes (`dataset.classes`, or one that the data set has itself);
it is the number that a label file states; or, without either, it is the position of its folder among all folders.
Positions hold only if everybody who trains models would count the same. Where they would not, nothing is guessed.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.cli import UserError
from ..core.provenance import Facts
from . import class_lists
from .class_lists import ClassList
from .sources import Found, Picture

ORDERS = ("torchvision", "timm")


class Rules(NamedTuple):
    """The settings that decide which label an image gets; None: not set.

    classes: a file, or the name of a shipped list; order: one of ORDERS; background_class: 0 if the model has a class
    in front of those of the data set.
    """

    classes: str | None = None
    order: str | None = None
    background_class: int | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Rules:
        """Those that are among other settings, or flags."""
        return cls(**{name: settings.get(name) for name in cls._fields})

    def identity(self) -> Facts:
        """What tells them apart: of a list its content, not where it is."""
        return {**self._asdict(), "classes": self.classes and class_lists.read(self.classes).digest}


class Entry(NamedTuple):
    """One image of the split: its position in it, its path relative to data_root, its class and the class's index."""

    index: int
    image: str
    class_name: str
    label: int


class Labelled(NamedTuple):
    """Every image with its label. facts: how labels were found, for the sidecar; see `label`."""

    entries: list[Entry]
    facts: Facts


class _Numbering(NamedTuple):
    """Class name and index by what identifies a class in the data set; classes: how many there are, None if unknown.

    by: list (dataset.classes), names (a list of the data set itself), folders (positions) or numbers (a label file).
    """

    by: str
    found: dict[Any, tuple[str, int]]
    classes: int | None
    title: str = ""


def label(found: Found, rules: Rules, where: str) -> Labelled:
    """The label of every picture. where: the folder of the images, for messages.

    The facts: `by` (see above), `list` (title), `classes` (of the model, as far as the data set or a list tells),
    `present` (how many of them have images), `lowest` and `highest` label, `knowing` (shipped lists that know every
    folder, and their lengths), `orders` (those by which the folders are more or fewer classes, and how many), and the
    rules. Raises UserError where a label would be a guess.
    """
    if rules.classes and rules.order:
        raise UserError(f"dataset.order: {rules.order}: dataset.classes states the order already; remove one of them")
    listed = class_lists.read(rules.classes) if rules.classes else None
    own = class_lists.of(f"the list of classes in {where}", found.names) if found.names else None
    if listed and listed.has_background and rules.background_class is not None:
        raise UserError(
            f"dataset.background_class: {listed.title} has {listed.names[0]!r} as class 0 already; remove the setting"
        )
    keys = [_key(picture) for picture in found.pictures]
    numbering = _number(dict.fromkeys(keys), listed, own, rules, where)
    shift = 0 if rules.background_class is None else 1
    by_key = {key: (name, number + shift) for key, (name, number) in numbering.found.items()}
    entries = [
        Entry(index, picture.image, *by_key[key]) for index, (picture, key) in enumerate(zip(found.pictures, keys))
    ]
    labels = {number for _, number in by_key.values()}
    facts = {
        "by": numbering.by,
        "list": numbering.title or None,
        "classes": None if numbering.classes is None else numbering.classes + shift,
        "present": len(labels),
        "lowest": min(labels),
        "highest": max(labels),
        "knowing": class_lists.knowing([name for name, _ in by_key.values()]) if numbering.by == "folders" else {},
        "order": rules.order,
        "orders": _other_orders(keys, numbering, where) if numbering.by == "folders" else {},
        "background_class": rules.background_class,
    }
    return Labelled(entries, facts)


def said(facts: Facts) -> str:
    """How labels were found, in one line for people, from the facts of `label`."""
    ways = {
        "list": "labels by name: {present} of {classes} classes of {list}",
        "names": "labels by name: {present} of {classes} classes of {list}",
        "folders": "labels by position: {present} class folders",
        "numbers": "labels by number: {present} classes, {lowest} to {highest}",
    }
    line = ways[facts["by"]].format_map(facts)
    if facts["background_class"] is not None:
        line += ", behind a background class"
    return line


def unlabelled(found: Found) -> list[Entry]:
    """The pictures for what needs no labels, such as calibration: classes have any numbers."""
    positions = {group: place for place, group in enumerate(sorted({picture.group for picture in found.pictures}))}
    return [
        Entry(index, image, group or str(label), positions[group] if label is None else label)
        for index, (image, group, label) in enumerate(found.pictures)
    ]


# A class of the data set: the folders around an image, from that of its class inward, or one name; else a number.
_Key = tuple[str, ...] | int


def _key(picture: Picture) -> _Key:
    if not picture.group:
        if picture.label is None:
            raise UserError(f"{picture.image}: has neither the name nor the number of a class; add its label")
        return picture.label
    parts = picture.image.split("/")
    if picture.group not in parts[:-1]:
        return (picture.group,)
    # the first one is the split itself, which may be called like a class
    start = parts.index(picture.group, 1) if picture.group in parts[1:-1] else 0
    return tuple(parts[start:-1])


def _number(
    keys: Collection[_Key],
    listed: ClassList | None,
    own: ClassList | None,
    rules: Rules,
    where: str,
) -> _Numbering:
    """The class of every key."""
    numbers = [key for key in keys if isinstance(key, int)]
    folders = [key for key in keys if not isinstance(key, int)]
    if numbers and folders:
        raise UserError(f"{where}: some images have a number, {numbers[0]} for one, others are in a folder "
                        f"{folders[0][0]!r}; label all of them in one way")  # fmt: skip
    if numbers:
        return _by_number(numbers, listed, own, where)
    if listed or (own and not rules.order):
        known = listed or own
        found = {key: _named(key, known, where) for key in folders}
        return _Numbering("list" if listed else "names", found, len(known.names), known.title)
    found = _by_position(folders, rules.order, where)
    return _Numbering("folders", found, len({number for _, number in found.values()}))


def _by_number(numbers: Sequence[int], listed: ClassList | None, own: ClassList | None, where: str) -> _Numbering:
    """Classes that a label file numbers: by its own list, or by the model's."""
    known = own or listed
    if known is None:
        return _Numbering("numbers", {number: (str(number), number) for number in numbers}, None)
    if max(numbers) >= len(known.names):
        raise UserError(
            f"{where}: an image has label {max(numbers)}, but {known.title} has {len(known.names)} classes, 0 to "
            f"{len(known.names) - 1}; labels count from 0, or the list is of another model"
        )
    names = {number: known.names[number] for number in numbers}
    if own and listed:
        found = {number: _named((name,), listed, where) for number, name in names.items()}
        return _Numbering("list", found, len(listed.names), listed.title)
    found = {number: (name, number) for number, name in names.items()}
    return _Numbering("list" if listed else "names", found, len(known.names), known.title)


def _named(folders: tuple[str, ...], known: ClassList, where: str) -> tuple[str, int]:
    """The one class that the folders around an image name, from the outermost inward."""
    found = {known.find(name): name for name in folders if known.find(name) is not None}
    if not found:
        raise UserError(
            f"{where}: {'/'.join(folders)!r} is none of the {len(known.names)} classes of {known.title} "
            f"({known.near(folders[0])}); rename or remove it, or name another list in dataset.classes"
        )
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise UserError(
            f"{where}: {'/'.join(folders)!r} names two classes of {known.title}, {first!r} and {second!r}; move the "
            "images into one folder of their class"
        )
    ((number, name),) = found.items()
    return name, number


def _by_position(keys: Sequence[tuple[str, ...]], order: str | None, where: str) -> dict[_Key, tuple[str, int]]:
    """Positions of class folders, if they mean one thing only: as many folders as classes is checked later."""
    keys, inside = _unwrapped(keys, where)
    outer = {key: key[0] for key in keys.values()}
    inner = {key: key[-1] for key in keys.values()}
    if order is None and all(map(_is_number, outer.values())):
        names, places = outer, _numbers(outer.values(), inside)
    elif order == "torchvision" or (order is None and _differ_by_case_alone(outer.values()) is None):
        names, places = outer, {name: place for place, name in enumerate(sorted(set(outer.values())))}
        if order is None:
            _require_one_order(places, inside)
    else:
        names = inner if order == "timm" else outer
        if alike := _differ_by_case_alone(names.values()):
            raise UserError(
                f"{inside}: timm counts the folders {alike[0]!r} and {alike[1]!r} as equal, so that their order is "
                f"open; {_SAY_ORDER if order is None else 'name the classes in the model’s order in dataset.classes'}"
            )
        places = _natural(names.values())
    if order is None:
        _require_one_level(outer, inner, places, inside)
    for key in keys.values():
        if other := next((name for name in key if name in places and name != names[key]), None):
            raise UserError(
                f"{inside}: {'/'.join(key)!r} names two classes, {names[key]!r} and {other!r}; move the images "
                "into one folder of their class"
            )
    return {whole: (names[key], places[names[key]]) for whole, key in keys.items()}


def _other_orders(keys: Collection[_Key], numbering: _Numbering, where: str) -> dict[str, int]:
    """The orders that `dataset.order` may name by which these folders are another number of classes, and which."""
    counts = {}
    for order in ORDERS:
        with contextlib.suppress(UserError):  # it would be no order of them
            found = _by_position(list(dict.fromkeys(keys)), order, where)
            counts[order] = len({number for _, number in found.values()})
    return {order: count for order, count in counts.items() if count != numbering.classes}


_SAY_ORDER = (
    "set dataset.order: torchvision or timm, whichever trained the model, or name the classes in the model's order in "
    "dataset.classes (a file with one name per line)"
)


def _unwrapped(keys: Sequence[tuple[str, ...]], where: str) -> tuple[dict[tuple[str, ...], tuple[str, ...]], str]:
    """The keys without folders that hold all class folders, as a tar leaves that was unpacked one level too deep.

    Returns them by the whole keys, and where the class folders are. A folder that holds all images is the only class,
    which no model but one of a single class fits.
    """
    found = {key: key for key in keys}
    while len({key[0] for key in found.values()}) == 1 and all(len(key) > 1 for key in found.values()):
        (name,) = {key[0] for key in found.values()}
        found, where = {whole: key[1:] for whole, key in found.items()}, f"{where}/{name}"
    return found, where


def _is_number(name: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,18}", name))


def _numbers(names: Collection[str], where: str) -> dict[str, int]:
    """Positions of numbered folders by their numbers. A gap leaves open whether the number or the position is meant."""
    by_number: dict[int, str] = {}
    for name in sorted(set(names)):
        other = by_number.setdefault(int(name), name)
        if other != name:
            raise UserError(f"{where}: the folders {other!r} and {name!r} have the same number; merge or rename them")
    numbers = sorted(by_number)
    if numbers[0] > 1 or numbers[-1] - numbers[0] >= len(numbers):
        missing = next(number for number in range(numbers[-1]) if number not in by_number)
        raise UserError(
            f"{where}: has {len(numbers)} folders numbered {numbers[0]} to {numbers[-1]}, without {missing} for one; "
            "if the number is the model's index, name all of them in dataset.classes (`seq 0 999 > classes.txt`); if "
            "the position among these folders is, set dataset.order: timm"
        )
    return {by_number[number]: place for place, number in enumerate(numbers)}


def _require_one_order(places: Mapping[str, int], where: str) -> None:
    """Raise UserError if timm sorts class folders otherwise than torchvision does, which gave `places`.

    Or if numbers are among names: they may not be positions.
    """
    numbered = [name for name in places if _is_number(name)]
    if numbered:
        other = next(name for name in places if not _is_number(name))
        raise UserError(
            f"{where}: some folders are numbered ({numbered[0]!r}) and others are not ({other!r}), so that numbers may "
            f"not be positions; remove what is no class; else {_SAY_ORDER}"
        )
    natural = _natural(places)
    differing = next((name for name in places if places[name] != natural[name]), None)
    if differing is not None:
        raise UserError(
            f"{where}: class {differing!r} is number {places[differing]} of {len(places)} as torchvision sorts the "
            f"folders (text), and number {natural[differing]} as timm does (numbers as numbers, case ignored); "
            f"{_SAY_ORDER}"
        )


def _require_one_level(
    outer: Mapping[_Key, str], inner: Mapping[_Key, str], places: Mapping[str, int], where: str
) -> None:
    """Raise UserError if timm, for which the innermost folder is the class, gets as many classes but others."""
    if len(set(inner.values())) != len(places) or _differ_by_case_alone(inner.values()):
        return  # the number of classes tells who is right
    nested = _natural(inner.values())
    for key, name in outer.items():
        if nested[inner[key]] != places[name]:
            raise UserError(
                f"{where}: {'/'.join(key)!r} is class {name!r}, number {places[name]}, for torchvision, and class "
                f"{inner[key]!r}, number {nested[inner[key]]}, for timm, which takes the innermost folder; {_SAY_ORDER}"
            )


def _natural(names: Collection[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(sorted(set(names), key=_natural_key))}


def _natural_key(name: str) -> list[str | tuple[int, str]]:
    """Sorts as timm does: lower case, and digits by the number that they are, however long."""
    pieces: list[str | tuple[int, str]] = re.split(r"(\d+)", name.lower())
    for place in range(1, len(pieces), 2):
        digits = "".join(str(unicodedata.decimal(digit)) for digit in pieces[place]).lstrip("0")
        pieces[place] = (len(digits), digits)
    return pieces


def _differ_by_case_alone(names: Collection[str]) -> tuple[str, str] | None:
    """Two names that timm's sorting does not tell apart."""
    seen: dict[str, str] = {}
    for name in sorted(set(names)):
        other = seen.setdefault(repr(_natural_key(name)), name)
        if other != name:
            return other, name
    return None
