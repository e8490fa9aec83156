"""Tables for people: which columns they show, how a cell reads, and numbered notes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pandas

from .columns import Column, unique

NONE = "–"  # an empty cell
EMULATED_MARK = " (emulated)"


class Table(NamedTuple):
    """A table for people. left: how many columns, from the first, hold text; the others are flush right."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    left: int


class Footnotes:
    """Reasons, each numbered once, in the order in which they are first marked."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, reason: str) -> str:
        """The mark of a cell that the reason explains: [1]."""
        return f"[{self._numbers.setdefault(reason, len(self._numbers) + 1)}]"

    def lines(self) -> list[str]:
        return [f"[{number}] {reason}" for reason, number in self._numbers.items()]


def texts(columns: Sequence[Column], table: pandas.DataFrame, without: Collection[str] = ()) -> pandas.DataFrame:
    """The texts of what is shown for people: a frame with the columns' names, in the order for people."""
    shown = [column for column in columns if column.header and column.name not in without]
    shown = [column for column in shown if not column.optional or _has_values(column, table)]
    plain = table.astype(object).where(table.notna(), None)
    found = {
        column.name: [_text(column, *ends) for ends in zip(plain[column.name], plain[column.upper or column.name])]
        for column in _for_people(columns)
        if column in shown
    }
    return pandas.DataFrame(found, index=table.index, dtype="string")


def _text(column: Column, value: Any, upper: Any) -> str:
    """One cell. upper: the upper end, if the column shows an interval."""
    if value is None or upper is None:
        return NONE
    if column.dtype == "boolean":
        return "yes" if value else "no"
    return format(value, column.format) + (f" to {format(upper, column.format)}" if column.upper else "")


def _for_people(columns: Sequence[Column]) -> list[Column]:
    ordered = list(columns)
    for column in columns:
        if column.after:
            ordered.remove(column)
            ordered.insert([one.name for one in ordered].index(column.after) + 1, column)
    return ordered


def _has_values(column: Column, table: pandas.DataFrame) -> bool:
    known = table[column.name].dropna().tolist()
    return bool(known) if column.dtype == "Float64" else any(known)  # 0.0 is a measured value, 0 counts nothing


def make_table(
    title: str,
    columns: Sequence[Column],
    shown: pandas.DataFrame,
    notes: Sequence[str] = (),
    headers: Mapping[str, str] = {},
) -> Table:
    """A table of the cells that `texts` made. headers: of columns whose header depends on the data."""
    by_name = {column.name: column for column in columns}
    heads = [by_name[name] for name in shown.columns]
    left = next((place for place, column in enumerate(heads) if column.dtype != "string"), len(heads))
    header = [headers.get(column.name, column.header) for column in heads]
    return Table(title, header, shown.to_numpy().tolist(), list(notes), left)


def legend(*tables: Sequence[Column]) -> dict[str, str]:
    """What the columns mean, by term: first those that have a column for people, then marks in other cells."""
    explained = unique(column for columns in tables for column in _for_people(columns) if column.legend)
    explained.sort(key=lambda column: not column.header)
    return {column.term or column.header.partition(" (")[0]: column.legend for column in explained}
