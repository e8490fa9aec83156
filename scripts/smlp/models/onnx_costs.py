"""What an ONNX graph costs: parameters, multiply-accumulates, and the tensors that its products read and write."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner

from ..core.provenance import Facts
from . import onnx_files, onnx_graph

# Of operators that multiply and accumulate, which inputs hold the two factors.
_FACTORS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "ConvInteger", "MatMulInteger"), (0, 1)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), (0, 3)),
}
_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv")
# Side of the tiles of Winograd's algorithm that runtimes use at most (Lavin and Gray, CVPR 2016).
_TILE = 4


def facts(model: onnx.ModelProto, folder: Path | None = None) -> Facts:
    """What the sidecar of an ONNX file says about its graph. folder: as for `of_one_image`."""
    weights = model.graph.initializer
    return {
        "opset": onnx_graph.opset(model),
        "parameters": sum(int(np.prod(tensor.dims)) for tensor in weights),
        "parameter_bytes": sum(int(np.prod(tensor.dims)) * _item_bytes(tensor.data_type) for tensor in weights),
        **of_one_image(model, folder),
        "node_counts": onnx_graph.node_counts(model),
        "input_shape": list(onnx_graph.shape(onnx_graph.inputs(model)[0])),
    }


def _item_bytes(data_type: int) -> int:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type)).itemsize


def macs(model: onnx.ModelProto, folder: Path | None = None) -> int:
    """Multiply-accumulates of one image in convolutions and matrix products, as model papers count them."""
    return of_one_image(model, folder)["macs"]


def of_one_image(model: onnx.ModelProto, folder: Path | None = None) -> Facts:
    """What the products of one image cost, as the keys of a sidecar:

    macs                 multiply-accumulates in convolutions and matrix products, as model papers count them
    least_macs           those that remain if Winograd's algorithm computes every convolution that it can: no runtime
                         computes fewer
    activation_elements  size of a tensor in elements -> how many such tensors products read and write. Everything else
                         can be fused into the products; weights are not counted
    activation_bytes     all of them in float32

    The shapes are those of a real run: shape inference gives up on what transformers do with shapes. Functions are
    written out. folder: where the weights are that one file cannot hold.
    """
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    counted = [node for node in model.graph.node if node.op_type in _FACTORS and len(node.input) > 1]
    names = sorted({name for node in counted for name in (node.output[0], *_factors(node))})
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    for name in names:
        probe.graph.node.append(onnx.helper.make_node("Shape", [name], [f"{name}:shape"]))
        probe.graph.output.append(onnx.helper.make_tensor_value_info(f"{name}:shape", onnx.TensorProto.INT64, None))
    with onnx_files.in_place(probe, folder or Path()) as opened:
        session = onnx_graph.session(opened, optimised=False)  # sooner done
    image = onnx_graph.inputs(model)[0]
    size = (onnx_graph.batch(model) or 1, *onnx_graph.shape(image)[1:])
    images = np.zeros(size, np.uint8 if onnx_graph.takes_uint8(model) else np.float32)
    shapes = dict(zip(names, session.run([f"{name}:shape" for name in names], {image.name: images}))) if names else {}
    products = [_products(node, shapes) for node in counted]
    least = sum(number / _saving(node, shapes) for node, number in zip(counted, products))
    moving = _computed_from(image.name, model.graph)
    moved = [name for node in counted for name in (*_factors(node), node.output[0]) if name in moving]
    elements = Counter(int(np.prod(shapes[name])) // len(images) for name in moved)
    return {
        "macs": sum(products) // len(images),
        "least_macs": round(least / len(images)),
        "activation_elements": {str(number): times for number, times in sorted(elements.items())},
        "activation_bytes": 4 * sum(number * times for number, times in elements.items()),
    }


def _factors(node: onnx.NodeProto) -> list[str]:
    return [node.input[place] for place in _FACTORS[node.op_type]]


def _attributes(node: onnx.NodeProto) -> Facts:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _products(node: onnx.NodeProto, shapes: dict[str, np.ndarray]) -> int:
    """Multiply-accumulates of one node."""
    left, right = (shapes[name] for name in _factors(node))
    made = shapes[node.output[0]]
    stated = _attributes(node)
    if node.op_type == "Einsum":  # one product per combination of all its letters
        letters = stated["equation"].decode().replace(" ", "").split("->")[0].split(",")
        plain = len(node.input) == 2 and not any("." in word for word in letters)
        sizes = dict(zip("".join(letters), (*left, *right))) if plain else {}
        return int(np.prod(list(sizes.values()))) if sizes else 0
    if node.op_type == "ConvTranspose":  # an input value meets a kernel: output channels of its group x height x width
        return int(np.prod(left)) * int(np.prod(right[1:]))
    if "Conv" in node.op_type:  # an output value sums over a kernel: input channels of its group x height x width
        return int(np.prod(made)) * int(np.prod(right[1:]))
    return int(np.prod(made)) * int(left[0 if stated.get("transA") else -1])


def _saving(node: onnx.NodeProto, shapes: dict[str, np.ndarray]) -> float:
    """How many times fewer products Winograd's algorithm needs for a node; 1 where it does not apply.

    A tile of t outputs a side under a kernel of r a side takes (t + r - 1)^2 products in place of t^2 r^2.
    """
    stated = _attributes(node)
    kernel = shapes[_factors(node)[1]][2:]
    strides, dilations = (stated.get(key) or [1] for key in ("strides", "dilations"))
    applies = node.op_type in _CONVOLUTIONS and len(kernel) == 2 and min(kernel) > 1 and stated.get("group", 1) == 1
    if not applies or {*strides, *dilations} != {1}:
        return 1.0
    return float(np.prod([_TILE * side / (_TILE + side - 1) for side in kernel]))


def _computed_from(name: str, graph: onnx.GraphProto) -> set[str]:
    """The tensors that depend on the tensor `name`, itself among them."""
    found = {name}
    for node in graph.node:
        inner = (read for one in onnx_graph.inner_nodes(node) for read in one.input)
        if not found.isdisjoint((*node.input, *inner)):
            found.update(node.output)
    return found
