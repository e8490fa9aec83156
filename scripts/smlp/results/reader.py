"""What evaluate.py and measure.py found, and what others published: read and checked for the tables.

resources/results.schema.yaml states the format of the files; the columns of the tables add what it does not name.
"""

from __future__ import annotations

import csv
import functools
import math
import re
import reprlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, NamedTuple

import jsonschema
import yaml

from ..core import files, identity
from ..core.cli import UserError
from ..core.provenance import Facts
from .columns import ACCURACY, LATENCY_WAY, THROUGHPUT_WAY, printable, unique
from .throughput_columns import THROUGHPUT

SCHEMA = Path(__file__).resolve().parents[3] / "resources" / "results.schema.yaml"

_CHECKSUMS = {"checkpoint_md5": 32, "checkpoint_sha256": 64}  # their hexadecimal digits
_PUBLISHED_COLUMNS = (
    *("model", "what", "device", "software", "batch", "value", "unit", "source"),
    *(*_CHECKSUMS, "images", "transform"),
)
_IDENTITY = ("model", "backend", "precision")
# What a runtime says that it runs with, as far as the tables have a column for it.
_SETTINGS = ("requests", "streams", "threads")
_WORDS = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
}
_AGAIN = {
    "accuracy": "evaluate again",
    "throughput": "measure again",
    "confirmation": "confirm again",
    "profile": "profile again",
    "sustained": "run sustain.py again",
    "failure": "make it again",
    "ceilings": "measure the ceilings again",
    "graph": "export again",
}


class Target(NamedTuple):
    """What the tables compare. variant: empty for a plain target."""

    backend: str
    precision: str
    variant: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))


@dataclass(frozen=True)
class Record:
    """One result file, or one way of running in it.

    failed: why there are no figures. facts: what the file says about itself, as results.schema.yaml describes it.
    """

    path: Path
    model: str
    target: Target
    batch: int | None
    emulated: bool
    failed: str | None
    facts: Facts
    way: str = LATENCY_WAY

    @property
    def identity(self) -> Facts:
        """What every table says a row is about, by column."""
        return {"model": self.model, **self.target._asdict(), "batch": self.batch}

    @property
    def start_id(self) -> str | None:
        """Identity of the checkpoint or ONNX file that the model starts from."""
        return (self.facts.get("start") or {}).get("id")

    @property
    def known(self) -> Facts:
        """Everything known, by column."""
        return {**self.facts, **self.identity, "emulated": self.emulated, "failed": self.failed, "way": self.way}


class Published(NamedTuple):
    """One line of published.csv. checkpoint_md5, checkpoint_sha256: of the file of weights; images: that were scored.

    transform: what they went through, as the table of accuracies words it. An accuracy without all these belongs to
    nothing that could be told from others.
    """

    model: str
    what: str
    device: str
    software: str
    batch: int | None
    value: float
    source: str
    checkpoint_md5: str = ""
    checkpoint_sha256: str = ""
    images: int | None = None
    transform: str = ""

    @property
    def column(self) -> str:
        return f"published {self.device}" + (f", {self.software}" if self.software else "")

    def is_of(self, start: Facts) -> bool:
        """Whether the figure is that of the file that a model starts from, by every checksum that the line gives.

        A file may hold several weights: nobody tells of those that the user chose.
        """
        if start.get("key"):
            return False
        listed = {"md5": self.checkpoint_md5, "sha256": self.checkpoint_sha256}
        return any(listed.values()) and all(value in ("", start.get(name)) for name, value in listed.items())


# --- result files


def read_accuracy(paths: Iterable[Path]) -> list[Record]:
    """One record per file of evaluate.py, in the order of `_ordered`. Raises UserError naming file, key and value."""
    return _ordered(_read_record(path, "accuracy") for path in paths)


def read_throughput(paths: Iterable[Path]) -> list[Record]:
    """As `read_accuracy`, of measure.py: one record per file, or two: the throughput way follows the latency way."""
    return [way for record in _ordered(_read_record(path, "throughput") for path in paths) for way in _ways(record)]


def check_loads(paths: Iterable[Path]) -> list[Record]:
    """The loads of one row that measure.py measured, in this order, with their latencies beside them.

    Raises UserError for what is none, or is not as it was written.
    """
    records = [_read_record(path, "throughput") for path in paths]
    for record in records:
        latencies = record.path.with_suffix(".npy")
        if not record.failed and not ("id" in record.facts and latencies.is_file() and record.facts.get("loads") == 1):
            raise UserError(f"{record.path}: is no load of measure.py, with {latencies.name} beside it; measure again")
    return records


def read_profiles(paths: Iterable[Path]) -> list[Record]:
    """One record per file of profile_engine.py, in their order; an engine may have several."""
    return [_read_record(path, "profile") for path in paths]


def rows_of(contents: Iterable[Any], path: Path) -> list[Record]:
    """As `read_throughput`, of rows that one file holds, in their order."""
    return [way for content in contents for way in _ways(_record(content, "throughput", path))]


def read_sustained(paths: Iterable[Path]) -> list[Record]:
    """One record per file of sustain.py, in the order of `_ordered`."""
    return _ordered(_read_record(path, "sustained") for path in paths)


def _ordered(found: Iterable[Record]) -> list[Record]:
    """Records in the order of models and targets as they appear, batch sizes ascending; two about the same raise."""
    records: dict[tuple[str, Target, int | None], Record] = {}
    for record in found:
        other = records.setdefault((record.model, record.target, record.batch), record)
        if other is not record:
            raise UserError(
                f"{record.path}: is about {record.model}, {record.target}, batch size {record.batch}, as {other.path} "
                "is; give each once"
            )
    models = unique(record.model for record in records.values())
    targets = unique(record.target for record in records.values())
    return sorted(
        records.values(),
        key=lambda record: (models.index(record.model), targets.index(record.target), record.batch or 0),
    )


def _read_record(path: Path, kind: str) -> Record:
    return _record(files.read_json(path, "a summary of evaluate.py or measure.py"), kind, path)


def _record(content: Any, kind: str, path: Path) -> Record:
    """The record of what a file holds."""
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no summary of evaluate.py or measure.py; check the path")
    # evaluate.py has its facts at the top, measure.py (with ais_bench's keys there) and failures under "smlp"
    facts = content.get("smlp", content)
    failed = content.get("failed")
    if not isinstance(facts, dict) or not isinstance(failed, str | None):
        raise UserError(f"{path}: is no summary of evaluate.py or measure.py; make it again")
    _check_identity(facts, failed, path)
    part = kind if failed is None else "failure"
    check(facts, part, path)
    batch = facts.get("batch")
    if batch is None and kind == "throughput":
        raise UserError(f"{path}: batch is None, a whole number was expected; is it a file of another stage?")
    if failed is not None:
        failed = failed.strip() or "no reason was given"
        facts = {key: value for key, value in facts.items() if key in _validators()[part].schema["properties"]}
    facts = {**facts, "engine_id": (facts.get("engine") or {}).get("id", facts.get("engine_id"))}
    model, *target = (printable(facts.get(key) or "") for key in ("model", *Target._fields))
    return Record(path, model, Target(*target), batch, bool(facts.get("emulated")), failed, facts)


def _check_identity(facts: Facts, failed: str | None, path: Path) -> None:
    """Raise UserError if a file, or the latencies beside it, are not as they were written; others state no id."""
    if identity.verify(facts, path) is None:
        return
    if failed != facts["identity"]["flags"].get("failed"):
        raise UserError(f"{path}: is not as it was written, failed is {failed!r}; remove the file to make it anew")
    if ".npy" in facts["identity"]["files"] and path.with_suffix(".npy").exists():
        identity.check_files(facts, path, path, only=[".npy"])


def check_join(accuracy: Iterable[Record], throughput: Iterable[Record]) -> None:
    """Raise UserError if figures about the same engine, or about the same model, are not.

    An accuracy and a throughput with the same names must be of one engine; all of a model must have started from the
    same checkpoint or ONNX file, and all its accuracies must have the same reference. A file may leave that open.
    """
    accuracy, throughput = list(accuracy), list(throughput)
    scored = {(record.model, record.target, record.batch): record for record in accuracy}
    for record in throughput:
        other = scored.get((record.model, record.target, record.batch))
        ids = {one.facts["engine_id"] for one in (record, other) if one} - {None}
        if len(ids) > 1:
            raise UserError(
                f"{record.path}: is about another engine than {other.path}, though both say {record.model}, "
                f"{record.target}, batch size {record.batch}; run the older one again, or give them different names"
            )
    _check_same(accuracy, lambda facts: facts.get("reference_id"), "was judged by another reference than")
    _check_same(
        [*accuracy, *throughput],
        lambda facts: (facts.get("start") or {}).get("id"),
        "started from another checkpoint or ONNX file than",
    )


def _check_same(records: Iterable[Record], fact: Callable[[Facts], str | None], how: str) -> None:
    firsts: dict[str, Record] = {}
    for record in records:
        if fact(record.facts) is None:
            continue
        first = firsts.setdefault(record.model, record)
        if fact(first.facts) != fact(record.facts):
            raise UserError(
                f"{record.path}: {how} {first.path}, though both are about {record.model}; run the older one again"
            )


# For JSON 8.0 is an integer, and Python reads NaN and 1e400; frames hold 64 bits.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda checker, value: type(value) is int and -(2**63) <= value < 2**63,
            "number": lambda checker, value: type(value) in (int, float) and abs(value) <= sys.float_info.max,
        }
    ),
)


@functools.cache
def _validators() -> dict[str, jsonschema.protocols.Validator]:
    """A validator for each part of the schema. Columns that it does not name must have their type, or be null."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # written in C if PyYAML has it: eight times as fast
    parts = yaml.load(SCHEMA.read_text(encoding="utf-8"), Loader=loader)["$defs"]
    figures = parts["throughput"]["properties"]
    for columns, named in (
        (ACCURACY, parts["accuracy"]["properties"]),
        (THROUGHPUT, figures),
        (THROUGHPUT, figures["throughput_way"]["properties"]),
    ):
        for column in columns:
            named.setdefault(column.name, {"type": [column.json_type, "null"]})
    return {name: _Validator(part) for name, part in parts.items()}


def check(facts: Facts, part: str, path: Path) -> None:
    """Raise UserError, naming file, key and value, if facts are not as a part of the schema says."""
    error = next(_validators()[part].iter_errors(facts), None)
    if error:
        raise UserError(f"{path}: {_explain(error, part)}")


def _explain(error: jsonschema.ValidationError, part: str) -> str:
    """One line for a person: the key, what it holds, what instead, what to do."""
    keys, value, schema = list(error.absolute_path), error.instance, error.schema
    if error.validator == "required":
        key = next(key for key in error.validator_value if key not in error.instance)
        keys, value, schema = [*keys, key], None, error.schema["properties"][key]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    wanted = " or ".join(_WORDS[kind] for kind in kinds if kind != "null")
    wanted += f" of at least {schema['minimum']}" if "minimum" in schema else ""
    wanted += f" of more than {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else ""
    meaning = f" ({schema['description']})" if "description" in schema else ""
    found = f"{'.'.join(map(str, keys))} is {reprlib.repr(value)}, {wanted} was expected{meaning}"
    if keys[0] in _IDENTITY:
        return (
            f"does not say its {keys[0]}: {found}; make it again, for results of ais_bench with --model_label, "
            "--backend and --precision"
        )
    return f"{found}; is it a file of another stage? If not, {_AGAIN[part]}"


def _ways(record: Record) -> list[Record]:
    """The latency way and, if the runtime has one, the throughput way. What the runtime runs with goes first."""
    if record.failed:
        return [record]
    facts, together = record.facts, record.facts.get("throughput_way")
    latency = replace(record, facts={**facts, "requests": 1, **_settings(facts)})
    if together is None:
        return [latency]
    figures = {column.name for column in THROUGHPUT if column.dtype in ("Int64", "Float64", "boolean")}
    about = {key: value for key, value in facts.items() if key not in figures}
    return [latency, replace(record, facts={**about, **together, **_settings(together)}, way=THROUGHPUT_WAY)]


def _settings(facts: Facts) -> Facts:
    settings = facts.get("settings") or {}
    return {key: settings[key] for key in _SETTINGS if settings.get(key) is not None}


# --- published figures


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
                where = f"{path}: line {reader.line_num}"
                if None in row.values():
                    raise UserError(f"{where}: has fewer values than the header has columns; leave unknown ones empty")
                try:
                    batch, images = (int(row[column]) if row[column] else None for column in ("batch", "images"))
                    value = float(row["value"])
                except ValueError:
                    batch = images = value = None
                if value is None or not 0 < value < math.inf or (row["what"] == "throughput" and not batch):
                    raise UserError(f"{where}: a value above 0 was expected, for throughput a batch size too")
                checksums = {column: row[column].strip().lower() for column in _CHECKSUMS}
                for column, text in checksums.items():
                    if text and not re.fullmatch(f"[0-9a-f]{{{_CHECKSUMS[column]}}}", text):
                        raise UserError(
                            f"{where}: {column} is {text!r}, {_CHECKSUMS[column]} hexadecimal digits were expected"
                        )
                transform = row["transform"].strip()
                if any(checksums.values()) and not (images and transform):
                    raise UserError(
                        f"{where}: gives a checkpoint's checksum; give the number of scored images too, and the "
                        "transform as the column transform of results/tables/accuracy.csv words it"
                    )
                about = [row[column] for column in ("model", "what", "device", "software")]
                lines.append(Published(*about, batch, value, row["source"], *checksums.values(), images, transform))
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
