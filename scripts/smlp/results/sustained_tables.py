"""Sustained runs in the tables: the columns that they add to rows, what the notes say, and the lines of the plot."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas

from ..core.cli import UserError
from ..core.provenance import Facts
from . import sustained
from .cells import EMULATED_MARK
from .columns import LATENCY_WAY, rows, unique
from .reader import Record, Target
from .throughput_columns import SUSTAINED

# A rate that falls by more is named by a note of its own.
FALL_PERCENT = 5.0
# More points than that of one line are no more to see; a page of many lines would be megabytes.
_POINTS = 240
_MOST_BYTES = 16 << 20
_WHAT = {"temperature_c": "temperature {:.0f} to {:.0f} °C", "clock_mhz": "clock {:.0f} to {:.0f} MHz"}


class Course(NamedTuple):
    """One engine over time, for the plot. minutes: middle of each point.

    values: by what, aligned with minutes: rate (percent of the first minute's) and the names of sustained.STATE; what
    nothing tells is not there.
    """

    target: Target
    batch: int
    emulated: bool
    minutes: np.ndarray
    values: Mapping[str, np.ndarray]

    @property
    def name(self) -> str:
        return f"{self.target} batch size {self.batch}{EMULATED_MARK * self.emulated}"


def joined(table: pandas.DataFrame, records: Iterable[Record]) -> pandas.DataFrame:
    """The throughput table with what sustained runs add to their rows, those of the latency way.

    Raises UserError if two are of one row, or one is of no row, or of another engine than it.
    """
    places = {
        (row.model, Target(row.backend, row.precision, row.variant), row.batch): (place, row.engine_id)
        for place, row in enumerate(rows(table))
        if row.way == LATENCY_WAY
    }
    found: dict[int, Facts] = {}
    for record in records:
        about = f"{record.model}, {record.target}, batch size {record.batch}"
        if (record.model, record.target, record.batch) not in places:
            raise UserError(f"{record.path}: is about {about}, which no measured throughput is; measure that row too")
        place, engine_id = places[record.model, record.target, record.batch]
        if place in found:
            raise UserError(f"{record.path}: is the second sustained run of {about}; give each once")
        if None not in (engine_id, record.facts["engine_id"]) and engine_id != record.facts["engine_id"]:
            raise UserError(
                f"{record.path}: is about another engine than the measured one of {about}; run the older one again"
            )
        found[place] = _of_record(record)
    table = table.copy()
    for column in SUSTAINED:
        values = [found.get(place, {}).get(column.name) for place in range(len(table))]
        table[column.name] = pandas.Series(values, index=table.index, dtype=column.dtype)
    return table


def _of_record(record: Record) -> Facts:
    if record.failed:
        return {"sustained_disturbed": f"no sustained run: {record.failed}"}
    return {column.name: record.facts.get(column.name) for column in SUSTAINED}


def notes(table: pandas.DataFrame) -> list[str]:
    """What sustained runs say about rows of one model: all in one line, and one for each rate that falls."""
    ran = [row for row in rows(table) if row.sustained_percent is not None]
    shares = ", ".join(f"{_name(row)} {row.sustained_percent:.1f}%" for row in ran)
    parts = " or ".join(unique(sustained.first_part(row.sustained_s) for row in ran))
    found = [f"sustained load, last tenth of a run against its {parts}: {shares}."] if shares else []
    for row in ran:
        if row.sustained_percent < 100 - FALL_PERCENT:
            part = sustained.first_part(row.sustained_s)
            found.append(
                f"{_name(row)} does not keep its rate: after {row.sustained_s:.0f} s it was "
                f"{row.sustained_last_images_per_s:.1f} images/s, {100 - row.sustained_percent:.1f}% below "
                f"{row.sustained_first_images_per_s:.1f} in the {part}{_circumstances(row)}."
            )
    for row in rows(table):
        if row.sustained_disturbed and row.failed is None:
            found.append(f"sustained load of {_name(row)}: {row.sustained_disturbed}.")
    return found


def _name(row: Any) -> str:
    return f"{Target(row.backend, row.precision, row.variant or '')} {row.batch}{EMULATED_MARK * bool(row.emulated)}"


def _circumstances(row: Any) -> str:
    """What its device told meanwhile."""
    told = []
    for name, words in _WHAT.items():
        ends = [getattr(row, f"sustained_{name}_{when}") for when in ("start", "end")]
        told += [words.format(*ends)] if None not in ends else []
    told += [f"throttling: {row.sustained_throttling}"] if row.sustained_throttling else []
    return f" ({'; '.join(told)})" if told else ""


def courses(records: Iterable[Record]) -> dict[str, list[Course]]:
    """By model, how its sustained runs went; failed ones went nowhere."""
    found: dict[str, list[Course]] = {}
    for record in records:
        if not record.failed:
            found.setdefault(record.model, []).append(_course(record))
    return found


def _course(record: Record) -> Course:
    series = _read_series(record)
    middle_s = (series[:, 0] + series[:, 1]) / 2
    parts = np.array_split(np.arange(len(series)), min(_POINTS, len(series)))
    minutes = np.array([middle_s[part].mean() for part in parts]) / 60
    first = record.facts["sustained_first_images_per_s"]
    rate = [record.batch * series[part, 2].sum() / series[part, 3].sum() for part in parts]
    values = {"rate": 100 * np.array(rate) / first}
    for column, name in enumerate(sustained.STATE, len(sustained.Slot._fields)):
        told = [series[part, column] for part in parts]
        if not np.isnan(series[:, column]).all():
            values[name] = np.array([np.nan if np.isnan(own).all() else np.nanmean(own) for own in told])
    return Course(record.target, record.batch, record.emulated, minutes, values)


def _read_series(record: Record) -> np.ndarray:
    """The series beside a file of sustain.py; the digest of its content was checked if the file states one."""
    path = record.path.with_suffix(".npy")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path}: has more than {_MOST_BYTES} bytes, which no series has; run sustain.py again")
        series = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: no series of a sustained run can be read ({error}); run sustain.py again") from None
    if series.dtype != np.float64 or series.shape[1:] != (len(sustained.COLUMNS),) or not len(series):
        raise UserError(
            f"{path}: has {series.dtype} {series.shape}, float64 (slots, {len(sustained.COLUMNS)}) was expected; run "
            "sustain.py again"
        )
    counted = series[:, : len(sustained.Slot._fields)]
    if not np.isfinite(counted).all() or (series[:, 2:4] <= 0).any() or np.isinf(series).any():
        raise UserError(f"{path}: holds slots without runs, or no numbers; run sustain.py again")
    return series
