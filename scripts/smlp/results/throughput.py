"""The throughput table, the model-zoo guide's table made of it, ratios, and every measurement in detail."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas

from ..core.provenance import Facts
from . import conditions, sustained_tables
from .cells import EMULATED_MARK, NONE, Footnotes, Table, make_table, texts
from .columns import LATENCY_WAY, THROUGHPUT_WAY, frame, rows, unique
from .conditions import MARK
from .plausibility import MARK as DOUBT
from .reader import Published, Record, Target
from .roofs import Roof, chip_of
from .roofs import columns as columns_of_roof
from .throughput_columns import SUSTAINED, THROUGHPUT

TARGET = list(Target._fields)
UNSTABLE_MARK = "*"
# What no result file can say of itself.
_FOUND_HERE = (
    *("ceiling_percent", "roof", "ceiling_images_per_s", "operations_per_byte", "ceiling_source"),
    *("implausible", "chip"),
    *(column.name for column in SUSTAINED),
)


class Device(NamedTuple):
    """What engines can be compared on: two processors are two devices, though both are called cpu."""

    name: str
    processor: str

    def __str__(self) -> str:
        return f"{self.name} ({self.processor})" if self.processor else self.name


def device_of(name: str | None, cpu_model: str | None) -> Device:
    """The device of a row, from its columns device and cpu_model."""
    return Device(name or "unknown device", cpu_model or "" if (name or "").lower() == "cpu" else "")


@dataclass(frozen=True)
class Line:
    """One column of a throughput table and one line of a plot: a target run in one way, or a published device.

    images_per_s: by batch size. rows: of the throughput table, by batch size; none if published (target None).
    doubts: by batch size, why a figure is implausible. quoted_device: of which device a published line is.
    """

    name: str
    images_per_s: Mapping[int, float]
    rows: pandas.DataFrame
    target: Target | None = None
    way: str = LATENCY_WAY
    emulated: bool = False
    doubts: Mapping[int, str] = field(default_factory=dict)
    quoted_device: str = ""

    @property
    def marked(self) -> set[int]:
        """Batch sizes that were measured under other conditions than most rows of the model."""
        return set(self.rows.index[is_marked(self.rows)])

    @property
    def unchecked(self) -> set[int]:
        """Batch sizes that nobody but the name of a folder of imported results tells."""
        return set(self.rows.index[is_unchecked(self.rows)])

    @property
    def published(self) -> bool:
        return self.target is None


def make_throughput(
    records: Iterable[Record], roofs: Sequence[Roof | None] = (), chips: Mapping[str, str] = {}
) -> pandas.DataFrame:
    """One row per record, with the columns THROUGHPUT. roofs: of each record, if any are known.

    chips: by backend, the chip that imported results come from.
    """
    records = list(records)
    roofs = roofs or [None] * len(records)
    return frame(
        THROUGHPUT,
        [
            {
                **{key: value for key, value in record.known.items() if key not in _FOUND_HERE},
                **columns_of_roof(roof, record),
                "chip": chip_of(record, chips),
                "conditions": own.id,
                "other_conditions": own.differs,
                "usable_processors": _usable(record.facts.get("fingerprint")),
                "file": str(record.path),
                "cpu_model": (record.facts.get("host") or {}).get("cpu_model"),
            }
            for record, own, roof in zip(records, conditions.of_records(records), roofs, strict=True)
        ],
    )


def _usable(fingerprint: Facts | None) -> int | None:
    processors = (fingerprint or {}).get("processors") or {}
    known = [processors[key] for key in ("affinity", "quota") if processors.get(key)]
    return max(1, int(min(known))) if known else None


def is_unstable(table: pandas.DataFrame) -> pandas.Series:
    """Which rows rest on loads that were disturbed or not steady, or that differ."""
    return table["stable"].eq(False).fillna(False)


def is_marked(table: pandas.DataFrame) -> pandas.Series:
    """Which rows were measured under other conditions than most rows of their model."""
    return table["other_conditions"].notna()


def is_unchecked(table: pandas.DataFrame) -> pandas.Series:
    """Which rows have a batch size that nothing confirms, and with it images/s that may be wrong by a factor."""
    return table["batch_checked"].eq(False).fillna(False)


def is_implausible(table: pandas.DataFrame) -> pandas.Series:
    """Which rows have figures that cannot be."""
    return table["implausible"].notna()


def marks(table: pandas.DataFrame) -> pandas.Series:
    """What stands behind the figures of rows, "" behind most of them."""
    found = pandas.Series("", index=table.index, dtype="string")
    for mark, which in ((UNSTABLE_MARK, is_unstable), (MARK, is_marked), (DOUBT, is_implausible)):
        found[which(table).astype(bool)] += mark
    return found


def make_lines(
    table: pandas.DataFrame, model: str, published: Iterable[Published], doubts: Mapping[Published, str] = {}
) -> list[Line]:
    """The lines of one model: its targets, then the published devices; none if the table has no row of it.

    doubts: why published figures are implausible.
    """
    own = table[table["model"] == model]
    lines = []
    for key, of_target in own.groupby(TARGET, sort=False):
        target = Target(*key)
        for way in sorted(of_target["way"].unique()):  # latency before throughput
            # what failed did so before it could run in any way
            of_way = of_target[(of_target["way"] == way) | of_target["failed"].notna()].set_index("batch", drop=False)
            emulated = bool(of_way["emulated"].any())
            name = way_name(target, way) + EMULATED_MARK * emulated
            rates, why = (of_way[column].dropna().to_dict() for column in ("images_per_s", "implausible"))
            lines.append(Line(name, rates, of_way, target, way, emulated, why))
    if lines:
        figures = [line for line in published if line.what == "throughput"]
        for name in unique(line.column for line in figures):
            own = [line for line in figures if line.column == name]
            rates = {line.batch: line.value for line in own}
            why = {line.batch: doubts[line] for line in own if line in doubts}
            none = table.iloc[:0].set_index("batch", drop=False)
            lines.append(Line(name, rates, none, doubts=why, quoted_device=own[0].device))
    return lines


def way_name(target: Target, way: str) -> str:
    """The name of a target run in one way, for people."""
    return f"{target}, throughput way" if way == THROUGHPUT_WAY else str(target)


# --- the guide's table and the ratios


def make_throughput_tables(model: str, lines: Sequence[Line], no_base: Collection[int] = ()) -> list[Table]:
    """The guide's table of one model, the ratios of its columns, and what others published of it.

    no_base: batch sizes at which the first target is none to compare with, as it has lost accuracy there.
    """
    own, quoted = [line for line in lines if not line.published], [line for line in lines if line.published]
    reasons = Footnotes()
    header, cells = _rates(own, reasons)
    notes = reasons.lines()
    notes.append(
        "throughput = 1000 · batch size / mean compute ms, transfers not counted; best: each column's optimum."
    )
    if any(line.way == THROUGHPUT_WAY for line in lines):
        notes.append(
            "throughput way: several requests at once, each on a batch of its own, counted by the wall clock; "
            "the other columns: one request at a time."
        )
    measured = pandas.concat([line.rows for line in own])
    in_latency_way = measured[measured["way"] == LATENCY_WAY]
    notes += _notes_of_disturbed(measured)
    notes += _notes_of_conditions(in_latency_way)
    notes += sustained_tables.notes(in_latency_way)
    if any(line.emulated for line in lines):
        notes.append("(emulated): an emulator stood in for the device; its speed means nothing and enters no ratio.")
    notes += [note for line in own for note in _measured_note(line)]
    tables = [Table(f"Throughput: {model}, images/s", header, cells, notes, left=0)]
    ratios = make_ratio_table(model, lines, [int(row[0]) for row in cells[:-1]], no_base)
    tables += [ratios] if ratios.rows else []
    if quoted:
        reasons = Footnotes()
        header, cells = _rates(quoted, reasons)
        notes = [*reasons.lines(), "quoted, not measured here: other machines and software."]
        tables.append(Table(f"Published throughput: {model}, images/s", header, cells, notes, left=0))
    return tables


def _rates(lines: Sequence[Line], reasons: Footnotes) -> tuple[list[str], list[list[str]]]:
    """Header and rows of images/s: batch sizes down, lines across."""
    batches = sorted({batch for line in lines for batch in (*line.images_per_s, *line.rows.index)})
    cells = [[str(batch), *(_rate(line, batch, reasons) for line in lines)] for batch in batches]
    cells.append(["best", *(_best_cell(line, reasons) for line in lines)])
    return ["batch size", *(line.name for line in lines)], cells


def _rate(line: Line, batch: int, reasons: Footnotes) -> str:
    reason = line.rows["failed"].get(batch)
    if not pandas.isna(reason):
        return f"failed {reasons.mark(f'{line.target}, batch size {batch}: {reason}')}"
    if batch not in line.images_per_s:
        return NONE
    mark = marks(line.rows).get(batch, "")
    if batch in line.unchecked:
        reason = "the batch size is as the folder says, not checked; the row enters no ratio and is no best row."
        mark += f" {reasons.mark(f'{line.target}, batch size {batch}: {reason}')}"
    if batch in line.doubts:
        reason = f"{line.name}, batch size {batch}: implausible, enters no ratio and is no best row: "
        mark += f"{DOUBT * line.published} {reasons.mark(reason + line.doubts[batch])}"
    return f"{line.images_per_s[batch]:.1f}{mark}"


def _best(line: Line) -> int | None:
    """The batch size of the highest throughput, the smaller one of equals; a marked one if there are no others."""
    possible = line.images_per_s.keys() - line.doubts.keys()
    comparable = possible - line.marked - line.unchecked or possible
    return min(comparable, key=lambda batch: (-line.images_per_s[batch], batch), default=None)


def _best_cell(line: Line, reasons: Footnotes) -> str:
    batch = _best(line)
    return NONE if batch is None else f"{_rate(line, batch, reasons)} (bs {batch})"


def _notes_of_disturbed(measured: pandas.DataFrame) -> list[str]:
    """What is known against unstable rows, once for all rows of which the same is known."""
    found: dict[str, list[str]] = {}
    for row in rows(measured[is_unstable(measured)]):
        name = way_name(Target(row.backend, row.precision, row.variant), row.way)
        found.setdefault(row.disturbed or "latency had not settled or drifted", []).append(f"{name} {row.batch}")
    if not found:
        return []
    return [
        f"{UNSTABLE_MARK}: unstable, and so are ratios of it; measure again on an idle machine.",
        *(f"{UNSTABLE_MARK} {why}: {', '.join(names)}." for why, names in found.items()),
    ]


def _notes_of_conditions(measured: pandas.DataFrame) -> list[str]:
    """What differs in marked rows, once for all rows in which the same differs, and what measures them anew."""
    threads = measured.loc[~is_marked(measured), "threads"].max()
    found: dict[str, list[Any]] = {}
    for row in rows(measured[is_marked(measured)]):
        found.setdefault(row.other_conditions, []).append(row)
    notes = [
        f"{MARK}: measured under other conditions than most rows; it enters no ratio and no best row with them. "
        "The command of its line measures it again; add the --configfile of this sweep, if it has one."
    ] * bool(found)
    for differs, marked in found.items():
        names = ", ".join(f"{Target(row.backend, row.precision, row.variant)} batch size {row.batch}" for row in marked)
        again = [loads_of(Path(row.file)) for row in marked if not is_imported(Path(row.file))]
        cores = "all" if pandas.isna(threads) else threads
        command = f"; snakemake --cores {cores} --forcerun {' '.join(again)}" if again else ""
        notes.append(f"{MARK} {differs}: {names}{command}.")
    return notes


def is_imported(path: Path) -> bool:
    """Whether a row's file is of results that others measured: there is nothing here that could measure it again."""
    return path.parent.name == "imported"


def loads_of(path: Path) -> str:
    """The loads of a row's file, for a shell."""
    return f"{shlex.quote(str(path.with_suffix('')))}/load-*.json"


def _measured_note(line: Line) -> list[str]:
    """What a column was measured on and how, without which figures cannot be compared."""
    table = line.rows[line.rows["failed"].isna()]
    if not len(table):
        return []
    measured = list(rows(table))
    devices = ", ".join(unique(str(device_of(row.device, row.cpu_model)) for row in measured))
    versions = ", ".join(
        unique(
            f"{package} {version}"
            for row in measured
            for package, version in json.loads(row.versions or "{}").items()
            if version and package not in ("python", "numpy")
        )
    )
    runs, warmup_runs = _range(table["runs"]), _range(table["warmup_runs"])
    settings = [
        f"{known} {key}{'' if known == '1' else 's'}"
        for key in ("request", "stream", "thread")
        if (known := _range(table[f"{key}s"]))
    ]
    # only a runtime that told its settings has a number of streams
    told = ", ".join(settings) if table["streams"].notna().any() else ""
    facts = [devices, versions, told, f"{runs} runs after {warmup_runs} warm-up runs" if runs else ""]
    return [f"{line.name}: {'; '.join(fact for fact in facts if fact)}."]


def _range(values: pandas.Series) -> str:
    known = values.dropna()
    return " to ".join(unique(map(str, (known.min(), known.max())))) if len(known) else ""


def make_ratio_table(model: str, lines: Sequence[Line], batches: Sequence[int], no_base: Collection[int] = ()) -> Table:
    """Ratios to the first target, and to what was published of the same hardware.

    Never of an emulator, whose speed means nothing.
    """
    real = [line for line in lines if not line.emulated]
    targets = [line for line in real if not line.published]
    pairs = [(line, targets[0]) for line in targets[1:]]
    pairs += [(line, other) for other in real if other.published for line in targets if _is_measured_on(line, other)]
    cells = []
    for line, base in pairs:
        ends = [(batch, batch) for batch in batches] + [(_best(line), _best(base))]
        wrong = () if base.published else no_base
        ratios = (NONE if pair[1] in wrong else _ratio(line, base, *pair) for pair in ends)
        cells.append([f"{line.name} / {base.name}", *ratios])
    header = ["ratio at batch size", *(str(batch) for batch in batches), "best / best"]
    return Table(f"Throughput ratios: {model}", header, cells, [], left=1)


def _is_measured_on(line: Line, quoted: Line) -> bool:
    """Whether a target ran on the hardware that a published line is of, whoever's brand stands before its name."""
    device = quoted.quoted_device
    return bool(device) and any(_unbranded(chip) == _unbranded(device) for chip in line.rows["chip"].dropna())


def _unbranded(chip: str) -> str:
    return re.sub(r"nvidia|tesla|ascend|[^a-z0-9]", "", chip.lower())


def _ratio(line: Line, base: Line, batch: int | None, base_batch: int | None) -> str:
    if batch not in line.images_per_s or base_batch not in base.images_per_s:
        return NONE
    if base.published and batch in line.marked:
        return NONE
    if batch in line.unchecked or base_batch in base.unchecked:
        return NONE
    if batch in line.doubts or base_batch in base.doubts:
        return NONE
    if not base.published and line.rows["conditions"].get(batch) != base.rows["conditions"].get(base_batch):
        return NONE
    either = is_unstable(line.rows).get(batch, False) or is_unstable(base.rows).get(base_batch, False)
    return f"{line.images_per_s[batch] / base.images_per_s[base_batch]:.2f}{UNSTABLE_MARK * bool(either)}"


# --- details


def make_detail_table(table: pandas.DataFrame) -> Table:
    """Every measurement with its interval and percentiles, for the page."""
    one_way = not (table["way"] == THROUGHPUT_WAY).any()
    shown = texts(THROUGHPUT, table, without=("way", "requests", "streams", "threads") if one_way else ())
    shown.loc[table["emulated"], "backend"] += EMULATED_MARK
    shown["images_per_s"] += marks(table)
    shown.loc[table["failed"].notna(), "images_per_s"] = "failed"
    return make_table("Measurements in detail", THROUGHPUT, shown)
