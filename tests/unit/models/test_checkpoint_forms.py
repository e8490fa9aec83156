"""Checkpoints as people have them: under any key, behind any prefix, with what training leaves beside weights."""

import argparse
import collections
import datetime
import decimal
import os
import pathlib
import re
import types

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from smlp.core.cli import UserError
from smlp.models import architectures, checkpoint, unpickling

MODEL = "test_resnet"


def state_dict(name=MODEL, classes=7, seed=1):
    """Weights of which every number differs from a fresh model's."""
    generator = torch.Generator().manual_seed(seed)
    fresh = architectures.create(name, classes).state_dict()
    return {
        key: torch.rand(value.shape, generator=generator) + 0.1 if value.is_floating_point() else value + 5
        for key, value in fresh.items()
    }


@pytest.fixture(scope="module")
def weights():
    return state_dict()


@pytest.fixture
def load(tmp_path):
    """Save a content, load it, check that the model has these weights; the note that says which were taken."""

    def run(content, expected, key=None, name=MODEL, counters=True):
        path = tmp_path / "x.pth"
        torch.save(content, path)
        model, facts = checkpoint.load_model(name, path, key=key)
        found = model.state_dict()
        assert found.keys() == expected.keys()
        for own, value in found.items():
            if counters or not own.endswith("num_batches_tracked"):
                assert torch.equal(value, expected[own]), own
        return facts["taken"]

    return run


@pytest.fixture
def refusal(tmp_path):
    def run(content, name=MODEL, **arguments):
        path = tmp_path / "x.pth"
        torch.save(content, path)
        with pytest.raises(UserError) as error:
            checkpoint.load_model(name, path, **arguments)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
        return str(error.value)

    return run


def prefixed(prefix, weights):
    return {prefix + key: value for key, value in weights.items()}


# keys


@pytest.mark.parametrize("key", ["model_state_dict", "model_state", "net", "module", "ema", "weights", "w.eights"])
def test_weights_under_any_key_are_taken_if_only_they_fit(load, weights, key):
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    content = {"epoch": 3, "loss": 0.3, "optimizer_state_dict": optimizer, key: weights, "other": {"x": torch.ones(2)}}
    assert load(content, weights) == key
    assert load({"a": {"b": {"c": weights}}}, weights) == "a.b.c"


def test_the_usual_key_that_does_not_fit_gives_way(load, weights):
    assert load({"model": {"x": torch.ones(2)}, "net": weights}, weights) == "net; model left aside"


def test_a_key_chooses_among_several(load, refusal, weights):
    other = state_dict(seed=2)
    content = {"net": weights, "ema": other, "again": weights}
    assert "several weights that fit test_resnet: net, ema; name one with --key" in refusal(content)
    assert load(content, other, key="ema") == "ema; net, again left aside"
    assert load({"net": weights, "again": dict(weights)}, weights) == "net; again left aside"
    nested = {"model": {"online": weights, "target": other}}
    assert load(nested, other, key="model.target") == load(nested, other, key="target")
    assert load({"model": weights, "model_ema": other}, other, key="model_ema") == "model_ema; model left aside"
    message = refusal({"model": {"a": weights}, "ema": {"a": other}}, key="a")
    assert "'a' may be model.a or ema.a; name one of them whole" in message


def test_a_key_chooses_a_part_of_a_state_dict(load, refusal, weights):
    other = state_dict(seed=2)
    lightning = {"state_dict": {**prefixed("model.", weights), **prefixed("ema.", other), "loss.weight": torch.ones(2)}}
    message = refusal(lightning)
    assert "the part 'state_dict.model' fits, name it with --key" in message
    assert "the part 'state_dict.ema' fits" in message
    assert load(lightning, other, key="ema") == "state_dict.ema; state_dict left aside"
    assert load(lightning, weights, key="state_dict.model") == "state_dict.model; state_dict left aside"
    assert "no weights under 'teacher'; it has state_dict" in refusal(lightning, key="teacher")


# prefixes, averages, counters, profilers


@pytest.mark.parametrize("prefix", ["model.", "net.", "timm_model.", "model._orig_mod.", "module.backbone.net."])
def test_a_prefix_that_all_weights_share_is_removed(load, weights, prefix):
    content = {"state_dict": prefixed(prefix, weights), "pytorch-lightning_version": "2.5", "hyper_parameters": {}}
    assert load(content, weights) == f"state_dict, prefix {prefix} removed"


@pytest.mark.parametrize("wrapper", ["module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_wrappers_in_any_order_and_other_precisions(load, weights, wrapper, dtype):
    stored = {key: value.to(dtype) if value.is_floating_point() else value for key, value in weights.items()}
    expected = {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}
    assert load({"state_dict": prefixed(wrapper, stored)}, expected) == f"state_dict, prefix {wrapper} removed"


def test_averaged_models_are_taken_with_their_counter(load, weights):
    model = architectures.create(MODEL, 7)
    model.load_state_dict(weights)
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    averaged.update_parameters(model)
    expected = averaged.module.state_dict()
    note = "prefix module. removed, averaged over 2 models"
    assert load(averaged.state_dict(), expected) == f"bare state dict, {note}"
    assert (
        load({"ema": prefixed("net.", averaged.state_dict())}, expected) == f"ema, {note.replace('mod', 'net.mod', 1)}"
    )


def test_counters_may_be_missing_or_floats(load, weights):
    def counters(change):
        return {key: change(value) if key.endswith("num_batches_tracked") else value for key, value in weights.items()}

    count = sum(key.endswith("num_batches_tracked") for key in weights)
    without = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    assert load(without, weights, counters=False) == f"bare state dict, {count} num_batches_tracked were missing"
    note = f"bare state dict, {count} num_batches_tracked were floats"
    assert load(counters(torch.Tensor.float), weights) == note
    assert load(counters(lambda value: torch.tensor(float("inf")).half()), weights, counters=False) == note
    assert load(counters(lambda value: value[None]), weights) == "bare state dict"  # as PyTorch 0.3 had them


def test_what_profilers_leave_is_dropped_and_said(load, weights):
    left = {"total_ops": torch.zeros(1), "fc.total_ops": torch.zeros(1), "fc.total_params": torch.zeros(1)}
    note = load({"state_dict": {**weights, **left}}, weights)
    assert note == "state_dict, 3 total_ops and total_params of a profiler dropped"


# layouts that timm turns into its own


def test_a_published_layout_is_turned_into_timms(load):
    own = state_dict("swin_tiny_patch4_window7_224", 10)
    theirs = {}
    for key, value in own.items():  # the authors merge patches at the end of a layer, timm at the beginning
        key = re.sub(r"layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", key)
        theirs[key.replace("head.fc.", "head.")] = value
    theirs["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    note = load({"model": theirs}, own, name="swin_tiny_patch4_window7_224")
    assert note == "model, layout converted by timm"


def test_timm_computes_no_weights(refusal):
    own = state_dict("test_vit", 10)
    own["pos_embed"] = torch.ones(1, 1 + 14**2, own["pos_embed"].shape[2])
    message = refusal(own, name="test_vit")
    assert "1 of another shape: pos_embed" in message
    assert "timm would compute weights for another image size" in message


def test_weights_that_timm_would_leave_out_are_not(refusal):
    own = state_dict("test_vit", 10)
    message = refusal({**own, "pre_logits.fc.weight": torch.ones(3, 3)}, name="test_vit")
    assert "1 unexpected: pre_logits.fc.weight" in message
    assert "timm would leave out pre_logits.fc.weight" in message


# safetensors, harmless objects


def test_safetensors_of_a_wrapper(tmp_path, weights):
    from safetensors.torch import save_file

    path = tmp_path / "x.bin"
    save_file(prefixed("model.", weights), path)
    model, facts = checkpoint.load_model(MODEL, path)
    assert facts["taken"] == "bare state dict, prefix model. removed"
    assert torch.equal(model.fc.weight, weights["fc.weight"])


HARMLESS = {
    "a NumPy scalar": np.float64(80.1),
    "a NumPy integer": np.int64(3),
    "an array": np.zeros(3),
    "an array of objects": np.array([1, "x", None], dtype=object),
    "a NumPy type": np.float32,
    "the state of NumPy's generator": np.random.default_rng(0),
    "a path": pathlib.Path("/data") / "x",
    "a path of Windows": pathlib.PureWindowsPath("c:/x"),
    "a command line": argparse.Namespace(output=pathlib.Path("out"), lr=[0.1], nested=argparse.Namespace(x=1)),
    "a default dict": collections.defaultdict(list, losses=[1.0]),
    "a deque": collections.deque([1, 2], 3),
    "a counter": collections.Counter("aab"),
    "sets": ({1, 2}, frozenset([3])),
    "a date": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    "a decimal": decimal.Decimal("0.1"),
    "a plain namespace": types.SimpleNamespace(x=1),
    "numbers and bytes": [1j, 2**100, b"x", bytearray(b"y"), None],
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("beside", HARMLESS)
def test_harmless_objects_beside_weights_are_passed_over(tmp_path, beside, legacy):
    path = tmp_path / "x.pth"
    content = {"beside": HARMLESS[beside], "state_dict": {"x": torch.ones(2)}}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert torch.equal(unpickling.read(path)["state_dict"]["x"], torch.ones(2))


def test_a_training_checkpoint_with_all_of_them_loads(load, weights):
    assert load({"state_dict": weights, **HARMLESS}, weights) == "state_dict"


class Sneaky:
    """Its pickle calls a function through names that are allowed for other things."""

    def __init__(self, function, *arguments):
        self.made_by = function, arguments

    def __reduce__(self):
        return self.made_by


@pytest.mark.parametrize("function", [os.mkdir, eval, getattr, exec, np.load, torch.load, pathlib.Path.touch])
def test_what_would_run_code_beside_them_is_refused(tmp_path, function):
    path, marker = tmp_path / "x.pth", tmp_path / "marker"
    argument = marker if function in (os.mkdir, pathlib.Path.touch) else f"open({str(marker)!r}, 'w')"
    torch.save({"beside": Sneaky(function, argument), "state_dict": {"x": torch.ones(2)}}, path)
    with pytest.raises(UserError, match="refused, it would run or build|cannot be read without running it"):
        unpickling.read(path)
    assert not marker.exists()


def test_a_stand_in_builds_nothing(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"beside": Sneaky(pathlib.PosixPath, "a"), "huge": Sneaky(np.dtype, "V1000000000000")}, path)
    found = unpickling.read(path)
    assert {type(value).__module__ for value in found.values()} == {unpickling.__name__}


# if nothing fits


def test_the_closest_architecture_of_the_family_is_named(refusal):
    message = refusal({"model": state_dict("resnet18", 10)}, name="resnet34")
    assert "80 missing: layer1.2.conv1.weight" in message
    assert "resnet18 fits it, set --model_name (in settings: models.<name>.model_name)" in message
    assert "--num_classes" not in message


def test_weights_for_another_image_size_are_refused_with_the_name_to_set(refusal):
    message = refusal(state_dict("vit_tiny_patch16_384", 10), name="vit_tiny_patch16_224")
    assert "1 of another shape: pos_embed (1, 577, 192) instead of (1, 197, 192)" in message
    assert "vit_tiny_patch16_384 fits it" in message


def test_a_smlpnet_of_another_size_is_named(refusal):
    message = refusal(state_dict("smlpnet_small", 3), name="smlpnet_tiny")
    assert "smlpnet_small fits it" in message
