"""What a machine allows at most: the roof over each row, from its ceilings and from what the graph costs.

Ceilings are measured (ceilings.py) or those of a data sheet (resources/ceilings.csv). A row's roof is the lower of two:
computing, every multiply-add at the rate of products in the row's precision; and moving, every parameter once a batch
and every tensor that products read or write, at the bandwidth of the level of memory that holds it (Williams, Waterman
and Patterson, CACM 2009, with the roofs of caches as in Ilic et al., IEEE CAL 2014). What an emulator runs on has none.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas

from ..core import files, identity
from ..core.cli import UserError
from ..core.provenance import Facts
from .cells import NONE, Table
from .columns import rows
from .reader import Published, Record, Target, check

SHEET = Path(__file__).resolve().parents[3] / "resources" / "ceilings.csv"
KINDS = ("fp32", "tf32", "bf16", "fp16", "int8")
_COLUMNS = ("device", "matches", *(f"{kind}_top_per_s" for kind in KINDS), "memory_gb_per_s", "source")
# In which kinds of products the layers of an engine may run; of any other precision in all.
_MAY_RUN_IN = {
    "fp32": ("fp32", "tf32"),
    "bf16": ("fp32", "tf32", "bf16"),
    "fp16": ("fp32", "tf32", "fp16"),
    "high": ("fp32", "tf32", "fp16"),
}
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "high": 2, "int8": 1}
COMPUTE, MEMORY = "compute", "memory"
# How far above its ceiling a row may be before that is impossible: another day's clock, or a busy host's low ceiling.
_SETTLED, _UNSETTLED, _OF_A_SHEET = 1.25, 2.0, 1.0


class Level(NamedTuple):
    """One level of memory. holds_bytes: infinite for the last one."""

    name: str
    holds_bytes: float
    bytes_per_s: float


class Machine(NamedTuple):
    """A device's ceilings. kind: cpu, cuda; "" from a data sheet. fingerprint: where they were measured."""

    name: str
    source: str
    operations_per_s: Mapping[str, float]
    levels: Sequence[Level]
    kind: str = ""
    settled: Mapping[str, bool] = {}
    host_to_device_bytes_per_s: float | None = None
    fingerprint: Facts = {}
    matches: str = ""

    def peak(self, precision: str, tf32: bool = True) -> tuple[str, float]:
        """The fastest kind of product that an engine of this precision may run in, and its operations a second."""
        may = [kind for kind in _MAY_RUN_IN.get(precision, KINDS) if tf32 or kind != "tf32"]
        known = {kind: self.operations_per_s[kind] for kind in may if kind in self.operations_per_s}
        return max((known or self.operations_per_s).items(), key=lambda pair: pair[1])

    def allows(self, kind: str) -> float:
        """How many times the ceiling of a kind of product a row may state."""
        return _OF_A_SHEET if not self.kind else _SETTLED if self.settled.get(kind) else _UNSETTLED

    def move_s(self, size: float, times: float = 1) -> float:
        """Seconds to move so many bytes, so often; 0 if no level is known."""
        level = next((level for level in self.levels if size <= level.holds_bytes), None)
        return times * size / level.bytes_per_s if level else 0.0


class Graph(NamedTuple):
    """What one image costs. activations: elements of a tensor -> how many such ones products read and write."""

    macs: int
    least_macs: int
    parameters: int
    activations: Mapping[int, int]

    def moved(self) -> int:
        """Elements that products read and write."""
        return sum(elements * times for elements, times in self.activations.items())


class Roof(NamedTuple):
    """Over one row. binds: COMPUTE or MEMORY. most_images_per_s: what no honest row is above.

    operations: of one image. kind: of product that the ceiling is of. operations_per_byte: with every tensor moved.
    """

    machine: Machine
    images_per_s: float
    binds: str
    operations_per_byte: float
    most_images_per_s: float
    operations: float
    kind: str


def roof(machine: Machine, graph: Graph, precision: str, batch: int, tf32: bool = True) -> Roof | None:
    """The roof over an engine; None if the graph has no products or the machine no ceiling."""
    if not graph.macs or not machine.operations_per_s:
        return None
    kind, per_s = machine.peak(precision, tf32)
    width = _BYTES.get(precision, 1)
    weights_s = machine.move_s(width * graph.parameters)
    tensors = [(width * batch * elements, times) for elements, times in graph.activations.items()]
    move_s = weights_s + sum(machine.move_s(size, times) for size, times in tensors)
    compute_s = 2 * graph.macs * batch / per_s
    moved = width * graph.parameters + sum(size * times for size, times in tensors)
    # fewer products by other algorithms, and tensors that never leave a cache: what nobody can be faster than
    least_s = max(2 * graph.least_macs * batch / per_s, weights_s)
    return Roof(
        machine,
        batch / max(compute_s, move_s),
        COMPUTE if compute_s >= move_s else MEMORY,
        2 * graph.macs * batch / moved if moved else math.inf,
        machine.allows(kind) * batch / least_s,
        2.0 * graph.macs,
        kind,
    )


class Ceilings(NamedTuple):
    """All that is known. graphs: by the id of what a model starts from. chips: backend -> name of its device."""

    machines: Sequence[Machine] = ()
    graphs: Mapping[str, Graph] = {}
    chips: Mapping[str, str] = {}

    def of_record(self, record: Record) -> Roof | None:
        """The roof over a measurement; None if its device or its graph has none."""
        graph = self.graph(record.start_id)
        machine = None if record.failed or record.emulated else self._machine(record)
        if not graph or not machine or not record.batch:
            return None
        tf32 = (record.facts.get("settings") or {}).get("tf32") is not False
        return roof(machine, graph, record.target.precision, record.batch, tf32)

    def of_published(self, line: Published, start: str | None) -> Roof | None:
        """The roof over a published rate of the model that starts from `start`; which precision nobody tells."""
        graph, machine = self.graph(start), self.named(line.device)
        return roof(machine, graph, "", line.batch) if graph and machine and line.batch else None

    def graph(self, start: str | None) -> Graph | None:
        """What a model costs."""
        return self.graphs.get(start or "")

    def named(self, device: str | None) -> Machine | None:
        """The machine of a data sheet with this name."""
        sheets = (machine for machine in self.machines if not machine.kind)
        return next((one for one in sheets if device and re.fullmatch(one.matches, device, re.IGNORECASE)), None)

    def _machine(self, record: Record) -> Machine | None:
        kind = re.split(r"\W", record.facts.get("device") or "")[0].lower()
        gpu = (record.facts.get("settings") or {}).get("gpu")
        stated = record.facts.get("fingerprint") or {}
        for machine in self.machines:
            if machine.kind == kind and _same(machine, stated) and (kind == "cpu" or machine.name == gpu):
                return machine
        chip = chip_of(record, self.chips)
        return None if kind == "cpu" or not chip else self.named(chip)


def chip_of(record: Record, chips: Mapping[str, str]) -> str | None:
    """The GPU or NPU of a measurement, as its runtime or driver names it; None for a processor. chips: see Ceilings."""
    told = (record.facts.get("device_state") or {}).get("before") or {}
    gpu = (record.facts.get("settings") or {}).get("gpu")
    chip = gpu or told.get("name") or chips.get(record.target.backend)
    return chip if isinstance(chip, str) else None


def _same(machine: Machine, stated: Facts) -> bool:
    """Whether a measurement was made where the ceilings were: on that host, with as many processors."""
    own, other = machine.fingerprint.get("processors") or {}, stated.get("processors") or {}
    same = all(own.get(key) == other.get(key) for key in ("affinity", "quota"))
    return same and stated.get("host") == machine.fingerprint.get("host")


class Point(NamedTuple):
    """A row under its roof. x: operations per byte, y: operations a second."""

    target: Target
    way: str
    x: float
    y: float
    kind: str
    implausible: bool


class Panel(NamedTuple):
    """Of the roofline: one model on one machine."""

    model: str
    machine: Machine
    points: Sequence[Point]


def panels(table: pandas.DataFrame, found: Sequence[Roof | None]) -> list[Panel]:
    """The roofline of the throughput table. found: the roof over each of its rows."""
    made: dict[tuple[str, int], Panel] = {}
    for row, own in zip(rows(table), found, strict=True):
        if own and row.images_per_s and math.isfinite(own.operations_per_byte):
            panel = made.setdefault((row.model, id(own.machine)), Panel(row.model, own.machine, []))
            target = Target(row.backend, row.precision, row.variant or "")
            place = (own.operations_per_byte, row.images_per_s * own.operations)
            panel.points.append(Point(target, row.way, *place, own.kind, row.implausible is not None))
    return list(made.values())


def columns(found: Roof | None, record: Record) -> Facts:
    """The columns of THROUGHPUT that a roof gives a row."""
    rate = record.known.get("images_per_s")
    if found is None or rate is None:
        return {}
    return {
        "ceiling_percent": 100 * rate / found.images_per_s,
        "roof": found.binds,
        "ceiling_images_per_s": found.images_per_s,
        "ceiling_source": found.machine.source,
        "operations_per_byte": found.operations_per_byte if math.isfinite(found.operations_per_byte) else None,
    }


# --- files


def read(measured: Iterable[Path], graphs: Iterable[Path], sheet: Path, chips: Iterable[tuple[str, str]]) -> Ceilings:
    """Ceilings from files of ceilings.py, sidecars of export.py and a data sheet. Raises UserError naming the file."""
    machines = [machine for path in measured if (machine := _read_measured(path))]
    costs: dict[str, Graph] = {}
    for path in graphs:
        facts = _read(path, "graph", "a sidecar of export.py")
        if "failed" in facts:
            continue
        found = Graph(
            facts["macs"],
            facts["least_macs"],
            facts["parameters"],
            {int(size): times for size, times in facts["activation_elements"].items()},
        )
        start = facts["start"]["id"]
        # of a model's graphs the one that moves least: no engine needs more
        costs[start] = min(costs.get(start, found), found, key=Graph.moved)
    return Ceilings([*machines, *read_sheet(sheet)], costs, dict(chips))


def _read(path: Path, part: str, what: str) -> Facts:
    facts = files.read_json(path, what)
    if not isinstance(facts, dict):
        raise UserError(f"{path}: is not {what}; check the path")
    identity.verify(facts, path)
    if "failed" not in facts:
        check(facts, part, path)
    return facts


def _read_measured(path: Path) -> Machine | None:
    facts = _read(path, "ceilings", "a file of ceilings.py")
    if "failed" in facts:
        return None
    levels = [
        Level(one["level"], one.get("holds_bytes") or math.inf, one["bytes_per_s"]) for one in facts["bandwidths"]
    ]
    return Machine(
        facts["name"],
        f"measured {facts.get('started_at') or 'here'}",
        facts["operations_per_s"],
        sorted(levels, key=lambda level: level.holds_bytes),
        facts["device"],
        facts["settled"],
        facts.get("host_to_device_bytes_per_s"),
        facts["fingerprint"],
    )


def read_sheet(path: Path) -> list[Machine]:
    """The machines of a table like resources/ceilings.csv. Raises UserError naming the line that is not as expected."""
    found = []
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if lacking := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
                raise UserError(f"{path}: has no column {', '.join(lacking)}; keep the shipped file's header")
            for row in reader:
                where = f"{path}: line {reader.line_num}"
                if None in row.values():
                    raise UserError(f"{where}: has fewer values than the header has columns; leave unknown ones empty")
                rates = {kind: _number(row[f"{kind}_top_per_s"], 1e12, where) for kind in KINDS}
                bandwidth = _number(row["memory_gb_per_s"], 1e9, where)
                levels = [Level("memory", math.inf, bandwidth)] if bandwidth else []
                known = {kind: rate for kind, rate in rates.items() if rate}
                re.compile(row["matches"])
                source = f"data sheet ({row['source']})"
                found.append(Machine(row["device"], source, known, levels, matches=row["matches"]))
    except (csv.Error, UnicodeDecodeError, re.error, TypeError) as error:
        raise UserError(f"{path}: is no table of ceilings ({error}); keep the shipped file's form") from None
    return found


def _number(text: str, unit: float, where: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = -1.0
    if value is not None and not 0 < value < math.inf:
        raise UserError(f"{where}: {text!r} is no number above 0; leave what is unknown empty")
    return value and value * unit


# --- for people


def make_table(roofs: Iterable[Roof | None]) -> Table | None:
    """The ceilings that rows have roofs of; None if there are none."""
    used = list({id(found.machine): found.machine for found in roofs if found}.values())
    kinds = [kind for kind in KINDS if any(kind in machine.operations_per_s for machine in used)]
    header = ["device", *(f"{kind} (Top/s)" for kind in kinds), "bandwidth (GB/s)", "host to device (GB/s)", "from"]
    lines = []
    for machine in used:
        rates = [machine.operations_per_s.get(kind) for kind in kinds]
        busy = ["" if machine.allows(kind) < _UNSETTLED else " ~" for kind in kinds]
        cells = [f"{rate / 1e12:.3g}{mark}" if rate else NONE for rate, mark in zip(rates, busy, strict=True)]
        levels = ", ".join(f"{level.name} {level.bytes_per_s / 1e9:.3g}" for level in machine.levels)
        given = machine.host_to_device_bytes_per_s
        lines.append([machine.name, *cells, levels or NONE, f"{given / 1e9:.3g}" if given else NONE, machine.source])
    notes = ["an operation is a multiplication or an addition; from a data sheet: not measured here."]
    if any(cell.endswith("~") for line in lines for cell in line):
        again = "snakemake --cores all --forcerun results/ceilings/cpu.json"
        notes.append(f"~: not settled, the host was busy; {again} measures it again.")
    return Table("Ceilings", header, lines, notes, left=1) if lines else None
