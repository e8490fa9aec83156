"""ONNX classifiers as other people's exporters write them, made of a few nodes."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5
_KINDS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}


def weights(classes=CLASSES, dtype=np.float32, size=2):
    random = np.random.default_rng(0)
    shapes = {"K": (4, 3, size, size), "B": (4,), "W": (classes, 4), "V": (classes,)}
    return {name: random.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def classifier(
    image=("N", 3, 8, 8), opset=13, ir=8, kind=TensorProto.FLOAT, classes=CLASSES, as_inputs=False, ends=(), size=2
):
    """Convolution, ReLU, mean, product; input `data`, output `scores`.

    kind: of the arithmetic. as_inputs: weights are listed among the inputs. ends: further nodes (operator, attributes)
    behind the scores. size: of the convolution's kernel and stride.
    """
    made = weights(classes, _KINDS[kind], size)
    names = ["logits", *(f"end{place}" for place in range(len(ends)))]
    names[-1] = "scores"
    nodes = [
        helper.make_node("Conv", ["data", "K", "B"], ["c"], kernel_shape=[size] * 2, strides=[size] * 2),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "W", "V"], [names[0]], transB=1),
    ]
    for (operator, stated), before, after in zip(ends, names, names[1:]):
        nodes.append(helper.make_node(operator, [before], [after], **stated))
    value = helper.make_tensor_value_info
    inputs = [value("data", kind, list(image))]
    if as_inputs:
        inputs += [value(name, kind, array.shape) for name, array in made.items()]
    graph = helper.make_graph(
        nodes,
        "theirs",
        inputs,
        [value("scores", kind, [image[0], classes])],
        [numpy_helper.from_array(array, name) for name, array in made.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def state_output(model, kind, shape):
    """Say what the model's output is."""
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("scores", kind, list(shape)))
    return model


def channels_last(**more):
    """The same, of images (N, H, W, 3), as TensorFlow's exporter writes it."""
    model = classifier(**more)
    put_in_front(model, helper.make_node("Transpose", ["data"], ["planes"], perm=[0, 3, 1, 2]))
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    moved = [type(sizes[0])(), type(sizes[0])(), type(sizes[0])()]
    for axis, place in zip(moved, (2, 3, 1)):
        axis.CopyFrom(sizes[place])
    for axis, new in zip(sizes[1:], moved):
        axis.CopyFrom(new)
    return model


def put_in_front(model, *nodes):
    """Let the graph begin with these nodes, of which the first takes `data` and the last makes what the rest takes."""
    for node in model.graph.node:
        node.input[:] = [nodes[-1].output[0] if name == "data" else name for name in node.input]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])


def of_bytes(last=True):
    """The same, of the bytes of images, which it normalises itself by mean 0.5 and std 0.25."""
    model = channels_last() if last else classifier()
    constants = {"range": 255.0, "mean": 0.5, "std": 0.25}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v, np.float32), n) for n, v in constants.items())
    node = helper.make_node
    put_in_front(
        model,
        node("Cast", ["data"], ["values"], to=TensorProto.FLOAT),
        node("Div", ["values", "range"], ["unit"]),
        node("Sub", ["unit", "mean"], ["centred"]),
        node("Div", ["centred", "std"], ["normalised"]),
    )
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


def with_batch_norm(model, **stated):
    """Put a batch norm behind the convolution. stated: its attributes, and perhaps `outputs`."""
    outputs = stated.pop("outputs", 1)
    for name, value in {"s": 1.0, "o": 0.0, "m": 0.3, "v": 1.0}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.full(4, value, np.float32), name))
    made = ["n", "o1", "o2", "o3", "o4"][:outputs]
    model.graph.node.insert(1, helper.make_node("BatchNormalization", ["c", "s", "o", "m", "v"], made, **stated))
    model.graph.node[2].input[0] = "n"
    return model
