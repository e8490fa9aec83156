"""One run on a CUDA device, its three steps timed by the device itself. Used by the backends that run there."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from ..core.cli import UserError
from .base import Timings


def device(name: str, backend: str) -> Any:
    """`name` (cuda or cuda:N) as a torch device that is there; raises UserError otherwise."""
    import torch

    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise UserError(f"device {name!r} is not known to backend {backend!r}; choose cuda or cuda:N")
    if int(index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name!r}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices; "
            "install a torch build for CUDA, and check nvidia-smi"
        )
    return torch.device("cuda", int(index or 0))


class Steps:
    """Buffers on `device` and page-locked ones on the host, and events between copying in, computing, copying out.

    images, logits: the device's buffers, float32; `compute` in `run` reads the one and fills the other, on `stream`.
    """

    def __init__(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...], device: Any) -> None:
        import torch

        torch.cuda.set_device(device)
        self.stream = torch.cuda.Stream(device)
        self.images = torch.zeros(input_shape, device=device)
        self.logits = torch.zeros(output_shape, device=device)
        self._host_images = torch.empty(input_shape, pin_memory=True)
        self._host_logits = torch.empty(output_shape, pin_memory=True)
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(4)]
        torch.cuda.synchronize(device)

    def run(self, images: np.ndarray, compute: Callable[[], Any]) -> tuple[np.ndarray, Timings]:
        """images: float32 of the input shape. Returns the logits and the milliseconds of the three steps."""
        import torch

        start, copied, computed, done = self._events
        self._host_images.copy_(torch.from_numpy(images))
        with torch.cuda.stream(self.stream):
            start.record()
            self.images.copy_(self._host_images, non_blocking=True)
            copied.record()
            compute()
            computed.record()
            self._host_logits.copy_(self.logits, non_blocking=True)
            done.record()
        done.synchronize()
        timings = Timings([start.elapsed_time(copied)], [copied.elapsed_time(computed)], [computed.elapsed_time(done)])
        return self._host_logits.numpy().copy(), timings
