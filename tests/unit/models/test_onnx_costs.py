"""What products of a graph cost beside their multiply-accumulates, which test_onnx_graph.py counts."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from smlp.models import onnx_costs


def graph(nodes, weights, image=(3, 8, 8), outputs=5):
    """A graph of float32 images of shape `image`, its weights all zero."""
    tensors = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    taken = helper.make_tensor_value_info("input", 1, ["batch", *image])
    given = helper.make_tensor_value_info("output", 1, ["batch", outputs])
    made = helper.make_graph(nodes, "g", [taken], [given], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)


def convolution(kernel, **attributes):
    """Six maps of an image, then five scores."""
    own = {"kernel_shape": kernel[2:], "pads": [kernel[2] // 2] * 4, **attributes}
    nodes = [
        helper.make_node("Conv", ["input", "K"], ["c"], **own),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "W"], ["output"]),
    ]
    return graph(nodes, {"K": kernel, "W": (kernel[0], 5)})


@pytest.mark.parametrize(
    ("kernel", "attributes", "saving"),
    [
        ((6, 3, 3, 3), {}, 144 / 36),
        ((6, 3, 5, 5), {}, 400 / 64),
        ((6, 3, 1, 1), {}, 1),
        ((6, 3, 3, 3), {"strides": [2, 2]}, 1),
        ((6, 3, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, 1),
        ((6, 1, 3, 3), {"group": 3}, 1),  # depthwise: too few products to save any
    ],
)
def test_winograds_algorithm_saves_products_where_it_applies(kernel, attributes, saving):
    costs = onnx_costs.of_one_image(convolution(kernel, **attributes))
    convolved = costs["macs"] - 6 * 5
    assert costs["least_macs"] == round(convolved / saving + 6 * 5)


def test_what_products_read_and_write_is_counted_and_weights_are_not():
    costs = onnx_costs.of_one_image(convolution((6, 3, 3, 3)))
    assert costs["activation_elements"] == {"5": 1, "6": 1, "192": 1, "384": 1}
    assert costs["activation_bytes"] == 4 * (5 + 6 + 192 + 384)


def test_a_weight_that_nodes_compute_from_others_is_no_activation():
    nodes = [
        helper.make_node("Flatten", ["input"], ["f"]),
        helper.make_node("Transpose", ["W"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["f", "t"], ["output"]),
    ]
    assert onnx_costs.of_one_image(graph(nodes, {"W": (5, 192)}))["activation_elements"] == {"5": 1, "192": 1}


def test_both_factors_of_attention_are_read():
    nodes = [
        helper.make_node("MatMul", ["input", "input"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("MatMul", ["f", "W"], ["output"]),
    ]
    assert onnx_costs.of_one_image(graph(nodes, {"W": (192, 5)}))["activation_elements"] == {"5": 1, "192": 4}


def test_a_graph_without_products_costs_nothing():
    nodes = [helper.make_node("GlobalAveragePool", ["input"], ["p"]), helper.make_node("Flatten", ["p"], ["output"])]
    assert onnx_costs.of_one_image(graph(nodes, {}, outputs=3)) == {
        "macs": 0,
        "least_macs": 0,
        "activation_elements": {},
        "activation_bytes": 0,
    }
