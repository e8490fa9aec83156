"""The accuracy table, and the images whose top-1 class an engine changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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


def make_accuracy_details(table: pandas.DataFrame) -> Table:
    """Every row of what `make_accuracy` found, for the page."""
    shown = texts(ACCURACY, table)
    shown.loc[table["emulated"], "backend"] += EMULATED_MARK
    shown["verdict"] = _verdicts(table)
    shown["images"] = _images(table)
    return make_table("Accuracy in detail", ACCURACY, shown)


def make_accuracy_tables(table: pandas.DataFrame, more_notes: Iterable[str] = ()) -> list[Table]:
    """The accuracy tables for people, one per model: a row is an engine at all batch sizes at which it does the same.

    more_notes: below the last of them.
    """
    tables = [_of_model(own) for _, own in table.groupby("model", sort=False)]
    if tables:
        tables[-1].notes.extend([*_notes(table), *more_notes])
    return tables


def _of_model(table: pandas.DataFrame) -> Table:
    """One model's table, from its rows."""
    table = table.assign(images=_images(table), verdict=_verdicts(table))
    alike: dict[str, dict[Any, list[int | None]]] = {}
    for row in rows(table[[column for column in table if column != "engine_id"]]):
        name = str(Target(row.backend, row.precision, row.variant or "")) + EMULATED_MARK * row.emulated
        alike.setdefault(name, {}).setdefault(row._replace(batch=None, device=None), []).append(row.batch)
    footnotes, found = Footnotes(), []
    for name, groups in alike.items():
        for row, batches in groups.items():
            which = _batches(batches, is_all=len(groups) == 1)
            top1, verdict = _interval(row, "top1", "top1_wilson", ".2f"), row.verdict
            about = f"{name}, batch size {which}"
            if row.failed is not None:
                top1 = f"failed {footnotes.mark(f'{about}: {row.failed}')}"
            elif row.verdict_reason is not None:
                # without a verdict the reason is the reference's, one for all engines
                reason = row.verdict_reason if verdict in (NONE, "reference") else f"{about}: {row.verdict_reason}"
                verdict = f"{verdict.replace(NONE, 'none')} {footnotes.mark(reason)}"
            found.append(
                {
                    "engine": name,
                    "batch size": which,
                    "images": row.images,
                    "skipped": f"{row.skipped or 0:,}",
                    "published → reference (points)": _text(row.published_to_reference_drop_points, "+.2f"),
                    "top-1 (%)": top1,
                    "drop (points)": _interval(row, "drop_points", "drop", "+.2f", "_points"),
                    "flips": _flips(row),
                    "verdict": verdict,
                }
            )
    images = unique(row["images"] for row in found if row["images"] != NONE)
    silent = {"skipped": {"0"}, "published → reference (points)": {NONE}, "images": {NONE, *images[:1]}}
    header = [name for name in found[0] if not {row[name] for row in found} <= silent.get(name, set())]
    notes = [*footnotes.lines(), "intervals: 95 %; flips: right → wrong / wrong → right, against the reference."]
    if any("–" in row["batch size"] for row in found):
        notes.append("a range of batch sizes: the same figures at each of them.")
    on = f", {images[0]} images" if len(images) == 1 else ""
    cells = [[row[name] for name in header] for row in found]
    return Table(f"Accuracy: {table['model'].iloc[0]}{on}", header, cells, notes, left=2)


def _verdicts(table: pandas.DataFrame) -> pandas.Series:
    found = table["verdict"].replace("", pandas.NA).fillna(NONE).mask(table["is_reference"], "reference")
    return found.astype("string")


def _images(table: pandas.DataFrame) -> list[str]:
    found = zip(table["images"], table["images_of"])
    return [NONE if pandas.isna(n) else f"{n:,}" + ("" if pandas.isna(of) else f" of {of:,}") for n, of in found]


def _flips(row: Any) -> str:
    counts = (row.flips_right_to_wrong, row.flips_wrong_to_right)
    return NONE if None in counts or row.is_reference else "{} / {}".format(*counts)


def _interval(row: Any, name: str, ends: str, form: str, unit: str = "") -> str:
    """A figure and its interval, from the columns of these names."""
    value, low, high = (getattr(row, column) for column in (name, f"{ends}_low{unit}", f"{ends}_high{unit}"))
    if value is None or row.is_reference and name == "drop_points":
        return NONE
    return f"{value:{form}}" + ("" if None in (low, high) else f" ({low:{form}} to {high:{form}})")


def _text(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


def _batches(batches: Sequence[int | None], is_all: bool) -> str:
    """Batch sizes as one text: a range if they are all that the engine has, else each of them."""
    known = ["any" if batch is None else str(batch) for batch in batches]
    return f"{known[0]}–{known[-1]}" if is_all and len(known) > 1 else ", ".join(known)


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
