"""ONNX graphs of image classifiers: loading, what they contain, their batch dimension."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.compose
import onnx.parser

from ..core.cli import UserError
from ..core.provenance import Facts
from ..core.tensor import TensorInfo

if TYPE_CHECKING:
    import onnxruntime

INPUT, OUTPUT = "input", "output"
OPSETS = range(9, 19)


def load(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file: valid, one input, one output, opset 9 to 18.

    The input is float32, or the bytes that `with_uint8_input` makes it take.

    Raises UserError that names the file and what is wrong.
    """
    if not path.exists():
        raise UserError(f"{path}: no such ONNX file; export it with scripts/export.py, or check the path")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's errors share no narrower base
        raise UserError(f"{path}: is not a valid ONNX file ({error}); export or fetch it again") from None
    if opset(model) not in OPSETS:
        raise UserError(f"{path}: has opset {opset(model)}; {OPSETS[0]} to {OPSETS[-1]} are supported, export it again")
    if len(inputs(model)) != 1 or len(model.graph.output) != 1:
        raise UserError(
            f"{path}: has {len(inputs(model))} inputs and {len(model.graph.output)} outputs; "
            "an image classifier with one of each was expected"
        )
    image = inputs(model)[0]
    as_bytes = takes_uint8(model) and shape(image)[-1:] == (3,)
    if not (as_bytes or image.type.tensor_type.elem_type == onnx.TensorProto.FLOAT) or len(shape(image)) != 4:
        raise UserError(f"{path}: its input is not a float32 tensor (N, C, H, W); an image classifier was expected")
    return model


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operator set."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The true inputs: old exporters list the weights among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
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
    merged = onnx.compose.merge_models(
        front, model, [("pixels", image.name)], name=model.graph.name, prefix1="normalised/"
    )
    _rename(merged.graph, {"normalised/bytes": image.name})
    own_axis = image.type.tensor_type.shape.dim[0]
    if size or own_axis.dim_param:
        merged.graph.input[0].type.tensor_type.shape.dim[0].CopyFrom(own_axis)
    return merged


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


def facts(model: onnx.ModelProto) -> Facts:
    """What the sidecar of an ONNX file says about its graph; `macs` for one image."""
    image = inputs(model)[0]
    return {
        "opset": opset(model),
        "parameters": sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer),
        "macs": macs(model),
        "node_counts": node_counts(model),
        "input_shape": list(shape(image)),
    }


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of one image in convolutions and matrix products, as model papers count them.

    The shapes are those of a real run: shape inference gives up on what transformers do with shapes.
    """
    counted = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    names = sorted({name for node in counted for name in (node.output[0], *node.input[:2])})
    probe = _copy(model)
    for name in names:
        probe.graph.node.append(onnx.helper.make_node("Shape", [name], [f"{name}:shape"]))
        probe.graph.output.append(onnx.helper.make_tensor_value_info(f"{name}:shape", onnx.TensorProto.INT64, None))
    session = _session(probe.SerializeToString(), optimised=False)  # sooner done
    image = inputs(model)[0]
    images = np.zeros((batch(model) or 1, *shape(image)[1:]), np.float32)
    shapes = dict(zip(names, session.run([f"{name}:shape" for name in names], {image.name: images}))) if names else {}
    total = 0
    for node in counted:
        left, right = (shapes[name] for name in node.input[:2])
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        # a convolution's output value sums over a kernel: input channels of its group x height x width
        summed = np.prod(right[1:]) if node.op_type == "Conv" else left[0 if transposed else -1]
        total += int(np.prod(shapes[node.output[0]])) * int(summed)
    return total // len(images)


def run(path: Path, images: np.ndarray, optimised: bool = True) -> np.ndarray:
    """The first output of an ONNX file for `images`, an array of its input's dtype, by ONNX Runtime on the CPU.

    optimised: let ONNX Runtime rewrite the graph; otherwise it computes what the file states, node by node.
    Raises UserError if it cannot run the file.
    """
    try:
        session = _session(str(path), optimised)
        return session.run(None, {session.get_inputs()[0].name: images})[0]
    except Exception as error:  # the runtime's own exceptions share no narrower base
        raise UserError(
            f"{path}: ONNX Runtime cannot run it at batch {len(images)} ({error}); export it again"
        ) from None


def _session(model: str | bytes, optimised: bool) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
