"""Checkpoints are read without running their code and load completely or not at all."""

import argparse
import os
import pickle
from collections import OrderedDict

import pytest
import torch

from smlp.core.cli import UserError
from smlp.models import architectures, checkpoint

MODEL = "test_resnet"


@pytest.fixture(scope="module")
def weights():
    """A state dict of the small model with 7 classes, every number different from a fresh model's."""
    generator = torch.Generator().manual_seed(1)
    state_dict = architectures.create(MODEL, 7).state_dict()
    return {
        key: torch.rand(value.shape, generator=generator) + 0.1 if value.is_floating_point() else value
        for key, value in state_dict.items()
    }


def saved(tmp_path, content, **options):
    path = tmp_path / "a check point.pth"
    torch.save(content, path, **options)
    return path


def refusal(path, key=None, **arguments):
    """The one line that says why a checkpoint is refused."""
    with pytest.raises(UserError) as error:
        checkpoint.load_model(MODEL, path, key=key, **arguments)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


def loaded(path, key=None):
    """The weights of the model that was made from a checkpoint, and the note that says which were taken."""
    model, facts = checkpoint.load_model(MODEL, path, key=key)
    return model.state_dict(), facts["taken"]


class Hostile:
    """Its pickle makes a folder when it is loaded."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


# what is understood


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda weights: weights, "bare state dict"),
        (lambda weights: OrderedDict(weights), "bare state dict"),
        (lambda weights: {"state_dict": weights, "arch": "x"}, "state_dict"),
        (lambda weights: {"model": weights, "epoch": 3, "args": argparse.Namespace(lr=0.1, name="x")}, "model"),
        (lambda weights: {"model": {"state_dict": weights}}, "model.state_dict"),
        (
            lambda weights: {"model": {"module." + key: value for key, value in weights.items()}},
            "model, prefix module. removed",
        ),
        (
            lambda weights: {"module._orig_mod." + key: value for key, value in weights.items()},
            "bare state dict, prefix module._orig_mod. removed",
        ),
        (lambda weights: {"model": weights, "model_ema": {"x": torch.ones(1)}}, "model; model_ema left aside"),
        (lambda weights: {"model_ema": weights, "optimizer": {"state": {}}}, "model_ema"),
    ],
)
def test_the_weights_are_found(tmp_path, weights, wrap, note):
    found, taken = loaded(saved(tmp_path, wrap(weights)))
    assert taken == note
    assert list(found) == list(weights)
    assert all(torch.equal(found[key], weights[key]) for key in weights)


def test_averaged_weights_are_taken_when_asked_for(tmp_path, weights):
    averaged = {key: value + 1 for key, value in weights.items()}
    path = saved(tmp_path, {"model": weights, "model_ema": averaged})
    found, note = loaded(path, key="model_ema")
    assert note == "model_ema; model left aside"
    assert torch.equal(found["fc.bias"], averaged["fc.bias"])


def test_the_format_before_pytorch_1_6_is_read(tmp_path, weights):
    path = saved(tmp_path, {"model": weights}, _use_new_zipfile_serialization=False)
    assert torch.equal(loaded(path)[0]["fc.bias"], weights["fc.bias"])


def test_safetensors_are_read_whatever_the_suffix(tmp_path, weights):
    from safetensors.torch import save_file

    path = tmp_path / "weights.pth"
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    found, note = loaded(path)
    assert note == "bare state dict"
    assert torch.equal(found["fc.weight"], weights["fc.weight"])


# what is refused


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_hostile_pickle_is_refused_and_runs_nothing(tmp_path, weights, legacy, protocol):
    marker = tmp_path / "marker"
    path = saved(
        tmp_path,
        {"model": weights, "args": Hostile(marker)},
        _use_new_zipfile_serialization=not legacy,
        pickle_protocol=protocol,
    )
    assert ".mkdir'" in refusal(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the file does what it is meant to where nobody stops it
    assert marker.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_hostile_plain_pickle_is_refused_and_runs_nothing(tmp_path, protocol):
    path, marker = tmp_path / "x.pth", tmp_path / "marker"
    path.write_bytes(pickle.dumps(Hostile(marker), protocol))
    assert ".mkdir'" in refusal(path)
    assert not marker.exists()


def test_whole_pickled_model_is_refused_with_how_to_save_it(tmp_path):
    message = refusal(saved(tmp_path, architectures.create(MODEL)))
    assert "whole pickled model" in message
    assert "torch.save(model.state_dict(), path)" in message


@pytest.mark.filterwarnings("ignore:.*jit.script.*:DeprecationWarning")
def test_torchscript_is_refused_with_how_to_save_it(tmp_path):
    path = tmp_path / "x.pth"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    message = refusal(path)
    assert "TorchScript" in message
    assert "torch.save(model.state_dict(), path)" in message


@pytest.mark.parametrize("keep", [1, 100, 0.5, 0.999])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_refused(tmp_path, weights, keep, legacy):
    path = saved(tmp_path, weights, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    assert "damaged or truncated" in refusal(path)


def test_truncated_safetensors_are_refused(tmp_path, weights):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    path.write_bytes(path.read_bytes()[:-7])
    assert "damaged safetensors" in refusal(path)


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><p>Log in", b"version https://git-lfs.github.com/spec/v1", b"\0" * 99]
)
def test_other_files_are_named_by_how_they_begin(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    assert repr(content[:24]) in refusal(path)


def test_a_missing_file_an_empty_one_and_a_folder_are_refused(tmp_path):
    assert "no such checkpoint" in refusal(tmp_path / "none.pth")
    (tmp_path / "empty.pth").touch()
    assert "is empty" in refusal(tmp_path / "empty.pth")
    assert "is no file" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([1, 2], "list"),
        ({}, "nothing"),
        ({"model": {}}, "nothing under model"),
        ({"epoch": 1, "loss": 0.5}, "epoch, loss"),
        ({"model": {"a": torch.ones(2), "b": 3}}, "'b' is a int"),
        ({"a": torch.ones(2), 5: torch.ones(2)}, "5 is a Tensor"),
        ({"a": torch.ones(1).expand(10**6, 10**6)}, "'a' has shape (1000000, 1000000)"),
        ({"a": torch.ones(2, device="meta")}, "'a' has shape (2,)"),
        ({"a": torch.eye(3).to_sparse()}, "'a' has shape (3, 3)"),
    ],
)
def test_a_file_without_weights_is_refused(tmp_path, content, named):
    assert named in refusal(saved(tmp_path, content))


def test_a_container_within_itself_is_refused(tmp_path):
    loop = {}
    loop["model"] = loop
    assert "has no weights, only model" in refusal(saved(tmp_path, loop))


def test_a_missing_key_is_named_with_those_that_exist(tmp_path, weights):
    assert "bare state dict" in refusal(saved(tmp_path, weights), key="model_ema")
    message = refusal(saved(tmp_path, {"model": weights, "state_dict_ema": weights}), key="model_ema")
    assert "'model_ema'; it has model, state_dict_ema" in message


# loading


def test_every_weight_is_loaded(tmp_path, weights):
    model, facts = checkpoint.load_model(MODEL, saved(tmp_path, {"model": weights}))
    assert not model.training
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert facts == {
        "num_classes": 7,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "taken": "model",
    }


def test_a_smlpnet_is_loaded(tmp_path):
    generator = torch.Generator().manual_seed(1)
    fresh = architectures.create("smlpnet_tiny", 3).state_dict()
    for value in fresh.values():
        if value.is_floating_point():
            value.uniform_(0.1, 1, generator=generator)
    model, facts = checkpoint.load_model("smlpnet_tiny", saved(tmp_path, {"model": fresh, "epoch": 1}))
    assert facts["num_classes"] == 3
    # 24,123,584 parameters with 1000 classes, of which each has 640 weights and a bias
    assert facts["parameters"] == 24_123_584 - 997 * 641
    assert all(torch.equal(value, fresh[key]) for key, value in model.state_dict().items())


def test_half_precision_weights_load_into_fp32(tmp_path, weights):
    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    model, _ = checkpoint.load_model(MODEL, saved(tmp_path, half))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.fc.bias, half["fc.bias"].float())


def test_an_unknown_model_is_named(tmp_path, weights):
    with pytest.raises(UserError, match="'smlpnet_tyni' is not known.*smlpnet_tiny"):
        checkpoint.load_model("smlpnet_tyni", saved(tmp_path, weights))


def test_classes_are_counted_in_heads_of_any_name():
    assert checkpoint.head_classes("smlpnet_tiny", {"mlp_head.0.weight": torch.ones(5, 640)}) == 5
    assert checkpoint.head_classes("test_vit", {"head.bias": torch.ones(4)}) == 4
    assert checkpoint.head_classes("deit_tiny_distilled_patch16_224", {"head.weight": torch.ones(9, 192)}) == 9


def test_a_missing_head_is_named(tmp_path, weights):
    headless = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    message = refusal(saved(tmp_path, headless))
    assert "with 1000 classes: keys 2 missing: fc.weight, fc.bias; " in message
    assert "--num_classes" not in message


def test_missing_and_unexpected_keys_are_listed_and_counted(tmp_path, weights):
    wrong = {f"other.{number}": torch.ones(1) for number in range(12)}
    message = refusal(saved(tmp_path, {**{key: value for key, value in weights.items() if key != "fc.bias"}, **wrong}))
    assert "1 missing: fc.bias;" in message
    assert "12 unexpected: other.0, " in message
    assert "other.9, …" in message
    assert "other.10" not in message


def test_weights_of_another_model_are_refused(tmp_path):
    message = refusal(saved(tmp_path, architectures.create("test_vit").state_dict()))
    assert "missing: conv1.0.weight, " in message
    assert "unexpected: cls_token, " in message
    assert "--model_name (in settings: models.<name>.model_name)" in message


def test_other_shapes_name_both(tmp_path, weights):
    message = refusal(saved(tmp_path, weights), num_classes=5)
    assert "2 of another shape: fc.weight (7, " in message
    assert "fc.bias (7,) instead of (5,)" in message
    assert "its head has 7 classes, so leave out --num_classes (in settings: models.<name>.num_classes)" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(tmp_path, weights, value):
    bad = weights["fc.weight"].clone()
    bad[1, :3] = value
    message = refusal(saved(tmp_path, {**weights, "fc.weight": bad}))
    assert "fc.weight has 3 values that are NaN or infinite" in message


def test_values_that_overflow_in_fp32_are_named(tmp_path, weights):
    bad = torch.full_like(weights["fc.bias"], 1e300, dtype=torch.float64)
    assert "fc.bias has 7 values" in refusal(saved(tmp_path, {**weights, "fc.bias": bad}))


def test_integer_weights_are_refused(tmp_path, weights):
    bad = weights["fc.bias"].to(torch.int8)
    message = refusal(saved(tmp_path, {**weights, "fc.bias": bad}))
    assert "fc.bias is torch.int8 where torch.float32 was expected" in message
