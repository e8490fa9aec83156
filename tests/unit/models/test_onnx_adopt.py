"""Ready-made ONNX files of all kinds come into one form and give the same scores; what is uncertain is refused."""

import numpy as np
import onnx
import pytest
import their_onnx
from onnx import TensorProto, helper
from their_onnx import CLASSES, classifier

from smlp.core.cli import UserError
from smlp.data.transform import Transform
from smlp.models import onnx_adopt, onnx_costs, onnx_files, onnx_graph

TRANSFORM = Transform(8, "bicubic", (8, 8), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "center")
BYTES = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)
IMAGES = ((BYTES.astype(np.float32) / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2).copy()


def scores():
    """What the plain classifier gives."""
    return onnx_graph.runner(classifier().SerializeToString(), "plain")(IMAGES)[0]


def adopt(tmp_path, model, output=None):
    """What was changed, the file in our form, and the file as it was given."""
    source, target = tmp_path / "theirs.onnx", tmp_path / "ours.onnx"
    onnx.save(model, source)
    theirs = onnx_adopt.ReadyMade(source, TRANSFORM, output)
    changes = onnx_adopt.adopt(theirs, target)
    made = onnx_graph.load(target)
    assert [value.name for value in made.graph.input] == ["input"]
    assert [value.name for value in made.graph.output] == ["output"]
    assert onnx_graph.shape(made.graph.input[0]) == (None, 3, 8, 8)
    assert onnx_graph.shape(made.graph.output[0]) == (None, theirs.num_classes)
    assert made.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert made.ir_version >= 8 and not made.functions and onnx_graph.opset(made) >= 9
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_allclose(theirs.scores(IMAGES), onnx_graph.run(target, IMAGES), atol=2e-3, rtol=1e-3)
    return changes, made, theirs


def refusal(tmp_path, model, output=None):
    source = tmp_path / "theirs.onnx"
    onnx.save(model, source)
    with pytest.raises(UserError) as error:
        onnx_adopt.adopt(onnx_adopt.ReadyMade(source, TRANSFORM, output), tmp_path / "ours.onnx")
    assert str(error.value).startswith(f"{source}: ")
    return str(error.value).removeprefix(f"{source}: ")


def same_scores(tmp_path, tolerance=1e-5):
    np.testing.assert_allclose(onnx_graph.run(tmp_path / "ours.onnx", IMAGES), scores(), atol=tolerance)


def test_a_file_in_our_form_stays_as_it_is_but_for_its_names(tmp_path):
    changes, made, _ = adopt(tmp_path, classifier())
    assert changes == []
    same_scores(tmp_path)
    onnx_graph.rename_ends(made, CLASSES)
    assert made.SerializeToString() == (tmp_path / "ours.onnx").read_bytes()


@pytest.mark.parametrize(("opset", "ir"), [(7, 3), (8, 3), (9, 4), (18, 8), (20, 9), (21, 10), (22, 10)])
def test_opsets_7_to_22_are_accepted(tmp_path, opset, ir):
    changes, made, _ = adopt(tmp_path, classifier(opset=opset, ir=ir, as_inputs=ir == 3))
    assert onnx_graph.opset(made) == max(opset, 9)
    assert (f"opset {opset} raised to 9" in changes) == (opset < 9)
    same_scores(tmp_path)


@pytest.mark.parametrize("opset", [6, 23])
def test_other_opsets_are_refused(tmp_path, opset):
    assert refusal(tmp_path, classifier(opset=opset)).startswith(f"has opset {opset}; 7 to 22 are supported")


def test_the_operator_whose_opset_cannot_be_raised_is_named(tmp_path, monkeypatch):
    def refuses(model, opset):
        raise RuntimeError(
            "BaseConverter.h:66: adapter_lookup: Assertion `false` failed: No Adapter From Version $8 for Scan"
        )

    monkeypatch.setattr(onnx.version_converter, "convert_version", refuses)
    assert "cannot raise to 9 because of the operator Scan" in refusal(tmp_path, classifier(opset=8, ir=4))


@pytest.mark.parametrize("ir", [3, 7, 8])
def test_weights_among_the_inputs_become_constants(tmp_path, ir):
    changes, made, _ = adopt(tmp_path, classifier(ir=ir, as_inputs=True))
    assert "weights taken from among the inputs" in changes
    assert len(made.graph.input) == 1 and len(made.graph.initializer) == 4
    same_scores(tmp_path)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_fixed_batch_is_freed(tmp_path, size):
    changes, _, theirs = adopt(tmp_path, classifier(image=(size, 3, 8, 8)))
    assert changes == [f"batch of {size} freed"] and theirs.batch == size
    same_scores(tmp_path)


@pytest.mark.parametrize(("sizes", "as_node"), [([2, 4], False), ([2, -1], False), ([2, 4], True)])
def test_a_reshape_to_the_fixed_batch_is_freed(tmp_path, sizes, as_node):
    """As torch's exporter writes it by default."""
    model = classifier(image=(2, 3, 8, 8))
    model.graph.node[3].CopyFrom(helper.make_node("Reshape", ["p", "sizes"], ["f"]))
    value = onnx.numpy_helper.from_array(np.array(sizes), "sizes")
    if as_node:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["sizes"], value=value))
    else:
        model.graph.initializer.append(value)
    changes, _, theirs = adopt(tmp_path, model)
    assert "batch of 2 freed" in changes and theirs.batch == 2
    same_scores(tmp_path)


def test_free_height_and_width_are_set(tmp_path):
    changes, _, _ = adopt(tmp_path, classifier(image=("batch", "channels", "height", "width")))
    assert changes == ["image size set to 8x8"]
    same_scores(tmp_path)


def test_another_image_size_is_refused(tmp_path):
    message = refusal(tmp_path, classifier(image=("N", 3, 16, 16)))
    assert message.startswith("its input has shape (None, 3, 16, 16) (None = free) but (None, 3, 8, 8) was expected")


@pytest.mark.parametrize("image", [("N", 3, 8, 8), ("N", "c", "h", "w"), (1, 3, 8, 8)])
def test_images_with_their_channels_last_are_accepted(tmp_path, image):
    """Where all axes are free, only one order runs."""
    changes, _, theirs = adopt(tmp_path, their_onnx.channels_last(image=image))
    assert theirs.channels_last and "(N, H, W, 3) made of (N, 3, H, W)" in changes
    same_scores(tmp_path)


@pytest.mark.parametrize("last", [True, False])
def test_images_as_bytes_are_accepted(tmp_path, last):
    model = their_onnx.of_bytes(last)
    changes, made, _ = adopt(tmp_path, model)
    assert "uint8 images made of float32 ones" in changes
    same_scores(tmp_path)
    theirs = BYTES if last else BYTES.transpose(0, 3, 1, 2)
    expected = onnx_graph.runner(model.SerializeToString(), "theirs")(np.ascontiguousarray(theirs))[0]
    np.testing.assert_allclose(onnx_graph.run(tmp_path / "ours.onnx", IMAGES), expected, atol=1e-6)
    # with `pixels: uint8` nothing is left of the way there and back
    again = onnx_graph.with_uint8_input(made, TRANSFORM.mean, TRANSFORM.std)
    assert len(again.graph.node) == len(model.graph.node) + (not last)
    onnx.save(again, tmp_path / "bytes.onnx")
    onnx_graph.load(tmp_path / "bytes.onnx")
    np.testing.assert_allclose(onnx_graph.run(tmp_path / "bytes.onnx", BYTES), expected, atol=1e-6)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_precisions_at_the_output_are_cast(tmp_path, kind):
    model = their_onnx.state_output(classifier(ends=[("Cast", {"to": kind})]), kind, ("N", CLASSES))
    changes, _, _ = adopt(tmp_path, model)
    assert len(changes) == 1 and "output cast to float32" in changes[0]
    same_scores(tmp_path, 5e-3)


def test_half_precision_throughout_is_accepted(tmp_path):
    changes, _, _ = adopt(tmp_path, classifier(kind=TensorProto.FLOAT16))
    assert len(changes) == 2
    same_scores(tmp_path, 2e-2)


@pytest.mark.parametrize("shape", [("N", CLASSES, 1, 1), ("N", 1, 1, CLASSES), ("N", 1, CLASSES)])
def test_axes_of_1_beside_the_classes_are_dropped(tmp_path, shape):
    axes = [place for place, size in enumerate(shape) if size == 1]
    model = their_onnx.state_output(classifier(opset=11, ends=[("Unsqueeze", {"axes": axes})]), 1, shape)
    changes, _, theirs = adopt(tmp_path, model)
    assert theirs.num_classes == CLASSES and changes[0].startswith("axes of 1 dropped")
    same_scores(tmp_path)


def test_scores_of_places_are_refused(tmp_path):
    model = classifier()
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("r", 1, ("N", 4, 4, 4)))
    assert refusal(tmp_path, model).startswith("its output has shape (1, 4, 4, 4) for one image; (1, classes) was")


def several():
    model = classifier()
    model.graph.node.append(helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1))
    model.graph.node.append(helper.make_node("ArgMax", ["scores"], ["label"], axis=1))
    for name, kind, shape in (("r", 1, ("N", 4, 4, 4)), ("probabilities", 1, ("N", CLASSES)), ("label", 7, ("N", 1))):
        model.graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    return model


def test_one_of_several_outputs_is_taken_if_it_is_named(tmp_path):
    changes, made, theirs = adopt(tmp_path, several(), "scores")
    assert changes == ["output scores taken, not r, probabilities, label"]
    assert {node.op_type for node in made.graph.node}.isdisjoint({"Softmax", "ArgMax"})
    assert theirs.outputs.startswith("scores float (N, 5); r float (N, 4, 4, 4); probabilities float (N, 5)")
    same_scores(tmp_path)
    adopt(tmp_path, several(), "probabilities")


def test_several_outputs_are_listed_if_none_is_named(tmp_path):
    message = refusal(tmp_path, several())
    assert message.startswith("has 4 outputs: scores float (N, 5); r float")
    assert "models.<name>.onnx.output (--output_name)" in message
    assert refusal(tmp_path, several(), "nonesuch").startswith("has no output 'nonesuch'; choose one of these: scores")
    assert refusal(tmp_path, several(), "label").startswith("its output is label int64 (N, 1); scores of each class")


def test_class_indices_are_no_scores(tmp_path):
    model = classifier(ends=[("ArgMax", {"axis": 1, "keepdims": 1})])
    message = refusal(tmp_path, their_onnx.state_output(model, TensorProto.INT64, ("N", 1)))
    assert message.startswith("its output is scores int64 (N, 1); scores of each class, a floating-point tensor")


def test_class_indices_and_sorted_scores_are_refused_whatever_their_type(tmp_path):
    indices = classifier(ends=[("ArgMax", {"axis": 1}), ("Cast", {"to": TensorProto.FLOAT})])
    assert "ends in ArgMax; scores of each class" in refusal(tmp_path, indices)
    best = classifier(opset=9, ends=[("Softmax", {"axis": 1}), ("TopK", {"axis": 1, "k": 3})])
    best.graph.node[-1].output.append("places")
    assert "ends in TopK; scores of each class" in refusal(tmp_path, their_onnx.state_output(best, 1, ["N", 3]))


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("as_inputs", [False, True])
def test_the_shape_of_the_output_may_be_missing(tmp_path, outside, as_inputs):
    model = classifier(ends=[("Softmax", {"axis": 1})], as_inputs=as_inputs)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    if outside:
        onnx.external_data_helper.convert_model_to_external_data(model, location="theirs.data", size_threshold=0)
    _, _, theirs = adopt(tmp_path, model)
    assert theirs.num_classes == CLASSES


def test_sequences_and_texts_are_refused(tmp_path):
    model = classifier()
    model.graph.node.append(helper.make_node("SequenceConstruct", ["scores"], ["list"]))
    listed = helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None)
    model.graph.output[0].CopyFrom(listed)
    assert refusal(tmp_path, model).startswith("its output is list (sequence); scores of each class")
    model = classifier()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    model.graph.node.insert(0, helper.make_node("Cast", ["data"], ["parsed"], to=1))
    model.graph.node[1].input[0] = "parsed"
    assert refusal(tmp_path, model).startswith("its inputs are: data string (N, 3, 8, 8); an image classifier with one")


def test_a_second_input_is_refused_by_name(tmp_path):
    model = classifier()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 4]))
    assert refusal(tmp_path, model).startswith("its inputs are: data float (N, 3, 8, 8), mask float (N, 4); an image")


def test_custom_operators_are_named(tmp_path):
    model = classifier()
    model.graph.node[1].CopyFrom(helper.make_node("Swirl", ["c"], ["r"], domain="their.own"))
    model.opset_import.append(helper.make_opsetid("their.own", 1))
    message = refusal(tmp_path, model)
    assert message.startswith("has the custom operator their.own:Swirl") and "own operators was expected" in message


def in_function(inner=("Conv",)):
    """The convolution in a function, or in a function that another one calls."""
    model = classifier(opset=15)
    stated = {"kernel_shape": [2, 2], "strides": [2, 2]}
    made = helper.make_node("Conv", ["x", "w", "b"], ["y"], **stated)
    for place, name in enumerate(inner):
        imports = [helper.make_opsetid("", 15), helper.make_opsetid("my", 1)]
        model.functions.append(helper.make_function("my", f"F{place}{name}", ["x", "w", "b"], ["y"], [made], imports))
        made = helper.make_node(f"F{place}{name}", ["x", "w", "b"], ["y"], domain="my")
    model.graph.node[0].CopyFrom(helper.make_node(made.op_type, ["data", "K", "B"], ["c"], domain="my"))
    model.opset_import.append(helper.make_opsetid("my", 1))
    return model


@pytest.mark.parametrize("inner", [("Conv",), ("Conv", "Conv")])
def test_functions_are_written_out_and_their_products_counted(tmp_path, inner):
    model = in_function(inner)
    changes, made, _ = adopt(tmp_path, model)
    assert changes == ["functions written out"]
    assert [entry.domain for entry in made.opset_import] == [""]
    assert onnx_costs.macs(made) == onnx_costs.macs(classifier()) == 4 * 4 * 4 * 12 + CLASSES * 4
    assert onnx_costs.macs(model) == onnx_costs.macs(made)
    same_scores(tmp_path)


@pytest.mark.parametrize(("opset", "stated"), [(15, {"training_mode": 1}), (13, {"outputs": 5}), (9, {"outputs": 5})])
def test_a_batch_norm_in_training_mode_is_refused(tmp_path, opset, stated):
    message = refusal(tmp_path, their_onnx.with_batch_norm(classifier(opset=opset), **stated))
    assert message.startswith("its BatchNormalization 'n' is in training mode") and "model.eval()" in message


def test_a_batch_norm_in_training_mode_inside_a_function_is_refused(tmp_path):
    model = in_function()
    norm = helper.make_node("BatchNormalization", ["q", "b", "b", "b", "b"], ["y", "m", "v"], training_mode=1)
    model.functions[0].node[0].output[0] = "q"
    model.functions[0].node.append(norm)
    assert "is in training mode" in refusal(tmp_path, model)


def test_a_trained_batch_norm_is_accepted(tmp_path):
    changes, made, _ = adopt(tmp_path, their_onnx.with_batch_norm(classifier()))
    assert changes == [] and "BatchNormalization" in onnx_graph.node_counts(made)


def test_a_newer_ir_version_is_accepted(tmp_path):
    changes, made, _ = adopt(tmp_path, classifier(ir=13))
    assert changes == [] and made.ir_version == 13


def test_weights_beside_the_file_are_put_into_it(tmp_path):
    onnx.save(classifier(), tmp_path / "their.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    theirs = onnx_adopt.ReadyMade(tmp_path / "their.onnx", TRANSFORM)
    onnx_adopt.adopt(theirs, tmp_path / "ours.onnx")
    assert onnx_files.companions(tmp_path / "ours.onnx") == []
    same_scores(tmp_path)


def test_weights_that_one_file_cannot_hold_stay_beside_it(tmp_path, monkeypatch):
    """As for more than 2 GB."""
    monkeypatch.setattr(onnx_files, "LIMIT_BYTES", 100)
    monkeypatch.setattr(onnx_files, "SMALL_BYTES", 64)
    onnx.save(classifier(), tmp_path / "their.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    theirs = onnx_adopt.ReadyMade(tmp_path / "their.onnx", TRANSFORM)
    onnx_adopt.adopt(theirs, tmp_path / "ours.onnx")
    assert onnx_files.companions(tmp_path / "ours.onnx") == [tmp_path / "ours.onnx.data"]
    same_scores(tmp_path)
    made = onnx_graph.load(tmp_path / "ours.onnx")
    assert onnx_costs.facts(made, tmp_path)["macs"] == onnx_costs.macs(classifier())
    again = onnx_graph.with_uint8_input(made, TRANSFORM.mean, TRANSFORM.std)
    (tmp_path / "elsewhere").mkdir()
    onnx_files.save(again, tmp_path / "elsewhere" / "bytes.onnx", tmp_path)
    np.testing.assert_allclose(onnx_graph.run(tmp_path / "elsewhere" / "bytes.onnx", BYTES), scores(), atol=1e-5)
