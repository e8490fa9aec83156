"""Rows that were measured again: the files of confirm.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..core import files, identity
from ..core.cli import UserError
from .reader import Record, check, rows_of


class Confirmed(NamedTuple):
    """records: one per row and way of running that was measured again. missing: by model, why others were not."""

    records: list[Record]
    missing: dict[str, list[str]]


def read_confirmed(paths: Iterable[Path]) -> Confirmed:
    """What files of confirm.py hold. Raises UserError naming file, key and value."""
    found = Confirmed([], {})
    for path in paths:
        facts = files.read_json(path, "a file of confirm.py")
        if not isinstance(facts, dict):
            raise UserError(f"{path}: is no file of confirm.py; check the path")
        identity.verify(facts, path)
        check(facts, "confirmation", path)
        records = rows_of(facts["rows"], path)
        found.records.extend(record for record in records if not record.failed)
        failed = [
            f"{record.target}, batch size {record.batch}, could not be measured again: {record.failed}"
            for record in records
            if record.failed
        ]
        found.missing[facts["model"]] = [*facts["unconfirmed"], *failed]
    return found
