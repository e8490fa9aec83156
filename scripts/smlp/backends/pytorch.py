"""Eager PyTorch in fp32: the reference that every engine is judged against. It runs the checkpoint itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.cli import UserError
from ..core.tensor import TensorInfo
from . import _precision
from ._profile import Profiler
from ._torch_profile import TorchProfiler
from .base import Backend, Engine, Facts, Timings, require, timed


def open_engine(path: Path, *, device: str, threads: int | None, facts: Facts) -> Engine:
    """A checkpoint as an engine of any batch size. `facts` (its sidecar) must name the model."""
    return _Eager(path, device, threads, facts)


class _Eager(Engine):
    def __init__(self, path: Path, device: str, threads: int | None, facts: Facts) -> None:
        if device != "cpu":
            raise UserError(f"backend 'pytorch' is the fp32 reference and runs on the cpu, not on {device!r}")
        if "model_name" not in facts:
            raise UserError(
                f"{path}: which model is it? fetch it with scripts/retrieve.py, which writes that beside it"
            )
        self._path, self._threads, self._facts = path, threads, facts
        self.device = device

    def _open(self) -> None:
        require("torch", "pytorch")
        from ..models import architectures
        from ..models.checkpoint import load_model

        _precision.use_full_fp32(self._threads)
        self.settings = _precision.stated()
        known = self._facts
        with architectures.sized(known.get("image_size")):
            self._model, facts = load_model(known["model_name"], self._path, known.get("num_classes"), known.get("key"))
        channels, height, width = self._model.pretrained_cfg["input_size"]
        self.inputs = [TensorInfo("input", np.dtype(np.float32), (None, channels, height, width))]
        self.outputs = [TensorInfo("output", np.dtype(np.float32), (None, facts["num_classes"]))]

    def _execute(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        import torch

        with torch.inference_mode():
            output, compute_ms = timed(self._model, torch.from_numpy(images))
        return [output.numpy()], Timings([], [compute_ms], [])

    def profiler(self) -> Profiler:
        return TorchProfiler(self)

    def _close(self) -> None:
        del self._model


BACKEND = Backend(
    name="pytorch",
    suffix=".pth",
    precisions=("fp32",),
    packages=("torch", "torchvision", "timm", "einops"),
    open=open_engine,
    reference_for="checkpoint",
)
