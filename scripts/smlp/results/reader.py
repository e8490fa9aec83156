"""What evaluate.py and measure.py found, and what others published: read and checked for the tables."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core import files
from ..core.cli import UserError

_PUBLISHED_COLUMNS = ("model", "what", "device", "software", "batch", "value", "unit", "source")
PERCENTILES = ("p50", "p90", "p95", "p99")

ACCURACY_COLUMNS = (
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
THROUGHPUT_COLUMNS = (
    "model",
    "backend",
    "precision",
    "batch",
    "way",
    "requests",
    "streams",
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
PERCENT = ("top1", "top5", "top1_wilson_low", "top1_wilson_high", "agreement", "published_top1")
# Ways of running an engine: one request at a time, or several at once.
LATENCY_WAY, THROUGHPUT_WAY = "latency", "throughput"
# What measure.py always finds.
_MEASURED = ("images_per_s", "latency_ms_mean", "latency_ms_p50")
# Columns that hold a number or nothing.
_NUMBERS = tuple(
    column
    for column in (*ACCURACY_COLUMNS, *THROUGHPUT_COLUMNS)
    if column.startswith(("images", "top", "agreement", "flips_", "mcnemar", "drop", "margin", "end_to_end", "latency"))
    or column
    in (
        "skipped",
        "num_classes",
        "requests",
        "streams",
        "runs",
        "warmup_runs",
        "threads",
        "host_load_before",
        "host_load_after",
        *_DEVICE_COLUMNS,
    )
)


class Target(NamedTuple):
    """What a table has a column for."""

    backend: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


class Record(NamedTuple):
    """One input file, or one way of running in it. figures: everything that it says, failed: why there are none."""

    path: Path
    model: str
    target: Target
    batch: int | None
    emulated: bool
    failed: str | None
    figures: dict[str, Any]
    way: str = LATENCY_WAY


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


def read_accuracy(paths: Iterable[Path]) -> list[Record]:
    """One record a file of evaluate.py, as `read_records` does."""
    return read_records(paths, ("images", "top1", "top5", "top1_wilson_low", "top1_wilson_high"))


def read_throughput(paths: Iterable[Path]) -> list[Record]:
    """One record a file of measure.py, as `read_records` does, or two: the throughput way follows the latency way."""
    return [way for record in read_records(paths, ("batch", *_MEASURED)) for way in _ways(record)]


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
    models = unique(record.model for record in records.values())
    targets = unique(record.target for record in records.values())
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
    if batch is None and "batch" in wanted:
        raise UserError(f"{path}: batch is None, a number was expected; is it a file of another stage?")
    if failed is None:
        _check_numbers(path, facts, wanted)
    else:
        failed = failed.strip() or "no reason was given"
        facts = {key: value for key, value in facts.items() if key not in _NUMBERS}
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


def _check_numbers(path: Path, facts: dict[str, Any], wanted: Sequence[str], where: str = "") -> None:
    for key in dict.fromkeys((*wanted, *_NUMBERS)):
        value = facts.get(key)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number and (value is not None or key in wanted):
            raise UserError(f"{path}: {where}{key} is {value!r}, a number was expected; is it a file of another stage?")
        if key in _MEASURED and value is not None and value <= 0:
            raise UserError(f"{path}: {where}{key} is {value!r}, more than 0 was expected; measure again")


def _ways(record: Record) -> list[Record]:
    """The latency way and, where the runtime has one, the throughput way. What the runtime runs with goes first."""
    if record.failed:
        return [record]
    facts, path = record.figures, record.path
    latency = {**facts, "requests": 1, **_settings(path, facts, "")}
    together = facts.get("throughput_way")
    if together is None:
        return [record._replace(figures=latency)]
    if not isinstance(together, dict):
        raise UserError(f"{path}: throughput_way is not what measure.py writes; measure again")
    where = "throughput_way."
    settings = _settings(path, together, where)
    if not settings.get("requests"):
        raise UserError(f"{path}: {where}settings do not say the number of requests; measure again")
    _check_numbers(path, together, _MEASURED, where)
    about = {key: value for key, value in facts.items() if key not in (*_NUMBERS, "stable")}
    return [
        record._replace(figures=latency),
        record._replace(figures={**about, **together, **settings}, way=THROUGHPUT_WAY),
    ]


def _settings(path: Path, facts: dict[str, Any], where: str) -> dict[str, int]:
    """What a runtime says that it runs with, as far as the tables have a column for it."""
    settings = facts.get("settings")
    if not isinstance(settings, dict | None):
        raise UserError(f"{path}: {where}settings is not what measure.py writes; measure again")
    known = {
        key: value for key in ("requests", "streams", "threads") if (value := (settings or {}).get(key)) is not None
    }
    for key, value in known.items():
        if type(value) is not int or value < 0:
            raise UserError(f"{path}: {where}settings.{key} is {value!r}, a whole number was expected; measure again")
    return known


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


def unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
