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

    published: the figures under each model's name; shown is that of the reference's own checkpoint on as many images.
    own_references: of models that have another reference.
    """
    table = frame(ACCURACY, [record.known for record in records])
    own = [record.target == own_references.get(record.model, reference) for record in records]
    # another batch size of the reference's engine may fail, or lose what the reference's own run has
    holds = table["failed"].isna() & ~table["verdict"].eq("fail").fillna(False)
    table["is_reference"] = holds & pandas.Series(own, index=table.index, dtype="boolean")
    quoted = [
        _comparable(record, published.get(record.model, ())) if is_reference else None
        for record, is_reference in zip(records, table["is_reference"])
    ]
    table["published_top1"] = [line and line.value for line in quoted]
    table["published_device"] = [line and line.device for line in quoted]
    table = typed(ACCURACY, table)
    table["published_to_reference_drop_points"] = table["published_top1"] - table["top1"]
    return table


def _of_checkpoint(record: Record, lines: Iterable[Published]) -> list[Published]:
    """The published top-1 figures of the very file that a record's model starts from."""
    return [line for line in lines if line.what == "top1" and line.is_of(record.facts.get("start") or {})]


def _comparable(record: Record, lines: Iterable[Published]) -> Published | None:
    """The published top-1 of the record's checkpoint on as many images as were scored, after the same transform."""
    here = (record.facts.get("images"), record.facts.get("transform"))
    return next((line for line in _of_checkpoint(record, lines) if (line.images, line.transform) == here), None)


def published_notes(
    records: Iterable[Record], table: pandas.DataFrame, published: Mapping[str, Sequence[Published]]
) -> list[str]:
    """Why a model that has published accuracies under its name is not compared with them: one note a model.

    table: what `make_accuracy` made of the records.
    """
    notes = {}
    for record, is_reference in zip(records, table["is_reference"], strict=True):
        lines = [line for line in published.get(record.model, ()) if line.what == "top1"]
        if not lines or not is_reference or record.model in notes:
            continue
        notes[record.model] = ""
        if _comparable(record, lines):
            continue
        found = _of_checkpoint(record, lines)
        start = record.facts.get("start") or {}
        checksum = start.get("sha256")
        if start.get("key"):
            note = (
                f"published accuracies are not shown: the weights {start['key']!r} were chosen among those in the "
                "checkpoint, and nobody says which of them were published."
            )
        elif found and found[0].images == record.facts["images"]:
            note = (
                f"{found[0].value:.2f} % top-1 are published of this checkpoint ({found[0].device}), with another "
                f"transform: {found[0].transform}; here it is {record.facts.get('transform') or 'not known'}, so that "
                "they are not compared."
            )
        elif found:
            note = (
                f"{found[0].value:.2f} % top-1 are published of this checkpoint ({found[0].device}), on "
                f"{found[0].images} images; {record.facts['images']} were scored here, so that they are not compared."
            )
        else:
            note = (
                f"published accuracies are not shown: the checkpoint (sha256 {checksum or 'not known'}) is not listed "
                "in resources/published.csv; if it is the published one, add its checkpoint_sha256, images and "
                "transform there."
            )
        notes[record.model] = f"{record.model}: {note}"
    return [note for note in notes.values() if note]


def lost_batches(table: pandas.DataFrame, model: str, reference: Target) -> set[int]:
    """Batch sizes at which the reference's own engine failed, or lost what the reference's own run has."""
    of_target = (table["model"] == model) & (table[list(Target._fields)] == list(reference)).all(axis=1)
    return set(table.loc[of_target & ~table["is_reference"], "batch"].dropna())


def make_flips(records: Iterable[Record]) -> pandas.DataFrame:
    """One row per image whose top-1 class is not the reference's, with the columns FLIPS."""
    return frame(FLIPS, [{**flip, **record.identity} for record in records for flip in record.facts.get("flips") or ()])


def make_accuracy_table(table: pandas.DataFrame, more_notes: Iterable[str] = ()) -> Table:
    """The accuracy table for people, from what `make_accuracy` found."""
    failed, notes = table["failed"].notna(), Footnotes()
    shown = texts(ACCURACY, table)
    shown.loc[table["emulated"], "backend"] += EMULATED_MARK
    shown.loc[table["is_reference"], "verdict"] = "reference"
    shown.loc[shown["verdict"] == "", "verdict"] = NONE
    for place in table.index[table["images_of"].notna() & table["images"].notna()]:
        shown.at[place, "images"] = f"{table.at[place, 'images']:,} of {table.at[place, 'images_of']:,}"
    for place in table.index[failed | table["verdict_reason"].notna()]:
        row = shown.loc[place]
        target = " ".join(filter(None, (row["backend"], row["precision"], table.at[place, "variant"])))
        about = f"{row['model']}, {target}, batch size {row['batch']}"
        if failed[place]:
            shown.at[place, "top1"] = f"failed {notes.mark(f'{about}: ' + table.at[place, 'failed'])}"
            continue
        if row["verdict"] in (NONE, "reference"):  # the reason is the reference's, one for all engines
            about = row["model"]
        reason = notes.mark(f"{about}: {table.at[place, 'verdict_reason']}")
        shown.at[place, "verdict"] = f"{row['verdict'].replace(NONE, 'none')} {reason}"
    return make_table("Accuracy", ACCURACY, shown, [*notes.lines(), *_notes(table), *more_notes])


def _notes(table: pandas.DataFrame) -> list[str]:
    notes = []
    margins = table.loc[~table["is_reference"], "margin_points"].dropna()
    if len(margins):
        listed = ", ".join(unique(map(str, margins)))
        notes.append(f"verdict: pass where the whole interval of the drop lies below the margin, {listed} points.")
    for row in rows(table[table["classes_scored"] < table["num_classes"]].drop_duplicates("model")):
        notes.append(f"{row.model}: the images are of {row.classes_scored:,} of {row.num_classes:,} classes.")
    for row in rows(table[table["published_top1"].notna()].drop_duplicates("model")):
        notes.append(
            f"{row.model}: {row.published_top1:.2f} % top-1 are published of this checkpoint ({row.published_device}), "
            f"on as many images."
        )
    transforms: dict[str, list[str]] = {}
    for row in rows(table[table["transform"].notna()].drop_duplicates(["model", "transform"])):
        transforms.setdefault(row.transform, []).append(row.model)
    notes += [f"transform of the images of {', '.join(models)}: {words}." for words, models in transforms.items()]
    if table["emulated"].any():
        notes.append("(emulated): an emulator stood in for the device.")
    return notes
