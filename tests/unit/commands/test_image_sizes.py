"""A model at another image size than its own: checkpoint, reference, ONNX file and bins follow its transform."""

import json

import numpy as np
import onnx
import pytest
import torch

from smlp.backends import pytorch
from smlp.core import files
from smlp.core.cli import UserError
from smlp.models import architectures, onnx_graph


@pytest.fixture(scope="module")
def retrieve(load_command):
    return load_command("retrieve")


@pytest.fixture(scope="module")
def export(load_command):
    return load_command("export")


@pytest.fixture
def fetched(retrieve, tmp_path):
    """fetched(model_name, *flags, size=None): a checkpoint of random weights, made at this size, as retrieve.py fetches
    it.
    """

    def fetch(model_name, *flags, size=None):
        source, output = tmp_path / "theirs.pth", tmp_path / "checkpoint.pth"
        torch.manual_seed(0)
        with architectures.sized(size):
            torch.save(architectures.create(model_name, 5).state_dict(), source)
        about = ["--model_name", model_name, "--source", str(source), "--output", str(output)]
        assert retrieve.main(["checkpoint", *about, *map(str, flags)]) == 0
        return output

    return fetch


@pytest.mark.parametrize(
    ("model_name", "flags", "made_at"),
    [
        ("test_resnet", ["--image_size", 96], None),  # its weights fit every size
        ("test_vit", ["--image_size", 96], (96, 96)),  # whose weights do not
        ("test_resnet", ["--transform", "test_vit", "--image_size", 64, 96], None),
        ("test_vit", ["--image_size", 64, 96], (64, 96)),
    ],
    ids=str,
)
def test_reference_and_onnx_file_take_images_of_the_size_that_was_asked_for(
    model_name, flags, made_at, fetched, export, tmp_path
):
    checkpoint = fetched(model_name, *flags, size=made_at)
    sides = [number for number in flags[1:] if isinstance(number, int)]
    height, width = sides if len(sides) == 2 else sides * 2
    facts = json.loads(files.sidecar_path(checkpoint).read_text())
    assert facts["image_size"] == facts["identity"]["flags"]["image_size"] == [height, width]

    target = tmp_path / "graph.onnx"
    assert export.main(["--model_name", model_name, "--pth_path", str(checkpoint), "--onnx_path", str(target)]) == 0
    assert onnx_graph.shape(onnx_graph.inputs(onnx.load(target))[0]) == (None, 3, height, width)
    images = np.random.default_rng(0).normal(size=(2, 3, height, width)).astype(np.float32)
    with pytorch.open_engine(checkpoint, device="cpu", threads=1, facts=facts) as engine:
        assert engine.inputs[0].shape == (None, 3, height, width)
        (logits,), _ = engine.run(images)
    np.testing.assert_allclose(onnx_graph.run(target, images), logits, atol=1e-4)


def test_the_models_own_size_is_not_worth_a_word(fetched):
    facts = json.loads(files.sidecar_path(fetched("test_resnet", "--transform", "test_vit")).read_text())
    assert "image_size" not in facts and "image_size" not in facts["identity"]["flags"]


def test_weights_of_another_size_are_refused_where_they_depend_on_it(fetched):
    with pytest.raises(UserError, match="pos_embed"):
        fetched("test_vit", "--image_size", 96)


@pytest.mark.parametrize(
    ("model_name", "size", "own"), [("smlpnet_tiny", 100, 224), ("crossvit_9_240", 288, 240)]
)  # one at making, one at running it
def test_a_size_that_a_model_cannot_take_is_named(fetched, model_name, size, own):
    with pytest.raises(UserError) as caught:
        fetched(model_name, "--image_size", size)
    assert f"model '{model_name}' takes images of {own}x{own} px, not of {size}x{size} (" in str(caught.value)
    assert "choose another image_size" in str(caught.value)


def test_an_export_by_hand_takes_the_size_from_its_flags(tiny, export, tmp_path):
    target = tmp_path / "graph.onnx"
    flags = ["--model_name", tiny.model_name, "--pth_path", str(tiny.pth), "--onnx_path", str(target)]
    assert export.main([*flags, "--image_size", "64"]) == 0
    assert onnx_graph.shape(onnx_graph.inputs(onnx.load(target))[0]) == (None, 3, 64, 64)
    assert json.loads(target.with_suffix(".json").read_text())["identity"]["flags"]["image_size"] == [64, 64]
    adopted = tmp_path / "adopted.onnx"
    flags = ["--model_name", "theirs", "--source_onnx_path", str(target), "--onnx_path", str(adopted)]
    whole = ["--image_size", "64", "--crop", "1", "--interpolation", "bilinear", "--crop_mode", "center"]
    assert export.main([*flags, *whole, "--mean", "0.5", "--std", "0.5"]) == 0  # of a model that timm does not know
