"""The normalisation inside an ONNX file: bytes give what normalised floats gave, and what does not fit is refused."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from smlp import backends
from smlp.core import files
from smlp.core.cli import UserError
from smlp.data import pixels
from smlp.models import onnx_graph, preprocessing


@pytest.fixture(scope="module")
def as_bytes(tiny, tmp_path_factory, load_command):
    """The small model's ONNX file with the normalisation in it."""
    path = tmp_path_factory.mktemp("a folder") / "model_uint8.onnx"
    flags = ["--model_name", tiny.model_name, "--source_onnx_path", str(tiny.onnx), "--onnx_path", str(path)]
    assert load_command("normalise").main(flags) == 0
    return path


def run(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def test_the_graph_takes_bytes_and_computes_the_same(tiny, as_bytes):
    facts = preprocessing.resolve(tiny.model_name)
    model = onnx_graph.load(as_bytes)
    onnx.checker.check_model(model, full_check=True)
    image = onnx_graph.inputs(model)[0]
    assert (image.name, onnx_graph.shape(image)) == ("input", (None, *facts.uint8.shape)) and onnx_graph.takes_uint8(
        model
    )
    assert onnx_graph.opset(model) == onnx_graph.opset(onnx_graph.load(tiny.onnx))
    images = np.random.default_rng(0).integers(0, 256, (5, *facts.uint8.shape), np.uint8)
    wanted = run(tiny.onnx, pixels.normalise(images, facts.mean, facts.std))
    np.testing.assert_allclose(run(as_bytes, images), wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))


def test_the_first_steps_are_bit_for_bit_those_of_the_bins(tmp_path):
    nodes = [helper.make_node("Identity", ["input"], ["output"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 16, 16]) for name in ("input", "output")]
    identity = helper.make_model(
        helper.make_graph(nodes, "identity", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 11)],
        ir_version=6,
    )
    facts = preprocessing.SMLPNET
    onnx.save(onnx_graph.with_uint8_input(identity, facts.mean, facts.std), tmp_path / "a.onnx")
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(run(tmp_path / "a.onnx", images), pixels.normalise(images, facts.mean, facts.std))


def test_the_sidecar_says_how_bytes_are_normalised(tiny, as_bytes):
    facts = preprocessing.resolve(tiny.model_name)
    sidecar = json.loads(files.sidecar_path(as_bytes).read_text())
    assert (sidecar["pixels"], sidecar["mean"], sidecar["std"]) == ("uint8", list(facts.mean), list(facts.std))
    assert sidecar["identity"]["files"] == {".onnx": files.digest(as_bytes)}
    assert sidecar["inputs"]["onnx"]["sha256"] == files.digest(tiny.onnx)
    assert max(sidecar["largest_difference"].values()) <= 1e-5


def test_an_engine_states_that_it_takes_bytes(as_bytes, tmp_path, load_command):
    output = tmp_path / "bs2.onnx"
    load_command("compile").compile_engine("onnxruntime", "fp32", 2, as_bytes, output, {})
    _, _, engine = backends.open_engine(output, backend=None, device=None, threads=1)
    with engine:
        assert engine.inputs[0].dtype == np.uint8 and engine.batch == 2
        images = np.random.default_rng(0).integers(0, 256, engine.inputs[0].shape, np.uint8)
        scores, _ = engine.run(images)
    np.testing.assert_allclose(scores[0], run(as_bytes, images), rtol=0, atol=1e-5)


def refusal(load_command, *flags):
    with pytest.raises(UserError) as error:
        load_command("normalise").main(list(map(str, flags)))
    return str(error.value)


def test_bad_inputs_are_refused_and_nothing_is_written(tiny, as_bytes, tmp_path, command, load_command):
    out = tmp_path / "out" / "x.onnx"
    for source, flags, message in (
        (as_bytes, ["--model_name", tiny.model_name], f"{as_bytes}: its input is"),
        (tiny.onnx, ["--model_name", "smlpnet_tiny"], f"{tiny.onnx}: its input is (3, 160, 160), the transform makes"),
        (tmp_path / "none.onnx", ["--model_name", tiny.model_name], f"{tmp_path / 'none.onnx'}: no such file"),
    ):
        found = refusal(load_command, "--source_onnx_path", source, "--onnx_path", out, *flags)
        assert found.startswith(message) and "\n" not in found
    found = refusal(load_command, "--source_onnx_path", tiny.onnx, "--onnx_path", tmp_path / "x.pb")
    assert found.startswith(f"--onnx_path {tmp_path / 'x.pb'}: a name ending in .onnx was expected")
    done = command("normalise", "--source_onnx_path", tmp_path / "none.onnx", "--onnx_path", out)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not out.exists() and not list(tmp_path.rglob("*.onnx"))


def test_a_graph_of_other_channels_is_refused():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4, 4]) for name in ("input", "output")]
    model = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["input"], ["output"])], "g", ends[:1], ends[1:])
    )
    with pytest.raises(UserError, match="'input' is no float32 image of three channels"):
        onnx_graph.with_uint8_input(model, (0.5,) * 3, (0.5,) * 3)
