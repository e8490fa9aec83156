"""The accuracy table, and the images whose top-1 class an engine changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas

from .cells import EMULATED_MARK, NONE, Footnotes, Table, make_table, texts
from .columns import ACCURACY, FLIPS, frame, rows, typed, unique
from .reader import Published, Record, Target


def make_accuracy(
    records: Sequence[Record],
    reference: Target,
    published: Mapping[str, Sequence[Published]],
    own_references: Mapping[str, Target] = {},
) -> pandas.DataFrame:
    """One row per record, with the columns ACCURACY.

    published: only of models whose data are comparable. own_references: of models that have another reference.
    """
    table = frame(ACCURACY, [record.row for record in records])
    own = [record.target == own_references.get(record.model, reference) for record in records]
    quoted = [
        _published_top1(published.get(record.model, ())) if is_reference and not record.failed else None
        for record, is_reference in zip(records, own)
    ]
    table["is_reference"] = own
    table["published_top1"] = [line and line.value for line in quoted]
    table["published_device"] = [line and line.device for line in quoted]
    table = typed(ACCURACY, table)
    table["published_to_reference_drop_points"] = table["published_top1"] - table["top1"]
    return table


def _published_top1(lines: Iterable[Published]) -> Published | None:
    """What the weights reach in PyTorch, as published; else what the paper says."""
    found = {line.device: line for line in lines if line.what == "top1"}
    return found.get("pytorch") or found.get("paper")


def make_flips(records: Iterable[Record]) -> pandas.DataFrame:
    """One row per image whose top-1 class is not the reference's, with the columns FLIPS."""
    return frame(FLIPS, [{**flip, **record.identity} for record in records for flip in record.facts.get("flips") or ()])


def make_accuracy_table(table: pandas.DataFrame) -> Table:
    """The accuracy table for people, from what `make_accuracy` found."""
    failed, notes = table["failed"].notna(), Footnotes()
    shown = texts(ACCURACY, table)
    shown.loc[table["emulated"], "backend"] += EMULATED_MARK
    shown.loc[table["is_reference"] & ~failed, "verdict"] = "reference"
    shown.loc[shown["verdict"] == "", "verdict"] = NONE
    for place in table.index[failed]:
        row = shown.loc[place]
        target = " ".join(filter(None, (row["backend"], row["precision"], table.at[place, "variant"])))
        reason = f"{row['model']}, {target}, batch size {row['batch']}: {table.at[place, 'failed']}"
        shown.at[place, "top1"] = f"failed {notes.mark(reason)}"
    return make_table("Accuracy", ACCURACY, shown, [*notes.lines(), *_notes(table)])


def _notes(table: pandas.DataFrame) -> list[str]:
    notes = []
    margins = table.loc[~table["is_reference"], "margin_points"].dropna()
    if len(margins):
        listed = ", ".join(unique(map(str, margins)))
        notes.append(f"verdict: pass where the whole interval of the drop lies below the margin, {listed} points.")
    for row in rows(table[table["published_top1"].notna()].drop_duplicates("model")):
        notes.append(
            f"{row.model}: {row.published_top1:.2f} % top-1 are published ({row.published_device}), on the same data."
        )
    if table["emulated"].any():
        notes.append("(emulated): an emulator stood in for the device.")
    return notes
