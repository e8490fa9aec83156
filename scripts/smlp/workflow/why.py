"""Why jobs would run, in words: what Snakemake recorded of their last run against what they are planned with now.

Nothing here knows Snakemake; scripts/why.py asks it.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import difflib
import functools
import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core import code, files

# What each code digest consists of: a file <digest>.json for each. Where it is missing, the modules are not named.
NOTES = Path("results/.watched/code")
# The same of the digests that this process has computed, and whether it writes them down.
_modules: dict[str, dict[str, str]] = {}
_noting = False
WIDTH = 100
_NOT_SET = "not set"
# Parameters that say in other words what others of the same job say.
_RESTATED = ("shown",)
# Those that are told of the jobs that this one follows from.
_TOLD_BEFORE = ("outside",)
_LONGEST = 44


# --- the code of a result


@functools.cache
def code_digest(command: str, backend: str | None = None) -> str:
    """As code.code_digest; a run notes what it consists of, so that a later one can tell which module has changed."""
    found = code.code_digest(command, backend)
    _modules[found] = code.code_modules(command, backend)
    if _noting:
        _note(found)
    return found


def note_code() -> None:
    """Note what every digest consists of, for later runs: of those that are known, and of those still to come."""
    global _noting
    _noting = True
    for found in _modules:
        _note(found)


def _note(found: str) -> None:
    note = NOTES / f"{found}.json"
    if not note.exists():
        with contextlib.suppress(OSError):  # a disk that is full, or may not be written, costs no more than the names
            files.write_json(note, _modules[found])
    code.remember()


def changed_modules(was: str, now: str) -> list[str]:
    """The modules in which two code digests differ; none if it was not noted what one of them consists of."""
    old, new = (_consists_of(found) for found in (was, now))
    return sorted({f"scripts/{module}" for module, _ in old.items() ^ new.items()}) if old and new else []


def _consists_of(found: str) -> dict[str, str]:
    try:
        return _modules.get(found) or json.loads((NOTES / f"{found}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


# --- the parameters of a job


def changed_params(recorded: Iterable[str], named: Mapping[str, str]) -> list[str]:
    """How parameters differ from those of the last run, a text for each difference.

    recorded: how Python writes each value of then; Snakemake keeps no names. named: name -> the same of now.
    """
    gone = sorted(set(recorded) - set(named.values()))
    come = {name: text for name, text in named.items() if text not in set(recorded)}
    likely = sorted(((_likeness(was, now), name, was) for name, now in come.items() for was in gone), reverse=True)
    pairs: dict[str, str] = {}
    for _, name, was in likely:
        if name not in pairs and was not in pairs.values():
            pairs[name] = was
    found = {}
    for name, now in come.items():
        old = _value(pairs[name]) if name in pairs else None
        found[name] = list(differences(name, old, _value(now)))
    for name in _TOLD_BEFORE + _RESTATED:
        if len(found) > 1 or name in _TOLD_BEFORE:
            found.pop(name, None)
    return [text for texts in found.values() for text in texts] + [
        f"no longer given: {_short(_value(was))}" for was in gone if was not in pairs.values()
    ]


def _likeness(was: str, now: str) -> tuple[bool, bool, float]:
    """The greater it is, the more likely is it that one parameter had both values."""
    old, new = _value(was), _value(now)
    return type(old) is type(new), _kind(old) == _kind(new), difflib.SequenceMatcher(None, was, now).ratio()


def _kind(value: Any) -> Any:
    """What values of one parameter have in common: the length of a digest, the names of flags or keys."""
    if isinstance(value, str):
        return len(value) if _is_digest(value) else "text"
    if _is_content(value):
        return "content"
    if isinstance(value, list) and _is_flags(value):
        return frozenset(_flags(value))
    return frozenset(value) if isinstance(value, dict) else None


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def differences(name: str, was: Any, now: Any) -> list[str]:
    """How two values of a parameter differ; of flags, versions and checksums each one that does."""
    if name == "code":
        modules = changed_modules(str(was), str(now))
        return [f"code: {some(modules)}" if modules else "its code"]
    if isinstance(was, list) and isinstance(now, list):
        if not (_is_flags(was) or _is_flags(now)):
            return [_changed(name, was, now)]
        was, now = _flags(was), _flags(now)
    elif not (isinstance(was, dict) and isinstance(now, dict)):
        return [_changed(name, was, now)]
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    return [_changed(key, was.get(key), now.get(key)) for key in keys]


def _changed(name: str, was: Any, now: Any) -> str:
    if _is_content(was) and _is_content(now):
        return f"{name}: other content ({_short(was)} → {_short(now)})"
    if isinstance(was, list) and isinstance(now, list):
        was, now = [word for word in was if word not in now] or None, [word for word in now if word not in was] or None
        if was == now:
            return f"{name}: another order"
    return f"{name}: {_short(was)} → {_short(now)}"


def _is_flags(words: Sequence[Any]) -> bool:
    return any(isinstance(word, str) and word.startswith("--") for word in words)


def _flags(words: Sequence[str]) -> dict[str, list[str]]:
    """{name of a flag: its values}, those of all its occurrences."""
    found: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        if word.startswith("--"):
            values = found.setdefault(word[2:], [])
        else:
            values.append(word)
    return found


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{16,}", value) is not None


def _is_content(value: Any) -> bool:
    return _is_digest(value) or (isinstance(value, list) and bool(value) and all(map(_is_digest, value)))


def _short(value: Any) -> str:
    """A value as a person would write it, not longer than fits a line twice."""
    if value is None:
        return _NOT_SET
    if _is_digest(value):
        return f"{value[:6]}…"
    words = [_short(word) for word in value] if isinstance(value, (list, tuple)) else [str(value)]
    text = " ".join(words) or "given"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 3]}…{text[-2 * _LONGEST // 3 + 1 :]}"


def some(names: Sequence[str]) -> str:
    """The first few of many names."""
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


# --- the inputs of a job


def changed_inputs(was: Sequence[str], now: Sequence[str]) -> list[str]:
    """Which files a job did not read when it ran, and which it no longer reads; results are counted by stage."""
    found = []
    for what, names in (
        ("now also reads", [name for name in now if name not in was]),
        ("no longer reads", [name for name in was if name not in now]),
    ):
        stages = collections.Counter(name.split("/")[1] for name in names if name.startswith("results/"))
        own = [name for name in names if not name.startswith("results/")]
        words = own + [f"{count} result{'s' if count > 1 else ''} of {stage}" for stage, count in stages.items()]
        found += [f"{what} {some(words)}"] if words else []
    return found


# --- the page


class Planned(NamedTuple):
    """A job that would run. title: what it does; place: of which model, engine, batch size, …; reasons: in words."""

    title: str
    place: Mapping[str, str]
    reasons: tuple[str, ...]


def page(planned: Sequence[Planned]) -> str:
    """The jobs in the order of their first ones; those with the same reasons are one paragraph."""
    if not planned:
        return "nothing to do"
    groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], set[tuple[str, ...]]] = collections.defaultdict(set)
    for job in planned:
        groups[job.title, tuple(job.place), job.reasons].add(tuple(job.place.values()))
    width = 2 + max(len(title) for title, _, _ in groups)
    order = {title: number for number, title in enumerate(dict.fromkeys(job.title for job in planned))}
    lines = []
    for (title, keys, reasons), rows in sorted(
        groups.items(), key=lambda group: (order[group[0][0]], _first(group[1]))
    ):
        for box in _boxes(rows):
            lines += _paragraph(title.ljust(width), keys, box)
        for reason in reasons:
            lines += textwrap.wrap(reason, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 6, **_WHOLE_WORDS)
    return "\n".join([*lines, "", f"{len(planned)} job{'s' if len(planned) > 1 else ''} would run"])


_WHOLE_WORDS: Mapping[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def _paragraph(title: str, keys: Sequence[str], box: Sequence[Sequence[str]]) -> list[str]:
    count = 1
    words = []
    for key, values in zip(keys, box):
        count *= len(values)
        few = " ".join(values) if len(values) <= 8 else f"{values[0]} … {values[-1]}"
        words += [f"{key} {few}" if key in ("batch", "shard", "load") else few] if few else []
    text = ", ".join(words) + (f" ({count} jobs)" if count > 1 else "")
    return textwrap.wrap(title + text, WIDTH, subsequent_indent=" " * len(title), **_WHOLE_WORDS)


def _boxes(rows: set[tuple[str, ...]]) -> list[list[list[str]]]:
    """The rows as few products of values: each is a list of values for every place."""
    if rows == {()}:
        return [[]]
    rests: dict[str, set[tuple[str, ...]]] = collections.defaultdict(set)
    for first, *rest in rows:
        rests[first].add(tuple(rest))
    alike: dict[frozenset[tuple[str, ...]], list[str]] = collections.defaultdict(list)
    for first in sorted(rests, key=_natural):
        alike[frozenset(rests[first])].append(first)
    return [[values, *box] for rest, values in alike.items() for box in _boxes(set(rest))]


def _first(rows: set[tuple[str, ...]]) -> list[list[tuple[int, str]]]:
    return min([_natural(value) for value in row] for row in rows)


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]
