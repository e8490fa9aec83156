"""Models: ours (sMLPNet) and every other timm model, by name.

Importing this module registers our models in timm's registry.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import torch

from ..core.cli import UserError
from . import (
    _torchvision,  # noqa: F401  (first: timm imports it)
    smlpnet,  # noqa: F401  (registers the models)
)

# isort: split
import timm

# (height, width) in pixels of the images that models are made for; their own unless set by `sized`
_image_size: ContextVar[tuple[int, int] | None] = ContextVar("image_size", default=None)


def create(model_name: str, num_classes: int | None = None) -> torch.nn.Module:
    """A model by its timm name, in evaluation mode, with random weights.

    num_classes: size of the head, the model's own if None. Raises UserError for an unknown name, and within `sized`
    for a model that takes no images of another size.
    """
    require_known(model_name)
    overrides: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    size = _image_size.get()
    if size is None or size == image_size(model_name):
        return timm.create_model(model_name, pretrained=False, **overrides).eval()
    if timm.models.get_pretrained_cfg(model_name).fixed_input_size:  # its weights depend on it
        overrides["img_size"] = size[0] if size[0] == size[1] else size
    try:
        model = timm.create_model(model_name, pretrained=False, **overrides).eval()
        with torch.inference_mode():  # some notice only then
            model(torch.zeros(1, 3, *size))
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        height, width = image_size(model_name)
        raise UserError(
            f"model {model_name!r} takes images of {height}x{width} px, not of {size[0]}x{size[1]} "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); choose another image_size of its "
            "transform, or another model"
        ) from None
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, *size)}
    return model


def image_size(model_name: str) -> tuple[int, int]:
    """(height, width) in pixels of the images that a model takes by itself."""
    require_known(model_name)
    return tuple(timm.models.get_pretrained_cfg(model_name).input_size[1:])


@contextlib.contextmanager
def sized(size: Sequence[int] | None) -> Iterator[None]:
    """Models made within it take images of this (height, width) in pixels, of their own size if None."""
    before = _image_size.set(None if size is None else (size[0], size[1]))
    try:
        yield
    finally:
        _image_size.reset(before)


def exportable() -> AbstractContextManager[None]:
    """Models made within it use no operator that only new ONNX opsets have, fused attention for one."""
    return timm.layers.set_exportable(True)


def require_known(model_name: str) -> None:
    """Raise UserError, naming the nearest names, unless timm can build `model_name`."""
    name, _, tag = model_name.partition(".")  # timm names weights of an architecture by a tag behind a dot
    if timm.is_model(name) and tag:
        known = timm.list_pretrained(f"{name}.*")
        if model_name in known:
            return
        near = difflib.get_close_matches(model_name, known, n=3, cutoff=0.0)
        hint = (
            f"did you mean {' or '.join(near)}? timm.list_pretrained('{name}.*') lists all tags"
            if near
            else f"it has no weights of {name}, so leave .{tag} out"
        )
        raise UserError(f"model {model_name!r} is not known to timm {timm.__version__}; {hint}")
    if timm.is_model(name):
        return
    near = difflib.get_close_matches(model_name, timm.list_models(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists all names"
    raise UserError(f"model {model_name!r} is not known to timm {timm.__version__}; {hint}")


def classifiers(model_name: str) -> list[str]:
    """Names of the head's layers in timm's configuration of the model; most models have one."""
    config = timm.models.get_pretrained_cfg(model_name, allow_unregistered=True)
    names = config.classifier if config else None
    return [names] if isinstance(names, str) else list(names or ())
