"""Images that are copies of others but for their size, compression, a flip or a crop: their bytes do not show it.

Every image is compared by perceptual hashes of itself and of parts of it, and what is close by the hash also by its
pixels. One pass over both sets; of an image only a few numbers are kept.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import imagehash
import numpy as np
from PIL import Image, ImageOps

from ..core import cli
from ..core.workers import in_order
from . import archives, decode, packed, sources
from .manifest import MANIFEST, read_manifest, read_sidecar

# What people cut off: (left, top, right, bottom) as shares of the sides; the whole first.
_WHOLE_AND_CENTRES = tuple((cut, cut, 1 - cut, 1 - cut) for cut in (0, 0.0625, 0.125, 0.1875))
_CORNERS = tuple(
    (left * (1 - side), top * (1 - side), left * (1 - side) + side, top * (1 - side) + side)
    for side in (0.9, 0.8)
    for left in (0, 1)
    for top in (0, 1)
)
_MORE_CENTRES = (
    *((cut, cut, 1 - cut, 1 - cut) for cut in (0.03, 0.09, 0.1, 0.15, 0.2)),
    *((cut, 0, 1 - cut, 1) for cut in (1 / 8, 1 / 6)),
    *((0, cut, 1, 1 - cut) for cut in (1 / 8, 1 / 6)),
)
# Few images are drawn, many are scored: of these only what is in the middle is looked at.
_OF_DRAWN, _OF_SCORED = _WHOLE_AND_CENTRES + _CORNERS + _MORE_CENTRES, _WHOLE_AND_CENTRES
_SIDE, _SMALL = 128, 16
# Of 64 bits; a copy differs by its compression, an unrelated image by about 32.
_BITS = 12
_CORRELATION = 0.98
_CHUNK_IMAGES, _SHOWN = 64, 5


class Look(NamedTuple):
    """What is kept of an image. hashes: uint64 (parts,); pixels: float32 (parts, 256), each of mean 0 and length 1."""

    hashes: np.ndarray
    pixels: np.ndarray


def look(content: bytes, boxes: Sequence[tuple[float, ...]], flipped: bool = False) -> Look | None:
    """How parts of an image look; None if it cannot be read, or if one of them shows nothing."""
    try:
        image = Image.open(io.BytesIO(content), formats=decode.FORMATS)
        image.draft("L", (2 * _SIDE, 2 * _SIDE))
        image = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    except Exception:  # the command that reads it for its own sake says what is wrong
        return None
    if flipped:
        image = ImageOps.mirror(image)
    parts = [image.crop(tuple(round(share * _SIDE) for share in box)) for box in boxes]
    hashes = np.packbits([imagehash.phash(part).hash.ravel() for part in parts], axis=1).view(np.uint64).ravel()
    small = [np.asarray(part.resize((_SMALL, _SMALL), Image.Resampling.BOX), np.float32).ravel() for part in parts]
    centred = np.stack([pixels - pixels.mean() for pixels in small])
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    if lengths.min() < 1:
        return None
    return Look(hashes, centred / lengths)


def of_images(images: Sequence[str], data_root: str | Path, known: Sequence[tuple[str, Look]]) -> list[tuple[str, str]]:
    """(name among `known`, image) of each of these images that is a near-copy of a known one; for a worker process."""
    hashes = np.concatenate([one.hashes for _, one in known])
    pixels = np.concatenate([one.pixels for _, one in known])
    found = []
    for image in images:
        seen = look(sources.read(data_root, image), _OF_SCORED)
        if seen is None:
            continue
        # (known parts, parts); one of two that are compared is the whole image
        bits = np.bitwise_count(hashes[:, None] ^ seen.hashes[None, :])
        for place, part in np.argwhere(bits <= _BITS):
            own = place % len(_OF_DRAWN)
            if (own == 0 or part == 0) and float(pixels[place] @ seen.pixels[part]) >= _CORRELATION:
                found.append((known[place // len(_OF_DRAWN)][0], image))
                break
    return found


def known(images: Iterable[str], data_root: str | Path) -> Iterator[tuple[str, Look]]:
    """Images to compare others with, each as it is and flipped."""
    for image in images:
        content = sources.read(data_root, image)
        for flipped in (False, True):
            seen = look(content, _OF_DRAWN, flipped)
            if seen is not None:
                yield image, seen


def warned_of(drawn: Sequence[str], *about: Any) -> list[tuple[str, str]]:
    """As `find`, and what it finds is said."""
    found = find(drawn, *about)
    if found:
        cli.say(warning(found))
    return found


def find(drawn: Sequence[str], data_root: Path, bins: Iterable[Path], workers: int) -> list[tuple[str, str]]:
    """(drawn image, scored image) of near-copies. bins: folders of what is scored, whose sidecars say where it lies.

    workers: of `in_order`. Images of a data set that is not where it was are not compared.
    """
    calibration = list(known(drawn, data_root))
    found: list[tuple[str, str]] = []
    for folder in bins:
        root = read_sidecar(folder).get("data_root")
        images = [row.image for row in read_manifest(folder / MANIFEST)]
        if not calibration or root is None or not Path(root).exists():
            continue
        work = functools.partial(of_images, data_root=root, known=calibration)
        chunks = [images[first : first + _CHUNK_IMAGES] for first in range(0, len(images), _CHUNK_IMAGES)]
        start = functools.partial(_start_worker, packed.known_of(root, images))
        with contextlib.closing(in_order(work, chunks, workers, start)) as results:
            found += itertools.chain.from_iterable(results)
    return found


def _start_worker(known: Mapping[str, object]) -> None:
    """Prepare a process that reads images. known: of the archives that they lie in."""
    archives.know(known)
    warnings.filterwarnings("ignore", module=r"PIL\.")


def warning(found: Sequence[tuple[str, str]]) -> str:
    """What to say about near-copies."""
    shown = ", ".join(f"{drawn} of {scored}" for drawn, scored in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more (near_copies in the sidecar)" if len(found) > _SHOWN else ""
    return (
        f"warning: {len({drawn for drawn, _ in found})} images to calibrate with are near-copies of scored ones: "
        f"{shown}{more}; they flatter the accuracy of int8 engines, remove them from the training split"
    )
