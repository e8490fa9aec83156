"""The architectures that resemble a model by name, and which of them weights fit best."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_Shapes = dict[str, tuple[int, ...]]

_PATIENCE_S = 15  # for an error message; most families are looked through in less
_LEAST = 0.5  # below this share of equal weights two networks have little in common


def closest(model_name: str, state_dict: Mapping[str, torch.Tensor]) -> tuple[str, float] | None:
    """The architecture of the model's family that has most weights in common with a state dict, the head aside.

    Returns its name and the share of weights that have the same name and shape; None if no other than `model_name` has
    most, or if even that one has few.
    """
    begin = time.monotonic()
    have = {key: tuple(value.shape) for key, value in state_dict.items() if "num_batches_tracked" not in key}
    own = _shapes(model_name)
    body = _without_head(model_name, own)
    # another naming altogether, or only too much of the right one: other sizes are no closer
    if not have.keys() & own.keys() or body.items() <= have.items():
        return None
    best, score = model_name, _share(model_name, own, have)
    for name in _family(model_name):
        if score == 1 or time.monotonic() - begin > _PATIENCE_S:
            break
        if (found := _share(name, _shapes(name), have)) > score:
            best, score = name, found
    return (best, score) if best != model_name and score >= _LEAST else None


def _family(model_name: str) -> list[str]:
    """Names that begin as the model's name does, the most similar ones first."""
    from . import architectures

    bare = model_name.partition(".")[0]
    stem = re.match(r"(?:tf_)?[a-z]+", bare)
    names = architectures.timm.list_models(f"{stem[0]}*") if stem else []
    return sorted((name for name in names if name != bare), key=lambda name: -_likeness(bare, name))


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _share(model_name: str, own: _Shapes, have: _Shapes) -> float:
    """How much of a model's weights and of those in hand have the same name and shape, the model's head aside."""
    own, have = _without_head(model_name, own), _without_head(model_name, have)
    same = sum(have.get(key) == shape for key, shape in own.items())
    return same / max(len(own), len(have), 1)


def _without_head(model_name: str, shapes: _Shapes) -> _Shapes:
    from . import architectures

    heads = tuple(f"{name}." for name in architectures.classifiers(model_name))
    return {key: shape for key, shape in shapes.items() if not heads or not key.startswith(heads)}


def _shapes(model_name: str) -> _Shapes:
    """The shapes of a model's weights, {} if it cannot be made."""
    import torch

    from .architectures import timm

    try:
        try:
            with torch.device("meta"):
                model = timm.create_model(model_name, pretrained=False)
        except NotImplementedError:  # its making looks at values
            model = timm.create_model(model_name, pretrained=False)
    except Exception:  # some need packages of their own
        return {}
    return {key: tuple(value.shape) for key, value in model.state_dict().items() if "num_batches_tracked" not in key}
