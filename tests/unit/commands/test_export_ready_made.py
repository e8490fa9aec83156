"""A ready-made ONNX file gets the checks of an export, and is proved against itself; what differs is refused."""

import json

import numpy as np
import onnx
import pytest
import their_onnx
from onnx import TensorProto, helper, numpy_helper

from smlp.core import files
from smlp.core.cli import UserError
from smlp.models import onnx_costs, onnx_graph, preprocessing


@pytest.fixture(scope="module")
def export(load_command):
    return load_command("export")


def flags(source, onnx_path, *more, model_name="test_resnet"):
    return [
        "--model_name", model_name, "--source_onnx_path", str(source), "--onnx_path", str(onnx_path), *map(str, more)
    ]  # fmt: skip


def refusal(export, tmp_path, source, *more, **named):
    """The message that refuses a file; nothing was written."""
    target = tmp_path / "out put" / "model.onnx"
    with pytest.raises(UserError) as error:
        export.main(flags(source, target, *more, **named))
    assert list(target.parent.iterdir()) == []
    return str(error.value)


def theirs(tiny, tmp_path, names=("data", "prob"), batch="N"):
    """The small model as someone else would have exported it."""
    model = onnx.load(tiny.onnx)
    ends = dict(zip(("input", "output"), names))
    for node in model.graph.node:
        node.input[:] = [ends.get(name, name) for name in node.input]
        node.output[:] = [ends.get(name, name) for name in node.output]
    for value, classes in ((model.graph.input[0], None), (model.graph.output[0], 7)):
        value.name = ends[value.name]
        axis = value.type.tensor_type.shape.dim[0]
        if isinstance(batch, int):
            axis.dim_value = batch
        else:
            axis.dim_param = batch
        assert classes is None or onnx_graph.shape(value)[1] == classes
    path = tmp_path / "their model.onnx"
    onnx.save(model, path)
    return path


def test_a_ready_made_file_gets_the_same_checks_and_names(export, tiny, tmp_path):
    source = theirs(tiny, tmp_path)
    target = tmp_path / "out" / "model.onnx"
    assert export.main(flags(source, target)) == 0
    model = onnx.load(target)
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("input", "output")
    images = export.photographs(preprocessing.resolve("test_resnet"))
    np.testing.assert_array_equal(onnx_graph.run(target, images), onnx_graph.run(tiny.onnx, images))
    sidecar = json.loads(target.with_suffix(".json").read_text())
    assert sidecar["inputs"] == {"onnx": {"path": str(source), "sha256": files.digest(source)}}
    assert sidecar["compared_with"] == "itself at batch 1"
    assert (sidecar["num_classes"], sidecar["opset"], sidecar["macs"]) == (7, 11, onnx_costs.macs(onnx.load(tiny.onnx)))
    assert sidecar["identity"]["files"] == {".onnx": files.digest(target)}
    assert onnx.load(source).graph.input[0].name == "data"


@pytest.mark.parametrize("batch", [1, 4])
def test_a_batch_that_is_fixed_only_in_the_signature_is_freed(batch, export, tiny, tmp_path, capsys):
    assert export.main(flags(theirs(tiny, tmp_path, batch=batch), tmp_path / "model.onnx")) == 0
    assert f"batch of {batch} freed" in capsys.readouterr().err
    images = export.photographs(preprocessing.resolve("test_resnet"))
    np.testing.assert_array_equal(onnx_graph.run(tmp_path / "model.onnx", images), onnx_graph.run(tiny.onnx, images))


def test_a_batch_that_the_graph_is_bound_to_is_refused(export, tmp_path):
    model = their_onnx.classifier((1, 3, 160, 160), size=8)
    # as a transformer's token of its class, made for one image
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 4), np.float32), "token"))
    model.graph.node.insert(4, helper.make_node("Concat", ["f", "token"], ["g"], axis=1))
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "W")
    weights.CopyFrom(numpy_helper.from_array(np.ones((5, 8), np.float32), "W"))
    model.graph.node[5].input[0] = "g"
    onnx.save(model, tmp_path / "x.onnx")
    message = refusal(export, tmp_path, tmp_path / "x.onnx")
    assert message.startswith(f"{tmp_path / 'x.onnx'}: ONNX Runtime cannot run it at batch 3")


def test_an_image_size_that_is_fixed_to_another_is_refused(export, tiny, tmp_path):
    message = refusal(export, tmp_path, theirs(tiny, tmp_path), model_name="smlpnet_tiny")
    assert "(None, 3, 160, 160) (None = free) but (None, 3, 224, 224) was expected" in message


def test_images_that_influence_each_other_are_refused(export, mixer_onnx, tmp_path):
    mixer_onnx(tmp_path / "mixer.onnx", batch=None, size=(3, 160, 160))
    message = refusal(export, tmp_path, tmp_path / "mixer.onnx")
    assert message.startswith("the ONNX file differs from itself at batch 1 by ")


def reshaped(batch):
    """A classifier that claims a free batch and reshapes to a fixed one."""
    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
                helper.make_node("Reshape", ["pooled", "shape"], ["output"]),
            ],
            "reshaped",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 160, 160])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])],
            [helper.make_tensor("shape", TensorProto.INT64, [2], [batch, 3])],
        ),
        opset_imports=[helper.make_opsetid("", 11)],
        ir_version=6,
    )


def test_a_batch_that_is_only_claimed_to_be_free_is_refused(export, tmp_path):
    source = tmp_path / "x.onnx"
    onnx.save(reshaped(1), source)
    message = refusal(export, tmp_path, source)
    assert "ONNX Runtime cannot run it at batch 3" in message


def blind(influence):
    """Probabilities over 1,000 classes, all about 0.001; the scores behind them depend on the whole batch or do not."""
    model = their_onnx.classifier(("N", 3, 160, 160), classes=1000, ends=[("Softmax", {"axis": 1})], size=8)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "W")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(0.001), "W"))
    if influence:
        model.graph.node.insert(4, helper.make_node("ReduceMean", ["f"], ["everyone"], axes=[0], keepdims=1))
        model.graph.node.insert(5, helper.make_node("Add", ["f", "everyone"], ["mixed"]))
        model.graph.node[6].input[0] = "mixed"
    return model


def test_the_proof_sees_what_a_softmax_hides(export, tmp_path):
    source, target = tmp_path / "x.onnx", tmp_path / "model.onnx"
    onnx.save(blind(False), source)
    assert export.main(flags(source, target)) == 0
    assert json.loads(target.with_suffix(".json").read_text())["compared_inside"] == "logits"
    images = export.photographs(preprocessing.resolve("test_resnet"))
    onnx.save(blind(True), source)
    run = onnx_graph.runner(str(source), source)
    together = run(images)[0]
    alone = np.concatenate([run(images[i : i + 1])[0] for i in range(3)])
    assert 0 < np.abs(together - alone).max() < 1e-4  # which once passed
    message = refusal(export, tmp_path, source)
    assert message.startswith("the ONNX file differs from itself at batch 1 by ") and "model.eval()" in message


def test_a_softmax_over_the_batch_is_refused(export, tmp_path):
    model = blind(False)
    del model.graph.node[-1].attribute[:]
    model.graph.node[-1].attribute.append(helper.make_attribute("axis", 0))
    onnx.save(model, tmp_path / "x.onnx")
    assert "differs from itself at batch 1" in refusal(export, tmp_path, tmp_path / "x.onnx")


def test_a_named_output_is_taken_and_recorded(export, tmp_path, capsys):
    model = their_onnx.classifier(("N", 3, 160, 160), size=8)
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ("N", 4, 1, 1)))
    onnx.save(model, tmp_path / "x.onnx")
    target = tmp_path / "model.onnx"
    assert export.main(flags(tmp_path / "x.onnx", target, "--output_name", "scores")) == 0
    assert "x.onnx: outputs: scores float (N, 5); p float (N, 4, 1, 1)" in capsys.readouterr().err
    sidecar = json.loads(target.with_suffix(".json").read_text())
    assert sidecar["changes"] == ["output scores taken, not p"]
    assert sidecar["identity"]["flags"]["output_name"] == "scores"
    assert "models.<name>.onnx.output" in refusal(export, tmp_path, tmp_path / "x.onnx")


def test_weights_among_the_inputs_make_no_other_engine(export, command, tmp_path):
    """ONNX Runtime fuses no weight that a caller might replace."""
    counts = []
    for as_inputs in (False, True):
        model = their_onnx.with_batch_norm(their_onnx.classifier(("N", 3, 160, 160), size=8, as_inputs=as_inputs))
        if as_inputs:
            values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "somv"]
            model.graph.input.extend(values)
        onnx.save(model, tmp_path / "x.onnx")
        assert export.main(flags(tmp_path / "x.onnx", tmp_path / "m.onnx")) == 0
        for source in ("m.onnx", "x.onnx"):  # by hand somebody may compile the file as it is
            if source == "x.onnx" and as_inputs is False:
                continue
            engine = tmp_path / f"bs1-{as_inputs}-{source}"
            about = ["--backend", "onnxruntime", "--batch_size", 1, "--onnx_path", tmp_path / source]
            assert command("compile", *about, "--output", engine).returncode == 0
            counts.append(json.loads(engine.with_suffix(".json").read_text())["node_counts"])
    assert counts[0] == counts[1] == counts[2] and "BatchNormalization" not in counts[0]


def test_the_identity_covers_the_weights_beside_the_file(export, tmp_path):
    model = their_onnx.classifier(("N", 3, 160, 160), size=8)
    ids = []
    for factor in (1, 2):
        for tensor in model.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
        (tmp_path / "w.data").unlink(missing_ok=True)
        theirs = onnx.ModelProto()
        theirs.CopyFrom(model)
        onnx.save(theirs, tmp_path / "x.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
        assert export.main(flags(tmp_path / "x.onnx", tmp_path / "m.onnx")) == 0
        ids.append(json.loads((tmp_path / "m.json").read_text())["identity"]["made_from"])
    assert ids[0] != ids[1]


def test_a_ready_made_file_that_is_no_onnx_is_refused(export, tmp_path):
    (tmp_path / "x.onnx").write_text("PK no")
    assert "x.onnx: is not a valid ONNX file" in refusal(export, tmp_path, tmp_path / "x.onnx")
    assert "none.onnx: no such file" in refusal(export, tmp_path, tmp_path / "none.onnx")


def test_the_file_of_torchs_default_exporter_is_accepted(export, tmp_path):
    """Opset 20, weights beside it, one batch, reshapes to that batch."""
    import torch

    from smlp.models import architectures

    torch.manual_seed(0)
    model = architectures.create("test_resnet", 7).eval()
    source, target = tmp_path / "theirs.onnx", tmp_path / "model.onnx"
    images = export.photographs(preprocessing.resolve("test_resnet"))
    torch.onnx.export(model, (torch.from_numpy(images[:1]),), source, verbose=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs.onnx", "theirs.onnx.data"]
    assert export.main(flags(source, target)) == 0
    assert onnx_graph.opset(onnx.load(target)) == onnx_graph.opset(onnx.load(source)) >= 18
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(onnx_graph.run(target, images), expected, atol=1e-4)
