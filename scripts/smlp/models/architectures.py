"""Models: ours (sMLPNet) and every other timm model, by name.

Importing this module registers our models in timm's registry.
"""

from __future__ import annotations

import difflib
from contextlib import AbstractContextManager

import torch

from ..core.cli import UserError
from . import (
    _torchvision,  # noqa: F401  (first: timm imports it)
    smlpnet,  # noqa: F401  (registers the models)
)

# isort: split
import timm


def create(model_name: str, num_classes: int | None = None) -> torch.nn.Module:
    """A model by its timm name, in evaluation mode, with random weights.

    num_classes: size of the head, the model's own if None. Raises UserError for an unknown name.
    """
    require_known(model_name)
    overrides = {} if num_classes is None else {"num_classes": num_classes}
    return timm.create_model(model_name, pretrained=False, **overrides).eval()


def exportable() -> AbstractContextManager[None]:
    """Models made within it use no operator that only new ONNX opsets have, fused attention for one."""
    return timm.layers.set_exportable(True)


def require_known(model_name: str) -> None:
    """Raise UserError, naming the nearest names, unless timm can build `model_name`."""
    name, _, tag = model_name.partition(".")  # timm names weights of an architecture by a tag behind a dot
    known = timm.list_models(pretrained=True) if tag else ()
    if timm.is_model(name) and (not tag or model_name in known):
        return
    near = difflib.get_close_matches(model_name, timm.list_models(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists all names"
    raise UserError(f"model {model_name!r} is not known to timm {timm.__version__}; {hint}")


def classifiers(model_name: str) -> list[str]:
    """Names of the head's layers in timm's configuration of the model; most models have one."""
    config = timm.models.get_pretrained_cfg(model_name, allow_unregistered=True)
    names = config.classifier if config else None
    return [names] if isinstance(names, str) else list(names or ())
