"""models.<name>.transform: what it may be, where bins lie, and which commands are told of it."""

import pytest

from smlp.core.cli import UserError
from smlp.data.transform import CROP_MODES, FILTERS
from smlp.models.preprocessing import Spec
from smlp.workflow import plan, schema, settings
from smlp.workflow.outside import Contents

CHECKPOINT = {"model_name": "test_resnet", "checkpoint": "their.pth"}
ONNX = {"model_name": "test_resnet", "onnx": "theirs.onnx"}
WHOLE = {"image_size": 96, "crop": 1, "interpolation": "bilinear", "crop_mode": "center", "mean": 0.5, "std": 0.5}


def complete(models, dataset=None):
    dataset = dataset or {"name": "photos", "root": "/images"}
    config = {"models": models, "dataset": dataset, "targets": [{"backend": "onnxruntime"}]}
    return settings.complete(config, "mine.yaml")


def test_equal_transforms_share_bins_and_different_ones_do_not():
    stated = {
        "plain": "test_resnet",
        "own": "test_resnet",
        "test": "timm-test",
        "spelt out": {"of": "test_resnet", "test": True},
        "larger": {"image_size": 192},
        "two sides": {"image_size": [192, 192]},
        "whole": WHOLE,
        "whole again": {**WHOLE, "of": "resnet18", "mean": [0.5, 0.5, 0.5]},
    }
    models = {name.replace(" ", "_"): {**CHECKPOINT, "transform": value} for name, value in stated.items()}
    del models["own"]["transform"]
    sweep = plan.Sweep(complete(models))
    whole = "96-crop1.0-bilinear-center-mean0.5_0.5_0.5-std0.5_0.5_0.5"
    names = [name for name in ("test_resnet", "test_resnet-test", "test_resnet-192", whole) for _ in range(2)]
    assert [sweep.transform(model) for model in models] == names
    assert sweep.files("preprocess") == sorted({f"results/preprocess/photos/{name}/shard-0" for name in names})
    assert sweep.transforms.flags("test_resnet") == ["--model_name", "test_resnet"]
    assert sweep.transforms.flags("test_resnet-192") == ["--model_name", "test_resnet", "--image_size", "192", "192"]
    assert sweep.transforms.flags_of("test") == ["--model_name", "test_resnet", "--timm_test"]


@pytest.mark.parametrize(
    ("stated", "of_checkpoint", "of_onnx"),
    [
        ("test_resnet", [], []),
        ("test_vit", ["--transform", "test_vit"], ["--transform", "test_vit"]),
        ("timm-test", ["--transform", "test_resnet", "--timm_test"], ["--transform", "test_resnet", "--timm_test"]),
        ({"image_size": 96}, ["--image_size", "96", "96"], ["--transform", "test_resnet", "--image_size", "96", "96"]),
        ({"mean": 0}, [], ["--transform", "test_resnet", "--mean", "0.0", "0.0", "0.0"]),
    ],
    ids=str,
)
def test_a_checkpoint_is_told_the_size_alone_and_an_onnx_file_everything(stated, of_checkpoint, of_onnx):
    sweep = plan.Sweep(complete({"c": {**CHECKPOINT, "transform": stated}, "o": {**ONNX, "transform": stated}}))
    own = plan.Sweep(complete({"c": CHECKPOINT, "o": ONNX}))
    assert sweep.source_flags("c", "checkpoint") == own.source_flags("c", "checkpoint") + of_checkpoint
    assert sweep.export_flags("o", "") == own.export_flags("o", "") + of_onnx
    assert sweep.export_flags("c", "") == own.export_flags("c", "")  # the checkpoint's sidecar tells it


def test_the_demos_checkpoint_is_fitted_to_images_after_the_whole_transform():
    demo = {"name": "digits", "demo": {}}
    model = {"m": {"model_name": "test_resnet", "checkpoint": "demo", "transform": {"mean": 0, "image_size": 96}}}
    told = plan.Sweep(complete(model, demo)).source_flags("m", "checkpoint")
    assert told[-8:] == ["test_resnet", "--image_size", "96", "96", "--mean", "0.0", "0.0", "0.0"]


def test_a_transform_that_timm_states_in_part_changes_with_timm():
    models = {
        "ours": {"model_name": "smlpnet_small", "checkpoint": "x.pth", "transform": {"crop": 1}},
        "theirs": {**CHECKPOINT, "transform": {"image_size": 96}},
        "stated": {**CHECKPOINT, "transform": WHOLE},
    }
    found = complete(models)
    contents = Contents(plan.Sweep(found), found)
    assert [bool(contents.model_transform(model)) for model in models] == [False, True, False]


@pytest.mark.parametrize(
    ("transform", "named"),
    [
        ({"image_sise": 288}, "unknown key 'image_sise'; did you mean 'image_size'?"),
        ({"image_size": 1}, "image_size: 1 is less than the minimum of 8"),
        ({"image_size": [96]}, "image_size: [96] is too short"),
        ({"crop": 1.2}, "crop: 1.2 is greater than the maximum of 1"),
        ({"std": [0.1, 0, 0.1]}, "std.1: 0 is less than or equal to"),
        ({"mean": [0.1, 0.1]}, "mean: [0.1, 0.1] is too short"),
        ({"interpolation": "cubic"}, "interpolation: 'cubic' is not one of"),
        ({"crop": 0.9, "resize": 256}, "crop and resize both say"),
        ("resnet50-288", "'resnet50-288' does not match"),
        (288, "288 is not of type"),
    ],
    ids=str,
)
def test_what_is_no_transform_is_named(transform, named):
    with pytest.raises(UserError) as caught:
        complete({"m": {**CHECKPOINT, "transform": transform}})
    assert str(caught.value).startswith("mine.yaml: models.m.transform") and named in str(caught.value)


def test_the_schema_lists_what_there_is():
    rules = schema.whole()["properties"]["models"]["additionalProperties"]["properties"]["transform"]["properties"]
    assert (rules["interpolation"]["enum"], rules["crop_mode"]["enum"]) == (list(FILTERS), list(CROP_MODES))
    assert rules.keys() == Spec.__dataclass_fields__.keys()
