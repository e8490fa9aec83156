"""The ONNX file computes what the checkpoint does, or it does not appear."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from smlp.core import files
from smlp.core.cli import UserError
from smlp.models import architectures, onnx_costs, onnx_graph, preprocessing

VARIANTS = ["smlpnet_tiny", "smlpnet_small", "smlpnet_base"]


@pytest.fixture(scope="module")
def export(load_command):
    return load_command("export")


def flags(source, onnx_path, *more, model_name="test_resnet"):
    kind = "--source_onnx_path" if str(source).endswith(".onnx") else "--pth_path"
    return ["--model_name", model_name, kind, str(source), "--onnx_path", str(onnx_path), *map(str, more)]


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refusal(export, tmp_path, *arguments, **more):
    """The message that refuses an export; nothing was written."""
    target = tmp_path / "out put" / "model.onnx"
    with pytest.raises(UserError) as error:
        export.main(flags(arguments[0], target, *arguments[1:], **more))
    assert contents(target.parent) == []
    return str(error.value)


def saved(path, state_dict):
    torch.save(state_dict, path)
    return path


# what is exported


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_onnx_file_gives_the_golden_logits(variant, export, golden, golden_weights, tmp_path, capsys, monkeypatch):
    if variant != "smlpnet_tiny":
        monkeypatch.setattr(export, "PROOF_BATCHES", (1,))  # seconds saved; what matters here follows
    weights = golden_weights(golden.state_dicts[variant]["state_dict"])
    target = tmp_path / f"{variant}.onnx"
    assert export.main(flags(saved(tmp_path / "x.pth", weights), target, model_name=variant)) == 0
    logits = onnx_graph.run(target, golden.images(2, "golden").astype(np.float32))
    expected = golden.logits[variant]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()

    sidecar = json.loads(target.with_suffix(".json").read_text())
    assert sidecar["parameters"] == golden.state_dicts[variant]["parameters"]
    gmacs = sidecar["macs"] / 1e9
    assert round(gmacs, 1) == {"smlpnet_tiny": 5.0, "smlpnet_small": 10.3, "smlpnet_base": 14.0}[variant]
    assert variant != "smlpnet_tiny" or round(gmacs, 2) == 4.99
    assert f"opset 11, {gmacs:.2f} GMACs per image" in capsys.readouterr().err


def test_the_sidecar_states_the_graph_and_the_proof(tiny):
    sidecar = json.loads(files.sidecar_path(tiny.onnx).read_text())
    model = onnx.load(tiny.onnx)
    assert sidecar["model_name"] == "test_resnet"
    assert sidecar["opset"] == 11
    assert sidecar["num_classes"] == 7
    assert sidecar["input_shape"] == [None, 3, 160, 160]
    assert sidecar["parameters"] == sum(p.numel() for p in architectures.create("test_resnet", 7).parameters())
    assert sidecar["node_counts"] == onnx_graph.node_counts(model)
    assert sidecar["node_counts"]["Conv"] > 5
    assert sidecar["macs"] == onnx_costs.macs(model) > 1e8
    assert sidecar["taken"] == "bare state dict"
    assert set(sidecar["largest_difference"]) == {"batch_1", "batch_3"}
    assert all(0 <= difference < 1e-4 for difference in sidecar["largest_difference"].values())
    assert (sidecar["tolerance"], sidecar["compared_with"]) == (1e-4, "PyTorch")
    assert sidecar["identity"]["files"] == {".onnx": files.digest(tiny.onnx)}
    assert sidecar["inputs"] == {"checkpoint": {"path": str(tiny.pth), "sha256": files.digest(tiny.pth)}}
    assert {"torch", "timm", "onnx", "onnxruntime", "python"} <= set(sidecar["versions"])
    assert sidecar["emulated"] is False


def test_input_and_output_have_our_names(tiny):
    model = onnx.load(tiny.onnx)
    assert [value.name for value in model.graph.input] == ["input"]
    assert [value.name for value in model.graph.output] == ["output"]
    assert onnx_graph.shape(model.graph.input[0]) == (None, 3, 160, 160)
    assert onnx_graph.shape(model.graph.output[0]) == (None, 7)


def test_constants_are_folded(tiny):
    counts = onnx_graph.node_counts(onnx.load(tiny.onnx))
    assert "BatchNormalization" not in counts
    assert "Identity" not in counts


@pytest.mark.parametrize("opset", [9, 11, 18])
def test_every_supported_opset_is_written(opset, export, tiny, tmp_path):
    target = tmp_path / "a b.onnx"
    assert export.main(flags(tiny.pth, target, "--opset_version", opset)) == 0
    assert onnx_graph.opset(onnx.load(target)) == opset
    images = export.photographs(preprocessing.resolve("test_resnet"))
    np.testing.assert_allclose(onnx_graph.run(target, images), onnx_graph.run(tiny.onnx, images), atol=1e-4)
    assert contents(tmp_path) == ["a b.json", "a b.onnx"]


@pytest.mark.parametrize("model_name", ["test_vit", "test_mambaout"])
def test_models_whose_shapes_cannot_be_inferred_are_exported(model_name, export, tmp_path):
    """Transformers reshape by the batch; opset 11 has no fused attention and no layer norm either."""
    torch.manual_seed(0)
    source = saved(tmp_path / "x.pth", architectures.create(model_name, 7).state_dict())
    target = tmp_path / "out" / "x.onnx"
    assert export.main(flags(source, target, model_name=model_name)) == 0
    assert onnx_graph.shape(onnx.load(target).graph.output[0]) == (None, 7)
    assert json.loads(target.with_suffix(".json").read_text())["macs"] > 1e7


def test_the_same_checkpoint_makes_the_same_file(export, tiny, tmp_path):
    assert export.main(flags(tiny.pth, tmp_path / "again.onnx")) == 0
    assert files.digest(tmp_path / "again.onnx") == files.digest(tiny.onnx)


def test_photographs_are_preprocessed_for_the_model(export):
    images = export.photographs(preprocessing.resolve("smlpnet_tiny"))
    assert (images.shape, images.dtype) == ((3, 3, 224, 224), np.float32)
    assert export.photographs(preprocessing.resolve("test_resnet")).shape == (3, 3, 160, 160)
    assert not np.array_equal(images[0], images[1]) and not np.array_equal(images[1], images[2])


# what is refused


def test_a_nan_weight_is_refused(export, tiny, tmp_path):
    weights = torch.load(tiny.pth, weights_only=True)
    weights["layer1.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    source = saved(tmp_path / "x.pth", weights)
    message = refusal(export, tmp_path, source)
    assert message.startswith(f"{source}: layer1.0.conv1.weight has 1 values that are NaN or infinite")


def test_weights_that_overflow_are_refused(export, tiny, tmp_path):
    weights = torch.load(tiny.pth, weights_only=True)
    weights["fc.weight"].fill_(3e38)
    message = refusal(export, tmp_path, saved(tmp_path / "x.pth", weights))
    assert message == "an output at batch 1 is NaN or infinite; check the checkpoint's weights"


def test_a_difference_above_the_tolerance_is_refused(export, tiny, tmp_path):
    message = refusal(export, tmp_path, tiny.pth, "--tolerance", "1e-12")
    assert message.startswith("the ONNX file differs from PyTorch by ")
    assert "--tolerance" in message


def test_an_older_file_survives_a_refused_export(export, tiny, tmp_path):
    target = tmp_path / "model.onnx"
    target.write_text("older")
    with pytest.raises(UserError):
        export.main(flags(tiny.pth, target, "--tolerance", "1e-12"))
    assert contents(tmp_path) == ["model.onnx"]
    assert target.read_text() == "older"


def test_an_operator_that_the_opset_lacks_is_named(export, tmp_path):
    source = saved(tmp_path / "x.pth", architectures.create("test_coatnet", 7).state_dict())
    message = refusal(export, tmp_path, source, "--opset_version", 9, model_name="test_coatnet")
    assert message.startswith("test_coatnet: opset 9 cannot express it (")
    assert message.endswith("; opset 11 can: set export.opset_version (--opset_version) to it")
    assert "\n" not in message


def test_no_opset_is_advised_that_does_not_help_and_nothing_else_is_printed(tmp_path):
    """The exporter prints the whole graph, some of it not from Python."""
    program = (
        "import sys, torch; sys.path.insert(0, 'scripts')\n"
        "from smlp.core import cli; from smlp.models import onnx_export\n"
        "import numpy as np\n"
        "class Odd(torch.nn.Module):\n"
        "    def forward(self, x): return torch.linalg.svdvals(x.mean(1))\n"
        "from pathlib import Path\n"
        "images = np.zeros((2, 3, 8, 8), np.float32)\n"
        "cli.run(lambda _: onnx_export.write(Odd(), images, Path(sys.argv[1]), 11, 'torchscript', 'odd'))\n"
    )
    command_line = [sys.executable, "-c", program, tmp_path / "x.onnx"]
    done = subprocess.run(command_line, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: odd: opset 11 cannot express it (")
    assert "no opset up to 18 does with this exporter; torch's newer one may" in done.stderr


def test_torchs_newer_exporter_gets_the_same_proof(export, tiny, tmp_path):
    target = tmp_path / "x.onnx"
    assert export.main(flags(tiny.pth, target, "--exporter", "dynamo", "--opset_version", 18)) == 0
    model = onnx.load(target)
    assert onnx_graph.opset(model) == 18 and contents(tmp_path) == ["x.json", "x.onnx"]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("input", "output")
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    images = export.photographs(preprocessing.resolve("test_resnet"))
    np.testing.assert_allclose(onnx_graph.run(target, images), onnx_graph.run(tiny.onnx, images), atol=1e-4)
    sidecar = json.loads(target.with_suffix(".json").read_text())
    assert sidecar["compared_with"] == "PyTorch" and sidecar["identity"]["flags"]["exporter"] == "dynamo"


def test_an_opset_that_the_newer_exporter_cannot_write_is_refused_with_one_that_it_can(export, tiny, tmp_path):
    message = refusal(export, tmp_path, tiny.pth, "--exporter", "dynamo")
    assert message.startswith("test_resnet: opset 11 cannot express it (onnx's version converter cannot lower it: ")
    assert message.endswith("; opset 18 can: set export.opset_version (--opset_version) to it")


def test_a_name_that_does_not_end_in_onnx_is_refused(export, tiny, tmp_path):
    with pytest.raises(UserError, match=r"x\.json: a name ending in \.onnx was expected"):
        export.main(flags(tiny.pth, tmp_path / "x.json"))
    assert contents(tmp_path) == []


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (["--opset_version", "8"], "opset '8' is not between 9 and 18"),
        (["--opset_version", "19"], "opset '19' is not between 9 and 18"),
        (["--opset_version", "eleven"], "opset 'eleven' is not between 9 and 18"),
        (["--tolerance", "nan"], "'nan' is not a number above 0"),
        (["--tolerance", "0"], "'0' is not a number above 0"),
        (["--num_classes", "0"], "'0' is not a whole number"),
        (["--source_onnx_path", "y.onnx"], "not allowed with"),
    ],
)
def test_wrong_usage_is_refused(wrong, word, export, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        export.main(flags("x.pth", tmp_path / "x.onnx", *wrong))
    assert stopped.value.code == 2
    assert word in capsys.readouterr().err


def test_a_missing_checkpoint_is_one_line_and_leaves_nothing(command, tmp_path):
    """An error as the user sees it."""
    target = tmp_path / "out" / "x.onnx"
    finished = command("export", *flags(tmp_path / "no ne.pth", target))
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"error: {tmp_path / 'no ne.pth'}: no such file")
    assert finished.stderr.count("\n") == 1
    assert contents(tmp_path) in ([], ["out"])
