"""The images that an int8 engine is calibrated on, as its backend reads them. Which they are: dataset.draw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..core import files
from ..core.cli import UserError
from ..core.tensor import TensorInfo
from ..data import bins
from ..data.manifest import MANIFEST, read_manifest
from .base import Facts, Options


def folder_option(options: Options, precision: str) -> Path | None:
    """The folder of calibration bins among a backend's options: for int8, else None.

    Raises UserError for int8 without calibration, and for calibration without int8.
    """
    if precision != "int8":
        if "calibration" in options:
            raise UserError(f"option 'calibration': precision {precision} needs none; remove it")
        return None
    if "calibration" not in options:
        raise UserError(
            "precision int8 needs images to calibrate with; add --option calibration=<folder of bins>, made by "
            "scripts/preprocess.py --split train --draw 128"
        )
    return Path(options["calibration"])


def facts(folder: Path) -> Facts:
    """What the sidecar of an engine says about its calibration: how many images, and the checksum of their manifest."""
    manifest = folder / MANIFEST
    return {"images": len(read_manifest(manifest)), "manifest_sha256": files.digest(manifest)}


def images(folder: Path, info: TensorInfo) -> Iterator[np.ndarray]:
    """The images of the bins in `folder` one by one: (1, …) as the input `info` takes them; one bin in memory.

    Raises UserError for bins that are missing or not whole images.
    """
    listed, read = len(read_manifest(folder / MANIFEST)), 0
    for batch in bins.batches(bins.find(str(folder)), info, 1):
        read += 1
        yield batch.images
    if read != listed:
        raise UserError(f"{folder}: holds {read} images and its {MANIFEST} lists {listed}; preprocess again")
