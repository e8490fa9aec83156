"""Checkpoints in the settings: sources that are no files, the key of the weights, what timm's tags decide."""

import pytest

from smlp.core.cli import UserError
from smlp.workflow import outside, settings
from smlp.workflow.plan import Sweep


def complete(checkpoint, **model):
    config = {
        "models": {"mine": {"checkpoint": checkpoint, **model}},
        "dataset": {"name": "photos", "root": "images"},
        "targets": [{"backend": "onnxruntime"}],
    }
    return settings.complete(config, "sweep.yaml")


def test_sources_of_servers_are_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in ("hf-hub:me/net@v1", "timm:resnet50.a1_in1k"):
        assert Sweep(complete(source)).source_file("mine", "checkpoint") == []
    with pytest.raises(UserError, match="models.mine.checkpoint: timmy: no such file"):
        Sweep(complete("timmy")).source_file("mine", "checkpoint")


def test_an_onnx_file_may_be_of_the_hub():
    config = {
        "models": {"mine": {"onnx": "hf-hub:me/net/model.onnx@v1"}},
        "dataset": {"name": "photos", "root": "images"},
        "targets": [{"backend": "onnxruntime"}],
    }
    sweep = Sweep(settings.complete(config, "sweep.yaml"))
    assert sweep.source_file("mine", "onnx") == []
    assert sweep.source_flags("mine", "onnx") == ["--source", "hf-hub:me/net/model.onnx@v1"]
    config["models"]["mine"] = {"onnx": "hf-hub:net"}
    with pytest.raises(UserError, match="models.mine.onnx: hf-hub:net: is no address in the hub; write hf-hub:"):
        settings.complete(config, "sweep.yaml")


def test_what_is_no_address_is_said_in_the_plan():
    for source in ("hf-hub:resnet50", "hf-hub:me/net/../x"):
        with pytest.raises(
            UserError, match=f"models.mine.checkpoint: {source}: is no address in the hub; write hf-hub:"
        ):
            complete(source)


def test_the_key_reaches_retrieving_and_the_export():
    sweep = Sweep(complete({"source": "https://host/x.pth", "key": "model_ema"}, model_name="test_resnet"))
    for flags in (sweep.source_flags("mine", "checkpoint"), sweep.export_flags("mine", "")):
        assert flags[flags.index("--key") + 1] == "model_ema"
    without = Sweep(complete("https://host/x.pth", model_name="test_resnet"))
    assert "--key" not in without.source_flags("mine", "checkpoint") + without.export_flags("mine", "")


@pytest.mark.parametrize(
    "source", ["timm:resnet50.a1_in1k", "timm:resnet50.a1_in1k@v1", "hf-hub:timm/resnet50.a1_in1k"]
)
def test_a_published_tag_names_the_model_and_its_preprocessing(source):
    model = complete(source)["models"]["mine"]
    assert (model["model_name"], model["transform"]) == ("resnet50.a1_in1k", "resnet50.a1_in1k")
    model = complete(source, model_name="resnet50", transform="resnet18")["models"]["mine"]
    assert (model["model_name"], model["transform"]) == ("resnet50.a1_in1k", "resnet18")
    model = complete(source, model_name="resnet50.a2_in1k")["models"]["mine"]
    assert (model["model_name"], model["transform"]) == ("resnet50.a2_in1k", "resnet50.a2_in1k")
    with pytest.raises(
        UserError, match="the weights of resnet50.a1_in1k, and model_name is resnet18; leave model_name"
    ):
        complete(source, model_name="resnet18")


def test_other_names_are_the_users():
    model = complete("hf-hub:me/resnet50.a1_in1k")["models"]["mine"]
    assert (model["model_name"], model["transform"]) == ("mine", "mine")
    model = complete("timm:smlpnet_tiny.ascend_in1k")["models"]["mine"]
    assert (model["model_name"], model["transform"]) == ("smlpnet_tiny", "smlpnet_tiny")


def test_a_demo_checkpoint_has_no_key():
    config = {
        "models": {"mine": {"checkpoint": {"source": "demo", "key": "model"}}},
        "dataset": {"name": "digits", "demo": {}},
        "targets": [{"backend": "onnxruntime"}],
    }
    with pytest.raises(UserError, match=r"models.mine.checkpoint.key: a demo checkpoint holds one model's weights"):
        settings.complete(config, "sweep.yaml")


def test_another_timm_asks_again_where_its_weights_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    asked = {}
    for source in ("timm:resnet50.a1_in1k", "hf-hub:timm/resnet50.a1_in1k"):
        config = complete(source)
        asked[source] = outside.Contents(Sweep(config), config).demo_transform("mine")
    assert asked["timm:resnet50.a1_in1k"]
    assert asked["hf-hub:timm/resnet50.a1_in1k"] == []
