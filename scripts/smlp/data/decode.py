"""Image file -> RGB, 8 bits a channel, as torchvision's pil_loader gives it; what that would clip is scaled or refused.

What a file is is read from its content: names lie. EXIF orientation is ignored, of several frames the first is taken,
and alpha is dropped, all as in that loader.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..core.cli import UserError

# Only decoders that read pixels and nothing else, of formats with a signature: Pillow's EPS plugin, for one, would
# start Ghostscript, and almost any bytes are a TGA.
FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "QOI")
_SEVERAL_FRAMES = ("PNG", "TIFF", "WEBP", "GIF", "AVIF")  # the other pictures of a phone's JPEG (MPO) are previews
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF's tags, and a value of the second
_FULL = (1 << 16) - 1
# Values that fit into 12 bits may have been written into 16 as they are, or belong to a very dark picture.
_SURELY_16_BITS = 1 << 12
_SAVE_ANEW = "save it with 8 bits a channel"
# What people have, and Pillow does not read: where its signature is, and what it looks like.
_OTHERS = (
    ("HEIC", 4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1")),
    ("JPEG XL", 0, (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
)
_RANGE = "values from {:g} to {:g}"


class Decoded(NamedTuple):
    """image: in mode RGB. notes: what was done to it that nobody would expect, in words that fit several images."""

    image: Image.Image
    notes: tuple[str, ...] = ()


def decode(content: bytes) -> Decoded:
    """The image in these bytes. Raises UserError saying what is wrong with it, but not which one it is."""
    if not content:
        raise UserError("is empty")
    try:
        image = _opened(content)
        image.load()
        if image.mode == "RGB" and image.format == "JPEG":  # nearly all
            return Decoded(image)
        converted, notes = _rgb(image)
        return Decoded(converted, (*notes, *_frames(image)))
    except (MemoryError, UserError):
        raise
    except UnidentifiedImageError:
        raise UserError(_unknown(content)) from None
    except Exception as error:  # on broken files Pillow's parsers raise whatever they stumble over
        raise UserError(f"cannot be decoded ({error or type(error).__name__})") from None


def _opened(content: bytes) -> Image.Image:
    """The image, by content. HEIC is read if the package pillow-heif is installed, turned upright as the file says."""
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        if _foreign(content) != "HEIC" or not importlib.util.find_spec("pillow_heif"):
            raise
    import pillow_heif

    pillow_heif.register_heif_opener()
    return Image.open(io.BytesIO(content), formats=("HEIF",))


def _rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in mode RGB. Pillow clips what has more than 8 bits: 16 bits become white, floats black."""
    if image.mode == "RGB":
        return image, ()
    if image.mode in _SIXTEEN_BITS:
        return _of_gray(_from_16_bits(image)), ("16-bit gray, scaled to 8 bits",)
    if image.mode == "I":
        return _from_integers(image)
    if image.mode == "F":
        return _of_gray(_from_floats(image)), ("float gray in [0, 1], scaled to 8 bits",)
    if image.mode in ("La", "RGBa"):  # multiplied by alpha; without this step Pillow converts them only so far
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    return image.convert("RGB"), ()


def _from_16_bits(image: Image.Image) -> np.ndarray:
    """uint8 (H, W): the high byte, as Pillow takes it of 16-bit RGB and OpenCV of everything."""
    values = np.asarray(image).astype(np.uint16)  # in the machine's order of bytes
    bits = 16
    if image.format == "TIFF":
        (bits, *_) = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))
        if image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            values = ((1 << bits) - 1) - values
    low, high = int(values.min()), int(values.max())
    # JPEG 2000 states its bits, and Pillow scales by them; a 12-bit TIFF states them too
    if bits == 16 and image.format != "JPEG2000" and 0 < high < _SURELY_16_BITS:
        raise UserError(
            f"has {_RANGE.format(low, high)} in 16-bit gray: is that nearly black, or a range of fewer bits? "
            f"{_SAVE_ANEW}"
        )
    return (values >> (bits - 8)).astype(np.uint8)


def _from_integers(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """32-bit integers, whose range nobody states: 8-bit values are those, and PGM states its range."""
    values = np.asarray(image)
    if image.format == "PPM":  # Pillow has scaled it by the file's own maximum to 16 bits; rounded as it does RGB
        return _of_gray(((values + 128) // 257).astype(np.uint8)), ("16-bit gray, scaled to 8 bits",)
    _require_black_is_zero(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 255:
        raise UserError(
            f"has {_RANGE.format(low, high)} in gray of 32-bit or signed integers, and nothing says which is white; "
            f"{_SAVE_ANEW}, or unsigned 16"
        )
    return _of_gray(values.astype(np.uint8)), ()


def _from_floats(image: Image.Image) -> np.ndarray:
    """uint8 (H, W), rounded. Raises UserError unless every value is in [0, 1]."""
    _require_black_is_zero(image)
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise UserError(
            f"has {_RANGE.format(low, high)} in float gray, [0, 1] was expected; divide by what is white, or "
            f"{_SAVE_ANEW}"
        )
    return np.rint(values * np.float32(255)).astype(np.uint8)


def _require_black_is_zero(image: Image.Image) -> None:
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise UserError(
            f"is a TIFF of {image.mode} in which 0 is white, which Pillow does not turn round; {_SAVE_ANEW}"
        )


def _of_gray(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def _frames(image: Image.Image) -> tuple[str, ...]:
    """A note if the file holds more than one frame. Called last: looking for the second one moves there."""
    if image.format in _SEVERAL_FRAMES:
        with contextlib.suppress(Exception):  # a damaged second frame harms nobody
            if getattr(image, "is_animated", False):
                return ("several frames or pages, the first of which is taken",)
    return ()


def _foreign(content: bytes) -> str:
    """Which of the formats it is that Pillow does not read; "" if none."""
    return next((name for name, place, starts in _OTHERS if content[place:].startswith(starts)), "")


def _unknown(content: bytes) -> str:
    if name := _foreign(content):
        install = "install the package pillow-heif, or " if name == "HEIC" else ""
        return f"is {name}, which Pillow does not read; {install}convert it to JPEG or PNG"
    return f"is not an image of a known format ({', '.join(FORMATS)})"
