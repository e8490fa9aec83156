"""Reading preprocessed images for an engine, batch by batch, as ais_bench groups them.

NumPy only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .backends import TensorInfo, shape_text
from .cli import UserError

_SUFFIXES = (".bin", ".npy")


class Batch(NamedTuple):
    """images: the engine's input, full size, the tail padded. parts: (file, how many of its images), in order."""

    images: np.ndarray
    parts: list[tuple[Path, int]]


def find(spec: str) -> list[Path]:
    """Input files of `--input`: a folder, in ais_bench's natural order, or a comma list, in the given order."""
    listed = [Path(name) for name in spec.split(",")]
    if len(listed) == 1 and listed[0].is_dir():
        found = sorted((path for path in listed[0].iterdir() if path.suffix.lower() in _SUFFIXES), key=_natural)
        if not found:
            raise UserError(f"{listed[0]}: holds no .bin or .npy file; preprocess the images into it first")
        return found
    for path in listed:
        if not path.is_file():
            raise UserError(f"{path}: is no file; --input takes one folder of .bin files, or a comma list of files")
    return listed


def _natural(path: Path) -> tuple[list[object], str]:
    # ais_bench: digit runs compare as numbers, the rest in lower case, on the whole path; ours: 01 before 1 always
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", str(path))], str(path)


def batches(paths: Sequence[Path], info: TensorInfo, batch_size: int) -> Iterator[Batch]:
    """Every image of `paths` once, `batch_size` at a time.

    A short last batch is padded with its first image, as ais_bench does. Memory: one batch and one file.
    Raises UserError that names a file of the wrong size or kind.
    """
    images_per_file = len(read(paths[0], info))
    check_manifest(paths[0], images_per_file)
    if images_per_file > batch_size or (len(paths) > 1 and batch_size % images_per_file):
        raise UserError(
            f"{paths[0]}: holds {images_per_file} images, which does not divide the batch size {batch_size}"
        )
    files_per_batch = batch_size // images_per_file
    for start in range(0, len(paths), files_per_batch):
        group = paths[start : start + files_per_batch]
        images = np.empty((batch_size, *info.shape[1:]), info.dtype)
        filled, parts = 0, []
        for path in group:
            content = read(path, info)
            if len(content) > images_per_file or (len(content) < images_per_file and path != paths[-1]):
                raise UserError(
                    f"{path}: holds {len(content)} images where others hold {images_per_file}; preprocess again"
                )
            images[filled : filled + len(content)] = content
            filled += len(content)
            parts.append((path, len(content)))
        images[filled:] = images[0]
        yield Batch(images, parts)


def check_manifest(path: Path, images: int) -> None:
    """Raise UserError where the manifest beside a file lists another number of images in it.

    The bytes of one float32 image are also those of four uint8 ones, which an engine with AIPP would take.
    """
    manifest = path.with_name("manifest.csv")
    if manifest.exists():
        with open(manifest, encoding="utf-8", newline="") as stream:
            listed = sum(row.get("bin") == path.name for row in csv.DictReader(stream))
        if listed not in (0, images):
            raise UserError(
                f"{path}: holds {listed} images by {manifest.name}, but by its size {images} of what the engine takes; "
                "it was preprocessed for another input, of another type or size"
            )


def read(path: Path, info: TensorInfo) -> np.ndarray:
    """The images of one file, in the engine's dtype, shape (n, ...).

    Raises UserError for a size or dtype that is not whole images of this engine's input.
    """
    image_shape = info.shape[1:]
    wanted = f"whole images of {info.dtype} {shape_text(image_shape)}"
    if path.suffix.lower() == ".npy":
        try:
            with open(path, "rb") as stream:  # not np.load, which takes archives and pickles for arrays too
                content = np.lib.format.read_array(stream, allow_pickle=False)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # untrusted bytes: a damaged header can raise anything at all
            raise UserError(f"{path}: is not a plain .npy file ({error}); {wanted} were expected") from None
        whole = content.shape == image_shape or (content.shape[1:] == image_shape and len(content))
        if content.dtype != info.dtype or not whole:
            raise UserError(f"{path}: holds {content.dtype} {shape_text(content.shape)}, {wanted} were expected")
        return content.reshape(-1, *image_shape)
    size = path.stat().st_size
    image_bytes = int(np.prod(image_shape)) * info.dtype.itemsize
    if size == 0 or size % image_bytes:
        raise UserError(
            f"{path}: has {size} bytes, {wanted} ({image_bytes} bytes each) were expected; "
            "it is cut off or made for another model, preprocess again"
        )
    return np.fromfile(path, info.dtype).reshape(-1, *image_shape)
