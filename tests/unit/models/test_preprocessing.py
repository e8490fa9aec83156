"""preprocessing.py against timm itself, bit for bit: its own settings of every model."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import KINDS, assert_same, encoded, noise

from smlp.core import cli
from smlp.models import preprocessing

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@pytest.mark.parametrize(
    "model_name",
    [
        "smlpnet_tiny",
        "smlpnet_small.ms_in1k",
        "resnet18",
        "gmlp_s16_224",
        "crossvit_9_240",  # 240 / 0.875 is no whole number
        "fbnetv3_b",  # bilinear, 0.95
        "vit_large_patch14_clip_336",  # squash
        "vit_base_patch16_sapiens2",  # squash, bilinear, not square
    ],
)
def test_other_models_are_preprocessed_as_timm_does(model_name, pil_loader, tmp_path):
    import timm
    from timm.data import create_transform, resolve_data_config

    cfg = timm.get_pretrained_cfg(model_name).to_dict()
    theirs = create_transform(**resolve_data_config(pretrained_cfg=cfg), is_training=False)
    ours = preprocessing.resolve(model_name)
    for kind in ("RGB JPEG", "progressive JPEG", "grey PNG"):
        assert_same(KINDS[kind](), ours, pil_loader, theirs, tmp_path)


def data_config(**changes):
    return {
        "input_size": (3, 96, 96),
        "interpolation": "bicubic",
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
        "crop_pct": 0.9,
        "crop_mode": "center",
        **changes,
    }


@pytest.mark.parametrize(
    "config",
    [
        data_config(crop_mode="squash", input_size=(3, 64, 97)),
        data_config(crop_mode="border"),
        data_config(crop_mode="border", input_size=(3, 64, 97), crop_pct=1.0),
        data_config(input_size=(3, 96, 64)),
        data_config(input_size=(3, 64, 97), crop_pct=0.875),
        data_config(crop_pct=1.0),
        data_config(interpolation="lanczos"),
        data_config(interpolation="nearest"),
        data_config(interpolation="box"),
        data_config(interpolation="hamming"),
    ],
    ids=str,
)
def test_every_supported_setting_agrees_with_timm(config, pil_loader, tmp_path):
    from timm.data import create_transform

    ours = preprocessing._from_data_config("some model", config)
    theirs = create_transform(**config, is_training=False)
    for size in ((211, 150), (150, 211), (97, 96), (40, 300), (1, 1)):
        assert_same(encoded(noise(*size)), ours, pil_loader, theirs, tmp_path)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (data_config(crop_mode="naflex"), "naflex"),
        (data_config(input_size=(1, 96, 96)), "1 input channels"),
        (data_config(interpolation="random"), "random"),
    ],
    ids=["crop mode", "one channel", "random"],
)
def test_settings_that_are_not_supported_are_refused(config, named):
    with pytest.raises(cli.UserError, match=named) as caught:
        preprocessing._from_data_config("odd_model", config)
    assert "odd_model" in str(caught.value)


@pytest.mark.parametrize("model_name", ["smlpnet_tiyn", "resnet18.no_such_tag", "../x", ""])
def test_a_model_without_usable_preprocessing_is_named(model_name):
    with pytest.raises(cli.UserError) as caught:
        preprocessing.resolve(model_name)
    assert model_name in str(caught.value)


def test_our_models_state_the_same_settings_in_timm():
    import timm
    from timm.data import resolve_data_config

    importlib.import_module("smlp.models.architectures")
    for model_name in ("smlpnet_tiny", "smlpnet_small", "smlpnet_base"):
        config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(model_name).to_dict())
        assert (
            preprocessing.resolve(model_name)
            == preprocessing._from_data_config(model_name, config)
            == preprocessing.SMLPNET
        )


def test_our_models_need_no_torch():
    code = (
        "import sys; from smlp.models import preprocessing; preprocessing.resolve('smlpnet_base'); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchvision', 'timm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS).returncode == 0
