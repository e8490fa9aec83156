"""A toy whose figures tell of everything that they depend on, to the last bit: also the times that it states.

tests/workflow/test_edits.py adds it to a copy of the product, as test_toy_backend.py adds its own.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np

from ..core.tensor import TensorInfo
from . import _calibration
from .base import CALIBRATION, Backend, DeviceKind, Engine, Facts, Option, Options, Timings, require

FACTOR = 1


def compile_engine(source: Path, output: Path, *, precision: str, batch_size: int, options: Options) -> Facts:
    """Fix the batch dimension of the ONNX file `source`; the gain, which calibration adds to, is beside `output`."""
    from ..models import onnx_graph

    model = onnx_graph.with_batch(onnx_graph.load(source), batch_size)
    gain = FACTOR * int(options.get("gain", "1"))
    folder = _calibration.folder_option(options, precision)
    if folder is not None:
        content = _calibration.images(folder, onnx_graph.image_info(model))
        gain += zlib.crc32(b"".join(image.tobytes() for image in content)) % 7
    output.write_bytes(model.SerializeToString())
    output.with_suffix(".gain").write_text(str(gain))
    return {"batch": onnx_graph.batch(model)}


def open_engine(path: Path, *, device: str, threads: int | None, facts: Facts) -> Engine:
    """The engine at `path`."""
    return _Session(path, device)


class _Session(Engine):
    def __init__(self, path: Path, device: str) -> None:
        self._path, self.device = path, device

    def _open(self) -> None:
        runtime = require("onnxruntime", "toy")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        content = self._path.read_bytes()
        self._gain = int(self._path.with_suffix(".gain").read_text())
        # as a runtime whose arithmetic a variable changes
        self._gain += 100 if os.environ.get("ONEDNN_DEFAULT_FPMATH_MODE") == "BF16" else 0
        self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._seed = zlib.crc32(content, self._gain)
        self.inputs = [
            TensorInfo(value.name, np.dtype("uint8" if "uint8" in value.type else "float32"), tuple(value.shape))
            for value in self._session.get_inputs()
        ]
        self.outputs = [
            TensorInfo(value.name, np.dtype("float32"), tuple(value.shape)) for value in self._session.get_outputs()
        ]

    def _execute(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        (logits,) = self._session.run(None, {self.inputs[0].name: images})
        # which class is first depends on every bit
        scores = np.sin(1000 * self._gain * logits, dtype=np.float32)
        return [scores], Timings([], [1 + zlib.crc32(images.tobytes(), self._seed) % 1000 / 1000], [])

    def _close(self) -> None:
        del self._session


BACKEND = Backend(
    name="toy",
    compiles_from="onnx",
    suffix=".toy",
    companions=(".gain",),
    precisions=("fp32", "int8"),
    calibrated=("int8",),
    devices=(DeviceKind("abacus", resource="abacus"),),
    packages=("onnxruntime", "numpy"),
    options=(Option("gain", "what logits are multiplied by; 1 unless given", "integer", minimum=1), CALIBRATION),
    compile=compile_engine,
    open=open_engine,
)
