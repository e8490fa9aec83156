"""ONNX graphs: what they contain, counted; their ends renamed; their batch fixed; damaged ones refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from smlp.core.cli import UserError
from smlp.data import pixels
from smlp.models import onnx_costs, onnx_graph


def make(nodes, weights=(), image=("batch", 3, 8, 8), scores=("batch", 5), opset=11, ends=("input", "output"), **more):
    """A model with float32 ends. weights: {name: shape}, filled with reproducible noise."""
    random = np.random.default_rng(0)
    initializers = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)
        for name, shape in dict(weights).items()
    ]
    kind = more.get("kind", TensorProto.FLOAT)
    return helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info(ends[0], kind, image)],
            [helper.make_tensor_value_info(ends[1], TensorProto.FLOAT, scores)],
            initializers + list(more.get("initializers", ())),
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=6,
    )


def classifier(**more):
    """Convolution 3 -> 4, flattened, times a matrix."""
    nodes = [
        helper.make_node("Conv", ["input", "K"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "W"], ["output"]),
    ]
    return make(nodes, {"K": (4, 3, 3, 3), "W": (4 * 8 * 8, 5)}, **more)


def run(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


IMAGES = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)


def test_facts_count_what_the_graph_contains():
    assert onnx_costs.facts(classifier()) == {
        "opset": 11,
        "parameters": 4 * 3 * 3 * 3 + 4 * 8 * 8 * 5,
        "parameter_bytes": 4 * (4 * 3 * 3 * 3 + 4 * 8 * 8 * 5),
        "macs": 4 * 8 * 8 * (3 * 3 * 3) + 4 * 8 * 8 * 5,
        "least_macs": 4 * 8 * 8 * 3 * 9 // 4 + 4 * 8 * 8 * 5,  # a tile of 4 x 4 takes 36 products in place of 144
        "activation_elements": {"5": 1, "192": 1, "256": 2},
        "activation_bytes": 4 * (3 * 8 * 8 + 2 * 4 * 8 * 8 + 5),
        "node_counts": {"Conv": 1, "Relu": 1, "Flatten": 1, "MatMul": 1},
        "input_shape": [None, 3, 8, 8],
    }


def test_node_counts_are_sorted_by_frequency():
    nodes = [helper.make_node("Relu", ["input" if i == 0 else f"r{i}"], [f"r{i + 1}"]) for i in range(3)]
    nodes += [helper.make_node("Flatten", ["r3"], ["f"]), helper.make_node("MatMul", ["f", "W"], ["output"])]
    counts = onnx_graph.node_counts(make(nodes, {"W": (192, 5)}))
    assert counts == {"Relu": 3, "Flatten": 1, "MatMul": 1}
    assert next(iter(counts)) == "Relu"


def flat_then(node):
    return [helper.make_node("Flatten", ["input"], ["f"]), node]


@pytest.mark.parametrize(
    ("nodes", "weights", "macs"),
    [
        # grouped: each of 6 outputs sums over 1 of 3 channels; stride 2 halves both sides
        (
            [
                helper.make_node("Conv", ["input", "K"], ["c"], kernel_shape=[2, 2], strides=[2, 2], group=3),
                helper.make_node("Flatten", ["c"], ["f"]),
                helper.make_node("MatMul", ["f", "W"], ["output"]),
            ],
            {"K": (6, 1, 2, 2), "W": (96, 5)},
            6 * 4 * 4 * (1 * 2 * 2) + 96 * 5,
        ),
        (flat_then(helper.make_node("Gemm", ["f", "W", "b"], ["output"])), {"W": (192, 5), "b": (5,)}, 192 * 5),
        (flat_then(helper.make_node("Gemm", ["f", "W"], ["output"], transB=1)), {"W": (5, 192)}, 192 * 5),
        (
            [
                *flat_then(helper.make_node("Transpose", ["f"], ["t"], perm=[1, 0])),
                helper.make_node("Gemm", ["t", "W"], ["output"], transA=1),
            ],
            {"W": (192, 5)},
            192 * 5,
        ),
        # a product of two tensors with a leading axis, as in attention: (3, 8, 8) x (3, 8, 8)
        (
            [
                helper.make_node("MatMul", ["input", "input"], ["m"]),
                helper.make_node("Flatten", ["m"], ["f"]),
                helper.make_node("MatMul", ["f", "W"], ["output"]),
            ],
            {"W": (192, 5)},
            3 * 8 * 8 * 8 + 192 * 5,
        ),
        # shape arithmetic on the batch, which shape inference does not follow
        (
            [
                helper.make_node("Shape", ["input"], ["s"]),
                helper.make_node("Gather", ["s", "zero"], ["n"]),
                helper.make_node("Concat", ["n", "rest"], ["target"], axis=0),
                helper.make_node("Reshape", ["input", "target"], ["f"]),
                helper.make_node("MatMul", ["f", "W"], ["output"]),
            ],
            {"W": (192, 5)},
            192 * 5,
        ),
        (flat_then(helper.make_node("Einsum", ["f", "W"], ["output"], equation="bi,ji->bj")), {"W": (5, 192)}, 192 * 5),
        # each of 3 x 64 values of the image meets a kernel of 2 channels
        (
            [
                helper.make_node("ConvTranspose", ["input", "K"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
                helper.make_node("Flatten", ["c"], ["f"]),
                helper.make_node("MatMul", ["f", "W"], ["output"]),
            ],
            {"K": (3, 2, 2, 2), "W": (512, 5)},
            3 * 64 * (2 * 2 * 2) + 512 * 5,
        ),
    ],
    ids=["grouped", "gemm", "transB", "transA", "attention", "dynamic reshape", "einsum", "transposed"],
)
@pytest.mark.parametrize("batch", ["batch", 2])
def test_macs_are_those_of_one_image(nodes, weights, macs, batch):
    constants = [
        numpy_helper.from_array(np.array([0]), "zero"),
        numpy_helper.from_array(np.array([192]), "rest"),
    ]
    opset = 12 if any(node.op_type == "Einsum" for node in nodes) else 11
    model = make(nodes, weights, (batch, 3, 8, 8), (batch, 5), initializers=constants, opset=opset)
    assert onnx_costs.macs(model) == macs


def test_a_graph_without_products_has_no_macs():
    assert onnx_costs.macs(make([helper.make_node("GlobalAveragePool", ["input"], ["output"])])) == 0


def test_the_batch_is_that_of_the_input():
    assert onnx_graph.batch(classifier()) is None
    assert onnx_graph.batch(classifier(image=(8, 3, 8, 8), scores=(8, 5))) == 8
    assert onnx_graph.batch(classifier(image=(-1, 3, 8, 8), scores=(-1, 5))) is None


@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_can_be_fixed(size):
    model = classifier()
    fixed = onnx_graph.with_batch(model, size)
    onnx.checker.check_model(fixed, full_check=True)
    assert onnx_graph.batch(fixed) == size
    assert onnx_graph.shape(fixed.graph.output[0]) == (size, 5)
    assert onnx_graph.shape(next(value for value in fixed.graph.value_info if value.name == "c")) == (size, 4, 8, 8)
    np.testing.assert_array_equal(run(fixed, IMAGES[:size]), run(model, IMAGES[:size]))
    assert onnx_graph.batch(model) is None


def test_a_batch_can_be_fixed_if_the_output_states_no_shape():
    fixed = onnx_graph.with_batch(classifier(scores=()), 2)
    assert onnx_graph.batch(fixed) == 2
    assert run(fixed, IMAGES[:2]).shape == (2, 5)


def test_a_fixed_batch_may_be_fixed_to_itself():
    assert onnx_graph.batch(onnx_graph.with_batch(classifier(image=(4, 3, 8, 8), scores=(4, 5)), 4)) == 4


def test_a_fixed_batch_of_another_size_is_refused():
    with pytest.raises(UserError, match="fixed batch of 4; export it with a dynamic batch"):
        onnx_graph.with_batch(classifier(image=(4, 3, 8, 8), scores=(4, 5)), 8)


# renamed ends


def check_renamed(nodes, ends, weights=None, **more):
    model = make(nodes, {"W": (192, 5)} if weights is None else weights, ends=ends, **more)
    onnx.checker.check_model(model)
    before = run(model, IMAGES)
    onnx_graph.rename_ends(model, 5)
    onnx.checker.check_model(model)
    assert (onnx_graph.inputs(model)[0].name, model.graph.output[0].name) == ("input", "output")
    assert onnx_graph.shape(model.graph.output[0]) == (None, 5)
    np.testing.assert_array_equal(run(model, IMAGES), before)


def chain(*names):
    """A graph whose tensors have these names in order: image, flattened, scores."""
    return [
        helper.make_node("Flatten", [names[0]], [names[1]]),
        helper.make_node("MatMul", [names[1], "W"], [names[2]]),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("x", "f", "y"),
        ("input", "f", "output"),
        ("output", "f", "input"),
        ("x", "input", "y"),
        ("x", "output", "y"),
        ("output", "input", "y"),
        ("x", "output", "input"),
    ],
)
def test_ends_get_their_names_whatever_else_has_them(names):
    check_renamed(chain(*names), (names[0], names[2]))


def test_a_weight_called_input_is_renamed():
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "input"], ["y"])]
    check_renamed(nodes, ("x", "y"), {"input": (192, 5)})


def test_an_output_without_a_shape_gets_one():
    check_renamed(chain("x", "f", "y"), ("x", "y"), scores=())


def test_branches_see_the_new_names():
    branches = {
        name: helper.make_graph(
            [helper.make_node(kind, ["x"], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)],
        )
        for name, kind in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    nodes = [
        helper.make_node("If", ["yes"], ["chosen"], **branches),
        helper.make_node("Flatten", ["chosen"], ["f"]),
        helper.make_node("MatMul", ["f", "W"], ["y"]),
    ]
    check_renamed(nodes, ("x", "y"), initializers=[numpy_helper.from_array(np.array(True), "yes")])


# loading


def saved(tmp_path, model):
    path = tmp_path / "a model.onnx"
    onnx.save(model, path)
    return path


def test_a_valid_file_is_loaded(tmp_path):
    path = saved(tmp_path, classifier())
    assert onnx_graph.load(path) == onnx.load(path)


def test_weights_listed_among_the_inputs_are_no_inputs(tmp_path):
    model = classifier()
    model.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, [256, 5]))
    loaded = onnx_graph.load(saved(tmp_path, model))
    assert [value.name for value in loaded.graph.input] == ["input"]
    np.testing.assert_array_equal(run(loaded, IMAGES), run(model, IMAGES))


def two_inputs():
    model = classifier()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    return model


def two_outputs():
    model = classifier()
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, ()))
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (two_inputs(), "has 2 inputs and 1 outputs; an image classifier with one of each"),
        (two_outputs(), "has 1 inputs and 2 outputs; an image classifier with one of each"),
        (classifier(opset=6), "has opset 6; 7 to 22 are supported"),
        (classifier(opset=23), "has opset 23; 7 to 22 are supported"),
        (classifier(image=("batch", 192)), "its input is not a float32 tensor"),
        (
            make([helper.make_node("Cast", ["input"], ["output"], to=1)], kind=TensorProto.UINT8),
            "its input is not a float32 tensor",
        ),
        (make([helper.make_node("NoSuchOperator", ["input"], ["output"])]), "is not a valid ONNX file"),
    ],
)
def test_a_graph_that_is_no_image_classifier_is_refused(tmp_path, model, message):
    path = saved(tmp_path, model)
    with pytest.raises(UserError) as error:
        onnx_graph.load(path)
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("content", [b"", b"not a protobuf", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_onnx_is_refused(tmp_path, content):
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.onnx: is not a valid ONNX file"):
        onnx_graph.load(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = saved(tmp_path, classifier())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="is not a valid ONNX file"):
        onnx_graph.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.onnx: no such ONNX file; export it"):
        onnx_graph.load(tmp_path / "none.onnx")


def test_a_file_that_onnx_runtime_cannot_run_is_named(tmp_path, mixer_onnx):
    path = tmp_path / "fixed.onnx"
    mixer_onnx(path, batch=4)
    with pytest.raises(UserError, match=r"(?s)fixed\.onnx: ONNX Runtime cannot run it at batch 3 .*; export it again"):
        onnx_graph.run(path, np.zeros((3, 3, 4, 4), np.float32))


@pytest.mark.parametrize("ir_version", [3, 6])
def test_bytes_are_normalised_in_front_of_every_kind_of_graph(tmp_path, ir_version):
    """Old graphs list their weights among the inputs; a branch of an If reads the image from around it."""
    weights = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, None)
    branches = {
        name: helper.make_graph([helper.make_node(kind, ["pixels"], ["result"])], name, [], [result])
        for name, kind in (("then_branch", "Neg"), ("else_branch", "Relu"))
    }
    constants = [numpy_helper.from_array(weights, "W"), numpy_helper.from_array(np.array(True), "condition")]
    ends = [
        helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["images / call", 3, 4, 4]),
        helper.make_tensor_value_info("output", TensorProto.FLOAT, ["images / call", 5]),
    ]
    graph = helper.make_graph(
        [
            helper.make_node("If", ["condition"], ["chosen"], **branches),
            helper.make_node("Flatten", ["chosen"], ["flat"]),
            helper.make_node("MatMul", ["flat", "W"], ["output"]),
        ],
        "odd",
        [
            ends[0],
            helper.make_tensor_value_info("W", TensorProto.FLOAT, [48, 5]),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
        ],
        [ends[1]],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=ir_version)
    onnx.save(model, tmp_path / "floats.onnx")
    mean, std = (1e-5, -0.25, 0.406), (0.229, 1e-3, 123456.789)
    edited = onnx_graph.with_uint8_input(model, mean, std)
    onnx.save(edited, tmp_path / "bytes.onnx")

    (image,) = onnx_graph.inputs(onnx_graph.load(tmp_path / "bytes.onnx"))
    axes = image.type.tensor_type.shape.dim
    assert (image.name, axes[0].dim_param, onnx_graph.shape(image)) == ("pixels", "images / call", (None, 4, 4, 3))
    images = np.random.default_rng(1).integers(0, 256, (2, 4, 4, 3), np.uint8)
    floats = pixels.normalise(images, mean, std)
    np.testing.assert_array_equal(
        onnx_graph.run(tmp_path / "bytes.onnx", images, optimised=False),
        onnx_graph.run(tmp_path / "floats.onnx", floats, optimised=False),
    )
