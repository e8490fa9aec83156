"""Layouts in which weights were published, and that timm itself turns into its own when it loads them.

timm's function of a model runs on loaded tensors only. It may rename, reshape, split and join them; if it would compute
other weights, such as the positions of another image size, or leave some out, the weights are not this model's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import weights

if TYPE_CHECKING:
    import torch

# Operators that compute new values, by which timm fits weights to another image size.
_COMPUTES = re.compile(r"upsample|interp|grid_sample|linalg|pinv|lstsq|matmul|\bb?mm\b|conv|\blerp|searchsorted")
# What older releases stored although it follows from the architecture, and what plays no part in classification.
_DERIVED = ("relative_position_index", "relative_coords_table", "attn_mask", "mask_token", "num_batches_tracked")


def by_timm(
    model_name: str, model: torch.nn.Module, state_dict: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor] | None, str]:
    """The state dict in timm's layout; or None, and why timm's function must not be used, "" if there is none.

    model: of this name, for its shapes; it is not changed.
    """
    import torch

    function = _function(model_name)
    if function is None:
        return None, ""
    watch = _watch()
    try:
        with watch, torch.no_grad():
            try:
                found = function(dict(state_dict), model)
            except TypeError:  # timm has some of one argument, and finds out like this
                found = function(dict(state_dict))
    except Exception:  # not made for these weights: it stumbles over whatever it misses
        return None, ""
    if not isinstance(found, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in found.items()
    ):
        return None, ""
    given = {_place(value) for value in state_dict.values()}
    resized = (
        key in state_dict and value.numel() != state_dict[key].numel() and _place(value) not in given
        for key, value in found.items()
    )
    if watch.computed or any(resized):
        return None, "timm would compute weights for another image size from them"
    present = {_place(value) for value in found.values()} | watch.used
    left_out = [
        key
        for key, value in state_dict.items()
        if value.is_floating_point() and not key.endswith(_DERIVED) and _place(value) not in present
    ]
    if left_out:
        return None, f"timm would leave out {weights.some(left_out)}"
    return dict(found), ""


def _function(model_name: str) -> Callable[..., Any] | None:
    """The function that timm gives weights of this model to before it loads them; None if it has none."""
    from . import architectures  # first: it makes timm importable

    # isort: split
    import torch
    from timm.models import _builder

    caught: list[Callable[..., Any] | None] = []
    load = _builder.load_pretrained
    # timm passes it on to what would fetch and load the published weights; here nothing is fetched
    _builder.load_pretrained = lambda *_, filter_fn=None, **__: caught.append(filter_fn)
    try:
        with torch.device("meta"):
            architectures.timm.create_model(model_name, pretrained=True)
    except Exception:  # an architecture that cannot be made without memory
        return None
    finally:
        _builder.load_pretrained = load
    return caught[-1] if caught else None


def _place(value: torch.Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _watch() -> Any:
    """A context that notes which tensors are used in computing (`used`), and whether new values arise (`computed`)."""
    import torch
    from torch.utils import _pytree as pytree
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.used: set[int] = set()
            self.computed = False

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.computed = self.computed or bool(_COMPUTES.search(function.name()))
            self.used |= {_place(leaf) for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
            return function(*args, **(kwargs or {}))

    return Watch()
