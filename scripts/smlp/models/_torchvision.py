"""Importing this module makes torchvision, and so timm, importable beside every build of torch."""

from __future__ import annotations

import importlib
import sys

import torch


def _mend() -> None:
    """Import torchvision (timm needs it) also beside a torch build that its compiled operators do not fit.

    torchvision's wheels carry operators for one build of torch only. Beside another one, a CPU build for
    instance, the operators are absent and its import stops at registering their shape functions. Declaring the
    two schemas it asks for lets the import through; nobody here calls them. If the operators load, nothing
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
    _mend.library = library  # a library that is collected takes its schemas with it
    importlib.import_module("torchvision")


_mend()
