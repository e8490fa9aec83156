"""Make the two tables, the plots and the report from what evaluate.py and measure.py found.

Reads the JSON files of evaluate.py (--accuracy) and measure.py (--throughput) and the published figures. Models and
targets (backend, precision) appear in the order of the files. Writes into --output_dir:
  accuracy.csv, .md         one row a model, target and batch size, with two separate drops:
                            published -> reference (weights, preprocessing), reference -> engine (conversion)
  throughput.csv            one row a model, target and batch size, with everything that was measured
  throughput.md             the model-zoo guide's table for each model: batch sizes down, targets across, ratios
  throughput.png, .svg      images/s against batch size
  latency.png, .svg         latency percentiles against batch size
  flips.csv                 every image whose top-1 class the engine changed
  report.html               all of it in one file
The same files give the same tables and plots, byte for byte. --print shows both tables.

  scripts/tabulate.py --accuracy acc/*.json --throughput perf/*.json --output_dir results/tables --print

A file {"failed": "reason", "smlp": {"model", "backend", "precision", "batch"}} shows as a failed cell.
"""

from __future__ import annotations

import argparse
import csv
import html
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from smlp import cli, files
from smlp.cli import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PUBLISHED = Path(__file__).resolve().parents[1] / "resources" / "published.csv"
_PUBLISHED_COLUMNS = ("model", "what", "device", "software", "batch", "value", "unit", "source")
_NONE = "–"  # an empty cell in tables for people
_PERCENTILES = ("p50", "p90", "p95", "p99")
_FLIPS_SHOWN = 200  # in the report; flips.csv holds all

# Okabe and Ito's colours, told apart by people with any colour vision, without the yellow that white paper swallows.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = "osD^vPX*"  # one more than colours: the eighth target repeats neither pair
_PUBLISHED_GREYS = ("#4d4d4d", "#8c8c8c", "#b3b3b3")
_PUBLISHED_MARKERS = "x+1"

_ACCURACY_COLUMNS = (
    "model",
    "backend",
    "precision",
    "batch",
    "device",
    "emulated",
    "is_reference",
    "failed",
    "images",
    "skipped",
    "num_classes",
    "top1",
    "top5",
    "top1_wilson_low",
    "top1_wilson_high",
    "agreement",
    "flips_right_to_wrong",
    "flips_wrong_to_right",
    "mcnemar_p",
    "drop_points",
    "drop_low_points",
    "drop_high_points",
    "margin_points",
    "verdict",
    "published_top1",
    "published_device",
    "published_to_reference_drop_points",
    "engine_sha256",
)
# What accelerators with a tool for it say about themselves.
_DEVICE_COLUMNS = (
    "temperature_c_before",
    "temperature_c_after",
    "aicore_percent_before",
    "aicore_percent_after",
    "power_w_before",
    "power_w_after",
    "power_w_mean",
    "images_per_joule",
)
_THROUGHPUT_COLUMNS = (
    "model",
    "backend",
    "precision",
    "batch",
    "device",
    "emulated",
    "failed",
    "stable",
    "images_per_s",
    "images_per_s_low",
    "images_per_s_high",
    "end_to_end_images_per_s",
    "latency_ms_mean",
    "latency_ms_p50",
    "latency_ms_p90",
    "latency_ms_p95",
    "latency_ms_p99",
    "runs",
    "warmup_runs",
    "threads",
    "host_load_before",
    "host_load_after",
    *_DEVICE_COLUMNS,
    "engine_sha256",
    "started_at",
    "cpu_model",
    "versions",
)
# Columns that the files call by a shorter name, without the unit.
_PERCENT = ("top1", "top5", "top1_wilson_low", "top1_wilson_high", "agreement", "published_top1")
# Columns that hold a number or nothing.
_NUMBERS = tuple(
    column
    for column in (*_ACCURACY_COLUMNS, *_THROUGHPUT_COLUMNS)
    if column.startswith(("images", "top", "agreement", "flips_", "mcnemar", "drop", "margin", "end_to_end", "latency"))
    or column
    in (
        "skipped",
        "num_classes",
        "runs",
        "warmup_runs",
        "threads",
        "host_load_before",
        "host_load_after",
        *_DEVICE_COLUMNS,
    )
)
_FLIP_COLUMNS = ("model", "backend", "precision", "batch", "kind", "image", "label", "reference", "predicted")

_HOW_TO_READ = {
    "top-1, top-5": "share of images whose label is the engine's first guess, or among its first five.",
    "95% interval": "Wilson's interval of top-1: where it would lie on other images of the same kind.",
    "agreement": "share of images with the same top-1 class as the reference, right or wrong.",
    "flips": "images that the reference got right and the engine wrong, and the reverse.",
    "McNemar p": "chance of flips at least as one-sided as these if engine and reference were equally good (exact).",
    "drop": "top-1 of the reference minus that of the engine on the same images, in points, with Tango's 95% interval "
    "for paired proportions. Positive = the engine is worse.",
    "verdict": "pass: the whole interval of the drop lies below the margin; fail: it lies above; undecided: too few "
    "images to tell.",
    "published → reference": "published top-1 minus that of the reference: the share of weights and preprocessing. The "
    "drop above is the share of conversion.",
    "throughput": "1000 · batch size / mean compute milliseconds, as ais_bench and the model-zoo guide define it. "
    "Transfers are not counted; end-to-end images/s counts them.",
    "best": "each column's own optimum, its batch size in brackets.",
    "published columns": "figures that others measured on other machines with other software, as quoted.",
    "percentiles": "latency of a whole batch; only where the runs support one: p90 from 30, p95 from 60, p99 from 300.",
    "*": "unstable: latency had not settled, or drifted while measuring. Measure again on an idle machine.",
    "(emulated)": "an emulator stood in for the device: it says nothing about the device's speed.",
}


class Target(NamedTuple):
    """What a table has a column for."""

    backend: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


class Record(NamedTuple):
    """One input file. figures: everything that it says, failed: why there are none."""

    path: Path
    model: str
    target: Target
    batch: int | None
    emulated: bool
    failed: str | None
    figures: dict[str, Any]


class Published(NamedTuple):
    """One line of published.csv."""

    model: str
    what: str
    device: str
    software: str
    batch: int | None
    value: float
    source: str

    @property
    def column(self) -> str:
        return f"published {self.device}" + (f", {self.software}" if self.software else "")


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


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    if not flags.accuracy + flags.throughput:
        raise UserError(
            "nothing to tabulate; name files of evaluate.py with --accuracy, of measure.py with --throughput"
        )
    accuracy = read_records(flags.accuracy, ("images", "top1", "top5", "top1_wilson_low", "top1_wilson_high"))
    throughput = read_records(flags.throughput, ("batch", "images_per_s", "latency_ms_mean", "latency_ms_p50"))
    models = _unique(record.model for record in accuracy + throughput)
    published = choose_published(read_published(flags.published), models, flags.published_name)
    for model in flags.published_applies:
        if model not in models:
            raise UserError(f"--published_applies {model}: no such model; the files hold {', '.join(models)}")
    comparable = {model: lines for model, lines in published.items() if model in flags.published_applies}
    reference = Target(flags.reference_backend, flags.reference_precision)
    own_references = {model: Target(backend, flags.reference_precision) for model, backend in flags.reference_of}

    accuracy_rows = make_accuracy_rows(accuracy, reference, comparable, own_references)
    accuracy_table = make_accuracy_table(accuracy_rows)
    columns = {model: make_series(throughput, model, published[model]) for model in models}
    throughput_tables = [
        table for model in models if columns[model] for table in make_throughput_tables(model, columns[model])
    ]
    flips = make_flips(accuracy)
    contents: dict[str, str | bytes] = {
        "accuracy.csv": csv_text(_ACCURACY_COLUMNS, accuracy_rows),
        "accuracy.md": markdown([accuracy_table]),
        "throughput.csv": csv_text(_THROUGHPUT_COLUMNS, map(_throughput_row, throughput)),
        "throughput.md": markdown(throughput_tables),
        "flips.csv": csv_text(_FLIP_COLUMNS, flips),
    }
    for name, plot in (("throughput", plot_throughput), ("latency", plot_latency)):
        for suffix in (".png", ".svg"):
            contents[name + suffix] = render(plot, columns, name + suffix)
    contents["report.html"] = make_report(
        [accuracy_table, *throughput_tables],
        {name: contents[f"{name}.svg"].decode() for name in ("throughput", "latency")},
        make_detail_table(throughput),
        flips,
        accuracy + throughput,
    )
    for name, content in contents.items():
        with files.whole_file(flags.output_dir / name) as partial:
            partial.write_bytes(content if isinstance(content, bytes) else content.encode())
    if flags.print:
        sys.stdout.reconfigure(errors="replace")  # a terminal without → is no reason to fail
        print(contents["accuracy.md"], contents["throughput.md"], sep="\n", end="")
    return 0


# --- reading


def read_records(paths: Iterable[Path], wanted: Sequence[str]) -> list[Record]:
    """Records in the order of models and targets as they appear, batch sizes ascending.

    wanted: figures that a file must hold, as numbers. Raises UserError for a file that lacks one of them, or does not
    say what it is about, and for two files about the same.
    """
    records: dict[tuple[str, Target, int | None], Record] = {}
    for path in paths:
        record = _read_record(path, wanted)
        other = records.setdefault((record.model, record.target, record.batch), record)
        if other is not record:
            raise UserError(
                f"{path}: is about {record.model}, {record.target}, batch size {record.batch}, as {other.path} is; "
                "give each once"
            )
    models = _unique(record.model for record in records.values())
    targets = _unique(record.target for record in records.values())
    return sorted(
        records.values(),
        key=lambda record: (models.index(record.model), targets.index(record.target), record.batch or 0),
    )


def _read_record(path: Path, wanted: Sequence[str]) -> Record:
    content = files.read_json(path, "a summary of evaluate.py or measure.py")
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no summary of evaluate.py or measure.py; check the path")
    # evaluate.py has its facts at the top, measure.py (with ais_bench's keys there) and failures under "smlp"
    facts = content.get("smlp", content)
    failed = content.get("failed")
    if not isinstance(facts, dict) or not isinstance(failed, str | None):
        raise UserError(f"{path}: is no summary of evaluate.py or measure.py; make it again")
    for key in ("model", "backend", "precision"):
        if not isinstance(facts.get(key), str):
            raise UserError(
                f"{path}: does not say its {key}; make it again, for results of ais_bench with --model_label, "
                "--backend and --precision"
            )
    batch = facts.get("batch")
    if isinstance(batch, bool) or not isinstance(batch, int | None) or (batch is not None and batch < 1):
        raise UserError(f"{path}: batch is {batch!r}, a whole number of at least 1 was expected; make it again")
    for key in dict.fromkeys((*wanted, *_NUMBERS)) if failed is None else ():
        value = facts.get(key)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number and (value is not None or key in wanted):
            raise UserError(f"{path}: {key} is {value!r}, a number was expected; is it a file of another stage?")
        if key in ("images_per_s", "latency_ms_mean", "latency_ms_p50") and value is not None and value <= 0:
            raise UserError(f"{path}: {key} is {value!r}, more than 0 was expected; measure again")
    for key, kind in {"flips": list, "versions": dict, "host": dict, "engine": dict, "verdict": str}.items():
        value = facts.get(key)
        if not isinstance(value, kind | None) or (
            key == "flips" and not all(isinstance(flip, dict) for flip in value or ())
        ):
            raise UserError(f"{path}: {key} is not what evaluate.py or measure.py writes; make the file again")
    return Record(
        path,
        facts["model"],
        Target(facts["backend"], facts["precision"]),
        batch,
        bool(facts.get("emulated")),
        failed,
        facts,
    )


def read_published(path: Path) -> list[Published]:
    """The published figures. Raises UserError naming the line that is not as expected."""
    lines = []
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            lacking = [column for column in _PUBLISHED_COLUMNS if column not in (reader.fieldnames or ())]
            if lacking:
                raise UserError(f"{path}: has no column {', '.join(lacking)}; keep the shipped file's header")
            for row in reader:
                try:
                    batch = int(row["batch"]) if row["batch"] else None
                    value = float(row["value"])
                except (TypeError, ValueError):
                    batch = value = None
                if value is None or not 0 < value < math.inf or (row["what"] == "throughput" and not batch):
                    raise UserError(
                        f"{path}: line {reader.line_num}: a value above 0, for throughput a batch size, were expected"
                    )
                lines.append(
                    Published(row["model"], row["what"], row["device"], row["software"], batch, value, row["source"])
                )
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is no CSV file ({error}); keep the shipped file's form") from None
    return lines


def choose_published(
    lines: Iterable[Published], models: Sequence[str], renamed: Sequence[tuple[str, str]]
) -> dict[str, list[Published]]:
    """The published figures of each model, by its own name or the one in `renamed`; none for most models."""
    lines = list(lines)
    names = {model: model for model in models}
    for model, name in renamed:
        if model not in names:
            raise UserError(f"--published_name {model}={name}: no model {model}; the files hold {', '.join(models)}")
        names[model] = name
    return {model: [line for line in lines if line.model == names[model]] for model in models}


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


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
        row = {column: record.figures.get(column) for column in _ACCURACY_COLUMNS}
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
        line["batch size"] = _number(row["batch"], ".0f")
        if row["failed"] is not None:
            name = f"{row['model']}, {backend} {row['precision']}, batch size {line['batch size']}"
            notes.append(f"[{len(notes) + 1}] {name}: {row['failed']}")
            line["top-1 (%)"] = f"failed [{len(notes)}]"
        else:
            line["images"] = _number(row["images"], ".0f")
            line["skipped"] = _number(row["skipped"], ".0f")
            line["top-1 (%)"] = _number(row["top1"], ".2f")
            line["95% interval (%)"] = _interval(row["top1_wilson_low"], row["top1_wilson_high"], ".2f")
            line["top-5 (%)"] = _number(row["top5"], ".2f")
            line["published → reference (points)"] = _number(row["published_to_reference_drop_points"], "+.2f")
            line["verdict"] = "reference" if row["is_reference"] else row["verdict"] or _NONE
            line["agreement (%)"] = _number(row["agreement"], ".2f")
            line["flips right → wrong"] = _number(row["flips_right_to_wrong"], ".0f")
            line["flips wrong → right"] = _number(row["flips_wrong_to_right"], ".0f")
            line["McNemar p"] = _number(row["mcnemar_p"], ".3g")
            line["reference → engine (points)"] = _number(row["drop_points"], "+.2f")
            line["95% interval (points)"] = _interval(row["drop_low_points"], row["drop_high_points"], "+.2f")
        cells.append([line.get(name, _NONE) for name in header])
    judged = [row for row in rows if row["margin_points"] is not None and not row["is_reference"]]
    if judged:
        margins = ", ".join(_unique(str(float(row["margin_points"])) for row in judged))
        notes.append(f"verdict: pass where the whole interval of the drop lies below the margin, {margins} points.")
    for model in _unique(row["model"] for row in rows if row["published_top1"] is not None):
        row = next(row for row in rows if row["model"] == model and row["published_top1"] is not None)
        notes.append(
            f"{model}: {row['published_top1']:.2f} % top-1 are published ({row['published_device']}), on the same data."
        )
    if any(row["emulated"] for row in rows):
        notes.append("(emulated): an emulator stood in for the device.")
    return Table("Accuracy", header, cells, notes, left=3)


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else format(value, form)


def _interval(low: float | None, high: float | None, form: str) -> str:
    return _NONE if low is None or high is None else f"{low:{form}} to {high:{form}}"


def make_flips(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row an image whose top-1 class is not the reference's, with the columns of flips.csv."""
    return [
        {**{column: flip.get(column) for column in _FLIP_COLUMNS}, **_identity(record)}
        for record in records
        for flip in record.figures.get("flips") or ()
    ]


# --- throughput


def make_series(records: Iterable[Record], model: str, published: Iterable[Published]) -> list[Series]:
    """The columns of one model's throughput table: its targets, then the published devices; none without records."""
    columns = []
    own = [record for record in records if record.model == model and record.batch is not None]
    for target in _unique(record.target for record in own):
        by_batch = {record.batch: record for record in own if record.target == target}
        images_per_s = {
            batch: record.figures["images_per_s"] for batch, record in by_batch.items() if not record.failed
        }
        emulated = any(record.emulated for record in by_batch.values())
        name = f"{target} (emulated)" if emulated else str(target)
        columns.append(Series(name, emulated, False, images_per_s, by_batch))
    if columns:
        figures = [line for line in published if line.what == "throughput"]
        for name in _unique(line.column for line in figures):
            columns.append(Series(name, False, True, {ln.batch: ln.value for ln in figures if ln.column == name}, {}))
    return columns


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
    if any(_unstable(record) for column in columns for record in column.records.values()):
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
        notes.append(f"[{len(notes) + 1}] {column.name}, batch size {batch}: {record.failed}")
        return f"failed [{len(notes)}]"
    if batch not in column.images_per_s:
        return _NONE
    return f"{column.images_per_s[batch]:.1f}" + ("*" if record and _unstable(record) else "")


def _unstable(record: Record) -> bool:
    return not record.failed and record.figures.get("stable") is False


def _best(column: Series) -> int | None:
    """The batch size of the highest throughput, the smaller one of equals."""
    return min(column.images_per_s, key=lambda batch: (-column.images_per_s[batch], batch), default=None)


def _best_cell(column: Series, batch: int | None) -> str:
    return _NONE if batch is None else f"{_throughput_cell(column, batch, [])} (bs {batch})"


def _measured_note(column: Series) -> list[str]:
    """What a column was measured on and how, without which figures cannot be compared."""
    measured = [record.figures for record in column.records.values() if not record.failed]
    if not measured:
        return []
    devices = ", ".join(_unique(_device(figures) for figures in measured))
    versions = ", ".join(
        _unique(
            f"{package} {version}"
            for figures in measured
            for package, version in (figures.get("versions") or {}).items()
            if version and package not in ("python", "numpy")
        )
    )
    runs = _range(figures.get("runs") for figures in measured)
    warmup_runs = _range(figures.get("warmup_runs") for figures in measured)
    facts = [devices, versions, f"{runs} runs after {warmup_runs} warm-up runs" if runs else ""]
    return [f"{column.name}: {'; '.join(fact for fact in facts if fact)}."]


def _device(figures: dict[str, Any]) -> str:
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
            row.append(f"{column.images_per_s[batch] / base.images_per_s[batch]:.2f}" if known else _NONE)
        tops = (best[column.name], best[base.name])
        known = None not in tops
        row.append(f"{column.images_per_s[tops[0]] / base.images_per_s[tops[1]]:.2f}" if known else _NONE)
        rows.append(row)
    header = ["ratio at batch size", *(str(batch) for batch in batches), "best / best"]
    return Table(f"Throughput ratios: {model}", header, rows, [], left=1)


def _throughput_row(record: Record) -> dict[str, Any]:
    row = {column: record.figures.get(column) for column in _THROUGHPUT_COLUMNS}
    engine, host = record.figures.get("engine"), record.figures.get("host")
    row["engine_sha256"] = engine.get("sha256") if isinstance(engine, dict) else None
    row["cpu_model"] = host.get("cpu_model") if isinstance(host, dict) else None
    return {**row, **_identity(record)}


def make_detail_table(records: Iterable[Record]) -> Table:
    """Every measurement with its interval and percentiles, for the report."""
    header = ["model", "backend", "precision", "batch size", "images/s", "95% interval (images/s)"]
    header += ["end-to-end (images/s)", "mean (ms)", *(f"{name} (ms)" for name in _PERCENTILES)]
    header += ["runs", "warm-up runs", "stable", "host load before"]
    rows = []
    for record in records:
        figures = record.figures
        backend = record.target.backend + (" (emulated)" if record.emulated else "")
        line = [record.model, backend, record.target.precision, _number(record.batch, ".0f")]
        if record.failed:
            rows.append([*line, "failed", *[_NONE] * (len(header) - len(line) - 1)])
            continue
        interval = _interval(figures.get("images_per_s_low"), figures.get("images_per_s_high"), ".1f")
        line += [f"{figures['images_per_s']:.1f}", interval]
        line += [_number(figures.get("end_to_end_images_per_s"), ".1f"), _number(figures["latency_ms_mean"], ".3f")]
        line += [_number(figures.get(f"latency_ms_{name}"), ".3f") for name in _PERCENTILES]
        line += [_number(figures.get("runs"), ".0f"), _number(figures.get("warmup_runs"), ".0f")]
        stable = figures.get("stable")
        line += [
            _NONE if stable is None else "yes" if stable else "no",
            _number(figures.get("host_load_before"), ".2f"),
        ]
        rows.append(line)
    return Table("Measurements in detail", header, rows, [], left=3)


# --- writing


def csv_text(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """CSV with a header, units in its names. Unknown values are empty, what is no plain value is JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"{column}_percent" if column in _PERCENT else column for column in columns])
    for row in rows:
        writer.writerow([_csv_cell(row[column]) for column in columns])
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"  # 81.25, not 81.25000000000001
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def markdown(tables: Sequence[Table]) -> str:
    """Tables as aligned Markdown, readable as plain text too. (pandas' writer needs a package named as this file.)"""
    parts = [] if tables else ["nothing was measured\n"]
    for table in tables:
        cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in [table.header, *table.rows]]
        widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(table.header))]

        def line(row: list[str], widths: list[int] = widths, left: int = table.left) -> str:
            aligned = (
                cell.ljust(width) if column < left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            return "| " + " | ".join(aligned) + " |"

        rule = ["-" * width if column < table.left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
        lines = [f"## {table.title}", "", line(cells[0]), line(rule), *map(line, cells[1:]), ""]
        lines += [f"- {' '.join(note.split())}" for note in table.notes] + [""] * bool(table.notes)
        parts.append("\n".join(lines))
    return "\n".join(parts)


def html_table(table: Table) -> str:
    """A table as HTML, with its notes; every cell escaped."""

    def row(tag: str, cells: Iterable[str]) -> str:
        marked = (
            f'<{tag} class="{"text" if column < table.left else "number"}">{html.escape(cell)}</{tag}>'
            for column, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return "\n".join(
        [
            f"<h3>{html.escape(table.title)}</h3>",
            f'<div class="wide"><table><thead>{row("th", table.header)}</thead><tbody>',
            *(row("td", cells) for cells in table.rows),
            "</tbody></table></div>",
            f'<ul class="notes">{notes}</ul>' if notes else "",
        ]
    )


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; } h3 { margin: 1.4rem 0 .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; }
th, td { padding: .28rem .6rem; border-bottom: 1px solid #e2e2e2; vertical-align: top; }
th { border-bottom: 2px solid #888; } .number { text-align: right; font-variant-numeric: tabular-nums; }
.text { text-align: left; } .notes { font-size: .87rem; color: #444; }
svg { max-width: 100%; height: auto; } dt { font-weight: 600; } dd { margin: 0 0 .4rem 1.5rem; }
"""


def make_report(
    tables: Sequence[Table],
    plots: dict[str, str],
    detail: Table,
    flips: Sequence[dict[str, Any]],
    records: Sequence[Record],
) -> str:
    """One HTML file with everything, which loads nothing from elsewhere."""
    shown = [[str(flip[column]) for column in _FLIP_COLUMNS] for flip in flips[:_FLIPS_SHOWN]]
    more = [f"{len(flips) - len(shown)} more are in flips.csv."] if len(flips) > len(shown) else []
    flip_table = Table(
        f"Changed predictions: {len(flips)} images whose top-1 class is not that of the reference",
        list(_FLIP_COLUMNS),
        shown,
        more,
        left=len(_FLIP_COLUMNS),
    )
    legend = "".join(f"<dt>{html.escape(term)}</dt><dd>{html.escape(what)}</dd>" for term, what in _HOW_TO_READ.items())
    body = [
        "<h1>Accuracy and throughput</h1>",
        "<h2>Tables</h2>",
        *map(html_table, tables),
        "<h2>Plots</h2>",
        *(_inline(name, svg) for name, svg in plots.items()),
        "<h2>Details</h2>",
        html_table(detail),
        html_table(flip_table),
        "<h2>Provenance</h2>",
        *map(html_table, make_provenance_tables(records)),
        "<h2>How to read this</h2>",
        f"<dl>{legend}</dl>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Accuracy and throughput</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def _inline(name: str, svg: str) -> str:
    """An SVG file as part of a page: without its XML header, its ids told apart from another plot's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return f'<h3>{name.capitalize()} against batch size</h3>\n<div class="wide">{svg}</div>'


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
            hosts[tuple(str(host.get(key, _NONE)) for key in keys)] = None
        for package, version in (figures.get("versions") or {}).items():
            versions.setdefault(package, []).append(str(version))
        line = [str(record.path), record.model, str(record.target), _number(record.batch, ".0f")]
        line += [str(figures.get("device") or _NONE), str(figures.get("started_at") or _NONE)]
        sources.append([*line, files.digest(record.path)])
    version_rows = [[package, ", ".join(_unique(found))] for package, found in sorted(versions.items())]
    host_header = ["processor", "processors", "machine", "system"]
    source_header = ["file", "model", "target", "batch size", "device", "started at", "sha256"]
    tables = [
        Table("Machines", host_header, [list(host) for host in hosts], [], left=4),
        Table("Versions", ["package", "version"], version_rows, [], left=2),
        Table("Files", source_header, sources, [], left=7),
    ]
    return [table for table in tables if table.rows]


# --- plots


def render(plot: Callable[[dict[str, list[Series]]], Figure], columns: dict[str, list[Series]], name: str) -> bytes:
    """The file `name`, .png or .svg: the same bytes for the same columns whatever the user's matplotlib settings."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": f"smlp-sweep {name}",
                "text.parse_math": False,  # a $ in a name is a dollar
                "font.size": 10,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "grid.color": "#dddddd",
                "legend.frameon": False,
            }
        )
        target = io.BytesIO()
        kind = Path(name).suffix[1:]
        metadata = {"Date": None} if kind == "svg" else None
        plot(columns).savefig(target, format=kind, dpi=150, metadata=metadata)
    return target.getvalue()


def _figure(panels: int, across: int, panel_width: float, panel_height: float, sharey: bool) -> tuple[Figure, list]:
    """A figure with `panels` axes, `across` a row, and room for a legend below."""
    from matplotlib.figure import Figure

    across = max(1, min(across, panels))
    down = max(1, math.ceil(panels / across))
    figure = Figure(figsize=(panel_width * across, panel_height * down + 0.8), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False, sharey=sharey).flat)
    for spare in axes[panels:]:
        spare.remove()
    if not panels:
        axes = [figure.add_subplot()]
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, "nothing was measured", ha="center", va="center")
    return figure, axes[:panels]


def _batch_axis(axes: Any, batches: Iterable[int]) -> None:
    batches = sorted(set(batches))
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xticks([], minor=True)
    axes.set_xlim(batches[0] / 1.25, batches[-1] * 1.25)
    axes.set_xlabel("batch size")


def plot_throughput(columns: dict[str, list[Series]]) -> Figure:
    """Images/s against batch size, a panel a model: a line a target with its 95% intervals, published ones dashed."""
    from matplotlib.lines import Line2D

    models = [model for model, series in columns.items() if any(one.images_per_s for one in series)]
    targets = _unique(one.name for model in models for one in columns[model] if not one.published)
    quoted = _unique(one.name for model in models for one in columns[model] if one.published)
    figure, panels = _figure(len(models), 2, 7, 4.2, sharey=False)
    unstable_anywhere = False
    handles: dict[str, Any] = {}
    for axes, model in zip(panels, models, strict=True):
        for one in columns[model]:
            batches = sorted(one.images_per_s)
            if not batches:
                continue
            values = [one.images_per_s[batch] for batch in batches]
            if one.published:
                place = quoted.index(one.name)
                style = {"color": _PUBLISHED_GREYS[place % 3], "marker": _PUBLISHED_MARKERS[place % 3], "ls": "--"}
            else:
                place = targets.index(one.name)
                style = {
                    "color": _COLOURS[place % 7],
                    "marker": _MARKERS[place % 8],
                    "ls": ":" if one.emulated else "-",
                }
            errors = [[], []]
            for batch, value in zip(batches, values, strict=True):
                figures = one.records[batch].figures if batch in one.records else {}
                low, high = figures.get("images_per_s_low"), figures.get("images_per_s_high")
                errors[0].append(0 if low is None else max(0, value - low))
                errors[1].append(0 if high is None else max(0, high - value))
            yerr = errors if any(map(any, errors)) else None
            axes.errorbar(batches, values, yerr=yerr, capsize=3, label=one.name, **style)
            handles.setdefault(one.name, Line2D([], [], label=one.name, **style))
            unstable = [batch for batch in batches if batch in one.records and _unstable(one.records[batch])]
            if unstable:
                unstable_anywhere = True
                at = [one.images_per_s[batch] for batch in unstable]
                axes.plot(unstable, at, color=style["color"], marker=style["marker"], ls="", mfc="white", zorder=5)
        _batch_axis(axes, (batch for one in columns[model] for batch in one.images_per_s))
        rates = [rate for one in columns[model] for rate in one.images_per_s.values()]
        if rates and max(rates) > 8 * min(rates):  # a CPU beside an accelerator: from zero, its line would lie flat
            _logarithmic_axis(axes, min(rates), max(rates))
        else:
            axes.set_ylim(bottom=0)
        axes.set_ylabel("throughput (images/s)")
        axes.set_title(model)
    entries = [handles[name] for name in (*targets, *quoted) if name in handles]
    if unstable_anywhere:
        entries.append(Line2D([], [], color="#555555", marker="o", mfc="white", ls="", label="open marker: unstable"))
    if entries:
        figure.legend(handles=entries, loc="outside lower center", ncols=2 if len(entries) > 1 else 1)
    return figure


def plot_latency(columns: dict[str, list[Series]]) -> Figure:
    """Latency percentiles of a batch against batch size, a panel a model and target."""
    shown = [
        (model, one) for model, series in columns.items() for one in series if one.images_per_s and not one.published
    ]
    figure, panels = _figure(len(shown), 3, 4.2, 3.6, sharey=True)
    lows, highs = [], []
    batches = {batch for _, one in shown for batch in one.images_per_s}
    for axes, (model, one) in zip(panels, shown, strict=True):
        for name, colour, marker in zip(_PERCENTILES, _COLOURS, _MARKERS, strict=False):
            points = [
                (batch, one.records[batch].figures.get(f"latency_ms_{name}")) for batch in sorted(one.images_per_s)
            ]
            points = [(batch, value) for batch, value in points if value]
            # Percentiles lie close together: smaller markers for the higher ones keep the lower ones in sight.
            size = 8 - 1.5 * _PERCENTILES.index(name)
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=size, lw=1.3, label=name)
            lows += [value for _, value in points]
            highs += [value for _, value in points]
        _batch_axis(axes, batches)
        axes.set_title(f"{model}\n{one.name}", fontsize=10)
    for place, axes in enumerate(panels):
        _logarithmic_axis(axes, min(lows), max(highs))
        if place % 3 == 0:
            axes.set_ylabel("latency of a batch (ms)")
    if panels:
        from matplotlib.lines import Line2D

        present = {text for axes in panels for text in axes.get_legend_handles_labels()[1]}
        entries = [
            Line2D([], [], color=colour, marker=marker, label=name)
            for name, colour, marker in zip(_PERCENTILES, _COLOURS, _MARKERS, strict=False)
            if name in present
        ]
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))
    return figure


def _logarithmic_axis(axes: Any, low: float, high: float) -> None:
    """A logarithmic axis whose limits are ticks 1, 2 or 5 times a power of ten, so that some are always in sight."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    grid = [step * 10.0**power for power in range(-6, 9) for step in (1, 2, 5)]
    below = max((tick for tick in grid if tick <= low), default=grid[0])
    above = min((tick for tick in grid if tick >= high), default=grid[-1])
    axes.set_yscale("log")
    axes.set_ylim(below / 1.05, above * 1.05)
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in grid if below <= tick <= above]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


# --- flags


def _pair(text: str) -> tuple[str, str]:
    model, equals, name = text.partition("=")
    if not (model and equals and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form model=name")
    return model, name


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--accuracy", type=Path, nargs="*", default=[], help="JSON files of evaluate.py")
    parser.add_argument("--throughput", type=Path, nargs="*", default=[], help="JSON files of measure.py")
    parser.add_argument("--reference_backend", default="pytorch", help="backend of the reference rows")
    parser.add_argument("--reference_precision", default="fp32", help="precision of the reference rows")
    parser.add_argument(
        "--reference_of",
        type=_pair,
        nargs="*",
        default=[],
        metavar="MODEL=BACKEND",
        help="backend of a model's reference rows, where it is another, as without a checkpoint",
    )
    parser.add_argument("--published", type=Path, default=_PUBLISHED, help="table of published figures")
    parser.add_argument(
        "--published_name",
        type=_pair,
        nargs="*",
        default=[],
        metavar="MODEL=PUBLISHED",
        help="a model's name in the table of published figures, where it is another",
    )
    parser.add_argument(
        "--published_applies",
        nargs="*",
        default=[],
        metavar="MODEL",
        help="models evaluated on the published data set, whose top-1 may be compared with the published one",
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for tables, plots and report")
    parser.add_argument("--print", action="store_true", help="show both tables")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
