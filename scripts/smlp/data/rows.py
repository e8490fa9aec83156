"""Images in the rows of Parquet files, as the Hugging Face hub has image data sets: `image.bytes` and `label`.

Read in place and as a stream: a row group of any size is never held as a whole. pyarrow is imported only by what reads.
"""

from __future__ import annotations

import atexit
import bisect
import contextlib
import functools
import itertools
import json
import os
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

from ..core.cli import UserError
from .label_files import class_of

SUFFIX = ".parquet"
COLUMNS = ("image", "label")
_BATCH_ROWS, _BUFFER_BYTES = 8, 1 << 20


class Table(NamedTuple):
    """A Parquet file. image: the column of the bytes of images; names: of classes in order, if the file states them."""

    path: str
    image: str
    label: str | None
    names: tuple[str, ...] | None
    # the number of rows up to the end of each row group
    ends: tuple[int, ...]


class _Stream:
    """Where this process reads: images are asked for mostly in their order."""

    table: tuple[str, str] | None = None
    group = -1
    first = 0  # row of the group that `batch` begins with
    batch: Any = None
    batches: Generator[Any, None, None] | None = None


_stream = _Stream()


@atexit.register
def _close() -> None:
    """Close the file while the modules that this needs are still there."""
    if _stream.batches:
        _stream.batches.close()


def describe(path: str | os.PathLike, columns: Sequence[str | None] | None = None, labelled: bool = True) -> Table:
    """What a file holds.

    columns: of the image and of its class (None: it does not matter), if not as on the hub; labelled: False if the
    class of no image matters.
    """
    with _file(path) as file:
        schema = file.schema_arrow
        image, label = columns or COLUMNS
        label = label if labelled else None
        if not columns and "image" not in schema.names:
            found = [field.name for field in schema if _holds_bytes(field.type)]
            image = found[0] if len(found) == 1 else image
        for column in (image, label):
            if column is not None and column not in schema.names:
                raise UserError(
                    f"{path}: has no column {column!r}, its columns are {', '.join(schema.names[:20])}; name those of "
                    "the image and of the class: dataset.columns (calibration.columns for training images), or "
                    "--columns"
                )
        kind = schema.field(image).type
        if _holds_bytes(kind):
            image += ".bytes"
        elif str(kind) not in ("binary", "large_binary"):
            raise UserError(f"{path}: column {image!r} is {str(kind)[:60]}, the bytes of image files were expected")
        groups = [file.metadata.row_group(place).num_rows for place in range(file.metadata.num_row_groups)]
        names = _names(path, schema.metadata or {}, label)
    return Table(os.fspath(path), image, label, names, (0, *itertools.accumulate(groups))[bool(groups) :])


def classes(table: Table) -> Iterator[int | str]:
    """The class of each row, in order: its number, or its name. Raises UserError for a row without one."""
    row = 0
    with _file(table.path) as file:
        for batch in file.iter_batches(columns=[table.label], use_threads=False):
            for value in batch.column(0).to_pylist():
                stated = class_of(value)
                if stated is None:
                    raise UserError(
                        f"{table.path}, row {row}: {table.label} is {str(value)[:40]!r}, the number or the name of a "
                        "class was expected; the hub's test sets have no labels"
                    )
                if isinstance(stated, int) and table.names:
                    if stated >= len(table.names):
                        raise UserError(
                            f"{table.path}, row {row}: class {stated}, but only {len(table.names)} are named"
                        )
                    stated = table.names[stated]
                yield stated
                row += 1


def name(table: Table, row: int) -> str:
    """What the image of a row is called; with the column, if the file does not tell which one holds images."""
    column = table.image.removesuffix(".bytes")
    return f"{row}" if column == COLUMNS[0] else f"{row}@{column}"


def read(path: str | os.PathLike, image: str) -> bytes:
    """The bytes of an image by its `name`."""
    row, _, column = image.partition("@")
    table = _described(os.fspath(path), column or COLUMNS[0], os.stat(path).st_mtime_ns)
    number = int(row)
    group = bisect.bisect_right(table.ends, number)
    if group == len(table.ends):
        raise UserError(f"{path}: has no row {row}; was the file changed?")
    value = _row(table, group, number - (table.ends[group - 1] if group else 0))
    if value is None:
        raise UserError(f"{path}, row {row}: holds no bytes of an image; files that it only names are not read")
    return value


@functools.lru_cache(maxsize=64)
def _described(path: str, column: str, _time: int) -> Table:
    return describe(path, (column, None))


def _row(table: Table, group: int, row: int) -> bytes | None:
    at = _stream
    if at.table != (table.path, table.image) or at.group != group or row < at.first:
        at.table, at.group, at.first, at.batch = (table.path, table.image), group, 0, None
        at.batches = _batches(table, group)
    while at.batch is None or row >= at.first + len(at.batch):
        at.first += len(at.batch) if at.batch is not None else 0
        at.batch = next(at.batches)
    value = at.batch.column(0)[row - at.first]
    value = value["bytes"] if table.image.endswith(".bytes") and hasattr(value, "keys") else value
    return value.as_py()


def _batches(table: Table, group: int) -> Generator[Any, None, None]:
    with _file(table.path) as file:
        yield from file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[table.image], use_threads=False)


@contextlib.contextmanager
def _file(path: str | os.PathLike) -> Iterator[Any]:
    import pyarrow
    from pyarrow import parquet

    try:
        # not memory-mapped, not read ahead: mapped pages and whole row groups would count as memory
        with parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            yield file
    except (pyarrow.ArrowException, EOFError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: is not a whole Parquet file ({problem}); fetch it again") from None


def _holds_bytes(kind: Any) -> bool:
    """Whether a column is the hub's Image: a struct of bytes and a path."""
    return any(kind.field(place).name == "bytes" for place in range(getattr(kind, "num_fields", 0)))


def _names(path: str | os.PathLike, metadata: dict[bytes, bytes], label: str | None) -> tuple[str, ...] | None:
    """The names of classes that the hub's metadata state; None of numbers alone, or if names are not unique."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][label]
        names = tuple(feature["names"])
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
    return names if names and all(map(str, names)) and len(set(names)) == len(names) else None
