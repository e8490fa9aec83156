"""Finished sweeps of several hosts as one table: model x device x precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas

from ..core.cli import UserError
from . import columns, regressions
from .cells import EMULATED_MARK, Table, make_table, texts
from .columns import LATENCY_WAY, THROUGHPUT_WAY, Column, frame, unique
from .history import Entry, Key, Row
from .throughput import device_of

# The batch sizes of the table, beside the best one.
BATCHES = (1, 8)

MERGED = (
    replace(columns.MODEL, header="model"),
    Column("host", "string", header="host"),
    replace(columns.DEVICE, header="device"),
    columns.EMULATED,
    columns.PRECISION,
    replace(columns.BACKEND, header="engine"),
    columns.VARIANT,
    Column("images", "Int64", "images", "images"),
    Column("top1", "Float64", "percent", "top-1 (%)", ".2f"),
    Column("top1_wilson_low", "Float64", "percent", "95% interval (%)", ".2f", upper="top1_wilson_high"),
    Column("top1_wilson_high", "Float64", "percent"),
    Column("drop_points", "Float64", "points", "drop (points)", "+.2f"),
    Column("drop_low_points", "Float64", "points", "95% interval (points)", "+.2f", upper="drop_high_points"),
    Column("drop_high_points", "Float64", "points"),
    Column("verdict", "string", header="verdict"),
    *(
        Column(f"images_per_s_at_{batch}", "Float64", "images/s", f"batch {batch} (images/s)", ".1f")
        for batch in BATCHES
    ),
    Column("best_images_per_s", "Float64", "images/s", "best (images/s)", ".1f"),
    Column("best_low", "Float64", "images/s"),
    Column("best_high", "Float64", "images/s"),
    Column("best_batch", "Int64", "images"),
    Column("best_way", "string"),
    Column("stable", "boolean"),
    Column("power_w_mean", "Float64", "W", "power (W)", ".1f"),
    Column("peak_host_mb", "Float64", "MB", "memory (MB)", ".0f"),
    Column("peak_device_mb", "Float64", "MB", "device memory (MB)", ".0f", optional=True),
    Column("engine_id", "string"),
    Column("checkpoint_sha256", "string"),
)


def check(hosts: Mapping[str, Entry]) -> None:
    """Raise UserError if two sweeps are of different checkpoints, or scored different images; names what differs."""
    firsts: dict[str, tuple[str, Entry]] = {}
    for name, entry in hosts.items():
        models = unique(row.key.model for row in entry.rows)
        for model in models:
            if model not in firsts:
                firsts[model] = (name, entry)
                continue
            other_name, other = firsts[model]
            _check_start(model, (other_name, other), (name, entry))
            _check_images(model, (other_name, other), (name, entry))


def _check_start(model: str, one: tuple[str, Entry], other: tuple[str, Entry]) -> None:
    found = [(entry.starts.get(model) or {}).get("sha256") for _, entry in (one, other)]
    keys = [(entry.starts.get(model) or {}).get("key") for _, entry in (one, other)]
    if None not in found and (found[0] != found[1] or keys[0] != keys[1]):
        chosen = [f" ({key})" if key else "" for key in keys]
        raise UserError(
            f"{other[0]}: {model} starts from another checkpoint or ONNX file than in {one[0]}: SHA-256 "
            f"{found[1][:16]}…{chosen[1]}, there {found[0][:16]}…{chosen[0]}; merge sweeps of one checkpoint"
        )


def _check_images(model: str, one: tuple[str, Entry], other: tuple[str, Entry]) -> None:
    """By the digest of their contents, else by name and label; the message says which image differs."""
    sides = [[row for row in _accuracies(entry, model) if not row.failed] for _, entry in (one, other)]
    if not all(sides):
        return
    stated = [{row.asked["images"] for row in rows if isinstance(row.asked.get("images"), str)} for rows in sides]
    if all(stated) and stated[0] == stated[1] and len(stated[0]) == 1:
        return
    kept = [next((row.predictions for row in rows if row.predictions), None) for rows in sides]
    told = regressions.image_difference(kept[0](), kept[1]()) if all(kept) else None
    counts = [rows[0].figures.get("images") for rows in sides]
    if told is None and counts[0] != counts[1]:
        told = f"{counts[1]} images, before {counts[0]}"
    if told is None and all(stated):
        told = "the images have the same names and labels, but other contents"
    if told:
        raise UserError(
            f"{other[0]}: {model} scored other images than {one[0]}: {told}; merge sweeps of one image list"
        )


def _accuracies(entry: Entry, model: str) -> list[Row]:
    return [row for key, row in entry.by_key("accuracy").items() if key.model == model]


def merge(hosts: Mapping[str, Entry]) -> pandas.DataFrame:
    """One row per model, host, device and precision, with the columns MERGED.

    It is of the engine whose fastest row has the verdict pass; if none has, of the fastest one, whose verdict tells.
    """
    models = unique(row.key.model for entry in hosts.values() for row in entry.rows)
    found = [line for model in models for name, entry in hosts.items() for line in _lines(model, name, entry)]
    return frame(MERGED, found)


def _lines(model: str, host: str, entry: Entry) -> Iterator[dict[str, Any]]:
    measured = [row for key, row in entry.by_key("throughput").items() if key.model == model and not row.failed]
    judged = entry.by_key("accuracy")
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in measured:
        device = str(device_of(row.figures.get("device"), row.figures.get("cpu_model")))
        groups.setdefault((device, row.key.precision), []).append(row)
    for (device, precision), rows in groups.items():
        best = max(rows, key=lambda row: (_is_eligible(row, judged), row.figures.get("images_per_s") or 0))
        accuracy = judged.get(best.key._replace(way=""))
        figures = accuracy.figures if accuracy else {}
        line = {name: figures.get(name) for name in (column.name for column in MERGED)}
        line |= {name: best.figures.get(name) for name in ("emulated", "stable", "power_w_mean", "engine_id")}
        line |= {name: best.figures.get(name) for name in ("peak_host_mb", "peak_device_mb")}
        own = {row.key: row for row in rows}
        for batch in BATCHES:
            at = own.get(best.key._replace(batch=batch, way=LATENCY_WAY))
            line[f"images_per_s_at_{batch}"] = at and at.figures.get("images_per_s")
        line |= {"model": model, "host": host, "device": device, "precision": precision}
        line |= {"backend": best.key.backend, "variant": best.key.variant}
        line |= {"best_batch": best.key.batch, "best_way": best.key.way}
        line["best_images_per_s"] = best.figures.get("images_per_s")
        line |= {f"best_{end}": best.figures.get(f"images_per_s_{end}") for end in ("low", "high")}
        line["checkpoint_sha256"] = (entry.starts.get(model) or {}).get("sha256")
        yield line


def _is_eligible(row: Row, judged: Mapping[Key, Row]) -> bool:
    """Whether a row may be the best one: its accuracy holds, and nothing is known against its figure."""
    accuracy = judged.get(row.key._replace(way=""))
    passed = accuracy is not None and accuracy.figures.get("verdict") == "pass"
    return passed and row.figures.get("batch_checked") is not False and not row.figures.get("implausible")


def make_merged_table(table: pandas.DataFrame, hosts: Mapping[str, Entry]) -> Table:
    """The table for people."""
    shown = texts(MERGED, table)
    unstable = table["stable"].eq(False).fillna(False)
    emulated = table["emulated"].fillna(False)
    ways = table["best_way"].eq(THROUGHPUT_WAY).map({True: ", throughput way", False: ""})
    known = table["best_images_per_s"].notna()
    shown["best_images_per_s"] += unstable.map({True: "*", False: ""})
    shown.loc[known, "best_images_per_s"] += " (bs " + table["best_batch"].astype("string") + ways + ")"
    shown.loc[emulated, "device"] += EMULATED_MARK
    notes = [
        f"{len(hosts)} sweeps of one checkpoint and one image list: {', '.join(hosts)}.",
        "a row is of the engine whose fastest row has the verdict pass, if there is one; batch sizes 1 and 8 are of "
        "that engine, one request at a time. drop: against the reference of the same host.",
        "power: mean while measuring, of the device, if it tells; memory: peak of the process that measured.",
    ]
    notes += ["*: unstable; measure again on an idle machine."] * bool(unstable.any())
    notes += ["(emulated): an emulator stood in for the device; its speed means nothing."] * bool(emulated.any())
    for name, entry in hosts.items():
        failed = unique(f"{row.key}: {row.failed}" for row in entry.rows if row.failed)
        notes += [f"failed on {name}: {regressions.listed(failed, 8)}."] * bool(failed)
    return make_table("All hosts", MERGED, shown, notes)
