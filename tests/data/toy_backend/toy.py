"""A toy: ONNX Runtime, on a kind of device of its own, with logits times an option.

tests/workflow/test_toy_backend.py adds it to a copy of the product, as anybody would add a backend.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.tensor import TensorInfo
from .base import Backend, DeviceKind, Engine, Facts, Option, Options, Timings, require, timed


def compile_engine(source: Path, output: Path, *, precision: str, batch_size: int, options: Options) -> Facts:
    """Fix the batch dimension of the ONNX file `source`; the gain is in a file beside `output`."""
    from ..models import onnx_graph

    model = onnx_graph.with_batch(onnx_graph.load(source), batch_size)
    output.write_bytes(model.SerializeToString())
    output.with_suffix(".gain").write_text(options.get("gain", "1"))
    return {"batch": onnx_graph.batch(model)}


def open_engine(path: Path, *, device: str, threads: int | None, facts: Facts) -> Engine:
    """The engine at `path`."""
    return _Session(path, device)


class _Session(Engine):
    def __init__(self, path: Path, device: str) -> None:
        self._path, self.device = path, device

    def _open(self) -> None:
        runtime = require("onnxruntime", "toy")
        self._gain = int(self._path.with_suffix(".gain").read_text())
        self._session = runtime.InferenceSession(self._path.read_bytes(), providers=["CPUExecutionProvider"])
        self.inputs = [TensorInfo(value.name, np.dtype("float32"), value.shape) for value in self._session.get_inputs()]
        self.outputs = [
            TensorInfo(value.name, np.dtype("float32"), value.shape) for value in self._session.get_outputs()
        ]

    def _execute(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        (logits,), compute_ms = timed(self._session.run, None, {self.inputs[0].name: images})
        return [self._gain * logits], Timings([], [compute_ms], [])

    def _close(self) -> None:
        del self._session


BACKEND = Backend(
    name="toy",
    compiles_from="onnx",
    suffix=".toy",
    companions=(".gain",),
    precisions=("fp32",),
    devices=(DeviceKind("abacus", resource="abacus"),),
    packages=("onnxruntime", "numpy"),
    options=(Option("gain", "what logits are multiplied by; 1 unless given", "integer", minimum=1),),
    compile=compile_engine,
    open=open_engine,
)
