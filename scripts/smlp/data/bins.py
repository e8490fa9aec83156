"""Reading preprocessed images for an engine, batch by batch, as ais_bench groups them.

Only this module knows the layout of bins. Callers get the engine's own input from one file per image or from one array
per shard, of float32 values or of bytes.

NumPy only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ..core import files, identity
from ..core.cli import UserError
from ..core.tensor import TensorInfo, shape_text
from . import arrays, pixels
from .manifest import MANIFEST, images_per_bin

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


def made_from(paths: Sequence[Path]) -> dict[str, str]:
    """Ids of the folders that these files lie in, as roles for an identity; of one without a sidecar the files'.

    Raises UserError, naming the file, if they are not those that the folder's sidecar states. A folder all of whose
    bins are listed must have exactly the files that its sidecar states.
    """
    found = []
    for folder in dict.fromkeys(path.parent for path in paths):
        names = [path.name for path in paths if path.parent == folder]
        sidecar = identity.sidecar_of(folder)
        facts = files.read_json(sidecar, "the sidecar of bins") if sidecar.is_file() else {}
        stated = identity.verify(facts, sidecar) if isinstance(facts, dict) else None
        if stated is None:
            names += [pixels.FACTS] if (folder / pixels.FACTS).is_file() else []
            stated = content_id({name: files.digest(folder / name) for name in names})
        elif set(names) == {path.name for path in find(str(folder))}:
            identity.check_files(facts, sidecar, folder)
        else:
            about = [name for name in (MANIFEST, pixels.FACTS) if name in facts["identity"]["files"]]
            identity.check_files(facts, sidecar, folder, only=[*names, *about])
        found.append(stated)
    return {f"bins_{number}": stated for number, stated in enumerate(found)}


def content_id(digests: Mapping[str, str]) -> str:
    """The id of bins without a sidecar. digests: of the files of their folder by name; others are left out."""
    names = (name for name in digests if Path(name).suffix.lower() in _SUFFIXES or name == pixels.FACTS)
    content = {name: digests[name] for name in names}
    return identity.state("content", content)["id"]


def _natural(path: Path) -> tuple[list[object], str]:
    # ais_bench: digit runs compare as numbers, the rest in lower case, on the whole path; ours: 01 before 1 always
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", str(path))], str(path)


def batches(paths: Sequence[Path], info: TensorInfo, batch_size: int) -> Iterator[Batch]:
    """Every image of `paths` once, `batch_size` at a time.

    A short last batch is padded with its first image, as ais_bench does. An array of more images than a batch is
    streamed; other files hold whole parts of one. Memory: one batch and, of those, one file. Raises UserError that
    names a file of the wrong size or kind.
    """
    images_per_file = count(paths[0], info)
    if images_per_file > batch_size and paths[0].suffix.lower() == ".npy":
        for path in paths:
            check_manifest(path, count(path, info))
            for content in read(path, info, batch_size):
                yield _padded([content], info, batch_size, [(path, len(content))])
        return
    check_manifest(paths[0], images_per_file)
    if images_per_file > batch_size or (len(paths) > 1 and batch_size % images_per_file):
        raise UserError(
            f"{paths[0]}: holds {images_per_file} images, which does not divide the batch size {batch_size}"
        )
    files_per_batch = batch_size // images_per_file
    for start in range(0, len(paths), files_per_batch):
        contents, parts = [], []
        for path in paths[start : start + files_per_batch]:
            images = count(path, info)
            if images > images_per_file or (images < images_per_file and path != paths[-1]):
                raise UserError(f"{path}: holds {images} images where others hold {images_per_file}; preprocess again")
            contents += read(path, info, images)
            parts.append((path, images))
        yield _padded(contents, info, batch_size, parts)


def _padded(contents: list[np.ndarray], info: TensorInfo, batch_size: int, parts: list[tuple[Path, int]]) -> Batch:
    images = np.empty((batch_size, *info.shape[1:]), info.dtype)
    filled = 0
    for content in contents:
        images[filled : filled + len(content)] = content
        filled += len(content)
    images[filled:] = images[0]
    return Batch(images, parts)


def check_manifest(path: Path, images: int) -> None:
    """Raise UserError if the manifest beside a file lists another number of images in it.

    The bytes of one float32 image are also those of four uint8 ones, which an engine with AIPP would take.
    """
    manifest = path.with_name(MANIFEST)
    if manifest.exists():
        listed = _images_per_bin(manifest)[path.name]
        if listed not in (0, images):
            raise UserError(
                f"{path}: holds {listed} images by {manifest.name}, but by its size {images} of what the engine takes; "
                "it was preprocessed for another input, of another type or size"
            )


_images_per_bin = functools.cache(images_per_bin)


class _Stored(NamedTuple):
    """Images as they lie in a file. normalised: None, or what makes the engine's input of these bytes."""

    header: arrays.Header
    normalised: pixels.Pixels | None


def count(path: Path, info: TensorInfo) -> int:
    """How many images a file holds, without reading them.

    Raises UserError for a size or dtype that is not whole images of this engine's input.
    """
    with open(path, "rb") as stream:
        return _stored(path, stream, info).header.shape[0]


def read(path: Path, info: TensorInfo, at_most: int) -> Iterator[np.ndarray]:
    """The images of one file, `at_most` at a time, as the engine takes them: arrays (n, ...) of its dtype and shape.

    Bytes are normalised here for an engine that takes float32: exactly the values that float32 bins would hold.
    Raises UserError as `count` does.
    """
    with open(path, "rb") as stream:
        header, normalised = _stored(path, stream, info)
        stream.seek(header.offset)
        for images in arrays.read_rows(stream, header, at_most):
            yield pixels.normalise(images, normalised.mean, normalised.std) if normalised else images


def _stored(path: Path, stream: BinaryIO, info: TensorInfo) -> _Stored:
    found = _of_folder(path.parent)
    dtype, image_shape, normalised = info.dtype, info.shape[1:], None
    if found and (dtype, image_shape) != (np.uint8, found.shape):
        if (dtype, image_shape) != (np.float32, (3, found.height, found.width)):
            raise UserError(
                f"{path}: holds uint8 images of {shape_text(found.shape)}, the engine takes {dtype} "
                f"{shape_text(image_shape)}; preprocess for this model, and compile for dataset.pixels as they are"
            )
        dtype, image_shape, normalised = np.dtype(np.uint8), found.shape, found
    wanted = f"whole images of {dtype} {shape_text(image_shape)}"
    if path.suffix.lower() == ".npy":
        try:
            header = arrays.read_header(stream)
        except ValueError as error:
            raise UserError(f"{path}: is not a plain .npy file ({error}); {wanted} were expected") from None
        shape = header.shape
        whole = shape == image_shape or (shape[1:] == image_shape and shape[0])
        if header.dtype != dtype or not whole:
            raise UserError(f"{path}: holds {header.dtype} {shape_text(shape)}, {wanted} were expected")
        return _Stored(header if shape != image_shape else header._replace(shape=(1, *shape)), normalised)
    size = path.stat().st_size
    image_bytes = math.prod(image_shape) * dtype.itemsize
    if size == 0 or size % image_bytes:
        raise UserError(
            f"{path}: has {size} bytes, {wanted} ({image_bytes} bytes each) were expected; "
            "it is cut off or made for another model, preprocess again"
        )
    return _Stored(arrays.Header(dtype, (size // image_bytes, *image_shape), 0), normalised)


@functools.cache
def _of_folder(folder: Path) -> pixels.Pixels | None:
    return pixels.of_folder(folder)
