"""What a model's images go through: the evaluation preprocessing of ours, and of every timm model by its name.

torch and timm are imported only to look up a model that is not one of ours.
"""

from __future__ import annotations

import math

from ..core.cli import UserError
from ..core.provenance import Facts
from ..data.transform import FILTERS, Transform

# The evaluation preprocessing of all three sMLPNets, here so that it needs no torch.
SMLPNET = Transform(
    resize_px=256,
    interpolation="bicubic",
    crop_px=(224, 224),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    crop_mode="center",
)


_OURS = ("smlpnet_tiny", "smlpnet_small", "smlpnet_base")


def is_ours(model_name: str) -> bool:
    """Whether a model's preprocessing is stated here, and not by timm."""
    return model_name in _OURS


def resolve(model_name: str) -> Transform:
    """The evaluation preprocessing of a model: one of ours, or any other by its timm name (imports torch and timm)."""
    if is_ours(model_name):
        return SMLPNET

    from . import architectures

    architectures.require_known(model_name)

    from timm.data import resolve_data_config
    from timm.models import get_pretrained_cfg

    try:
        cfg = get_pretrained_cfg(model_name, allow_unregistered=False)
    except RuntimeError as error:
        raise UserError(f"model {model_name!r}: timm states no preprocessing for it ({error})") from None
    return _from_data_config(model_name, resolve_data_config(pretrained_cfg=cfg.to_dict()))


def _from_data_config(model_name: str, config: Facts) -> Transform:
    """A Transform from what timm's resolve_data_config returns."""
    channels, height, width = config["input_size"]
    squash = config["crop_mode"] == "squash"
    for fits, problem in (
        (channels == 3, f"has {channels} input channels, not 3"),
        (squash or config["crop_mode"] == "center", f"has the crop mode {config['crop_mode']!r}, not center or squash"),
        (squash or height == width, f"has an input of {height}x{width} px, not a square, with the crop mode center"),
        (config["interpolation"] in FILTERS, f"has the interpolation {config['interpolation']!r}"),
    ):
        if not fits:
            raise UserError(
                f"model {model_name!r} {problem}; this preprocessing is not supported, choose another model"
            )
    resize_px = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    return Transform(
        resize_px=resize_px if squash else resize_px[0],
        interpolation=config["interpolation"],
        crop_px=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_mode=config["crop_mode"],
    )
