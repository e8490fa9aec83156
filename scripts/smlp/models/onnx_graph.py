"""ONNX graphs of image classifiers: loading, what they contain, their batch dimension."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import numpy as np
import onnx
import onnx.compose
import onnx.parser

from ..core.cli import UserError
from ..core.tensor import TensorInfo
from . import onnx_files

if TYPE_CHECKING:
    import onnxruntime

INPUT, OUTPUT = "input", "output"
# What exports are offered in, and what is read: runtimes have limits of their own.
OPSETS = range(9, 19)
READABLE = range(7, 23)
# Begins the names of what onnx_adopt.py adds; the cast of pixels to bytes, where a graph takes those.
ADOPTED = "adopted/"
AS_BYTES = f"{ADOPTED}bytes"
_ENDS_OF_SOFTMAX = ("Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze")


def load(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file: valid, one input, one output, opset 7 to 22. Weights are none of the inputs.

    The input is float32, or the bytes that `with_uint8_input` makes it take. Weights that one file cannot hold stay
    outside (see onnx_files.py). Raises UserError that names the file and what is wrong.
    """
    model = onnx_files.read(path)
    if opset(model) not in READABLE:
        raise UserError(
            f"{path}: has opset {opset(model)}; {READABLE[0]} to {READABLE[-1]} are supported, export it again"
        )
    if len(inputs(model)) != 1 or len(model.graph.output) != 1:
        raise UserError(
            f"{path}: has {len(inputs(model))} inputs and {len(model.graph.output)} outputs; "
            "an image classifier with one of each was expected"
        )
    image = inputs(model)[0]
    as_bytes = takes_uint8(model) and shape(image)[-1:] == (3,)
    if not (as_bytes or image.type.tensor_type.elem_type == onnx.TensorProto.FLOAT) or len(shape(image)) != 4:
        raise UserError(
            f"{path}: its input is not a float32 tensor (N, C, H, W); an image classifier was expected, as "
            "scripts/export.py makes it of yours (--source_onnx_path)"
        )
    fix_weights(model)
    return model


def fix_weights(model: onnx.ModelProto) -> None:
    """Take the weights from among the inputs: runtimes must not fuse what a caller might replace."""
    if len(model.graph.input) > len(inputs(model)):
        true_inputs = inputs(model)
        del model.graph.input[:]
        model.graph.input.extend(true_inputs)
        model.ir_version = max(model.ir_version, 4)  # older ones want every weight among the inputs


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operator set."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The true inputs: old exporters list the weights among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    return [value for value in model.graph.input if value.name not in weights]


def shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Sizes of a tensor, None for a free axis."""
    # some exporters write -1 for a free axis
    return tuple(axis.dim_value if axis.dim_value > 0 else None for axis in value.type.tensor_type.shape.dim)


def takes_uint8(model: onnx.ModelProto) -> bool:
    """Whether the input is an image's bytes."""
    return inputs(model)[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def image_info(model: onnx.ModelProto) -> TensorInfo:
    """The model's input as an engine of it would state it."""
    image = inputs(model)[0]
    return TensorInfo(image.name, np.dtype(np.uint8 if takes_uint8(model) else np.float32), shape(image))


def with_uint8_input(model: onnx.ModelProto, mean: Sequence[float], std: Sequence[float]) -> onnx.ModelProto:
    """A copy that takes the bytes of images, uint8 (N, H, W, 3), and normalises them itself.

    (x / 255 - mean) / std, in the order in which `pixels.normalise` rounds it. mean, std: of each channel, for pixels
    in [0, 1]. Raises UserError for a graph that already takes bytes, or has not three channels.
    """
    image = inputs(model)[0]
    size, channels, height, width = shape(image)
    if takes_uint8(model) or channels != 3:
        raise UserError(f"the ONNX file's input {image.name!r} is no float32 image of three channels")
    model = _copy(model)
    if any(node.name == AS_BYTES for node in model.graph.node):
        return _bytes_again(model)
    model.ir_version = max(model.ir_version, 4)  # older ones want every constant among the inputs
    front = onnx.parser.parse_model(f"""
        <ir_version: {model.ir_version}, opset_import: ["": {opset(model)}]>
        normalise (uint8[batch, {height}, {width}, 3] bytes) => (float[batch, 3, {height}, {width}] pixels)
        <float range = {{255.0}}, float[1, 3, 1, 1] mean = {_numbers(mean)}, float[1, 3, 1, 1] std = {_numbers(std)}>
        {{
            planes = Transpose <perm = [0, 3, 1, 2]> (bytes)
            values = Cast <to = {onnx.TensorProto.FLOAT}> (planes)
            unit = Div (values, range)
            centred = Sub (unit, mean)
            pixels = Div (centred, std)
        }}
    """)  # the transpose first, while it moves a quarter of the bytes
    outside = [tensor for tensor in model.graph.initializer if onnx_files.is_outside(tensor)]
    _set_aside(model.graph, outside)  # the merge wants every weight to be there
    merged = onnx.compose.merge_models(
        front, model, [("pixels", image.name)], name=model.graph.name, prefix1="normalised/"
    )
    _put_back(merged.graph, outside)
    _rename(merged.graph, {"normalised/bytes": image.name})
    own_axis = image.type.tensor_type.shape.dim[0]
    if size or own_axis.dim_param:
        merged.graph.input[0].type.tensor_type.shape.dim[0].CopyFrom(own_axis)
    return merged


def _bytes_again(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, whose author's graph takes bytes, without what onnx_adopt.py put in front to make some of pixels."""
    graph, image = model.graph, inputs(model)[0]
    front = list(itertools.takewhile(lambda node: node.name.startswith(ADOPTED), graph.node))
    last = front[-1]
    kept = [node for node in graph.node if node not in front]
    size, _, height, width = shape(image)
    if not any(node.op_type == "Transpose" for node in front):
        kept.insert(0, onnx.helper.make_node("Transpose", [image.name], [last.output[0]], perm=[0, 3, 1, 2]))
    replaced = {tensor for node in front for tensor in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name not in replaced]
    axis = image.type.tensor_type.shape.dim[0]
    taken = onnx.helper.make_tensor_value_info(
        image.name, onnx.TensorProto.UINT8, [size or axis.dim_param or "batch", height, width, 3]
    )
    made = onnx.helper.make_graph(kept, graph.name, [taken], graph.output, weights, value_info=graph.value_info)
    if any(node.op_type == "Transpose" for node in front):
        _rename(made, {last.output[0]: image.name})
    graph.CopyFrom(made)
    return model


def _set_aside(graph: onnx.GraphProto, outside: Sequence[onnx.TensorProto]) -> None:
    """Make weights inputs for a while."""
    for tensor in outside:
        graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        graph.initializer.remove(tensor)


def _put_back(graph: onnx.GraphProto, outside: Sequence[onnx.TensorProto]) -> None:
    graph.initializer.extend(outside)
    names = {tensor.name for tensor in outside}
    for value in [value for value in graph.input if value.name in names]:
        graph.input.remove(value)


def _numbers(values: Sequence[float]) -> str:
    """float32 values in ONNX's text format, each exactly."""
    return "{" + ", ".join(repr(float(np.float32(value))) for value in values) + "}"


def batch(model: onnx.ModelProto) -> int | None:
    """The batch size that the graph's input states; None if it is free."""
    return shape(inputs(model)[0])[0]


def node_counts(model: onnx.ModelProto) -> dict[str, int]:
    """Nodes by operator type, the most frequent first."""
    return dict(Counter(node.op_type for node in model.graph.node).most_common())


def rename_ends(model: onnx.ModelProto, num_classes: int) -> None:
    """Give the graph's input and output the names that everything downstream uses, and the output its shape.

    Exporters leave the shape out if they cannot infer it, in transformers for instance.
    """
    names = {inputs(model)[0].name: INPUT, model.graph.output[0].name: OUTPUT}
    # a tensor inside that has one of the two names already gets the one that became free
    names.update(zip(sorted({INPUT, OUTPUT} - names.keys()), sorted(names.keys() - {INPUT, OUTPUT})))
    _rename(model.graph, names)
    image, output = inputs(model)[0], model.graph.output[0]
    batch_name = image.type.tensor_type.shape.dim[0].dim_param or "batch"
    output.CopyFrom(onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [batch_name, num_classes]))


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:  # the branches of an If see the tensors around them
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def require_batch(model: onnx.ModelProto, batch_size: int) -> None:
    """Raise UserError if the graph has a fixed batch of another size."""
    if batch(model) not in (None, batch_size):
        raise UserError(f"the ONNX file has a fixed batch of {batch(model)}; export it with a dynamic batch dimension")


def with_batch(model: onnx.ModelProto, batch_size: int) -> onnx.ModelProto:
    """A copy whose batch dimension is `batch_size`, every shape inferred anew.

    Raises UserError if the graph has a fixed batch of another size.
    """
    require_batch(model, batch_size)
    fixed = _copy(model)
    del fixed.graph.value_info[:]
    for value in (inputs(fixed)[0], fixed.graph.output[0]):
        for axis in value.type.tensor_type.shape.dim[:1]:
            axis.dim_value = batch_size
    return onnx.shape_inference.infer_shapes(fixed, data_prop=True)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those in branches and loops too."""
    for node in graph.node:
        yield node
        yield from inner_nodes(node)


def inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Every node in the branches or the loop of a node."""
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            yield from nodes(inner)


def is_training(node: onnx.NodeProto, opset_version: int) -> bool:
    """Whether a node is a batch norm that computes its statistics from the batch."""
    if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx"):
        return False
    if opset_version >= 14:
        return any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
    return len([name for name in node.output if name]) > 1


def before_softmax(model: onnx.ModelProto) -> str | None:
    """The tensor that a softmax (or sigmoid) at the end of the graph is taken of; None if it ends in none."""
    node = last_operation(model.graph, model.graph.output[0].name)
    ends = node is not None and node.op_type in ("Softmax", "LogSoftmax", "Sigmoid")
    return node.input[0] if ends else None


def last_operation(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """The node that makes the values of a tensor, which others may only cast or put into another shape."""
    makers = {made: node for node in graph.node for made in node.output}
    node = makers.get(name)
    while node is not None and node.op_type in _ENDS_OF_SOFTMAX:
        node = makers.get(node.input[0])
    return node


def with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy whose second output is the tensor `name` inside, as float32."""
    probe = _copy(model)
    probe.graph.node.append(onnx.helper.make_node("Cast", [name], [f"{name}:float"], to=onnx.TensorProto.FLOAT))
    probe.graph.output.append(onnx.helper.make_tensor_value_info(f"{name}:float", onnx.TensorProto.FLOAT, None))
    return probe


def run(path: Path, images: np.ndarray, optimised: bool = True) -> np.ndarray:
    """The first output of an ONNX file for `images`, an array of its input's dtype, by ONNX Runtime on the CPU.

    optimised: let ONNX Runtime rewrite the graph; otherwise it computes what the file states, node by node.
    Raises UserError if it cannot run the file.
    """
    return runner(str(path), path, optimised)(images)[0]


def runner(model: str | bytes, name: Path, optimised: bool = True) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function that runs a file, or the bytes of one, and returns all its outputs. name: what errors call it."""
    try:
        opened = session(model, optimised)
    except Exception as error:  # the runtime's own exceptions share no narrower base
        unknown = re.search(r"([\w.]+:\w+)\(-?\d+\) is not a registered function/op", str(error))
        if unknown:
            raise UserError(
                f"{name}: has the custom operator {unknown[1]}, which ONNX Runtime does not know; a graph of ONNX's "
                "own operators was expected, export it without custom ones"
            ) from None
        raise UserError(f"{name}: ONNX Runtime cannot open it ({error}); export it again") from None

    def call(images: np.ndarray) -> list[np.ndarray]:
        try:
            return opened.run(None, {opened.get_inputs()[0].name: images})
        except Exception as error:
            raise UserError(
                f"{name}: ONNX Runtime cannot run it at batch {len(images)} ({error}); export it again"
            ) from None

    return call


def session(model: str | bytes, optimised: bool) -> onnxruntime.InferenceSession:
    """An ONNX file, or the bytes of one, opened by ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
