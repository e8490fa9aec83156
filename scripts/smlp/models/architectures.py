"""Models: ours (sMLPNet) and every other timm model, by name.

Importing this module makes timm importable on every build of torch and registers our models in timm's registry.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from contextlib import AbstractContextManager

import torch

from ..core.cli import UserError


def _import_torchvision() -> None:
    """Import torchvision (timm needs it) also beside a torch build that its compiled operators do not fit.

    torchvision's wheels carry operators for one build of torch only. Beside another one, a CPU build for
    instance, the operators are absent and its import stops at registering their shape functions. Declaring the
    two schemas it asks for lets the import through; nobody here calls them. Where the operators load, nothing
    is declared.
    """
    try:
        importlib.import_module("torchvision")
        return
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _import_torchvision.library = library  # a library that is collected takes its schemas with it
    importlib.import_module("torchvision")


_import_torchvision()

import timm  # noqa: E402  (only now can it be imported)

from . import smlpnet  # noqa: E402, F401  (registers the models)


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
