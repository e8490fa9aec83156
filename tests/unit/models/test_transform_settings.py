"""A transform as settings and flags say it: its name in paths, its flags, and the preprocessing that it stands for."""

import argparse

import pytest
from pictures import assert_same, encoded, noise

from smlp.core import cli
from smlp.models import preprocessing
from smlp.models.preprocessing import SMLPNET, Spec

WHOLE = {
    "image_size": 288,
    "resize": 320,
    "interpolation": "bilinear",
    "crop_mode": "center",
    "mean": 0.5,
    "std": [0.2, 0.3, 0.4],
}


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("resnet50", "resnet50"),
        ("timm-test", "test_vit-test"),
        ({"test": True}, "test_vit-test"),
        ({"image_size": 288}, "test_vit-288"),
        ({"of": "resnet50", "image_size": [288, 320], "crop": 1}, "resnet50-288x320-crop1.0"),
        ({"crop": 0.9500001, "interpolation": "bilinear"}, "test_vit-crop0.9500001-bilinear"),
        ({"mean": [0.5, 0.4, 0.3], "std": 1}, "test_vit-mean0.5_0.4_0.3-std1.0_1.0_1.0"),
        ({"crop_mode": "squash", "resize": 256}, "test_vit-resize256-squash"),
        (WHOLE, "288-resize320-bilinear-center-mean0.5_0.5_0.5-std0.2_0.3_0.4"),
        ({"of": "smlpnet_base"}, "smlpnet_tiny"),
        ({"of": "smlpnet_small", "test": True, "image_size": 224, "crop": 0.875, "mean": SMLPNET.mean}, "smlpnet_tiny"),
        ({"of": "smlpnet_small", "interpolation": "bilinear"}, "smlpnet_tiny-bilinear"),
    ],
    ids=str,
)
def test_a_transform_has_a_readable_name_and_the_same_one_has_the_same(stated, name):
    spec = Spec.read(stated, "test_vit")
    assert spec.name == name
    parser = argparse.ArgumentParser()
    preprocessing.add_flags(parser, names_transform=True)
    assert preprocessing.take_flags(parser.parse_args(spec.flags("--transform")), "test_vit") == spec
    assert spec.needs_timm == (not name.startswith(("smlpnet", "288-")))


def test_different_transforms_have_different_names():
    keys = {
        "test": True,
        "image_size": 288,
        "crop": 0.9,
        "interpolation": "bilinear",
        "crop_mode": "squash",
        "mean": 0.5,
        "std": 0.5,
    }
    chosen = [[key for place, key in enumerate(keys) if 1 << place & bits] for bits in range(1 << len(keys))]
    specs = [Spec.read({key: keys[key] for key in some}, "resnet50") for some in chosen]
    assert len({spec.name for spec in specs}) == len(set(specs))


@pytest.mark.parametrize(
    ("model", "stated", "asked"),
    [
        ("resnet50", "timm-test", {"use_test_size": True}),
        ("vit_large_patch14_clip_336", "timm-test", {"use_test_size": True}),  # states none
        ("resnet50", {"image_size": 160}, {"args": {"img_size": 160}}),
        ("resnet50", {"test": True, "crop": 0.9}, {"args": {"crop_pct": 0.9}, "use_test_size": True}),
        ("resnet18", {"image_size": [96, 128], "crop": 1}, {"args": {"input_size": (3, 96, 128), "crop_pct": 1.0}}),
        (
            "resnet18",
            {"interpolation": "bicubic", "crop_mode": "border", "mean": 0.5, "std": 0.25},
            {"args": {"interpolation": "bicubic", "crop_mode": "border", "mean": [0.5], "std": [0.25]}},
        ),
        (
            "smlpnet_tiny",
            {"crop": 1.0, "interpolation": "bilinear"},
            {"args": {"crop_pct": 1.0, "interpolation": "bilinear"}},
        ),
    ],
    ids=str,
)
def test_a_changed_transform_gives_timms_bits(model, stated, asked, pil_loader, tmp_path):
    import timm
    from timm.data import create_transform, resolve_data_config

    cfg = timm.get_pretrained_cfg(model).to_dict()
    theirs = create_transform(**resolve_data_config(pretrained_cfg=cfg, **asked), is_training=False)
    assert_same(encoded(noise(333, 250)), Spec.read(stated, model).resolve(), pil_loader, theirs, tmp_path)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("resnet50", "timm scores resnet50 with resize 288 bicubic, center 288x288, mean 0.485 0.456 0.406, std "),
        ("timm-test", ""),
        ({"image_size": 224}, ""),  # somebody's own choice
        ("resnet18.tv_in1k", ""),  # whose test size timm does not tell from its own
        ("smlpnet_tiny", ""),
    ],
    ids=str,
)
def test_a_model_that_timm_scores_with_another_transform_is_pointed_out(stated, said):
    hint = Spec.read(stated, "resnet50").hint()
    assert hint.startswith(said) and bool(hint) == bool(said)
    assert not said or hint.endswith("; timm-test takes that")


def test_a_transform_that_is_stated_whole_gives_torchvisions_bits(pil_loader, tmp_path):
    """As torchvision's own weights state theirs: resize 320, crop 288; no share of the crop says that exactly."""
    from torchvision import transforms

    theirs = transforms.Compose(
        [
            transforms.Resize(320, interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.CenterCrop(288),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.2, 0.3, 0.4)),
        ]
    )
    ours = Spec.read(WHOLE, "a model that timm does not know").resolve()
    assert_same(encoded(noise(500, 375)), ours, pil_loader, theirs, tmp_path)
    assert str(ours) == "resize 320 bilinear, center 288x288, mean 0.5 0.5 0.5, std 0.2 0.3 0.4"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--image_size", "1", "2", "3"], "--image_size 1 2 3: one number or 2 numbers were expected, above 0"),
        (["--image_size", "0"], "--image_size 0"),
        (["--std", "0.1", "0", "0.1"], "--std 0.1 0.0 0.1"),
        (["--mean", "nan"], "--mean nan"),
        (["--mean", "1", "2"], "--mean 1.0 2.0: one number or 3 numbers were expected"),
        (["--crop", "1.5"], "--crop 1.5"),
        (["--resize", "-1"], "--resize -1"),
    ],
    ids=str,
)
def test_flags_that_make_no_transform_are_named(flags, named):
    parser = argparse.ArgumentParser()
    preprocessing.add_flags(parser)
    with pytest.raises(cli.UserError) as caught:
        preprocessing.take_flags(parser.parse_args(flags), "resnet50")
    assert str(caught.value).startswith(named)


def test_crop_and_resize_contradict_each_other():
    with pytest.raises(cli.UserError, match="give one of them"):
        Spec.read({"crop": 0.9, "resize": 256}, "resnet50")
