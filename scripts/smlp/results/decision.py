"""The decision: which engine, way and batch size is the fastest whose accuracy holds, per device and precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .reader import PERCENTILES, Record, Target, unique
from .tables import NONE, Table, device_label, format_interval, format_number, is_unstable, way_name

# The rules: accuracy alone, and accuracy with a limit on latency.
ACCURACY, LATENCY = "accuracy", "accuracy_and_latency"

DECISION_COLUMNS = (
    "rule",
    "latency_ms_max",
    "model",
    "device",
    "emulated",
    "precision",
    "backend",
    "way",
    "batch",
    "requests",
    "stable",
    "images_per_s",
    "images_per_s_low",
    "images_per_s_high",
    "latency_ms",
    "latency_percentile",
    "verdict",
    "top1",
    "drop_points",
    "reference",
    "reference_images_per_s",
    "ratio_to_reference",
    "fastest_of_model",
    "note",
)


class Candidate(NamedTuple):
    """One measurement. verdict: of the same engine's accuracy, "reference" for the reference itself."""

    record: Record
    device: str
    verdict: str
    top1: float | None
    drop_points: float | None

    @property
    def images_per_s(self) -> float:
        return self.record.figures["images_per_s"]

    @property
    def eligible(self) -> bool:
        return self.verdict in ("pass", "reference")

    @property
    def latency(self) -> tuple[str, float]:
        """The highest percentile of a batch's latency that the runs support, and its milliseconds."""
        known = {name: self.record.figures.get(f"latency_ms_{name}") for name in PERCENTILES}
        return [(name, value) for name, value in known.items() if value is not None][-1]

    def __str__(self) -> str:
        return f"{way_name(str(self.record.target), self.record.way)}, batch size {self.record.batch}"


def make_decision(
    model: str,
    throughput: Iterable[Record],
    accuracy_rows: Iterable[Mapping[str, Any]],
    reference: Target,
    latency_ms_max: float | None = None,
) -> list[dict[str, Any]]:
    """One row a device and precision of the model, with the columns of decision.csv and `candidate` (None: no row).

    A row is eligible whose accuracy verdict at the same batch size is "pass", or which is the reference; with
    latency_ms_max also only where its highest percentile is at most that. Of equals the smaller batch size wins.
    """
    measured = [record for record in throughput if record.model == model and not record.failed]
    candidates = _candidates(measured, [row for row in accuracy_rows if row["model"] == model], reference)
    base = _fastest(one for one in candidates if one.record.target == reference and not one.record.emulated)
    rows = []
    for device, emulated, precision in unique(map(_group, candidates)):
        group = [one for one in candidates if _group(one) == (device, emulated, precision)]
        best = _fastest(one for one in group if one.eligible and _within(one, latency_ms_max))
        figures = best.record.figures if best else {}
        percentile, latency_ms = best.latency if best else (None, None)
        row = dict.fromkeys(DECISION_COLUMNS)
        row |= {
            "rule": ACCURACY if latency_ms_max is None else LATENCY,
            "latency_ms_max": latency_ms_max,
            "model": model,
            "device": device,
            "emulated": emulated,
            "precision": precision,
            "latency_ms": latency_ms,
            "latency_percentile": percentile,
            "reference": str(reference),
            "reference_images_per_s": base.images_per_s if base else None,
            "fastest_of_model": False,
            "note": " ".join(_notes(group, best, latency_ms_max)) or None,
            "candidate": best,
        }
        if best:
            row |= {
                "backend": best.record.target.backend,
                "way": best.record.way,
                "batch": best.record.batch,
                "verdict": best.verdict,
                "top1": best.top1,
                "drop_points": best.drop_points,
            }
            keys = ("requests", "stable", "images_per_s", "images_per_s_low", "images_per_s_high")
            row |= {key: figures.get(key) for key in keys}
            if base and not emulated:
                row["ratio_to_reference"] = best.images_per_s / base.images_per_s
        rows.append(row)
    winner = _fastest(row["candidate"] for row in rows if row["candidate"] and not row["emulated"])
    for row in rows:
        row["fastest_of_model"] = winner is not None and row["candidate"] is winner
    return rows


def _candidates(
    measured: Iterable[Record], accuracy_rows: Iterable[Mapping[str, Any]], reference: Target
) -> list[Candidate]:
    judged = {(Target(row["backend"], row["precision"]), row["batch"]): row for row in accuracy_rows}
    candidates = []
    for record in measured:
        row = judged.get((record.target, record.batch), {})
        if row.get("failed") is not None:
            verdict = "unknown (its accuracy run failed)"
        else:
            verdict = "reference" if record.target == reference else row.get("verdict") or "unknown"
        device = device_label(record.figures)
        candidates.append(Candidate(record, device, verdict, row.get("top1"), row.get("drop_points")))
    return candidates


def _group(one: Candidate) -> tuple[str, bool, str]:
    return one.device, one.record.emulated, one.record.target.precision


def _fastest(candidates: Iterable[Candidate]) -> Candidate | None:
    """The highest throughput; of equals the smaller batch size, then the earlier one."""
    return min(candidates, key=lambda one: (-one.images_per_s, one.record.batch), default=None)


def _within(one: Candidate, latency_ms_max: float | None) -> bool:
    return latency_ms_max is None or one.latency[1] <= latency_ms_max


def _notes(group: Sequence[Candidate], best: Candidate | None, latency_ms_max: float | None) -> list[str]:
    """Why there is no row, and each engine whose accuracy alone kept it from being the best: its fastest figure."""
    notes = []
    eligible = [one for one in group if one.eligible]
    if not eligible:
        notes.append("no row is eligible.")
    elif not best:
        lowest = min(eligible, key=lambda one: one.latency[1])
        percentile, latency_ms = lowest.latency
        notes.append(
            f"no eligible row stays within {latency_ms_max:g} ms; the smallest latency is {latency_ms:.3f} ms "
            f"({percentile}; {lowest})."
        )
    left_out = [one for one in group if not one.eligible and _within(one, latency_ms_max)]
    for target in unique(one.record.target for one in left_out):
        one = _fastest(one for one in left_out if one.record.target == target)
        if best is None or one.images_per_s > best.images_per_s:
            verb = "would be faster" if best else "was left out"
            notes.append(f"{one} ({_rate(one)} images/s) {verb}, its accuracy verdict: {one.verdict}.")
    return notes


def _rate(one: Candidate) -> str:
    return f"{one.images_per_s:.1f}" + ("*" if is_unstable(one.record) else "")


def make_decision_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The table of one model and rule, from the rows of `make_decision`, of which there is at least one."""
    first = rows[0]
    limit = first["latency_ms_max"]
    header = ["device", "precision", "engine", "way", "batch size", "images/s", "95% interval (images/s)"]
    header += ["latency (ms)", "top-1 (%)", "drop (points)", f"ratio to best {first['reference']}"]
    cells, notes = [], [_overall(rows)]
    for row in rows:
        device = row["device"] + (" (emulated)" if row["emulated"] else "")
        best = row["candidate"]
        if best:
            cells.append(
                [
                    device,
                    row["precision"],
                    row["backend"],
                    row["way"],
                    str(row["batch"]),
                    _rate(best),
                    format_interval(row["images_per_s_low"], row["images_per_s_high"], ".1f"),
                    f"{row['latency_ms']:.3f} ({row['latency_percentile']})",
                    format_number(row["top1"], ".2f"),
                    "reference" if row["verdict"] == "reference" else format_number(row["drop_points"], "+.2f"),
                    format_number(row["ratio_to_reference"], ".2f"),
                ]
            )
        else:
            cells.append([device, row["precision"], "none", *[NONE] * (len(header) - 3)])
        if row["note"]:
            notes.append(f"{device}, {row['precision']}: {row['note']}")
    notes.append("eligible: rows whose accuracy verdict at the same batch size is pass, and the reference itself.")
    if limit is not None:
        notes.append(
            f"limit: the latency of a batch as shown, the highest percentile that its runs support, is at most "
            f"{limit:g} ms."
        )
    if first["reference_images_per_s"] is not None:
        notes.append(f"ratio: to the best images/s of {first['reference']}, {first['reference_images_per_s']:.1f}.")
    if any(row["candidate"] and is_unstable(row["candidate"].record) for row in rows):
        notes.append("*: unstable; measure again on an idle machine before you decide.")
    if any(row["emulated"] for row in rows):
        notes.append("(emulated): its speed means nothing; it enters no ratio and is never the fastest row.")
    title = "Best row" if limit is None else f"Best row within {limit:g} ms"
    return Table(f"{title}: {first['model']}", header, cells, notes, left=4)


def _overall(rows: Sequence[Mapping[str, Any]]) -> str:
    winner = next((row for row in rows if row["fastest_of_model"]), None)
    model = rows[0]["model"]
    if not winner:
        return f"fastest row of {model}: none is eligible on a real device."
    best, ratio = winner["candidate"], winner["ratio_to_reference"]
    facts = [f"{_rate(best)} images/s"]
    facts += [f"{ratio:.2f} times the best of {winner['reference']}"] if ratio is not None else []
    facts += [f"verdict {best.verdict}"] if best.verdict != "reference" else ["the reference itself"]
    return f"fastest row of {model}: {best}, on {best.device}: {', '.join(facts)}."
