"""The section of the page about earlier sweeps: what changed since the last one, and the figures over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import regression_tables, regressions
from .cells import Table
from .columns import unique
from .history import Entry, Key, Row, before
from .plots import History, Series, plot_history, render
from .report import Section

# Of a history that is larger, as many of the latest entries are read.
NEWEST = 300
# Sweeps and lines that can be told apart in a plot.
_MAX_SWEEPS = 30
_MAX_LINES = 14
_FIGURES = {
    "throughput": ("images_per_s", "images_per_s_low", "images_per_s_high"),
    "accuracy": ("top1", "", ""),  # sweeps score the same images: how far others would differ says nothing of them
}


def make_sections(entry: Entry, past: Sequence[Entry]) -> list[Section]:
    """Nothing if there is no earlier sweep with a row of this one.

    past: entries of the history in the order of their times; the entry itself may be among them.
    """
    earlier = before(entry, past)
    if earlier is None:
        return []
    found = regressions.compare(earlier, entry)
    facts = [["base", Path(earlier.name).name, earlier.ended_at], ["head", "this sweep", entry.ended_at]]
    said = [regression_tables.summary(found)]
    tables = [Table("Since the last sweep", ["side", "entry", "ended at"], facts, said, left=3)]
    tables += [table._replace(title=f"{table.title}, since then") for table in regression_tables.make_tables(found)]
    history = make_history(entry, past)
    plots = {"Figures over time": render(plot_history, history, "history.svg").decode()} if history.panels else {}
    return [Section("History", tables, plots)]


def make_history(entry: Entry, past: Sequence[Entry]) -> History:
    """The figures of this sweep's best batch sizes over all sweeps: of speed those that this host measured.

    A result that several sweeps share is one point, at the first of them.
    """
    sweeps = [one for one in past if one.id != entry.id and one.ended_at <= entry.ended_at][-_MAX_SWEEPS + 1 :]
    sweeps.append(entry)
    panels = []
    for model in unique(row.key.model for row in entry.rows):
        for table, unit in (("throughput", "images/s"), ("accuracy", "top-1 (%)")):
            rows = _best(entry, table, model)
            lines = [line for line in (_series(sweeps, row) for row in rows[:_MAX_LINES]) if len(line.places) > 1]
            if lines:
                panels.append((model, unit, lines))
    return History([one.ended_at[:16].replace("T", "\n") for one in sweeps], panels)


def _best(entry: Entry, table: str, model: str) -> list[Row]:
    """Of each target and way of a model the row with the highest figure."""
    value = _FIGURES[table][0]
    best: dict[Key, Row] = {}
    for key, row in entry.by_key(table).items():
        target, found = key._replace(batch=None), row.figures.get(value)
        if key.model == model and found is not None:
            other = best.setdefault(target, row)
            best[target] = row if found > other.figures[value] else other
    return list(best.values())


def _series(sweeps: Sequence[Entry], row: Row) -> Series:
    value, low, high = _FIGURES[row.table]
    points: dict[object, tuple[int, Row]] = {}
    for place, sweep in enumerate(sweeps):
        found = sweep.by_key(row.table).get(row.key)
        if found and found.figures.get(value) is not None and found.host == row.host:
            points.setdefault(found.result or place, (place, found))
    places = [place for place, _ in points.values()]
    columns = ([one.figures.get(name) for _, one in points.values()] for name in (value, low, high))
    return Series(str(row.key).removeprefix(f"{row.key.model}, "), places, *columns)
