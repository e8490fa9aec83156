"""What the bins of an image hold: the network's float32 input, or the image's own bytes and how to normalise them.

NumPy only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core import files
from ..core.cli import UserError

KINDS = ("float32", "uint8")
# In a folder of uint8 bins, so that it stays there wherever the folder is taken. One of float32 bins has none.
FACTS = "pixels.json"


class Pixels(NamedTuple):
    """uint8 bins: RGB, (height, width, 3). mean, std: of each channel, for pixels in [0, 1]."""

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: height, width, channels; what Pillow decodes to and AIPP takes."""
        return self.height, self.width, 3


def normalise(
    pixels: np.ndarray, mean: Sequence[float], std: Sequence[float], out: np.ndarray | None = None
) -> np.ndarray:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W): (x / 255 - mean) / std, bit for bit as torchvision rounds it."""
    channels_first = (*pixels.shape[:-3], pixels.shape[-1], *pixels.shape[-3:-1])
    if out is None:
        out = np.empty(channels_first, np.float32)
    for channel, table in enumerate(_tables(tuple(mean), tuple(std))):
        # mode="clip" spares a second pass over the indices; a byte cannot lie outside 256 entries
        np.take(table, pixels[..., channel], out=out[..., channel, :, :], mode="clip")
    return out


@functools.cache
def _tables(mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """float32 (3, 256): the normalised value of every byte in every channel.

    Each step rounds to float32 as torch's ToTensor and Normalize do: divide by 255, subtract, divide.
    """
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    return (unit - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]


def write(folder: Path, pixels: Pixels) -> None:
    """Say in a folder of uint8 bins what they are."""
    facts = {"dtype": "uint8", "shape": list(pixels.shape), "mean": list(pixels.mean), "std": list(pixels.std)}
    files.write_json(folder / FACTS, facts)


def of_folder(folder: Path) -> Pixels | None:
    """What a folder's bins are: None for float32 ones, or any that were not made by scripts/preprocess.py."""
    path = folder / FACTS
    if not path.exists():
        return None
    facts = files.read_json(path, "a description of uint8 bins")
    try:
        height, width, channels = facts["shape"]
        found = Pixels(height, width, tuple(map(float, facts["mean"])), tuple(map(float, facts["std"])))
        whole = all(type(side) is int and side > 0 for side in (height, width)) and channels == 3
        if facts["dtype"] != "uint8" or not whole or len(found.mean) != 3 or len(found.std) != 3 or 0 in found.std:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: is not what scripts/preprocess.py writes; preprocess again") from None
    return found
