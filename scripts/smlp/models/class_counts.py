"""How many classes a file gives, found out by the code that later retrieves or adopts it.

The plan of a sweep asks this of files that others made, in a process of its own:

    python -c "…; class_counts.main()" '["checkpoint", "mine.pth", "resnet50", {"key": null}]'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import preprocessing

# Of each kind of file the command that reads it, and the packages that decide how.
READ_BY = {"checkpoint": ("retrieve", ("torch", "timm")), "onnx": ("export", ("onnx", "onnxruntime", "timm"))}


def of_file(kind: str, file: str, model_name: str, about: Mapping[str, Any]) -> int:
    """The number of classes of a "checkpoint" or "onnx" file, as the user's settings have it read.

    about: `transform` as the settings state it, and the `key` of weights or the `output` that is named; None if not.
    Raises UserError, as the commands do, for a file that they refuse.
    """
    spec = preprocessing.Spec.read(about["transform"], model_name)
    if kind == "onnx":
        from .onnx_adopt import ReadyMade

        return ReadyMade(Path(file), spec.resolve(), about["output"]).num_classes

    from . import architectures
    from .checkpoint import load_model

    with architectures.sized(spec.other_size(model_name)):
        return load_model(model_name, file, None, about["key"])[1]["num_classes"]


def main() -> None:
    """Print the number for the arguments of `of_file`, which are the last word of the command line as JSON."""
    print(of_file(*json.loads(sys.argv[-1])))
