"""Which measurements can be compared: those that were made under the same conditions.

A measurement states a fingerprint (core/host.py). Its aspects here are the host, what the process might use of it, the
threads, and the versions of packages. Of each model the conditions of most rows are the standard; any other row is
marked, with what differs in words.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core import identity
from .columns import unique
from .reader import Record

MARK = "†"
UNKNOWN = "unknown"
# Backends may have interpreters of their own: these versions say something only among rows of one backend.
_OF_ONE_BACKEND = ("python", "numpy")
_STATED = "conditions"
_NOTHING_KNOWN = {_STATED: UNKNOWN}

Aspects = Mapping[str, Any]


class Conditions(NamedTuple):
    """Of one row. id: the same for rows that can be compared. differs: from most rows of its model, in words."""

    id: str
    differs: str | None


def of_records(records: Sequence[Record]) -> list[Conditions]:
    """The conditions of each measurement; UNKNOWN of those that state none."""
    found = [Conditions(UNKNOWN, None)] * len(records)
    for model in unique(record.model for record in records):
        own = [place for place, record in enumerate(records) if record.model == model and not record.failed]
        aspects = [_aspects(records[place]) for place in own]
        standard = _standard([str(records[place].facts.get("started_at") or "") for place in own], aspects)
        for place, mine in zip(own, aspects, strict=True):
            other = {name: value for name, value in mine.items() if standard[name] != value}
            basis = mine if _STATED in other else {**standard, **other}
            id_ = UNKNOWN if mine == _NOTHING_KNOWN else identity.digest(basis)[:8]
            told = [name for name in other if not (name.startswith("threads of") and "threads" in other)]
            words = ", ".join(_words(name, other[name], standard[name]) for name in told)
            found[place] = Conditions(id_, words or None)
    return found


def _aspects(record: Record) -> Aspects:
    """What must be equal in two rows; what one of them lacks says nothing about them."""
    stated = record.facts.get("fingerprint")
    if not stated:
        return _NOTHING_KNOWN
    processors, backend = stated.get("processors") or {}, record.target.backend
    found = {
        _STATED: "known",
        **(stated.get("host") or {}),
        "usable processors": processors.get("affinity"),
        "CPU quota": processors.get("quota"),
        "threads": processors.get("asked"),
        f"threads of {backend}": processors.get("used"),
        **(stated.get("memory") or {}),
    }
    for package, version in (stated.get("versions") or {}).items():
        if version:
            found[f"{package} of {backend}" if package in _OF_ONE_BACKEND else package] = version
    return found


def _standard(times: Sequence[str], aspects: Sequence[Aspects]) -> Aspects:
    """The conditions of most rows, of equals those of the row that was measured last, with every aspect that any has.

    times: when each row was measured.
    """
    fitting = [sum(_fit(one, other) for other in aspects) for one in aspects]
    ordered = [
        aspects[place] for place in sorted(range(len(aspects)), key=lambda at: (fitting[at], times[at]), reverse=True)
    ]
    standard = dict(ordered[0]) if ordered else {}
    within = [one for one in ordered if _fit(standard, one)]
    for one in [*within, *ordered]:
        for name in one.keys() - standard.keys():
            values = [json.dumps(other[name]) for other in within if name in other] or [json.dumps(one[name])]
            standard[name] = json.loads(Counter(values).most_common(1)[0][0])
    return standard


def _fit(one: Aspects, other: Aspects) -> bool:
    return all(other.get(name, value) == value for name, value in one.items())


def _words(name: str, value: Any, standard: Any) -> str:
    """What differs, for people: of lists only that."""
    if isinstance(value, list) and isinstance(standard, list):
        more, fewer = _listed(set(value) - set(standard)), _listed(set(standard) - set(value))
        return ", ".join(part for part in (more and f"{name} with {more}", fewer and f"{name} without {fewer}") if part)
    return f"{name.replace('_', ' ')} {_text(value)}, not {_text(standard)}"


def _listed(values: Iterable[str]) -> str:
    return " ".join(sorted(values))


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
