"""Tables for people, and the rows of the CSV files, from records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core import files
from .reader import (
    ACCURACY_COLUMNS,
    LATENCY_WAY,
    PERCENTILES,
    THROUGHPUT_COLUMNS,
    THROUGHPUT_WAY,
    Published,
    Record,
    Target,
    unique,
)

NONE = "–"  # an empty cell in tables for people
FLIP_COLUMNS = ("model", "backend", "precision", "batch", "kind", "image", "label", "reference", "predicted")


class Table(NamedTuple):
    """A table for people. left: how many columns, from the first, hold text; the others are flush right."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    left: int


class Series(NamedTuple):
    """One column of a throughput table: a target's records, or a published device's figures, by batch size."""

    name: str
    emulated: bool
    published: bool
    images_per_s: dict[int, float]
    records: dict[int, Record]
    target: Target | None = None
    way: str = LATENCY_WAY


# --- accuracy


def make_accuracy_rows(
    records: Iterable[Record],
    reference: Target,
    published: dict[str, list[Published]],
    own_references: Mapping[str, Target] = {},
) -> list[dict[str, Any]]:
    """One row a record, with the columns of accuracy.csv.

    published: only of models whose data are comparable. own_references: of models that have another reference.
    """
    rows = []
    for record in records:
        row = {column: record.figures.get(column) for column in ACCURACY_COLUMNS}
        row.update(_identity(record), is_reference=record.target == own_references.get(record.model, reference))
        line = _published_top1(published.get(record.model, []))
        if line and row["is_reference"] and not record.failed:
            row["published_top1"], row["published_device"] = line.value, line.device
            row["published_to_reference_drop_points"] = line.value - row["top1"]
        rows.append(row)
    return rows


def _published_top1(lines: Iterable[Published]) -> Published | None:
    """What the weights reach in PyTorch, as published; else what the paper says."""
    found = {line.device: line for line in lines if line.what == "top1"}
    return found.get("pytorch") or found.get("paper")


def _identity(record: Record) -> dict[str, Any]:
    return {
        "model": record.model,
        "backend": record.target.backend,
        "precision": record.target.precision,
        "batch": record.batch,
        "emulated": record.emulated,
        "failed": record.failed,
    }


def make_accuracy_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The accuracy table for people; columns without any value are left out where they are optional."""
    with_published = any(row["published_top1"] is not None for row in rows)
    with_skipped = any(row["skipped"] for row in rows)
    header = ["model", "backend", "precision", "batch size", "images"]
    header += ["skipped"] if with_skipped else []
    header += ["top-1 (%)", "95% interval (%)", "top-5 (%)"]
    header += ["published → reference (points)"] if with_published else []
    header += ["agreement (%)", "flips right → wrong", "flips wrong → right", "McNemar p"]
    header += ["reference → engine (points)", "95% interval (points)", "verdict"]
    cells, notes = [], []
    for row in rows:
        backend = row["backend"] + (" (emulated)" if row["emulated"] else "")
        line = {"model": row["model"], "backend": backend, "precision": row["precision"]}
        line["batch size"] = format_number(row["batch"], ".0f")
        if row["failed"] is not None:
            name = f"{row['model']}, {backend} {row['precision']}, batch size {line['batch size']}"
            notes.append(f"[{len(notes) + 1}] {name}: {row['failed']}")
            line["top-1 (%)"] = f"failed [{len(notes)}]"
        else:
            line["images"] = format_number(row["images"], ".0f")
            line["skipped"] = format_number(row["skipped"], ".0f")
            line["top-1 (%)"] = format_number(row["top1"], ".2f")
            line["95% interval (%)"] = format_interval(row["top1_wilson_low"], row["top1_wilson_high"], ".2f")
            line["top-5 (%)"] = format_number(row["top5"], ".2f")
            line["published → reference (points)"] = format_number(row["published_to_reference_drop_points"], "+.2f")
            line["verdict"] = "reference" if row["is_reference"] else row["verdict"] or NONE
            line["agreement (%)"] = format_number(row["agreement"], ".2f")
            line["flips right → wrong"] = format_number(row["flips_right_to_wrong"], ".0f")
            line["flips wrong → right"] = format_number(row["flips_wrong_to_right"], ".0f")
            line["McNemar p"] = format_number(row["mcnemar_p"], ".3g")
            line["reference → engine (points)"] = format_number(row["drop_points"], "+.2f")
            line["95% interval (points)"] = format_interval(row["drop_low_points"], row["drop_high_points"], "+.2f")
        cells.append([line.get(name, NONE) for name in header])
    judged = [row for row in rows if row["margin_points"] is not None and not row["is_reference"]]
    if judged:
        margins = ", ".join(unique(str(float(row["margin_points"])) for row in judged))
        notes.append(f"verdict: pass where the whole interval of the drop lies below the margin, {margins} points.")
    for model in unique(row["model"] for row in rows if row["published_top1"] is not None):
        row = next(row for row in rows if row["model"] == model and row["published_top1"] is not None)
        notes.append(
            f"{model}: {row['published_top1']:.2f} % top-1 are published ({row['published_device']}), on the same data."
        )
    if any(row["emulated"] for row in rows):
        notes.append("(emulated): an emulator stood in for the device.")
    return Table("Accuracy", header, cells, notes, left=3)


def format_number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


def format_interval(low: float | None, high: float | None, form: str) -> str:
    return NONE if low is None or high is None else f"{low:{form}} to {high:{form}}"


def make_flips(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row an image whose top-1 class is not the reference's, with the columns of flips.csv."""
    return [
        {**{column: flip.get(column) for column in FLIP_COLUMNS}, **_identity(record)}
        for record in records
        for flip in record.figures.get("flips") or ()
    ]


# --- throughput


def make_series(records: Iterable[Record], model: str, published: Iterable[Published]) -> list[Series]:
    """The columns of one model's throughput table: its targets, then the published devices; none without records."""
    columns = []
    own = [record for record in records if record.model == model and record.batch is not None]
    for target in unique(record.target for record in own):
        records = [record for record in own if record.target == target]
        for way in sorted({record.way for record in records}):  # latency before throughput
            # what failed did so before it could run in any way
            by_batch = {record.batch: record for record in records if record.way == way or record.failed}
            images_per_s = {
                batch: record.figures["images_per_s"] for batch, record in by_batch.items() if not record.failed
            }
            emulated = any(record.emulated for record in by_batch.values())
            name = way_name(str(target), way) + (" (emulated)" if emulated else "")
            columns.append(Series(name, emulated, False, images_per_s, by_batch, target, way))
    if columns:
        figures = [line for line in published if line.what == "throughput"]
        for name in unique(line.column for line in figures):
            columns.append(Series(name, False, True, {ln.batch: ln.value for ln in figures if ln.column == name}, {}))
    return columns


def way_name(name: str, way: str) -> str:
    return f"{name}, throughput way" if way == THROUGHPUT_WAY else name


def make_throughput_tables(model: str, columns: Sequence[Series]) -> list[Table]:
    """The guide's table of one model, and the ratios of its columns."""
    batches = sorted({batch for column in columns for batch in (*column.images_per_s, *column.records)})
    notes: list[str] = []
    rows = []
    for batch in batches:
        rows.append([str(batch), *(_throughput_cell(column, batch, notes) for column in columns)])
    best = {column.name: _best(column) for column in columns}
    rows.append(["best", *(_best_cell(column, best[column.name]) for column in columns)])
    notes.append(
        "throughput = 1000 · batch size / mean compute ms, transfers not counted; best: each column's optimum."
    )
    if any(column.way == THROUGHPUT_WAY for column in columns):
        notes.append(
            "throughput way: several requests at once, each on a batch of its own, counted by the wall clock; "
            "the other columns: one request at a time."
        )
    if any(is_unstable(record) for column in columns for record in column.records.values()):
        notes.append("*: unstable, latency had not settled or drifted; measure again on an idle machine.")
    if any(column.emulated for column in columns):
        notes.append("(emulated): an emulator stood in for the device; its speed means nothing and enters no ratio.")
    notes += [note for column in columns if not column.published for note in _measured_note(column)]
    if any(column.published for column in columns):
        notes.append("published: quoted, not measured here; other machines and software.")
    header = ["batch size", *(f"{column.name} (images/s)" for column in columns)]
    tables = [Table(f"Throughput: {model}", header, rows, notes, left=0)]
    ratios = make_ratio_table(model, columns, batches, best)
    return [*tables, ratios] if ratios.rows else tables


def _throughput_cell(column: Series, batch: int, notes: list[str]) -> str:
    record = column.records.get(batch)
    if record and record.failed:
        what = f"{column.target}, batch size {batch}: {record.failed}"
        place = next((place for place, note in enumerate(notes, 1) if note == f"[{place}] {what}"), len(notes) + 1)
        if place > len(notes):
            notes.append(f"[{place}] {what}")
        return f"failed [{place}]"
    if batch not in column.images_per_s:
        return NONE
    return f"{column.images_per_s[batch]:.1f}" + ("*" if record and is_unstable(record) else "")


def is_unstable(record: Record) -> bool:
    return not record.failed and record.figures.get("stable") is False


def _best(column: Series) -> int | None:
    """The batch size of the highest throughput, the smaller one of equals."""
    return min(column.images_per_s, key=lambda batch: (-column.images_per_s[batch], batch), default=None)


def _best_cell(column: Series, batch: int | None) -> str:
    return NONE if batch is None else f"{_throughput_cell(column, batch, [])} (bs {batch})"


def _measured_note(column: Series) -> list[str]:
    """What a column was measured on and how, without which figures cannot be compared."""
    measured = [record.figures for record in column.records.values() if not record.failed]
    if not measured:
        return []
    devices = ", ".join(unique(device_label(figures) for figures in measured))
    versions = ", ".join(
        unique(
            f"{package} {version}"
            for figures in measured
            for package, version in (figures.get("versions") or {}).items()
            if version and package not in ("python", "numpy")
        )
    )
    runs = _range(figures.get("runs") for figures in measured)
    warmup_runs = _range(figures.get("warmup_runs") for figures in measured)
    settings = [
        f"{known} {key}{'' if known == '1' else 's'}"
        for key in ("request", "stream", "thread")
        if (known := _range(figures.get(f"{key}s") for figures in measured))
    ]
    # only a runtime that told its settings has a number of streams
    told = ", ".join(settings) if any(figures.get("streams") is not None for figures in measured) else ""
    facts = [devices, versions, told, f"{runs} runs after {warmup_runs} warm-up runs" if runs else ""]
    return [f"{column.name}: {'; '.join(fact for fact in facts if fact)}."]


def device_label(figures: dict[str, Any]) -> str:
    device = str(figures.get("device") or "unknown device")
    processor = (figures.get("host") or {}).get("cpu_model")
    return f"{device} ({processor})" if device.lower() == "cpu" and processor else device


def _range(values: Iterable[int | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return f"{min(known)}" if min(known) == max(known) else f"{min(known)} to {max(known)}"


def make_ratio_table(
    model: str, columns: Sequence[Series], batches: Sequence[int], best: dict[str, int | None]
) -> Table:
    """Ratios to the first target and to each published column; never of an emulator, whose speed means nothing."""
    real = [column for column in columns if not column.emulated]
    targets = [column for column in real if not column.published]
    pairs = [(column, targets[0]) for column in targets[1:]]
    pairs += [(column, other) for other in real if other.published for column in targets]
    rows = []
    for column, base in pairs:
        row = [f"{column.name} / {base.name}"]
        for batch in batches:
            known = batch in column.images_per_s and batch in base.images_per_s
            row.append(f"{column.images_per_s[batch] / base.images_per_s[batch]:.2f}" if known else NONE)
        tops = (best[column.name], best[base.name])
        known = None not in tops
        row.append(f"{column.images_per_s[tops[0]] / base.images_per_s[tops[1]]:.2f}" if known else NONE)
        rows.append(row)
    header = ["ratio at batch size", *(str(batch) for batch in batches), "best / best"]
    return Table(f"Throughput ratios: {model}", header, rows, [], left=1)


def throughput_row(record: Record) -> dict[str, Any]:
    row = {column: record.figures.get(column) for column in THROUGHPUT_COLUMNS}
    engine, host = record.figures.get("engine"), record.figures.get("host")
    row["engine_sha256"] = engine.get("sha256") if isinstance(engine, dict) else None
    row["cpu_model"] = host.get("cpu_model") if isinstance(host, dict) else None
    return {**row, **_identity(record), "way": record.way}


def make_detail_table(records: Iterable[Record]) -> Table:
    """Every measurement with its interval and percentiles, for the report."""
    records = list(records)
    with_ways = any(record.way == THROUGHPUT_WAY for record in records)
    header = ["model", "backend", "precision", *["way"] * with_ways, "batch size"]
    header += [*["requests", "streams", "threads"] * with_ways, "images/s", "95% interval (images/s)"]
    header += ["end-to-end (images/s)", "mean (ms)", *(f"{name} (ms)" for name in PERCENTILES)]
    header += ["runs", "warm-up runs", "stable", "host load before"]
    rows = []
    for record in records:
        figures = record.figures
        backend = record.target.backend + (" (emulated)" if record.emulated else "")
        line = [record.model, backend, record.target.precision, *[record.way] * with_ways]
        line += [format_number(record.batch, ".0f")]
        settings = [format_number(figures.get(key), ".0f") for key in ("requests", "streams", "threads")]
        line += settings if with_ways else []
        if record.failed:
            rows.append([*line, "failed", *[NONE] * (len(header) - len(line) - 1)])
            continue
        interval = format_interval(figures.get("images_per_s_low"), figures.get("images_per_s_high"), ".1f")
        line += [f"{figures['images_per_s']:.1f}", interval]
        line += [
            format_number(figures.get("end_to_end_images_per_s"), ".1f"),
            format_number(figures["latency_ms_mean"], ".3f"),
        ]
        line += [format_number(figures.get(f"latency_ms_{name}"), ".3f") for name in PERCENTILES]
        line += [format_number(figures.get("runs"), ".0f"), format_number(figures.get("warmup_runs"), ".0f")]
        stable = figures.get("stable")
        line += [
            NONE if stable is None else "yes" if stable else "no",
            format_number(figures.get("host_load_before"), ".2f"),
        ]
        rows.append(line)
    return Table("Measurements in detail", header, rows, [], left=4 if with_ways else 3)


# --- provenance


def make_provenance_tables(records: Sequence[Record]) -> list[Table]:
    """Machines, versions and source files of the figures."""
    hosts: dict[tuple[str, ...], None] = {}
    versions: dict[str, list[str]] = {}
    sources = []
    for record in records:
        figures = record.figures
        host = figures.get("host") or {}
        if host:
            keys = ("cpu_model", "cpu_count", "machine", "system")
            hosts[tuple(str(host.get(key, NONE)) for key in keys)] = None
        for package, version in (figures.get("versions") or {}).items():
            versions.setdefault(package, []).append(str(version))
        line = [str(record.path), record.model, str(record.target), format_number(record.batch, ".0f")]
        line += [str(figures.get("device") or NONE), str(figures.get("started_at") or NONE)]
        sources.append([*line, files.digest(record.path)])
    version_rows = [[package, ", ".join(unique(found))] for package, found in sorted(versions.items())]
    host_header = ["processor", "processors", "machine", "system"]
    source_header = ["file", "model", "target", "batch size", "device", "started at", "sha256"]
    tables = [
        Table("Machines", host_header, [list(host) for host in hosts], [], left=4),
        Table("Versions", ["package", "version"], version_rows, [], left=2),
        Table("Files", source_header, sources, [], left=7),
    ]
    return [table for table in tables if table.rows]
