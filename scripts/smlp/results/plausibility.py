"""Which figures cannot be: each such row is marked with the reason, enters no ratio and is no best row.

Four things give a figure away:
- it is above its ceiling (roofs.py): no device computes more than it can;
- latency is flat over batch sizes: usually the batch was only claimed, and the engine's own was smaller;
- int8 is slower than half of fp32 of the same engine: usually it did not run in int8, or not where it should;
- it equals the figure of an unlike row to more digits than chance allows: usually a copy.
It holds for measured rows as for imported and published ones. An emulator's figures mean nothing to begin with.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas

from .columns import rows
from .reader import Published, Target
from .roofs import Ceilings, Roof

MARK = "‡"
Found = Iterable[tuple[int, str]]
# A batch so many times as large, in a time that grows by less than this, is flat ...
_GROWTH, _FLAT = 4, 1.10
# ... unless the larger one is known to keep the device so little busy that fixed costs explain it, or, if nothing is
# known about the device, unless only a small range of batch sizes is.
_HARDLY_BUSY, _GROWTH_UNKNOWN = 0.15, 8
# Equal digits that chance does not give: a pair among a thousand rows agrees in seven once in some hundred tables.
_DIGITS = 7
_SLOW = 0.5
# Of cells that are all equal, so many are compared: more of them are no copies of each other.
_MOST_EQUAL = 100


class Figure(NamedTuple):
    """One rate. series: what only batch sizes tell apart. family: what only precision and batch size tell apart.

    low: lower end of the interval of images_per_s, or that itself. digits: that the source states. roof: None if none
    is known.
    """

    name: str
    series: tuple
    family: tuple
    precision: str
    batch: int
    images_per_s: float
    low: float
    digits: int
    roof: Roof | None = None

    @property
    def seconds(self) -> float:
        """Of a batch."""
        return self.batch / self.images_per_s


def reasons(figures: Sequence[Figure]) -> list[str | None]:
    """Why each figure cannot be; None of those that can."""
    found = [_above(figure) for figure in figures]
    for judge in (_flat, _slow_int8, _equal):
        for place, reason in judge(figures):
            found[place] = found[place] or reason
    return found


def _above(figure: Figure) -> str | None:
    roof = figure.roof
    if roof is None or figure.low <= roof.most_images_per_s:
        return None
    peak = roof.machine.operations_per_s[roof.kind]
    return (
        f"{figure.images_per_s:.1f} images/s take {figure.images_per_s * roof.operations / 1e12:.3g} Top/s; "
        f"{roof.machine.name} reaches {peak / 1e12:.3g} in {roof.kind} ({roof.machine.source})"
    )


def _flat(figures: Sequence[Figure]) -> Found:
    """The larger of two batches that take about as long."""
    for places in _groups(figures, lambda figure: figure.series):
        ordered = sorted(places, key=lambda place: figures[place].batch)
        for small, large in itertools.combinations(ordered, 2):
            one, other = figures[small], figures[large]
            busy = other.images_per_s / other.roof.images_per_s if other.roof else None
            growth = _GROWTH_UNKNOWN if busy is None else _GROWTH
            if other.batch < growth * one.batch or (busy is not None and busy < _HARDLY_BUSY):
                continue
            if other.seconds < _FLAT * one.seconds:
                yield (
                    large,
                    f"a batch of {other.batch} takes {1000 * other.seconds:.3f} ms, one of {one.batch} "
                    f"{1000 * one.seconds:.3f} ms: latency is flat, was the batch size real?",
                )


def _slow_int8(figures: Sequence[Figure]) -> Found:
    for places in _groups(figures, lambda figure: (figure.family, figure.batch)):
        floating = [figures[place] for place in places if figures[place].precision == "fp32"]
        for place in places if floating else ():
            own, base = figures[place], min(floating, key=lambda figure: figure.images_per_s)
            if own.precision == "int8" and own.images_per_s < _SLOW * base.images_per_s:
                yield (
                    place,
                    f"{own.images_per_s:.1f} images/s in int8 are less than half of the {base.images_per_s:.1f} in "
                    "fp32: did it run in int8?",
                )


def _equal(figures: Sequence[Figure]) -> Found:
    """Cells that equal one of another series: by themselves, or together with others of the same two series."""
    pairs: dict[tuple, list[tuple[int, int]]] = collections.defaultdict(list)
    for places in _groups(figures, lambda figure: figure.images_per_s):
        for one, other in itertools.combinations(places[:_MOST_EQUAL], 2):
            alone = min(figures[one].digits, figures[other].digits) >= _DIGITS
            same_batch = figures[one].batch == figures[other].batch
            if alone or (same_batch and figures[one].series != figures[other].series):
                key = (one, other) if alone else (figures[one].series, figures[other].series)
                pairs[key].append((one, other))
    for equal in pairs.values():
        if sum(min(figures[one].digits, figures[other].digits) for one, other in equal) < _DIGITS:
            continue
        for one, other in equal:
            for place, twin in ((one, other), (other, one)):
                text = f"{figures[place].images_per_s:.10g} images/s"
                yield place, f"{text} is the figure of {figures[twin].name}, digit by digit: is one a copy?"


def _groups(figures: Sequence[Figure], key: Any) -> Iterable[list[int]]:
    groups: dict[Any, list[int]] = collections.defaultdict(list)
    for place, figure in enumerate(figures):
        groups[key(figure)].append(place)
    return groups.values()


def digits(*values: float | None) -> int:
    """Significant digits of the tersest of some numbers, as they were written down: 3 of 371.0, 4 of 0.01234."""
    return min(len(repr(float(value)).partition("e")[0].replace(".", "").strip("0")) for value in values if value)


# --- of tables


def mark(
    table: pandas.DataFrame,
    roofs: Sequence[Roof | None],
    published: Mapping[str, Sequence[Published]],
    ceilings: Ceilings,
    starts: Mapping[str, str | None],
) -> tuple[list[str | None], dict[Published, str]]:
    """Why rows of the throughput table cannot be, in its order, and why published lines of its models cannot.

    roofs: of the rows. starts: model -> id of what it starts from.
    """
    measured = [
        (place, _of_row(row, roofs[place]))
        for place, row in enumerate(rows(table))
        if row.images_per_s and not row.failed and not row.emulated
    ]
    over: dict[Published, Roof | None] = {}  # two models of one architecture share their published lines
    for model, own in published.items():
        for line in own:
            if line.what == "throughput" and not over.get(line):
                over[line] = ceilings.of_published(line, starts.get(model))
    lines = [(line, _of_line(line, found)) for line, found in over.items()]
    found = reasons([figure for _, figure in (*measured, *lines)])
    in_table: list[str | None] = [None] * len(table)
    for (place, _), reason in zip(measured, found):
        in_table[place] = reason
    return in_table, {line: why for (line, _), why in zip(lines, found[len(measured) :]) if why}


def _of_row(row: Any, roof: Roof | None) -> Figure:
    target = Target(row.backend, row.precision, row.variant or "")
    where = (row.model, row.way, row.device, row.conditions)
    return Figure(
        f"{row.model}, {target}, batch size {row.batch}",
        (*where, target),
        (*where, row.backend, target.variant),
        row.precision,
        row.batch,
        row.images_per_s,
        row.images_per_s_low or row.images_per_s,
        digits(row.images_per_s, row.latency_ms_mean),
        roof,
    )


def _of_line(line: Published, roof: Roof | None) -> Figure:
    series, rate = (line.model, line.column), line.value
    name = f"{', '.join(series)}, batch size {line.batch}"
    return Figure(name, series, series, "", line.batch or 1, rate, rate, digits(rate), roof)
