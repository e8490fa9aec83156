"""Image file -> network input, bit for bit what timm and torchvision make of it, with Pillow and NumPy only.

The reference is `timm.data.create_transform(**resolve_data_config(pretrained_cfg), is_training=False)` on a PIL
image: torchvision's Resize, CenterCrop, ToTensor and Normalize. EXIF orientation is ignored, as it is there. Which
model has which settings: models/preprocessing.py.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from ..core.cli import UserError
from ..core.provenance import Facts
from . import pixels
from .decode import decode

FILTERS = {
    name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
}
# What is done with an image of another aspect ratio: its middle is kept, it is distorted, or its border is filled up.
CROP_MODES = ("center", "squash", "border")
# A 1 x 100,000 image passes every check on its own size, yet its shorter side enlarged to 256 makes 6.5 Gpixel.
_MAX_RESIZED_PIXELS = 1 << 27


@dataclasses.dataclass(frozen=True)
class Transform:
    """Evaluation preprocessing of one model. Calling it turns an image file's bytes into the network's input.

    resize_px: length of the shorter side, or (height, width): of the image itself ("squash", which ignores the aspect
    ratio), that it covers ("center"), or that it fits into ("border")
    crop_px: (height, width) of the centre crop; mean, std: of each RGB channel, for pixels in [0, 1]
    """

    resize_px: int | tuple[int, int]
    interpolation: str
    crop_px: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_mode: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, height, width) of what a call returns."""
        return (3, *self.crop_px)

    def __call__(self, content: bytes, out: np.ndarray | None = None, notes: list[str] | None = None) -> np.ndarray:
        """float32 (3, H, W), C-contiguous, RGB, normalised; written into `out` if given.

        notes: gets what decoding did that nobody would expect. Raises UserError saying what is wrong with the image,
        but not which one: the caller knows its name.
        """
        return pixels.normalise(self.crop(content, notes), self.mean, self.std, out)

    def crop(self, content: bytes, notes: list[str] | None = None) -> np.ndarray:
        """uint8 (H, W, 3), RGB: the resized and cropped image before it is normalised. Notes, errors as of a call."""
        image, found = decode(content)
        if notes is not None:
            notes.extend(found)
        size = self._resized(image.width, image.height)
        if size[0] * size[1] > _MAX_RESIZED_PIXELS:
            raise UserError(f"is {image.width}x{image.height} px and would be resized to {size[0]}x{size[1]} px")
        # Resizing only the rows and columns that the crop keeps would be faster but not bit-identical: Pillow's
        # box=... shifts the sampling points by a float32 rounding, and which of its two passes comes first, and
        # so what is rounded to bytes between them, depends on the whole image's size (since Pillow 13).
        image, box = image.resize(size, FILTERS[self.interpolation]), self._box(*size)
        if self.crop_mode == "border":  # the others leave black what lies outside
            ground = Image.new("RGB", self.crop_px[::-1], tuple(round(255 * value) for value in self.mean))
            ground.paste(image, (-box[0], -box[1]))
            return np.asarray(ground)
        return np.asarray(image.crop(box))

    @property
    def uint8(self) -> pixels.Pixels:
        """What `crop` returns, and how it is normalised."""
        return pixels.Pixels(*self.crop_px, self.mean, self.std)

    def to_dict(self) -> Facts:
        """The settings, for a sidecar."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """In words for tables; equal transforms have equal words."""
        resize = self.resize_px if isinstance(self.resize_px, int) else "x".join(map(str, self.resize_px))
        mean, std = (" ".join(map(repr, values)) for values in (self.mean, self.std))
        size = "x".join(map(str, self.crop_px))
        return f"resize {resize} {self.interpolation}, {self.crop_mode} {size}, mean {mean}, std {std}"

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after resizing, by torchvision's rule: the longer side is cut off to whole pixels.

        By timm's own where both sides of the aim are given: rounded, half to even.
        """
        if isinstance(self.resize_px, tuple):
            if self.crop_mode == "squash":
                return self.resize_px[1], self.resize_px[0]
            ratios = height / self.resize_px[0], width / self.resize_px[1]
            ratio = max(ratios) if self.crop_mode == "border" else min(ratios)
            return round(width / ratio), round(height / ratio)
        if width <= height:
            return self.resize_px, int(self.resize_px * height / width)
        return int(self.resize_px * width / height), self.resize_px

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the centre crop in the resized image, partly outside if that is smaller."""
        left, top = (
            # torchvision pads what is missing, the odd pixel behind, and rounds half to even otherwise
            -((crop - have) // 2) if crop > have else round((have - crop) / 2)
            for have, crop in ((width, self.crop_px[1]), (height, self.crop_px[0]))
        )
        return left, top, left + self.crop_px[1], top + self.crop_px[0]
