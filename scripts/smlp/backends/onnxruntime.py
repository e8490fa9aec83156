"""ONNX Runtime on the CPU: one fixed-batch graph per engine, optimised once, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import provenance
from ..cli import UserError
from . import Engine, TensorInfo, Timings, require, timed

COMPILES_FROM = "onnx"
SUFFIX = ".onnx"
PRECISIONS = ("fp32",)
DEVICE = "cpu"
PACKAGES = ("onnxruntime", "onnx", "numpy")

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def compile_engine(
    source: Path, output: Path, *, precision: str, batch_size: int, options: dict[str, str]
) -> dict[str, Any]:
    """Fix the batch dimension of the ONNX file `source` and write ONNX Runtime's optimised graph to `output`.

    The optimised graph uses kernels and memory layouts of this CPU (sidecar: `cpu_model`).
    """
    onnx = require("onnx", "onnxruntime")
    runtime = require("onnxruntime", "onnxruntime")
    from .. import graph

    if options:
        raise UserError(f"backend 'onnxruntime' has no option {sorted(options)[0]!r}; remove it")
    model = graph.with_batch(graph.load(source), batch_size)
    session_options = runtime.SessionOptions()
    session_options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session_options.optimized_model_filepath = str(output)
    session_options.log_severity_level = 3  # it warns that the result fits this CPU only, which is what we want
    try:
        runtime.InferenceSession(model.SerializeToString(), session_options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions share no narrower base
        raise UserError(f"{source}: ONNX Runtime cannot compile it for batch {batch_size} ({error})") from None
    optimised = onnx.load(output)
    return {
        "batch": graph.batch(optimised),
        "node_counts": graph.node_counts(optimised),
        "cpu_model": provenance.cpu_model(),
    }


def open_engine(path: Path, *, device: str, threads: int | None, facts: dict[str, Any]) -> Engine:
    """An engine made by `compile_engine`, or any ONNX file with one image input."""
    return _Session(path, device, threads, facts)


class _Session(Engine):
    def __init__(self, path: Path, device: str, threads: int | None, facts: dict[str, Any]) -> None:
        if device != "cpu":
            raise UserError(f"backend 'onnxruntime' runs on the cpu here, not on {device!r}")
        made_for = facts.get("cpu_model", provenance.cpu_model())
        if made_for != provenance.cpu_model():
            raise UserError(
                f"{path}: was optimised for {made_for!r} and this is {provenance.cpu_model()!r}; compile it again here"
            )
        self._path, self._threads = path, threads
        self._optimised = "cpu_model" in facts
        self.device = device

    def _open(self) -> None:
        runtime = require("onnxruntime", "onnxruntime")
        session_options = runtime.SessionOptions()
        session_options.log_severity_level = 3
        if self._threads:
            session_options.intra_op_num_threads = self._threads
        if self._optimised:
            session_options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = runtime.InferenceSession(
                str(self._path), session_options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's own exceptions share no narrower base
            raise UserError(f"{self._path}: ONNX Runtime cannot open it ({error}); compile the engine again") from None
        self.inputs = [_info(value) for value in self._session.get_inputs()]
        self.outputs = [_info(value) for value in self._session.get_outputs()]

    def _execute(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        outputs, compute_ms = timed(self._session.run, None, {self.inputs[0].name: images})
        return outputs, Timings([], [compute_ms], [])

    def _close(self) -> None:
        del self._session


def _info(value: Any) -> TensorInfo:
    if value.type not in _DTYPES:
        raise UserError(f"the engine's {value.name!r} is a {value.type}; one of {', '.join(_DTYPES)} was expected")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorInfo(value.name, np.dtype(_DTYPES[value.type]), shape)
