"""TensorRT's layer times, by trtexec or by the package `tensorrt`; each layer's precision as the engine tells it.

Written from NVIDIA's documentation and the sources of trtexec; not run on a GPU. The engine tells types of layers only
if it was built with `--profilingVerbosity=detailed`; else precisions are unknown. NumPy is all that this module needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import files
from ..core.cli import UserError
from ._profile import Operation, Profiler, computing, converting

_MOVES = re.compile(r"Reformat|NoOp|Shuffle|Cast|Quantize|Dequantize|Transpose", re.IGNORECASE)
_TYPE = re.compile(r"FP32|FP16|BF16|INT8|FP8|Half|Float|Int8|BFloat16", re.IGNORECASE)
_PROFILE, _LAYERS = "profile.json", "layers.json"


class ByTrtexec(Profiler):
    """trtexec profiles in a run of its own after the timed one, so that its times are those of an engine unprofiled."""

    def __init__(self, engine: Any, flags: Iterable[str], folder: Path) -> None:
        wanted = {"--exportProfile": _PROFILE, "--separateProfileRun": None, "--exportLayerInfo": _LAYERS}
        if "--exportProfile" not in flags:
            raise UserError("this trtexec has no --exportProfile; install TensorRT 7 or newer to see times of layers")
        known = [(flag, file) for flag, file in wanted.items() if flag in flags]
        self._further = [f"{flag}={file}" if file else flag for flag, file in known]
        self._engine, self._folder = engine, folder
        self._profiles: list[list[Mapping[str, Any]]] = []

    def run(self, images: np.ndarray, times: int) -> list[float]:
        run_ms = []
        for _ in range(times):
            run_ms += self._engine._execute(images, self._further)[1].compute_ms
            self._profiles.append(files.read_json(self._folder / _PROFILE, "trtexec's layer times"))
        return run_ms

    def begin(self) -> None:
        self._profiles = []

    def end(self) -> list[Operation]:
        layers = self._folder / _LAYERS
        about = files.read_json(layers, "trtexec's layers") if layers.exists() else {}
        return layer_times(self._profiles, about)


class ByPackage(Profiler):
    """A second execution context, which reports the time of every layer."""

    def __init__(self, engine: Any) -> None:
        import tensorrt

        class Reporter(tensorrt.IProfiler):
            def __init__(self) -> None:
                tensorrt.IProfiler.__init__(self)
                self.total_ms: dict[str, float] = {}

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                self.total_ms[layer_name] = self.total_ms.get(layer_name, 0.0) + ms

        self._engine, self._plain, self._reporter = engine, engine._context, Reporter()
        self._profiled = engine._engine.create_execution_context()
        self._profiled.profiler = self._reporter
        engine._bind(self._profiled)
        inspector = engine._engine.create_engine_inspector()
        self._about = json.loads(inspector.get_engine_information(tensorrt.LayerInformationFormat.JSON))
        self._runs = 0

    def run(self, images: np.ndarray, times: int) -> list[float]:
        self._engine._context = self._profiled
        try:
            self._runs += times
            return [self._engine.run(images)[1].compute_ms[0] for _ in range(times)]
        finally:
            self._engine._context = self._plain

    def begin(self) -> None:
        self._runs = 0
        self._reporter.total_ms.clear()

    def end(self) -> list[Operation]:
        self._profiled = None  # contexts go before their engine
        listed = [{"name": name, "timeMs": ms} for name, ms in self._reporter.total_ms.items()]
        return layer_times([[{"count": max(1, self._runs)}, *listed]], self._about)


def layer_times(profiles: Sequence[Sequence[Mapping[str, Any]]], about: Any) -> list[Operation]:
    """Operators in files of trtexec's --exportProfile, the mean over all their runs.

    A file is a list: first {"count": runs}, then {"name", "timeMs" (of all runs), …} of each layer. about: what
    --exportLayerInfo or the engine's inspector says. Raises UserError for a file that is not of this form.
    """
    total_ms: dict[str, float] = {}
    runs = 0
    for profile in profiles:
        try:
            runs += int(next(entry["count"] for entry in profile if "count" in entry))
            for entry in profile:
                if "name" in entry:
                    total_ms[entry["name"]] = total_ms.get(entry["name"], 0.0) + float(entry["timeMs"])
        except (StopIteration, KeyError, TypeError, ValueError):
            raise UserError(
                'trtexec exported layer times of another form than [{"count": …}, {"name": …, "timeMs": …}, …]; run '
                "trtexec --exportProfile by hand and see"
            ) from None
    layers = about.get("Layers", []) if isinstance(about, dict) else []
    known = {layer["Name"]: layer for layer in layers if isinstance(layer, dict) and "Name" in layer}
    return [_operation(name, known.get(name, {}), ms / max(1, runs)) for name, ms in total_ms.items()]


def _operation(name: str, layer: Mapping[str, Any], ms: float) -> Operation:
    kind = str(layer.get("LayerType") or layer.get("ParameterType") or "layer")
    moves = bool(_MOVES.search(kind) or name.startswith("Reformatting CopyNode"))
    inputs, outputs = (_types(layer.get(side) or []) for side in ("Inputs", "Outputs"))
    precision = (converting if moves else computing)(inputs, outputs)
    unit = str(layer.get("TacticName") or "GPU")
    return Operation(name, kind, precision, unit, ms, moves=moves)


def _types(tensors: Iterable[Mapping[str, Any]]) -> list[str]:
    """Types of tensors, from "Row major linear FP32" and "Channel major FP16 format where channel % 8 == 0"."""
    found = (_TYPE.search(str(tensor.get("Format/Datatype", ""))) for tensor in tensors)
    return [one[0] for one in found if one]
