"""From a PyTorch model to an ONNX file, by either of torch's exporters."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import torch

from ..core.cli import UserError
from . import onnx_files, onnx_graph

# The first is torch's older one, the only one that writes opset 11, the newest that CANN 5 and 6 surely read.
EXPORTERS = ("torchscript", "dynamo")
# What torch's newer exporter writes itself; other opsets are made from it.
_DYNAMO_OPSET = 18


class CannotExport(Exception):
    """Why an exporter cannot express a model, in one line. helps: an opset that was seen to help."""

    def __init__(self, why: str, helps: int | None = None) -> None:
        super().__init__(why)
        self.helps = helps


def write(
    model: torch.nn.Module, images: np.ndarray, path: Path, opset: int, exporter: str, name: str
) -> onnx.ModelProto:
    """Write `model` as an ONNX file that takes images like `images`, float32 (N, 3, H, W), at any batch size.

    Returns what was written. name: of the model, for the message. Raises UserError if the exporter cannot express it,
    with an opset that helps, if one does.
    """
    example = torch.from_numpy(images)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        scratch = Path(folder, "model.onnx")
        try:
            _by[exporter](model, example, scratch, opset)
        except CannotExport as error:
            advice = _advice(model, example, opset, exporter, error.helps)
            raise UserError(f"{name}: opset {opset} cannot express it ({error}); {advice}") from None
        written = onnx_files.read(scratch)
        onnx_files.save(written, path, scratch.parent)
    return onnx_files.read(path)


def _advice(model: torch.nn.Module, example: torch.Tensor, opset: int, exporter: str, helps: int | None) -> str:
    """What to do about a model that an opset cannot express; a higher one only if that was seen to help."""
    newest = onnx_graph.OPSETS[-1]
    if exporter == "dynamo" and helps is None:
        return "choose another model, or bring its ONNX file (models.<name>.onnx)"
    higher = [] if helps else [version for version in onnx_graph.OPSETS if version > opset]
    while higher:  # the newest first, which mostly decides it; then halving
        version = higher[-1] if helps is None else higher[len(higher) // 2]
        if _expresses(model, example, version):
            helps, higher = version, [lower for lower in higher if lower < version]
        elif helps is None:
            break
        else:
            higher = [above for above in higher if above > version]
    if helps is not None:
        return f"opset {helps} can: set export.opset_version (--opset_version) to it"
    return (
        f"no opset up to {newest} does with this exporter; torch's newer one may: export.exporter: dynamo with "
        f"export.opset_version: {_DYNAMO_OPSET} (--exporter dynamo --opset_version {_DYNAMO_OPSET})"
    )


def _expresses(model: torch.nn.Module, example: torch.Tensor, opset: int) -> bool:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(CannotExport):
        _torchscript(model, example, Path(folder, "model.onnx"), opset)
        return True
    return False


def _export(model: torch.nn.Module, example: torch.Tensor, path: Path, opset: int, **by: Any) -> None:
    """by: which exporter, and what only it takes."""
    names = {"input_names": [onnx_graph.INPUT], "output_names": [onnx_graph.OUTPUT]}
    # the newer exporter also lets through what torch.export raises; the older one's other errors are bugs
    expected = (torch.onnx.OnnxExporterError, RuntimeError) if by["dynamo"] else torch.onnx.OnnxExporterError
    with _quiet(), torch.inference_mode():
        try:
            torch.onnx.export(model, (example,), str(path), opset_version=opset, **names, **by)
        except expected as error:
            raise CannotExport(_first_line(error)) from None


def _torchscript(model: torch.nn.Module, example: torch.Tensor, path: Path, opset: int) -> None:
    axes = {onnx_graph.INPUT: {0: "batch"}, onnx_graph.OUTPUT: {0: "batch"}}
    _export(model, example, path, opset, dynamo=False, dynamic_axes=axes, do_constant_folding=True)


def _dynamo(model: torch.nn.Module, example: torch.Tensor, path: Path, opset: int) -> None:
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    newest = max(opset, _DYNAMO_OPSET)
    _export(model, example, path, newest, dynamo=True, dynamic_shapes=shapes, external_data=True, verbose=False)
    written = onnx_files.read(path)
    if onnx_graph.opset(written) != opset:
        try:
            written = onnx.version_converter.convert_version(written, opset)
            if not onnx_files.is_large(written):
                onnx.checker.check_model(written)
        except Exception as error:  # the converter's own exceptions share no narrower base
            raise CannotExport(
                f"onnx's version converter cannot lower it: {_first_line(error)}", _DYNAMO_OPSET
            ) from None
    _forget_sources(written)
    lowered = path.with_name("lowered.onnx")
    onnx_files.save(written, lowered, path.parent)
    if onnx_files.is_large(written):
        written = onnx_files.parse(lowered)
    for old in (path, path.with_suffix(onnx_files.DATA)):
        old.unlink(missing_ok=True)
    onnx_files.save(written, path, path.parent)


def _forget_sources(model: onnx.ModelProto) -> None:
    """Remove where in which file each node comes from: paths of this host, and more text than graph."""
    for stated in (
        model,
        model.graph,
        *onnx_graph.nodes(model.graph),
        *model.graph.value_info,
        *model.graph.initializer,
    ):
        del stated.metadata_props[:]
        stated.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]


_by = {"torchscript": _torchscript, "dynamo": _dynamo}


def _first_line(error: Exception) -> str:
    words = str(error).strip().splitlines()
    # torch goes on to ask for a request on its own pages
    return re.split(r"\s+\[Caused by|\. Please feel free", words[0])[0] if words else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the terminal what exporters print: thousands of lines with the whole graph, some not from Python."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile("w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number, _ in kept:
                os.dup2(nowhere.fileno(), number)
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
        finally:
            nowhere.flush()
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
