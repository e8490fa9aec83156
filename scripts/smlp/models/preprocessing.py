"""What a model's images go through: the evaluation preprocessing of ours, of every timm model by its name, or stated.

torch and timm are imported only to look up a model that is not one of ours.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ..core.cli import UserError
from ..core.provenance import Facts
from ..data.transform import CROP_MODES, FILTERS, Transform

# The evaluation preprocessing of all three sMLPNets, here so that it needs no torch.
SMLPNET = Transform(
    resize_px=256,
    interpolation="bicubic",
    crop_px=(224, 224),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    crop_mode="center",
)
_SMLPNET_CROP = 0.875  # 224 of 256, as timm says it

# The name of the preprocessing that timm scores a model with: that of the model, at its test size and test crop.
TIMM_TEST = "timm-test"

# what can be changed of a model's preprocessing: fields of `Spec`, keys of the settings, and flags
_CHANGES = ("image_size", "crop", "resize", "interpolation", "crop_mode", "mean", "std")

_OURS = ("smlpnet_tiny", "smlpnet_small", "smlpnet_base")


def is_ours(model_name: str) -> bool:
    """Whether a model's preprocessing is stated here, and not by timm."""
    return model_name in _OURS


@dataclasses.dataclass(frozen=True)
class Spec:
    """A preprocessing as settings and flags say it: that of a model, and what is changed of it. None: as it is there.

    of          the model; "" if everything is stated
    test        at the size and crop that timm scores the model with, where it states any
    image_size  (height, width) of the crop in pixels
    crop        share of the resized image that the crop keeps; resize states the side in pixels instead
    """

    of: str
    test: bool = False
    image_size: tuple[int, int] | None = None
    crop: float | None = None
    resize: int | None = None
    interpolation: str | None = None
    crop_mode: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @classmethod
    def read(cls, stated: str | Mapping[str, Any], model: str) -> Spec:
        """`models.<name>.transform`: a name, "timm-test", or a mapping. model: whose it is if that names no other."""
        if isinstance(stated, str):
            return cls.make(of=model, test=True) if stated == TIMM_TEST else cls.make(of=stated)
        return cls.make(**{"of": model, **stated})

    @classmethod
    def make(cls, **stated: Any) -> Spec:
        """From single values; one number stands for two sides, and for three channels. Equal ones become equal."""
        for key, length, kind in (("image_size", 2, int), ("mean", 3, float), ("std", 3, float)):
            value = stated.get(key)
            if value is not None:
                values = [value] if isinstance(value, (int, float)) else list(value)
                stated[key] = tuple(map(kind, values * length if len(values) == 1 else values))
        stated["crop"] = None if stated.get("crop") is None else float(stated["crop"])
        if stated["crop"] is not None and stated.get("resize") is not None:
            raise UserError("crop and resize both say how large the image is before the crop; give one of them")
        found = cls(**stated)
        own = dataclasses.asdict(found)
        if all(own[key] is not None for key in ("image_size", "interpolation", "crop_mode", "mean", "std")) and (
            found.crop or found.resize
        ):
            return dataclasses.replace(found, of="", test=False)
        if is_ours(found.of):  # timm states no test size of them, and what is as it is anyway changes nothing
            same = {
                key: None for key in ("interpolation", "crop_mode", "mean", "std") if own[key] == getattr(SMLPNET, key)
            }
            same |= {"image_size": None} if found.image_size == SMLPNET.crop_px else {}
            same |= {"crop": None} if found.crop == _SMLPNET_CROP else {}
            return dataclasses.replace(found, of=_OURS[0], test=False, **same)
        return found

    @property
    def name(self) -> str:
        """In paths: that of the model, and what is changed. Different ones have different names."""
        words = [self.of] if self.of else []
        words += ["test"] if self.test else []
        if self.image_size:
            height, width = self.image_size
            words.append(f"{height}" if height == width else f"{height}x{width}")
        words += [f"crop{self.crop!r}"] if self.crop else []
        words += [f"resize{self.resize}"] if self.resize else []
        words += [word for word in (self.interpolation, self.crop_mode) if word]
        for key, values in (("mean", self.mean), ("std", self.std)):
            words += [f"{key}{'_'.join(map(repr, values))}"] if values else []
        return "-".join(words)

    @property
    def needs_timm(self) -> bool:
        """Whether timm states some of it."""
        return bool(self.of) and not is_ours(self.of)

    def flags(self, of: str) -> list[str]:
        """As flags of a command. of: the flag that names the model."""
        words = [of, self.of] if self.of else []
        words += ["--timm_test"] if self.test else []
        for key in _CHANGES:
            value = getattr(self, key)
            if value is not None:
                words += [f"--{key}", *map(str, value if isinstance(value, tuple) else (value,))]
        return words

    def resolve(self) -> Transform:
        """The preprocessing itself; imports torch and timm if a model states some of it that is not ours."""
        if self == Spec(_OURS[0]):
            return SMLPNET
        stated = self._base()
        changed = {
            "crop_pct": self.crop,
            **{key: getattr(self, key) for key in ("interpolation", "crop_mode", "mean", "std")},
        }
        stated.update({key: value for key, value in changed.items() if value is not None})
        if self.image_size:
            stated["input_size"] = (3, *self.image_size)
        return _from_data_config(self.of, stated, self.resize)

    def hint(self) -> str:
        """What to know about it; "" if nothing. Many models score higher at the size that timm tests them at."""
        if not self.needs_timm or self != Spec(self.of):
            return ""
        tested = dataclasses.replace(self, test=True).resolve()
        return "" if tested == self.resolve() else f"timm scores {self.of} with {tested}; {TIMM_TEST} takes that"

    def _base(self) -> Facts:
        """What the model itself states, as timm's resolve_data_config returns it."""
        if not self.of and self.image_size:  # everything is stated
            return {"crop_pct": 1.0}
        if is_ours(self.of):
            about = {key: getattr(SMLPNET, key) for key in ("interpolation", "crop_mode", "mean", "std")}
            return {"input_size": SMLPNET.shape, "crop_pct": _SMLPNET_CROP, **about}

        from . import architectures

        architectures.require_known(self.of)

        from timm.data import resolve_data_config
        from timm.models import get_pretrained_cfg

        try:
            cfg = get_pretrained_cfg(self.of, allow_unregistered=False)
        except RuntimeError as error:
            raise UserError(f"model {self.of!r}: timm states no preprocessing for it ({error})") from None
        return resolve_data_config(pretrained_cfg=cfg.to_dict(), use_test_size=self.test)

    def changes(self, model: str, size_only: bool = False) -> list[str]:
        """As flags of a command about `model`; none if that is what it has by itself.

        size_only: only those that decide the size of images.
        """
        told = self
        if size_only:
            told = Spec("", image_size=self.image_size) if self.image_size else Spec(self.of, self.test)
        return [] if told == Spec.make(of=model) else told.flags("--transform")

    def other_size(self, model: str) -> tuple[int, int] | None:
        """(height, width) of what the preprocessing makes, if a model takes others by itself."""
        if self == Spec.make(of=model):
            return None

        from . import architectures

        size = self.image_size or self.resolve().crop_px
        return None if size == architectures.image_size(model) else size


def resolve(model_name: str) -> Transform:
    """The evaluation preprocessing of a model: one of ours, or any other by its timm name (imports torch and timm)."""
    return Spec.make(of=model_name).resolve()


def add_flags(parser: argparse.ArgumentParser, names_transform: bool = False) -> None:
    """The flags that change a model's preprocessing, the same of every command.

    names_transform: with --transform, of a command whose --model_name says which network it is about.
    """
    group = parser.add_argument_group("changes of the preprocessing")
    if names_transform:
        group.add_argument("--transform", metavar="MODEL", help="whose preprocessing; --model_name unless given")
    group.add_argument(
        "--timm_test", action="store_true", help="at the size and crop that timm scores the model with, if it has any"
    )
    group.add_argument("--image_size", type=int, nargs="+", metavar="PX", help="side of the crop, or height and width")
    size = group.add_mutually_exclusive_group()
    size.add_argument("--crop", type=float, help="share of the resized image that the crop keeps, timm's crop_pct")
    size.add_argument("--resize", type=int, metavar="PX", help="side of the image before the crop, in place of --crop")
    group.add_argument("--interpolation", choices=tuple(FILTERS), help="how the image is resized")
    group.add_argument(
        "--crop_mode", choices=CROP_MODES, help="what is done with an image of another aspect ratio, as timm names it"
    )
    group.add_argument("--mean", type=float, nargs="+", help="of each channel or of all, for pixels in [0, 1]")
    group.add_argument("--std", type=float, nargs="+", help="of each channel or of all, for pixels in [0, 1]")


def take_flags(flags: argparse.Namespace, model_name: str) -> Spec:
    """What the flags of `add_flags` say, which are taken out of `flags`. model_name: whose they change."""
    of = vars(flags).pop("transform", None) or model_name
    stated = {key: vars(flags).pop(key) for key in _CHANGES}
    for key, length in (("image_size", 2), ("mean", 3), ("std", 3)):
        values = stated[key]
        if values and (
            len(values) not in (1, length)
            or not all(map(math.isfinite, values))
            or (key != "mean" and min(values) <= 0)
        ):
            above = "" if key == "mean" else ", above 0"
            raise UserError(
                f"--{key} {' '.join(map(str, values))}: one number or {length} numbers were expected{above}"
            )
    if stated["crop"] is not None and not 0 < stated["crop"] <= 1:
        raise UserError(f"--crop {stated['crop']}: a share above 0 and of at most 1 was expected")
    if stated["resize"] is not None and stated["resize"] <= 0:
        raise UserError(f"--resize {stated['resize']}: pixels above 0 were expected")
    return Spec.make(of=of, test=vars(flags).pop("timm_test"), **stated)


def _from_data_config(model_name: str, config: Facts, resize: int | None = None) -> Transform:
    """A Transform from what timm's resolve_data_config returns. resize: side before the crop, in place of its share."""
    channels, height, width = config["input_size"]
    about = f"model {model_name!r}" if model_name else "the transform"
    for fits, problem in (
        (channels == 3, f"has {channels} input channels, not 3"),
        (config["crop_mode"] in CROP_MODES, f"has the crop mode {config['crop_mode']!r}, none of {CROP_MODES}"),
        (config["interpolation"] in FILTERS, f"has the interpolation {config['interpolation']!r}"),
        (not resize or height == width, f"has an input of {height}x{width} px, not a square, with resize; give crop"),
    ):
        if not fits:
            raise UserError(f"{about} {problem}; this preprocessing is not supported, choose another model")
    sides = (resize, resize) if resize else tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    # as timm does it: an image is resized by its shorter side alone where the crop is a square of its centre
    by_shorter_side = config["crop_mode"] == "center" and sides[0] == sides[1]
    return Transform(
        resize_px=sides[0] if by_shorter_side else sides,
        interpolation=config["interpolation"],
        crop_px=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_mode=config["crop_mode"],
    )
