"""Finished sweeps, one file each: what a sweep measured, so that others can be compared with it after it is gone.

A folder of history has
  <time>-<id>.jsonl            one entry: a line about the sweep (the head), then a line per row of its tables
  predictions/<sha256>.zz      what engines predict, and the names and labels of the images; by content, so that
                               engines that predict the same share one file, and all engines of a data set one list

An entry is a file of its own, which appears whole or not at all and is never changed. So a kill leaves no half line,
sweeps that end at the same time need no lock, and histories of several hosts are merged by copying files.

The head has `format`, `id` (a digest of the rows' identities), `ended_at`, `settings`, `starts` (of each model),
`hosts` (the fingerprints that rows name by their digest) and `seal`, a digest of all the rest. Entries come from
others, too: everything that is read is checked, and nothing in them is a path.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from ..core import cli, files, identity
from ..core.cli import UserError
from ..core.provenance import Facts
from .columns import ACCURACY, Column
from .throughput_columns import THROUGHPUT

FORMAT = "smlp-sweep history 1"
TABLES = {"accuracy": ACCURACY, "throughput": THROUGHPUT}
_PREDICTIONS = "predictions"
# Larger files are none of ours: an entry has some kilobytes a row, a list of images some bytes an image.
_MAX_ENTRY_BYTES = 256 << 20
_MAX_PREDICTIONS_BYTES = 1 << 30
_MAX_DEPTH = 60
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TYPES = {"string": str, "Int64": int, "Float64": (int, float), "boolean": bool}
_NAMES = ("model", "backend", "precision", "variant")


class Predictions(NamedTuple):
    """What an engine predicts. labels, predicted: int64 (N,), class indices of the images, in the order of names."""

    images: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray


class Key(NamedTuple):
    """What a row is about; rows of two sweeps with the same key are compared. way: empty in a table of accuracies."""

    model: str
    backend: str
    precision: str
    variant: str
    batch: int | None
    way: str = ""

    def __str__(self) -> str:
        batch = f"batch size {self.batch}" if self.batch else ""
        way = "throughput way" if self.way == "throughput" else ""
        target = " ".join(filter(None, (self.backend, self.precision, self.variant, way)))
        return ", ".join(filter(None, (self.model, target, batch)))


@dataclass(frozen=True)
class Row:
    """One row of a table of a sweep.

    table: accuracy or throughput. figures: known values of the table's columns. result: identity of the result, None
    if its file states none. host: digest of the fingerprint. rates: images/s of every load, in the order of rounds.
    asked: the flags that decided how it was measured or judged. predictions: how to get them, None if nobody can.
    source: the result file, None of a row that was read from a history.
    """

    table: str
    key: Key
    figures: Facts
    result: str | None = None
    host: str | None = None
    rates: tuple[float, ...] = ()
    asked: Facts = field(default_factory=dict)
    predictions: Callable[[], Predictions] | None = None
    source: Path | None = None

    @property
    def failed(self) -> str | None:
        """Why there are no figures."""
        return self.figures.get("failed")


@dataclass(frozen=True)
class Entry:
    """One finished sweep. name: what to call it. settings: None if they are not known. ended_at: ISO 8601, or ""."""

    name: str
    rows: tuple[Row, ...]
    starts: Mapping[str, Facts]
    hosts: Mapping[str, Facts]
    settings: Facts | None = None
    ended_at: str = ""

    @property
    def id(self) -> str:
        """The same for the same results, whatever else was made of them."""
        about = [[row.table, *row.key, row.result or identity.digest(row.figures)] for row in self.rows]
        return identity.digest(sorted(about, key=json.dumps))

    def by_key(self, table: str) -> dict[Key, Row]:
        """The rows of a table."""
        return {row.key: row for row in self.rows if row.table == table}


# --- writing


def append(folder: Path, entry: Entry) -> Path | None:
    """Add a finished sweep to the history; None if it is there already. Raises UserError if `folder` is no folder."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; a folder was expected there for the history, name another in `history`")
    # what names the entry is the id in it: a sweep of yesterday with other settings but the same results is no news
    if any(folder.glob(f"*-{entry.id[:16]}.jsonl")):
        return None
    lines = []
    for row in entry.rows:
        line: Facts = {"table": row.table, "key": row.key._asdict(), "figures": row.figures}
        line |= {"engine_id": row.figures.get("engine_id"), "host": row.host, "result": row.result}
        line |= {"rates": list(row.rates), "asked": row.asked}
        line["predictions"] = _store(folder, row.predictions()) if row.predictions else None
        lines.append(line)
    head = {
        "format": FORMAT,
        "id": entry.id,
        "ended_at": entry.ended_at,
        "settings": without_secrets(entry.settings),
        "starts": dict(entry.starts),
        "hosts": dict(entry.hosts),
        "rows": len(lines),
    }
    head["seal"] = identity.digest([head, lines])
    path = folder / f"{_time_in_name(entry.ended_at)}-{entry.id[:16]}.jsonl"
    files.write_text(path, "".join(json.dumps(line, allow_nan=False) + "\n" for line in (head, *lines)))
    return path


def _time_in_name(text: str) -> str:
    try:
        when = datetime.datetime.fromisoformat(text).astimezone(datetime.timezone.utc)
    except (ValueError, OverflowError):
        return "00000000T000000Z"
    return when.strftime("%Y%m%dT%H%M%SZ")


def without_secrets(value: Any) -> Any:
    """Settings without what lets somebody in: of URLs the user, the password and the query."""
    if isinstance(value, dict):
        return {str(key): without_secrets(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_secrets(one) for one in value]
    if isinstance(value, str) and "://" in value:
        scheme, _, rest = value.partition("://")
        place, slash, path = rest.partition("/")
        return f"{scheme}://{place.rpartition('@')[2]}{slash}{re.split('[?#]', path)[0]}"
    return value


def _store(folder: Path, found: Predictions) -> str:
    """Keep predictions; their digest."""
    images = {"images": list(found.images), "labels": found.labels.tolist()}
    return _put(folder, {"of": _put(folder, images), "predicted": found.predicted.tolist()})


def _put(folder: Path, value: Facts) -> str:
    name = identity.digest(value)
    path = _place(folder, name)
    if not path.exists() or _get(path, name, again=True) is None:  # a damaged one is made again
        packed = zlib.compress(json.dumps(value, sort_keys=True).encode(), 9)
        with files.whole_file(path) as partial:
            partial.write_bytes(packed)
    return name


def _place(folder: Path, name: str) -> Path:
    return folder / _PREDICTIONS / f"{name}.zz"


# --- reading


def paths(folder: Path) -> list[Path]:
    """The entries of a history, by their time."""
    return sorted(folder.glob("*.jsonl"))


def read_all(folder: Path, newest: int | None = None) -> list[Entry]:
    """Every entry of a history by its time, or the newest ones; what cannot be read is named on stderr and left out."""
    found = []
    for path in paths(folder)[-newest if newest else None :]:
        try:
            found.append(read(path))
        except UserError as error:
            cli.say(f"left out of the history: {error}")
    return sorted(found, key=lambda entry: (entry.ended_at, entry.id))


def read(path: Path) -> Entry:
    """One entry. Raises UserError, naming the file, for one that is not as it was written, or holds what none holds."""
    lines = _read_lines(path)
    head, rest = lines[0], lines[1:]
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise UserError(f"{path}: its first line does not say {FORMAT!r}; name an entry of a history")
    stated = head.pop("seal", None)
    if head.get("rows") != len(rest) or identity.digest([head, rest]) != stated:
        raise UserError(f"{path}: is not as it was written, its seal is broken; get it again, or remove it")
    hosts, starts, settings = head.get("hosts"), head.get("starts"), head.get("settings")
    if not (_is_facts(hosts) and _is_facts(starts) and isinstance(settings, dict | None)):
        raise UserError(f"{path}: its head has no hosts and starts; get it again, or remove it")
    rows = tuple(_row(line, f"{path}: line {number}", path.parent) for number, line in enumerate(rest, 2))
    if len({(row.table, row.key) for row in rows}) < len(rows):
        raise UserError(f"{path}: has two rows about the same; get it again, or remove it")
    entry = Entry(str(path), rows, starts, hosts, settings, str(head.get("ended_at") or ""))
    if entry.id != head.get("id"):
        raise UserError(f"{path}: its id is not that of its rows; get it again, or remove it")
    return entry


def _read_lines(path: Path) -> list[Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; name an entry of a history")
    if path.stat().st_size > _MAX_ENTRY_BYTES:
        raise UserError(f"{path}: has {path.stat().st_size} bytes, too many for an entry of a history")
    try:
        lines = [_parse(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: holds a line that is not JSON ({error}); get it again, or remove it") from None
    if not lines:
        raise UserError(f"{path}: is empty; an entry of a history was expected")
    return lines


def _parse(text: str) -> Any:
    """A JSON value that is no deeper than ours are; NaN and infinity are none."""
    value = json.loads(text, parse_constant=_refuse)
    _check_depth(value, _MAX_DEPTH)
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check_depth(value: Any, left: int) -> None:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if inner and not left:
        raise ValueError("it is nested too deeply")
    for one in inner:
        _check_depth(one, left - 1)


def _is_facts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, dict) for one in value.values())


def _row(line: Any, where: str, folder: Path) -> Row:
    """One row. Raises UserError for a value that its column cannot hold."""
    again = "get it again, or remove it"
    table = line.get("table") if isinstance(line, dict) else None
    if table not in TABLES:
        raise UserError(f"{where}: is no row of accuracy or throughput; {again}")
    key, figures, rates, asked = (line.get(name) for name in ("key", "figures", "rates", "asked"))
    if not (isinstance(key, dict) and isinstance(figures, dict) and isinstance(asked, dict)):
        raise UserError(f"{where}: lacks its key, figures or flags; {again}")
    names = [key.get(name) for name in (*_NAMES, "way")]
    batch = key.get("batch")
    if not (all(isinstance(name, str) for name in names) and (batch is None or _is(batch, int))):
        raise UserError(f"{where}: does not say what it is about; {again}")
    known = {column.name: column for column in TABLES[table]}
    kept = {name: value for name, value in figures.items() if name in known and value is not None}
    for name, value in kept.items():
        if not _fits(known[name], value):
            raise UserError(f"{where}: {name} is {str(value)[:60]!r}, a {known[name].json_type} was expected; {again}")
    if not isinstance(rates, list) or not all(_is_rate(rate) for rate in rates):
        raise UserError(f"{where}: the rates of its loads are no numbers above 0; {again}")
    host, result, predictions = (line.get(name) for name in ("host", "result", "predictions"))
    if not all(isinstance(text, str | None) for text in (host, result, predictions)):
        raise UserError(f"{where}: host, result and predictions are digests; {again}")
    if predictions and not _SHA256.fullmatch(predictions):  # it becomes part of a path
        raise UserError(f"{where}: predictions is {predictions[:80]!r}, 64 hexadecimal digits were expected; {again}")
    load = (lambda: _predictions(folder, predictions)) if predictions else None
    about = Key(*names[:-1], batch, names[-1])
    return Row(table, about, kept, result, host, tuple(map(float, rates)), asked, load)


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _fits(column: Column, value: Any) -> bool:
    if column.dtype not in _TYPES:
        return True  # JSON, which is shown as text
    if not _is(value, _TYPES[column.dtype]):
        return False
    return isinstance(value, str | bool) or abs(value) <= (sys.float_info.max if column.dtype == "Float64" else 2**62)


def _is_rate(value: Any) -> bool:
    return _is(value, (int, float)) and 0 < value < 1e12 and math.isfinite(value)


def _predictions(folder: Path, name: str) -> Predictions:
    path = _place(folder, name)
    found = _get(path, name)
    of = found.get("of")
    if not (isinstance(of, str) and _SHA256.fullmatch(of)):
        raise UserError(f"{path}: does not say of which images it is; get it again")
    about = _get(_place(folder, of), of)
    images, labels, predicted = about.get("images"), about.get("labels"), found.get("predicted")
    if not (
        all(isinstance(one, list) for one in (images, labels, predicted))
        and len(images) == len(labels) == len(predicted) == len(set(map(str, images)))
        and all(isinstance(image, str) for image in images)
        and all(_is(index, int) and 0 <= index < 2**31 for index in (*labels, *predicted))
    ):
        raise UserError(f"{path}: has not one label and one class for each image; get it again")
    return Predictions(tuple(images), np.array(labels, dtype=np.int64), np.array(predicted, dtype=np.int64))


def _get(path: Path, name: str, again: bool = False) -> Any:
    """What `_put` kept. Raises UserError if it is not there or damaged; with `again` that gives None."""
    try:
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; copy the folder {_PREDICTIONS} of the history along with its entries"
            )
        unpack = zlib.decompressobj()
        text = unpack.decompress(path.read_bytes(), _MAX_PREDICTIONS_BYTES)
        if not unpack.eof:
            raise ValueError("it is cut off, or too large")
        value = _parse(text.decode())
        if not isinstance(value, dict) or identity.digest(value) != name:
            raise ValueError("its name is not its digest")
        return value
    except (ValueError, RecursionError, zlib.error) as error:
        if again:
            return None
        raise UserError(f"{path}: is damaged ({error}); get it again") from None
    except UserError:
        if again:
            return None
        raise


def choose(folder: Path, besides: Iterable[str] = ()) -> Entry:
    """The latest entry of a history whose id is not one of `besides`. Raises UserError if there is none."""
    entries = [entry for entry in read_all(folder) if entry.id not in set(besides)]
    if not entries:
        raise UserError(f"{folder}: has no entry to compare with; a finished sweep appends one")
    return entries[-1]


def before(entry: Entry, entries: Sequence[Entry]) -> Entry | None:
    """The latest earlier sweep with a row that was measured on the same host, else with any row of the same key."""

    def hosts(one: Entry) -> set[Any]:
        return {(row.key, row.host) for row in one.rows if row.table == "throughput"}

    def keys(one: Entry) -> set[Any]:
        return {(row.table, row.key) for row in one.rows}

    earlier = [one for one in entries if one.id != entry.id and one.ended_at <= entry.ended_at]
    for about in (hosts, keys):
        alike = [one for one in earlier if about(one) & about(entry)]
        if alike:
            return alike[-1]
    return None
