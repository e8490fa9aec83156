"""Inputs and outputs of engines and graphs, in the words of every layer.

NumPy only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class TensorInfo(NamedTuple):
    """One input or output as an engine or a graph states it. `shape` holds None for an axis of any size."""

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]


def shape_text(shape: tuple[int | None, ...]) -> str:
    """A shape for people: 8x3x224x224, with ? for a free axis."""
    return "x".join("?" if size is None else str(size) for size in shape)
