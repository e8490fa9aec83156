"""Where the time goes: profile.csv, and the part of the page that profile_engine.py's files make.

The sum of an engine's operators is held against its measured latency. What they differ by has three parts, and the page
names those that matter: operators against the profiled runs, profiled runs against plain ones in turn with them, and
those against the measurement.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas

from ..core.provenance import Facts
from .cells import Table, make_table, texts
from .columns import (
    BACKEND,
    BATCH,
    DEVICE,
    EMULATED,
    ENGINE,
    FAILED,
    LATENCY_WAY,
    MODEL,
    PRECISION,
    VARIANT,
    Column,
    frame,
    rows,
)
from .reader import Record, Target

AGREE = 0.10  # operators and latency, as a fraction of the latency
_PART = 0.05  # from which on a part of the difference is named
_SHOWN = 10
# What a precision is called whose name says something else.
_COMPUTES_IN = {"high": "fp16"}

PROFILE = (
    MODEL,
    BACKEND,
    PRECISION,
    VARIANT,
    BATCH,
    DEVICE,
    EMULATED,
    FAILED,
    Column("operator", "string", header="operator"),
    Column("type", "string", header="type"),
    Column("ran_in", "string", header="ran in", legend="the precision in which an operator really ran."),
    Column("unit", "string", header="unit", legend="what ran an operator: provider, kind of kernel, core of a device."),
    Column("calls", "Int64", "calls", "calls"),
    Column("ms", "Float64", "ms", "ms", ".3f"),
    Column("share", "Float64", "percent", "share (%)", ".1f", "of the sum of all operators of a run.", term="share"),
    Column("moves", "boolean"),
    Column("elsewhere", "boolean"),
    Column("operators_ms", "Float64", "ms"),
    Column("profiled_ms", "Float64", "ms"),
    Column("plain_ms", "Float64", "ms"),
    Column("measured_ms", "Float64", "ms"),
    ENGINE,
)


def make_profile(records: Iterable[Record], throughput: pandas.DataFrame) -> pandas.DataFrame:
    """One row per operator of each profiled engine, the most expensive first, with the columns PROFILE.

    An engine that could not be profiled is one row that says why. Of two profiles of one engine the first counts.
    """
    found: dict[tuple[Any, ...], list[Facts]] = {}
    for record in records:
        key = (record.model, record.target, record.batch)
        if key in found:
            continue
        about = {**record.identity, "emulated": record.emulated, "failed": record.failed, "device": None}
        about |= {name: record.facts.get(name) for name in ("device", "engine_id")}
        if record.failed:
            found[key] = [about]
            continue
        total_ms = record.facts["operators_ms"]
        about |= {
            "operators_ms": total_ms,
            "profiled_ms": record.facts["profiled_ms_mean"],
            "plain_ms": record.facts["plain_ms_mean"],
            "measured_ms": _measured_ms(record, throughput),
        }
        operations = sorted(record.facts["operations"], key=lambda one: -one["ms"])
        found[key] = [
            {
                **about,
                **one,
                "operator": one["name"],
                "ran_in": one["precision"],
                "share": 100 * one["ms"] / total_ms if total_ms else None,
                "precision": record.target.precision,
            }
            for one in operations
        ]
    return frame(PROFILE, [row for listed in found.values() for row in listed])


def _measured_ms(record: Record, throughput: pandas.DataFrame) -> float | None:
    """The mean latency of the same engine as measure.py found it, one request at a time."""
    for row in rows(throughput[throughput["way"] == LATENCY_WAY]):
        same = (row.model, row.backend, row.precision, row.variant or "", row.batch)
        if same == (record.model, *record.target, record.batch) and row.failed is None:
            return row.latency_ms_mean if row.engine_id in (None, record.facts["engine_id"]) else None
    return None


def make_profile_tables(profile: pandas.DataFrame) -> list[Table]:
    """For people: the ten most expensive operators of each engine, and what its operators add up to."""
    keys = ["model", "backend", "precision", "variant", "batch"]
    return [
        _table(of_engine.reset_index(drop=True)) for _, of_engine in profile.groupby(keys, sort=False, dropna=False)
    ]


def _table(table: pandas.DataFrame) -> Table:
    first = next(rows(table))
    about = (*Target(first.backend, first.precision, first.variant or ""), f"batch size {first.batch}")
    title = f"Where the time goes: {first.model}, {' '.join(filter(None, about))}"
    if first.failed:
        title = f"Where the time goes: {first.model}"
        return Table(title, ["profile"], [["none"]], [f"not profiled: {first.failed}"], 1)
    own = [column for column in PROFILE if column not in (MODEL, BACKEND, PRECISION, VARIANT, BATCH)]
    shown = texts(own, table.head(_SHOWN))
    notes = [
        _sum_note(first),
        f"conversions and transposes: {_percent(_share(table, table['moves']))} of the time; "
        f"elsewhere than asked: {_elsewhere(table)}.",
        f"by type: {_by_type(table)}.",
        _other_precisions(table, _COMPUTES_IN.get(first.precision, first.precision)),
    ]
    if first.emulated:
        notes.append("(emulated): an emulator stood in for the device; its times mean nothing.")
    more = len(table) - len(shown)
    notes += [f"{more} more operators are in profile.csv."] if more > 0 else []
    return make_table(title, own, shown, notes)


def _sum_note(row: Any) -> str:
    """How the operators add up to the latency, and if they do not, why."""
    base_ms = row.measured_ms or row.plain_ms
    name = "the measured latency" if row.measured_ms else "its runs without profiling (no measurement of it is given)"
    said = f"sum: the operators take {row.operators_ms:.3f} ms, {row.operators_ms / base_ms:.1%} of {name}, "
    said += f"{base_ms:.3f} ms"
    if abs(row.operators_ms / base_ms - 1) <= AGREE:
        return f"{said}."
    return f"{said}. They differ by more than {AGREE:.0%}: {'; '.join(_reasons(row, base_ms))}."


def _reasons(row: Any, base_ms: float) -> list[str]:
    between = row.operators_ms / row.profiled_ms - 1
    cost = row.profiled_ms / row.plain_ms - 1
    since = row.plain_ms / base_ms - 1
    if between < 0:
        first = f"{-between:.0%} of a profiled run are spent between operators, which no operator is told of"
    else:
        first = f"operators overlap, their sum is {between:.0%} more than a profiled run took"
    if cost > 0:
        second = f"profiling, or what else ran then, made runs {cost:.0%} slower ({row.profiled_ms:.3f} ms) than plain "
        second += f"ones in turn with them ({row.plain_ms:.3f} ms)"
    else:
        second = f"profiled runs ({row.profiled_ms:.3f} ms) were faster than plain ones in turn with them "
        second += f"({row.plain_ms:.3f} ms), as happens on a busy machine"
    third = (
        f"plain runs took {row.plain_ms:.3f} ms while it was profiled: the machine, or this load of the engine, was "
    )
    third += "slower than when it was measured" if since > 0 else "faster than when it was measured"
    parts = sorted(zip((between, cost, since), (first, second, third)), key=lambda part: -abs(part[0]))
    named = [words for size, words in parts if abs(size) > _PART]
    return named or [parts[0][1]]


def _share(table: pandas.DataFrame, which: pandas.Series) -> float:
    return float(table.loc[which.fillna(False), "share"].sum())


def _percent(share: float) -> str:
    return f"{share:.1f}%"


def _elsewhere(table: pandas.DataFrame) -> str:
    away = table[table["elsewhere"].fillna(False)]
    return f"{_percent(float(away['share'].sum()))} ({_listed(away, 'unit')})" if len(away) else "nothing"


def _by_type(table: pandas.DataFrame) -> str:
    return _listed(table, "ran_in")


def _listed(table: pandas.DataFrame, second: str) -> str:
    """Types with their precision, or what ran them, and their share of the time, the largest first."""
    groups = table.assign(**{second: table[second].fillna("unknown")}).groupby(["type", second], sort=False)
    shares = groups["share"].sum().sort_values(ascending=False, kind="stable")
    said = [f"{kind} ({own}) {_percent(share)}" for (kind, own), share in shares.head(_SHOWN).items()]
    return ", ".join(said) + (f", and {len(shares) - _SHOWN} more" if len(shares) > _SHOWN else "")


def _other_precisions(table: pandas.DataFrame, asked: str) -> str:
    """What did not run in the precision that was asked for. Conversions are none of it."""
    computing = table[~table["moves"].fillna(False)]
    other = computing[computing["ran_in"].notna() & (computing["ran_in"] != asked)]
    unknown = float(computing.loc[computing["ran_in"].isna(), "share"].sum())
    said = f"not in {asked}: "
    said += (
        f"{_percent(float(other['share'].sum()))} of the time, {_listed(other, 'ran_in')}" if len(other) else "nothing"
    )
    return said + (f"; of {_percent(unknown)} the runtime does not tell." if unknown >= 0.05 else ".")
