"""A finished sweep as an entry of the history: from what tabulate.py read, or from a folder of results."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from ..core import files, identity
from ..core.cli import UserError
from ..core.provenance import Facts
from . import history
from .accuracy import make_accuracy
from .columns import rows
from .history import Entry, Key, Predictions, Row
from .predictions import read_predictions
from .reader import Record, Target, check_join, read_accuracy, read_throughput
from .throughput import make_throughput

# What a figure of speed depends on beside its engine and the versions of packages, as measurements state it.
_CONDITIONS = ("host", "processors", "memory")
# What differs between two runs though nothing has changed.
_NOT_KEPT = ("file", "conditions", "other_conditions", "rates_of_loads")
_NO_REFERENCE = Target("", "")


def make_entry(
    of_accuracy: Sequence[Record],
    of_throughput: Sequence[Record],
    accuracy: pandas.DataFrame,
    throughput: pandas.DataFrame,
    references: Iterable[Path] = (),
    settings: Facts | None = None,
    name: str = "",
) -> Entry:
    """The sweep whose tables these are, row by row made of these records.

    references: tables of predictions that engines were judged by. A row whose reference is not among them has no
    predictions.
    """
    by_digest = {files.digest(path): path for path in references}
    read = functools.cache(read_predictions)
    hosts: dict[str, Facts] = {}
    found = []
    for record, figures in zip(of_accuracy, _figures(accuracy), strict=True):
        reference = ((record.facts.get("inputs") or {}).get("reference") or {}).get("sha256")
        load = None
        if reference in by_digest and not record.failed and record.facts.get("flips") is not None:
            load = functools.partial(_predictions, record, by_digest[reference], read)
        row = Row("accuracy", _key(record), figures, _result(record), None, (), _asked(record), load, record.path)
        found.append(row)
    for record, figures in zip(of_throughput, _figures(throughput), strict=True):
        host = _host_of(record.facts.get("fingerprint"), hosts)
        rates = () if record.failed else _rates(record)
        about = (host, rates, _asked(record), None, record.path)
        found.append(Row("throughput", _key(record, record.way), figures, _result(record), *about))
    records = [*of_accuracy, *of_throughput]
    starts = {record.model: record.facts["start"] for record in records if record.facts.get("start")}
    times = (record.facts.get("device_released_at") or record.facts.get("started_at") or "" for record in records)
    return Entry(name, tuple(found), starts, hosts, settings, max(times, default=""))


def _figures(table: pandas.DataFrame) -> list[Facts]:
    known = ({name: value for name, value in row._asdict().items() if value is not None} for row in rows(table))
    return [{name: _plain(value) for name, value in one.items() if name not in _NOT_KEPT} for one in known]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _key(record: Record, way: str = "") -> Key:
    return Key(record.model, *record.target, record.batch, way)


def _result(record: Record) -> str | None:
    return record.facts.get("id")


def _asked(record: Record) -> Facts:
    """The flags that decided how a result was made, but for what the rows' own columns say."""
    flags = dict((record.facts.get("identity") or {}).get("flags") or {})
    return {name: value for name, value in flags.items() if name not in ("batch", "emulated", "failed", "settings")}


def _host_of(fingerprint: Facts | None, hosts: dict[str, Facts]) -> str | None:
    """The digest of what a measurement's host was and gave it; added to `hosts`."""
    if not fingerprint:
        return None
    about = {name: fingerprint.get(name) for name in _CONDITIONS}
    name = identity.digest(about)[:16]
    hosts[name] = about
    return name


def _rates(record: Record) -> tuple[float, ...]:
    """images/s of every load in the order of the rounds; none if the file does not state them."""
    stated = record.facts.get("rates_of_loads")
    if not isinstance(stated, list):
        return ()
    if not all(type(rate) in (int, float) and 0 < rate < math.inf for rate in stated):
        raise UserError(f"{record.path}: rates_of_loads holds what is no number above 0; measure again")
    return tuple(map(float, stated))


def _predictions(record: Record, reference: Path, read: Any) -> Predictions:
    """What an engine predicts: what its reference does, but for the images whose class it changed."""
    found = read(reference)
    predicted = {image: one.predicted for image, one in found.items()}
    for flip in record.facts["flips"]:
        image = flip.get("image") if isinstance(flip, dict) else None
        if image not in found or flip.get("reference") != predicted[image] or type(flip.get("predicted")) is not int:
            raise UserError(f"{record.path}: flips: {image} is not so in {reference}; evaluate again")
        predicted[image] = flip["predicted"]
    images = sorted(found)
    labels = np.array([found[image].label for image in images], dtype=np.int64)
    own = np.array([predicted[image] for image in images], dtype=np.int64)
    if abs(100 * float((labels == own).mean()) - record.facts["top1"]) > 1e-6:
        raise UserError(f"{record.path}: its flips do not lead from {reference} to its top1; evaluate again")
    return Predictions(tuple(images), labels, own)


# --- folders and files of results


def read_folder(folder: Path) -> Entry:
    """The sweep in a folder of results, or in the project that has one.

    If its tables are there, they say which files belong to it: others may be of earlier settings. Raises UserError for
    a folder without results, and as the tables would.
    """
    folder = results_of(folder)
    evaluated, measured = (
        [path for path in sorted(folder.glob(f"{stage}/**/bs*.json")) if path.stem[2:].isdigit()]
        for stage in ("evaluate", "measure")
    )
    # evaluate/<model>/reference/<dataset>.json, of a data set that has such a name
    evaluated = [path for path in evaluated if path.relative_to(folder).parts[2] != "reference"]
    if not evaluated + measured:
        raise UserError(
            f"{folder}: has no results of a sweep, no measure/**/bs*.json or evaluate/**/bs*.json; name a folder of "
            "results, an entry of a history, or files of measure.py and evaluate.py"
        )
    tables = {name: _table(folder / "tables" / f"{name}.csv") for name in history.TABLES}
    # imported results and own ones may both be there, about the same
    named = {(line.get("file") or "").partition("measure/")[2] for line in tables["throughput"]} - {""}
    measured = [path for path in measured if not named or path.relative_to(folder / "measure").as_posix() in named]
    of_accuracy = _of_tables(read_accuracy(evaluated), tables["accuracy"])
    of_throughput = _of_tables(read_throughput(measured), tables["throughput"])
    references = sorted(folder.glob("evaluate/*/reference/*.csv"))
    return _of_records(of_accuracy, of_throughput, references, str(folder))


def results_of(folder: Path) -> Path:
    """The folder of results itself: of a project's folder that in it."""
    has_none = not (folder / "measure").is_dir() and not (folder / "evaluate").is_dir()
    return folder / "results" if has_none and (folder / "results").is_dir() else folder


def _table(path: Path) -> list[dict[str, str]]:
    """The lines of a table of the sweep; none if there is no such file."""
    if not path.is_file():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is no CSV file ({error}); make the tables again") from None


def _of_tables(records: Sequence[Record], table: Sequence[Mapping[str, str]]) -> list[Record]:
    """The records that the table of their sweep has rows of; all if there is no table."""
    names = ("model", *Target._fields, "batch")
    named = {tuple(line.get(name) or "" for name in names) for line in table}
    return [
        record
        for record in records
        if not table or (record.model, *record.target, "" if record.batch is None else str(record.batch)) in named
    ]


def read_files(paths: Sequence[Path]) -> Entry:
    """Files of measure.py and evaluate.py as a sweep; those of measure.py have what ais_bench's summaries have."""
    kinds: Mapping[bool, list[Path]] = {True: [], False: []}
    for path in paths:
        content = files.read_json(path, "a file of measure.py or evaluate.py")
        kinds[isinstance(content, dict) and "smlp" in content].append(path)
    return _of_records(read_accuracy(kinds[False]), read_throughput(kinds[True]), (), ", ".join(map(str, paths)))


def _of_records(of_accuracy: list[Record], of_throughput: list[Record], references: Sequence[Path], name: str) -> Entry:
    check_join(of_accuracy, of_throughput)
    accuracy = make_accuracy(of_accuracy, _NO_REFERENCE, {record.model: [] for record in of_accuracy})
    return make_entry(of_accuracy, of_throughput, accuracy, make_throughput(of_throughput), references, None, name)
