"""The plan of the stage `ceilings`: which devices of this host are measured, and what their figures count for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import backends
from ..backends.base import CPU, CUDA
from ..core import host
from ..core.files import sidecar_path
from .hosts import devices
from .targets import Settings

# What ceilings.py has a probe for; others have a data sheet.
MEASURED = (CPU.name, CUDA.name)


def files(complete: Settings) -> list[str]:
    """One file for each kind of device that the targets run on and that can be measured."""
    if not complete["ceilings"]["measure"]:
        return []
    used = {entry["backend"] for entry in complete["targets"]}
    kinds = {devices(complete, backend)[0].partition(":")[0] for backend in used}
    return [f"results/ceilings/{kind}.json" for kind in MEASURED if kind in kinds]


def graphs(sweep: Any) -> list[str]:
    """The sidecars of the ONNX files that engines of a plan.Sweep are compiled from: they say what an image costs."""
    compiled = (cell for cell in sweep.cells if backends.load(cell.backend).compiles_from == "onnx")
    made = {sweep.onnx_file(cell) for cell in compiled if not sweep.is_ready_made(cell)}
    return [str(sidecar_path(graph)) for graph in sorted({graph.replace("_uint8.onnx", ".onnx") for graph in made})]


def command_flags(complete: Settings, kind: str) -> list[str]:
    """All flags of ceilings.py but where to write: the device of this kind that measures, and how long."""
    used = (devices(complete, entry["backend"])[0] for entry in complete["targets"])
    device = next((name for name in used if name.partition(":")[0] == kind), kind)
    return ["--device", device, "--time_s", str(complete["ceilings"]["time_s"])]


def chips(complete: Settings) -> list[str]:
    """The chips that the settings name, as a flag of tabulate.py: imported results do not say what they ran on."""
    named = []
    for backend in backends.every():
        option = next((option.name for option in backend.options if option.name == "soc_version"), None)
        chip = complete["backends"].get(backend.name, {}).get(option) if option else None
        named += [f"{backend.name}={chip}"] if chip else []
    return ["--chip", *named] if named else []


def fingerprint(kind: str, here: Settings) -> Settings:
    """What a file of ceilings must have been measured on: host and usable processors; {} if a scheduler chose it.

    here: host.facts(), or {} if this run only submits jobs.
    """
    path = Path(f"results/ceilings/{kind}.json")
    try:
        stated: Any = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]["where"]
    except (OSError, ValueError, LookupError, TypeError):  # not measured
        stated = None
    if not here or stated == "submitted":
        return {}
    return {"host": here, "processors": host.processors(), "gpus": host.gpus() if kind == CUDA.name else {}}
