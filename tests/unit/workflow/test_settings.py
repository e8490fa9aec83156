"""The settings of a sweep: completed with defaults, and wrong ones refused with the key, the reason and the remedy."""

import copy
from pathlib import Path

import pytest
import yaml

from smlp import backends
from smlp.core.cli import UserError
from smlp.workflow import settings

ROOT = Path(__file__).parents[3]
NAN, INFINITY = float("nan"), float("inf")
SHIPPED = [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]
FILE = "my sweep.yaml"


def small():
    return {
        "models": {"mine": {"checkpoint": "a b.pth", "model_name": "test_resnet"}},
        "dataset": {"name": "data", "root": "/some where"},
        "targets": [{"backend": "onnxruntime"}],
    }


def changed(path, value):
    """The small configuration with the entry at a dotted path replaced."""
    config = small()
    *parents, last = path.split(".") if isinstance(path, str) else path
    inner = config
    for key in parents:
        inner = inner[int(key) if isinstance(inner, list) else key]
    inner[last] = value
    return config


def refusal(config):
    """The one line that refuses a configuration."""
    before = copy.deepcopy(config)
    with pytest.raises(UserError) as error:
        settings.complete(config, FILE)
    message = str(error.value)
    assert message.startswith(f"{FILE}: ")
    assert "\n" not in message
    assert config == before or str(config) == str(before)  # NaN is not equal to itself
    return message.removeprefix(f"{FILE}: ")


def test_defaults_are_filled_in():
    config = small()
    complete = settings.complete(config, FILE)
    assert config == small()
    assert complete == {
        "models": {
            "mine": {
                "model_name": "test_resnet",
                "checkpoint": {"source": "a b.pth"},
                "transform": "test_resnet",
            }
        },
        "dataset": {
            "name": "data",
            "root": "/some where",
            "split": "val",
            "shards": 1,
            "on_bad_image": "stop",
            "layout": "files",
            "pixels": "float32",
        },
        "targets": [{"backend": "onnxruntime", "precision": "fp32"}],
        "batch_sizes": [1, 4, 8, 16, 32, 64],
        "export": {"opset_version": 11, "exporter": "torchscript", "tolerance": 0.0001},
        "accuracy": {"margin_points": 1.0, "familywise": "none", "reference_batch_size": 8},
        "decision": {"latency_percentile": 99},
        "ceilings": {"measure": True, "time_s": 2},
        "confirm": {"best": True, "loads": 3, "finalists": 3},
        "profile": {"best": True, "rows": [], "min_time_s": 5},
        "measure": {
            "loads": 3,
            "retry_max_s": 120,
            "min_time_s": 10,
            "min_runs": 100,
            "warmup_window_s": 1,
            "warmup_max_s": 60,
            "sustained_s": 0,
            "sustained_batch_sizes": [],
        },
        "backends": {
            "ascend": {
                "devices": [0],
                "op_precision_ini": "resources/op_precision.ini",
                "atc_options": {},
                "allow_busy_device": False,
            }
        },
        "calibration": {"split": "train", "images": 128, "seed": 0},
        "infer": {},
        "history": "results/history",
    }


def test_complete_settings_stay_as_they_are():
    complete = settings.complete(small(), FILE)
    assert settings.complete(complete, FILE) == complete


def test_given_values_win_over_defaults():
    config = {**small(), "batch_sizes": [2], "export": {"opset_version": 13}, "measure": {"min_runs": 3}}
    complete = settings.complete(config, FILE)
    assert complete["batch_sizes"] == [2]
    assert complete["export"] == {"opset_version": 13, "exporter": "torchscript", "tolerance": 0.0001}
    assert complete["measure"]["min_runs"] == 3
    assert complete["measure"]["min_time_s"] == 10


def test_a_default_is_not_shared():
    settings.complete(small(), FILE)["batch_sizes"].append(128)
    assert 128 not in settings.complete(small(), FILE)["batch_sizes"]


def test_a_model_is_called_after_its_key_and_all_smlpnets_share_a_transform():
    config = small()
    config["models"] = {
        "smlpnet_base": {"checkpoint": "b.pth"},
        "tuned": {"checkpoint": "t.pth", "model_name": "smlpnet_tiny"},
        "other": {"checkpoint": "o.pth", "model_name": "test_vit", "transform": "test_resnet"},
    }
    models = settings.complete(config, FILE)["models"]
    assert [model["model_name"] for model in models.values()] == ["smlpnet_base", "smlpnet_tiny", "test_vit"]
    assert [model["transform"] for model in models.values()] == ["smlpnet_tiny", "smlpnet_tiny", "test_resnet"]


def test_a_source_with_a_checksum():
    md5 = "061415304f38317c3850a587ef709d45"
    complete = settings.complete(changed("models.mine.checkpoint", {"source": "x.pth", "md5": md5}), FILE)
    assert complete["models"]["mine"]["checkpoint"] == {"source": "x.pth", "md5": md5}


def test_an_onnx_start():
    complete = settings.complete(changed("models.mine", {"onnx": "theirs.onnx"}), FILE)
    assert complete["models"]["mine"]["onnx"] == {"source": "theirs.onnx"}


@pytest.mark.parametrize("backend", backends.names())
def test_the_precision_is_the_backends_first_unless_given(backend):
    complete = settings.complete(changed("targets", [{"backend": backend}]), FILE)
    assert complete["targets"] == [{"backend": backend, "precision": backends.load(backend).precisions[0]}]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_settings_are_valid(path):
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    complete = settings.complete(config, path.name)
    assert complete["models"] and complete["targets"]


def test_there_are_ready_made_settings():
    assert len(SHIPPED) > 1


@pytest.mark.parametrize(
    ("path", "value", "unknown", "near"),
    [
        ("modles", {}, "top level: unknown key 'modles'", "'models'"),
        ("models.mine.chekpoint", "x", "models.mine: unknown key 'chekpoint'", "'checkpoint'"),
        ("models.mine.checkpoint", {"sorce": "x"}, "models.mine.checkpoint: unknown key 'sorce'", "'source'"),
        ("dataset.shard", 2, "dataset: unknown key 'shard'", "'shards'"),
        ("dataset.demo", {"trainimages": 50}, "dataset.demo: unknown key 'trainimages'", "'train_images'"),
        ("targets.0.precison", "fp32", "targets.0: unknown key 'precison'", "'precision'"),
        ("export", {"opset": 11}, "export: unknown key 'opset'", "'opset_version'"),
        ("accuracy", {"margin": 1}, "accuracy: unknown key 'margin'", "'margin_points'"),
        ("decision", {"latency_max": 1}, "decision: unknown key 'latency_max'", "'latency_ms_max'"),
        ("measure", {"min_run": 1}, "measure: unknown key 'min_run'", "'min_runs'"),
        (
            "backends",
            {"tensorrt": {"workspace": 1}},
            "backends.tensorrt: unknown key 'workspace'",
            "'workspace_mib'",
        ),
        ("backends", {"openvino": {"device": "cpu"}}, "backends.openvino: unknown key 'device'", "'env'"),
        ("backends", {"openvino": {"setenv": "x"}}, "backends.openvino: unknown key 'setenv'", "'set_env'"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(path, value, unknown, near):
    message = refusal(changed(path, value))
    assert message.startswith(unknown)
    assert f"did you mean {near}?" in message


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("models", None, "models: None is not of type 'object'"),
        ("models", ["mine"], "models: ['mine'] is not of type 'object'"),
        ("models", {}, "models: {} should be non-empty"),
        ("models.mine", None, "models.mine: None is not of type 'object'"),
        ("models.a b", {"checkpoint": "x"}, "models: the name 'a b'"),
        (("models", "../x"), {"checkpoint": "x"}, "models: the name '../x'"),
        (("models", 1), {"checkpoint": "x"}, "models: the name 1"),
        (("models", True), {"checkpoint": "x"}, "models: the name True"),
        ("models.mine.checkpoint", 5, "models.mine.checkpoint: 5 is neither a path or URL nor"),
        ("models.mine.checkpoint", "", "models.mine.checkpoint: '' is neither a path or URL nor"),
        ("models.mine.checkpoint", {"source": "x", "md5": "12"}, "models.mine.checkpoint.md5: '12'"),
        ("models.mine.checkpoint", {"md5": "0" * 32}, "models.mine.checkpoint: key 'source' is missing"),
        ("models.mine.model_name", "a/b", "models.mine.model_name: 'a/b'"),
        ("models.mine.transform", "../x", "models.mine.transform: '../x'"),
        ("models.mine.num_classes", 0, "models.mine.num_classes: 0 is less than the minimum of 1"),
        ("models.mine.num_classes", "10", "models.mine.num_classes: '10' is not of type 'integer'"),
        ("dataset.name", "a/b", "dataset.name: 'a/b'"),
        ("dataset.root", 5, "dataset.root: 5 is not of type 'string'"),
        ("dataset.shards", 0, "dataset.shards: 0 is less than the minimum of 1"),
        ("dataset.shards", 2.0, "dataset.shards: 2.0 is not of type 'integer'"),
        ("dataset.shards", True, "dataset.shards: True is not of type 'integer'"),
        ("dataset.layout", "npy", "dataset.layout: 'npy' is not one of ['files', 'packed']"),
        ("dataset.pixels", "int8", "dataset.pixels: 'int8' is not one of ['float32', 'uint8']"),
        ("dataset.on_bad_image", "ignore", "dataset.on_bad_image: 'ignore' is not one of ['stop', 'skip']"),
        ("dataset.order", "text", "dataset.order: 'text' is not one of ['torchvision', 'timm']"),
        ("dataset.background_class", 1000, "dataset.background_class: 1000 is not one of [0]"),
        ("dataset.background_class", False, "dataset.background_class: False is not one of [0]"),
        ("dataset.classes", "", "dataset.classes: '' should be non-empty"),
        ("targets", [], "targets: [] should be non-empty"),
        ("targets", ["pytorch"], "targets.0: 'pytorch' is not of type 'object'"),
        ("targets", [{"precision": "fp32"}], "targets.0: key 'backend' is missing"),
        (("decision",), {"latency_ms_max": 0}, "decision.latency_ms_max: 0 is less than or equal to the minimum of 0"),
        ("batch_sizes", 8, "batch_sizes: 8 is not of type 'array'"),
        ("batch_sizes", [], "batch_sizes: [] should be non-empty"),
        ("batch_sizes", [0], "batch_sizes.0: 0 is less than the minimum of 1"),
        ("batch_sizes", [1, -4], "batch_sizes.1: -4 is less than the minimum of 1"),
        ("batch_sizes", [8.0], "batch_sizes.0: 8.0 is not of type 'integer'"),
        ("batch_sizes", ["8"], "batch_sizes.0: '8' is not of type 'integer'"),
        ("batch_sizes", [5000], "batch_sizes.0: 5000 is greater than the maximum of 4096"),
        ("export", {"opset_version": 8}, "export.opset_version: 8 is less than the minimum of 9"),
        ("export", {"opset_version": 19}, "export.opset_version: 19 is greater than the maximum of 18"),
        ("export", {"tolerance": 0}, "export.tolerance: 0 is less than or equal to the minimum of 0"),
        ("export", {"tolerance": NAN}, "export.tolerance: nan is not of type 'number'"),
        ("accuracy", None, "accuracy: None is not of type 'object'"),
        ("accuracy", {"margin_points": "1"}, "accuracy.margin_points: '1' is not of type 'number'"),
        ("calibration", {"images": 0}, "calibration.images: 0 is less than the minimum of 1"),
        (
            "backends",
            {"onnxruntime": {"device": "gpu"}},
            "backends.onnxruntime.device: 'gpu' is not one of ['cpu', 'cuda']",
        ),
        ("measure", {"min_runs": 0}, "measure.min_runs: 0 is less than the minimum of 1"),
        ("measure", {"min_time_s": INFINITY}, "measure.min_time_s: inf is not of type 'number'"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(path, value, message):
    assert refusal(changed(path, value)).startswith(message)


@pytest.mark.parametrize("key", ["models", "dataset", "targets"])
def test_a_missing_key(key):
    config = small()
    del config[key]
    assert refusal(config).startswith(f"top level: key {key!r} is missing")


@pytest.mark.parametrize("config", [None, [], "models"])
def test_no_mapping_at_all(config):
    assert refusal(config).startswith("top level: ")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("batch_sizes", [1, 8, 1], "batch_sizes: 1 is listed twice; list every batch size once"),
        ("dataset", {"name": "data"}, "dataset: give either root (a folder of images) or demo"),
        ("dataset.demo", {}, "dataset: give either root (a folder of images) or demo"),
        (
            "targets",
            [{"backend": "onnxrutime"}],
            "targets.0: backend 'onnxrutime' is not known; did you mean 'onnxruntime'?",
        ),
        (
            "targets",
            [{"backend": "onnxruntime", "precision": "fp8"}],
            "targets.0: backend 'onnxruntime' has no precision 'fp8'; it has fp32, int8",
        ),
        ("targets", [{"backend": "pytorch"}] * 2, "targets.0: pytorch fp32 is listed twice"),
        (
            "targets",
            [{"backend": "pytorch", "precision": "fp32"}, {"backend": "pytorch"}],
            "targets.1: pytorch fp32 is listed twice",
        ),
        ("models.mine.onnx", "x.onnx", "models.mine: give either checkpoint or onnx, the file to start from"),
        ("models.mine", {"model_name": "x"}, "models.mine: give either checkpoint or onnx, the file to start from"),
        ("models.mine.checkpoint", "demo", "models.mine: a demo checkpoint needs the demo dataset; give the path"),
        (
            "backends",
            {"openvino": {"graph": "fused"}},
            "backends.openvino.graph: models.mine has no fused graph, only sMLPNets from a checkpoint have",
        ),
    ],
)
def test_what_a_schema_cannot_say(path, value, message):
    assert refusal(changed(path, value)).startswith(message)


def test_a_target_that_needs_a_checkpoint_beside_an_onnx_start():
    config = changed("models.mine", {"onnx": "theirs.onnx"})
    config["targets"] = [{"backend": "onnxruntime"}, {"backend": "pytorch"}]
    message = refusal(config)
    assert message.startswith("models.mine: starts from an ONNX file, but backend 'pytorch' needs a checkpoint;")
    assert "remove that target or give a checkpoint" in message


def test_the_demo_dataset_and_a_model_need_different_names():
    config = changed("dataset", {"name": "mine", "demo": {}})
    assert refusal(config).startswith("models.mine: is also the name of the demo dataset")


def test_the_first_of_several_errors_is_told():
    config = changed("batch_sizes", [0])
    config["accuracy"] = {"margin": 1}
    assert refusal(config).startswith("accuracy: unknown key 'margin'")
