"""The decision: which engine, way and batch size is the fastest whose accuracy holds, per device and precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable

import pandas

from .cells import EMULATED_MARK, Table, make_table, texts
from .columns import DECISION, PERCENTILES, rows, typed, unique
from .conditions import MARK
from .reader import Record, Target
from .throughput import TARGET, UNSTABLE_MARK, device_of, is_implausible, is_marked, is_unchecked, is_unstable, way_name

# The rules: accuracy alone, and accuracy with a limit on latency.
BY_ACCURACY, BY_LATENCY = "accuracy", "accuracy_and_latency"

_JUDGED = ["failed", "verdict", "verdict_reason", "top1", "drop_points"]
# Of the fastest: rows whose figures differ by less are measured again in turn.
_NEAR = 0.05
# What a second measurement tells, by column of the decision.
_CONFIRMED = {
    f"confirmed_{name}": name
    for name in ("images_per_s", "images_per_s_low", "images_per_s_high", "stable", "disturbed", "loads")
}
_GROUP = ["device", "processor", "emulated", "precision", "conditions", "other_conditions"]


def make_decision(
    model: str,
    throughput: pandas.DataFrame,
    accuracy: pandas.DataFrame,
    reference: Target,
    latency_ms_max: float | None = None,
    percentile: str | None = None,
    confirmed: Iterable[Record] = (),
) -> pandas.DataFrame:
    """One row per device and precision of the model, with the columns DECISION; empty if no row is eligible there.

    A row is eligible if its accuracy verdict at the same batch size is "pass", or if it is the reference and others can
    be judged by it; with latency_ms_max also only if its latency is at most that. Latency is this percentile of all
    rows, the highest that every row supports unless it is given. Of equals the smaller batch size wins. Rows that were
    measured under other conditions than most are groups of their own. confirmed: rows that were measured again; they
    win over others, and among them the one that was faster then.
    """
    candidates = _candidates(model, throughput, accuracy, reference, percentile)
    candidates = _with_confirmed(candidates, confirmed)
    own = candidates[candidates["is_reference"] & ~candidates["emulated"]]
    base = own.sort_values("images_per_s").groupby("conditions").tail(1).set_index("conditions")
    groups, best, notes = [], [], []
    for group, all_of_group in candidates.groupby(_GROUP, sort=False):
        within = all_of_group if latency_ms_max is None else all_of_group[all_of_group["latency_ms"] <= latency_ms_max]
        winner = fastest(within[within["eligible"]])
        groups.append(group)
        best.append(-1 if winner is None else winner)
        notes.append(" ".join(_notes(all_of_group, within, winner, latency_ms_max)) or None)
    table = candidates.reindex(best).reset_index(drop=True)
    table[_GROUP] = pandas.DataFrame(groups, columns=_GROUP)
    real = ~table["emulated"].astype(bool)
    table["other_conditions"] = table["other_conditions"].replace("", pandas.NA)
    like_most = ~is_marked(table)
    table["fastest_of_model"] = table.index == fastest(table[real & like_most & table["images_per_s"].notna()])
    table["reference_images_per_s"] = table["conditions"].map(base["images_per_s"]).astype("Float64")
    table["reference_stable"] = table["conditions"].map(base["stable"])
    ratio = table["images_per_s"] / table["reference_images_per_s"]
    again = table["conditions"].map(base["confirmed_images_per_s"]).astype("Float64")
    both = table["confirmed_images_per_s"].notna() & again.notna()
    table["ratio_to_reference"] = ratio.mask(both, table["confirmed_images_per_s"] / again).where(real)
    of_both = table["conditions"].map(base["confirmed_stable"]).astype("boolean")
    steady = table["stable"] & table["reference_stable"]
    table["ratio_stable"] = steady.mask(both, table["confirmed_stable"] & of_both)
    table["ratio_confirmed"] = both
    table["reference_images_per_s"] = table["reference_images_per_s"].mask(both, again)
    table["device"] = [str(device_of(row.device, row.processor)) for row in rows(table)]
    constant = {
        "rule": BY_ACCURACY if latency_ms_max is None else BY_LATENCY,
        "latency_ms_max": latency_ms_max,
        "model": model,
        "reference": str(reference),
    }
    return typed(DECISION, table.assign(**constant, note=notes))


def _candidates(
    model: str, throughput: pandas.DataFrame, accuracy: pandas.DataFrame, reference: Target, percentile: str | None
) -> pandas.DataFrame:
    """What the model's engines were measured at, with the verdict of the same engine's accuracy.

    verdict: "reference" for the reference itself. latency_ms: NA if a row has too few runs for the percentile.
    """
    ran = throughput[(throughput["model"] == model) & throughput["failed"].isna()]
    found = ran.reset_index(drop=True).drop(columns="failed")
    judged = map(judgements(accuracy), rows(found))
    told = [[row and getattr(row, name) for name in _JUDGED] for row in judged]
    found[_JUDGED] = pandas.DataFrame(told, columns=_JUDGED, dtype=object)
    lost = found["failed"].notna() | found["verdict"].eq("fail").fillna(False)
    impossible = is_implausible(found)
    found["is_reference"] = (found[TARGET] == list(reference)).all(axis=1) & ~lost & ~is_unchecked(found) & ~impossible
    none = found["verdict"].isna() & found["verdict_reason"].notna()
    found["verdict"] = found["verdict"].replace("", pandas.NA).fillna("unknown")
    found.loc[found["is_reference"], "verdict"] = "reference"
    found.loc[none, "verdict"] = "none, for the reason in the accuracy table"
    found.loc[found["failed"].notna(), "verdict"] = "unknown (its accuracy run failed)"
    unchecked = is_unchecked(found)
    found["eligible"] = found["verdict"].isin(("pass", "reference")) & ~unchecked & ~impossible
    found.loc[unchecked, "verdict"] += ", and its batch size is not checked"
    found.loc[impossible, "verdict"] += ", and its figure is implausible"
    supported = [name for name in PERCENTILES if found[f"latency_ms_{name}"].notna().all()]
    percentile = percentile or supported[-1]
    found["latency_ms"], found["latency_percentile"] = found[f"latency_ms_{percentile}"], percentile
    devices = [device_of(row.device, row.cpu_model) for row in rows(found)]
    found["device"] = [device.name for device in devices]
    found["processor"] = [device.processor for device in devices]
    found["other_conditions"] = found["other_conditions"].fillna("")  # a missing key is no group
    return found


def _with_confirmed(candidates: pandas.DataFrame, confirmed: Iterable[Record]) -> pandas.DataFrame:
    """The candidates with the columns _CONFIRMED, NA in rows that were not measured again, or of another engine."""
    known = {
        (record.model, *record.target, record.batch, record.way, record.facts["engine_id"]): record.facts
        for record in confirmed
    }
    of_rows = [known.get((*_names(row), row.way, row.engine_id), {}) for row in rows(candidates)]
    found = {column: [facts.get(name) for facts in of_rows] for column, name in _CONFIRMED.items()}
    table = typed([column for column in DECISION if column.name in found], pandas.DataFrame(found, dtype=object))
    return pandas.concat([candidates, table], axis=1)


def finalists(
    model: str,
    throughput: pandas.DataFrame,
    accuracy: pandas.DataFrame,
    reference: Target,
    limits: Sequence[tuple[float | None, str | None]],
    count: int,
) -> list[Any]:
    """The rows to measure again: for each limit on latency those within 5% of the fastest, at most `count`, and the
    fastest of the reference. One row per engine, the fastest first; none if nothing is eligible on a real device.
    """
    found: dict[tuple[Any, ...], Any] = {}
    for latency_ms_max, percentile in limits:
        candidates = _candidates(model, throughput, accuracy, reference, percentile)
        real = candidates[candidates["eligible"] & ~candidates["emulated"] & candidates["other_conditions"].eq("")]
        within = real if latency_ms_max is None else real[(real["latency_ms"] <= latency_ms_max).fillna(False)]
        near = within[within["images_per_s"] >= (1 - _NEAR) * within["images_per_s"].max()]
        engines: dict[tuple[Any, ...], Any] = {}
        for row in rows(_ordered(near)):
            engines.setdefault(_names(row), row)
        first = list(engines.values())[:count]
        own = rows(_ordered(real[real["is_reference"]]).head(1)) if first else ()
        for row in (*first, *own):
            found.setdefault(_names(row), row)
    return list(found.values())


def judgements(accuracy: pandas.DataFrame) -> Callable[[Any], Any | None]:
    """A function: a row of throughput -> the row of the accuracy of the same engine and batch size, None if none.

    The same engine is the one with the same id; only if one of them states no id, the one with the same names.
    """
    by_id = {(row.engine_id, row.batch): row for row in reversed(list(rows(accuracy))) if row.engine_id}
    by_names = {_names(row): row for row in rows(accuracy)}

    def judged(row: Any) -> Any | None:
        named = by_names.get(_names(row))
        if named and row.engine_id and named.engine_id not in (None, row.engine_id):
            named = None
        return named or by_id.get((row.engine_id, row.batch))

    return judged


def _names(row: Any) -> tuple[Any, ...]:
    return (row.model, *(getattr(row, name) for name in TARGET), row.batch)


def _ordered(table: pandas.DataFrame, by: str = "images_per_s") -> pandas.DataFrame:
    """The rows, the highest throughput first; of equals the smaller batch size, then the earlier row."""
    return table.sort_values([by, "batch"], ascending=[False, True], kind="stable")


def fastest(table: pandas.DataFrame) -> int | None:
    """Label of the row with the highest throughput, of those that were measured again if there are any."""
    again = table[table["confirmed_images_per_s"].notna()]
    ordered = _ordered(again, "confirmed_images_per_s") if len(again) else _ordered(table)
    return next(iter(ordered.index), None)


def _notes(
    group: pandas.DataFrame, within: pandas.DataFrame, winner: int | None, latency_ms_max: float | None
) -> Iterator[str]:
    """Why there is no row, and each engine whose accuracy alone kept it from being the best: its fastest figure."""
    eligible = group[group["eligible"]]
    if not len(eligible):
        yield "no row is eligible."
    elif winner is None and eligible["latency_ms"].notna().any():
        lowest = next(rows(eligible.nsmallest(1, "latency_ms")))
        yield (
            f"no eligible row stays within {latency_ms_max:g} ms; the smallest latency is {lowest.latency_ms:.3f} ms "
            f"({lowest.latency_percentile}; {_name(lowest)})."
        )
    elif winner is None:
        yield f"no eligible row is known to stay within {latency_ms_max:g} ms."
    untold = eligible[eligible["latency_ms"].isna()]
    if latency_ms_max is not None and len(untold):
        names = ", ".join(map(_name, rows(untold)))
        yield f"too few runs for {untold['latency_percentile'].iloc[0]}, so not within the limit: {names}."
    first = next(rows(_ordered(within[within["eligible"]])), None)
    if winner is not None and first.images_per_s > group.at[winner, "images_per_s"]:
        yield f"{_name(first)} was ahead with {_rate(first)} images/s, and not when it was measured again in turn."
    for _, of_target in within[~within["eligible"]].groupby(TARGET, sort=False):
        first = next(rows(of_target.loc[[fastest(of_target)]]))
        if winner is None or first.images_per_s > group.at[winner, "images_per_s"]:
            verb = "was left out" if winner is None else "would be faster"
            yield f"{_name(first)} ({_rate(first)} images/s) {verb}, its accuracy verdict: {first.verdict}."


def _name(row: Any) -> str:
    return f"{way_name(Target(row.backend, row.precision, row.variant), row.way)}, batch size {row.batch}"


def _rate(row: Any) -> str:
    return f"{row.images_per_s:.1f}" + UNSTABLE_MARK * (row.stable is False)


def make_decision_table(table: pandas.DataFrame, unconfirmed: Sequence[str] = ()) -> Table:
    """The table for people of one model and rule, from what `make_decision` found: at least one row.

    unconfirmed: why rows were not measured again.
    """
    first = next(rows(table))
    limit, reference, decided = first.latency_ms_max, first.reference, table["backend"].notna()
    unstable, of_unstable = is_unstable(table), table["ratio_stable"].eq(False).fillna(False)
    of_again = table["confirmed_stable"].eq(False).fillna(False)
    shown = texts(DECISION, table)
    shown.loc[table["emulated"], "device"] += EMULATED_MARK
    shown.loc[is_marked(table), "device"] += f" {MARK}"
    shown.loc[~decided, "backend"] = "none"
    shown.loc[unstable, "images_per_s"] += UNSTABLE_MARK
    shown.loc[of_unstable & table["ratio_to_reference"].notna(), "ratio_to_reference"] += UNSTABLE_MARK
    if of_again.any():
        shown.loc[of_again, "confirmed_images_per_s"] += UNSTABLE_MARK
    shown.loc[decided, "latency_ms"] += " (" + table["latency_percentile"] + ")"
    shown.loc[table["verdict"].eq("reference").fillna(False), "drop_points"] = "reference"
    notes = [_overall(table)]
    groups = shown["device"] + ", " + table["precision"]
    notes += [f"{groups[place]}: {note}" for place, note in table["note"].dropna().items()]
    notes += [f"not confirmed: {reason}." for reason in unconfirmed]
    notes += [
        f"{groups[place]}, measured again: {why}." for place, why in table["confirmed_disturbed"].dropna().items()
    ]
    notes.append("eligible: rows whose accuracy verdict at the same batch size is pass, and the reference itself.")
    if limit is not None:
        notes.append(
            f"limit: the latency of a batch as shown, the same percentile of all rows, is at most {limit:g} ms; "
            "decision.latency_percentile in the settings."
        )
    again = table["ratio_confirmed"].eq(True).fillna(False)
    for what, which in (("ratio", ~again), ("ratio of a confirmed figure", again)):
        bases = unique(table.loc[which & ~is_marked(table), "reference_images_per_s"].dropna())
        measured = ", measured again too" if which is again else ""
        notes += [f"{what}: to the best images/s of {reference}{measured}, {base:.1f}." for base in bases[:1]]
    if is_marked(table).any():
        notes.append(f"{MARK}: under other conditions than most rows; its ratio is to the reference under the same.")
    if (unstable | of_unstable | of_again).any():
        notes.append(f"{UNSTABLE_MARK}: unstable, or a ratio of such; measure again on an idle machine first.")
    if table["emulated"].any():
        notes.append("(emulated): its speed means nothing; it enters no ratio and is never the fastest row.")
    title = "Best row" if limit is None else f"Best row within {limit:g} ms"
    headers = {"ratio_to_reference": f"ratio to best {reference}"}
    return make_table(f"{title}: {first.model}", DECISION, shown, notes, headers)


def _overall(table: pandas.DataFrame) -> str:
    best = next(rows(table[table["fastest_of_model"]]), None)
    if not best:
        return f"fastest row of {table['model'].iloc[0]}: none is eligible on a real device."
    facts = [f"{_rate(best)} images/s"]
    if best.confirmed_images_per_s is not None:
        mark = UNSTABLE_MARK * (best.confirmed_stable is False)
        facts = [f"{best.confirmed_images_per_s:.1f}{mark} images/s, measured again ({_rate(best)} in the sweep)"]
    if best.ratio_to_reference is not None:
        mark = UNSTABLE_MARK * (best.ratio_stable is False)
        facts.append(f"{best.ratio_to_reference:.2f}{mark} times the best of {best.reference}")
    facts.append("the reference itself" if best.verdict == "reference" else f"verdict {best.verdict}")
    return f"fastest row of {best.model}: {_name(best)}, on {best.device}: {', '.join(facts)}."
