"""retrieve.py as a command: what it writes, what it refuses, and that nothing is left of what it refused."""

import hashlib
import json
import os

import pytest
import torch

from smlp.core import cli
from smlp.models import architectures, checkpoint

MODEL = "test_resnet"


@pytest.fixture(scope="module")
def retrieve(load_command):
    return load_command("retrieve")


@pytest.fixture
def source(tmp_path):
    """A training checkpoint of the small model with 7 classes, in a folder with a space."""
    path = tmp_path / "the source" / "trained.pth"
    path.parent.mkdir()
    torch.save({"model": architectures.create(MODEL, 7).state_dict(), "epoch": 3}, path)
    return path


@pytest.fixture
def output(tmp_path):
    return tmp_path / "the results" / "checkpoint.pth"


def fails(retrieve, output, capsys, *flags):
    """Run the command where the user made a mistake; the line on stderr."""
    with pytest.raises(SystemExit) as left:
        cli.run(lambda _: retrieve.main([str(flag) for flag in flags]))
    assert left.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert not any("Traceback" in line for line in lines)
    assert not output.parent.exists() or list(output.parent.iterdir()) == []
    return lines[-1]


# the command


def test_a_checkpoint_is_taken_from_a_path(command, source, output):
    flags = ("--model_name", MODEL, "--source", source, "--output", output)
    finished = command("retrieve", "checkpoint", *flags, "--md5", hashlib.md5(source.read_bytes()).hexdigest())
    assert (finished.returncode, finished.stdout) == (0, ""), finished.stderr
    assert finished.stderr.startswith(f"{output}: test_resnet, ")
    assert sorted(path.name for path in output.parent.iterdir()) == ["checkpoint.json", "checkpoint.pth"]
    assert output.read_bytes() == source.read_bytes()
    sidecar = json.loads(output.with_suffix(".json").read_text())
    parameters = sum(parameter.numel() for parameter in architectures.create(MODEL, 7).parameters())
    assert {
        "model_name": MODEL,
        "backend": "pytorch",
        "precision": "fp32",
        "num_classes": 7,
        "parameters": parameters,
        "taken": "model",
        "source": str(source),
        "emulated": False,
    }.items() <= sidecar.items()
    assert sidecar["versions"]["torch"] == torch.__version__


def test_an_error_is_one_line_and_status_1(command, source, output):
    finished = command("retrieve", "checkpoint", "--model_name", "test_vit", "--source", source, "--output", output)
    assert (finished.returncode, finished.stdout) == (1, "")
    (line,) = finished.stderr.splitlines()
    assert line.startswith(f"error: {source}: the weights under 'model' do not fit test_vit with ")
    assert list(output.parent.iterdir()) == []


def test_the_demo_is_made_from_dataset_to_smlpnet(command, tmp_path):
    folder = tmp_path / "the results"
    finished = command("retrieve", "dataset", "--output", folder / "demo", "--train_images", 12, "--val_images", 10)
    assert finished.returncode == 0, finished.stderr
    described = json.loads((folder / "demo.json").read_text())
    assert described["images"] == {"train": 12, "val": 10}
    assert described["seed"] == 0
    output = folder / "smlpnet_tiny" / "checkpoint.pth"
    flags = ("--model_name", "smlpnet_tiny", "--source", "demo", "--demo_dataset", folder / "demo")
    finished = command("retrieve", "checkpoint", *flags, "--output", output)
    assert finished.returncode == 0, finished.stderr
    model, facts = checkpoint.load_model("smlpnet_tiny", output)
    assert facts["num_classes"] == 10
    sidecar = json.loads(output.with_suffix(".json").read_text())
    assert facts.items() <= sidecar.items()
    assert sidecar["demo"] == {"dataset": str(folder / "demo"), "seed": 0}
    assert sidecar["source"] == "demo"
    with torch.inference_mode():
        assert torch.isfinite(model(torch.rand(1, 3, 224, 224))).all()


def test_onnx_is_fetched_as_it_is(retrieve, tmp_path, capsys):
    source, output = tmp_path / "their model", tmp_path / "results" / "model.onnx"
    source.write_bytes(b"graph")
    digest = hashlib.sha256(b"graph").hexdigest()
    arguments = ["onnx", "--source", source.as_uri(), "--output", str(output)]
    assert retrieve.main([*arguments, "--sha256", digest]) == 0
    assert output.read_bytes() == b"graph"
    sidecar = json.loads((tmp_path / "results" / "model.json").read_text())
    assert (sidecar["source"], sidecar["identity"]["files"]) == (source.as_uri(), {".onnx": digest})
    capsys.readouterr()
    output.unlink()
    output.with_suffix(".json").unlink()
    assert digest in fails(retrieve, output, capsys, *arguments, "--sha256", "0" * 64)


# what is refused


class Hostile:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_hostile_checkpoint_runs_nothing_and_is_not_kept(retrieve, tmp_path, output, capsys):
    path, marker = tmp_path / "hostile.pth", tmp_path / "marker"
    torch.save({"model": {"fc.bias": torch.ones(7)}, "args": Hostile(marker)}, path)
    line = fails(retrieve, output, capsys, "checkpoint", "--model_name", MODEL, "--source", path, "--output", output)
    assert f"{path}: refused" in line
    assert "mkdir" in line
    assert not marker.exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--sha256", "0" * 64], "sha256 is "),
        (["--md5", "xyz"], "md5 'xyz'"),
        (["--num_classes", 5], "fc.bias (7,) instead of (5,)"),
        (["--model_name", "test_vit"], "missing: cls_token"),
        (["--model_name", "test_vit", "--num_classes", 7], "missing: cls_token"),
        (["--model_name", "smlpnet_huge"], "'smlpnet_huge' is not known"),
        (["--source", "no/such.pth"], "no/such.pth: no such file"),
        (["--source", "ftp://host/x.pth"], "scheme 'ftp'"),
    ],
)
def test_unfit_checkpoint_is_not_kept(retrieve, source, output, capsys, flags, named):
    given = ["checkpoint", "--model_name", MODEL, "--source", source, "--output", output, *flags]
    assert named in fails(retrieve, output, capsys, *given)


def test_values_that_are_not_finite_are_not_kept(retrieve, source, output, capsys):
    content = torch.load(source, weights_only=True)
    content["model"]["fc.bias"][2] = float("nan")
    torch.save(content, source)
    line = fails(retrieve, output, capsys, "checkpoint", "--model_name", MODEL, "--source", source, "--output", output)
    assert f"{source}: fc.bias has 1 values" in line


def test_an_older_checkpoint_stays_if_the_new_one_fails(retrieve, source, output, capsys):
    given = ["checkpoint", "--model_name", MODEL, "--source", str(source), "--output", str(output)]
    assert retrieve.main(given) == 0
    before = {path.name: path.read_bytes() for path in output.parent.iterdir()}
    with pytest.raises(cli.UserError):
        retrieve.main([*given, "--num_classes", "5"])
    assert {path.name: path.read_bytes() for path in output.parent.iterdir()} == before


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["model"],
        ["checkpoint", "--source", "x.pth", "--output", "y.pth"],
        ["checkpoint", "--model_name", "x", "--source", "x.pth", "--output", "y.bin"],
        ["checkpoint", "--model_name", "x", "--source", "demo", "--output", "y.pth"],
        ["checkpoint", "--model_name", "x", "--source", "x.pth", "--demo_dataset", "d", "--output", "y.pth"],
        [
            "checkpoint",
            "--model_name",
            "x",
            "--source",
            "demo",
            "--demo_dataset",
            "d",
            "--md5",
            "0",
            "--output",
            "y.pth",
        ],
        ["checkpoint", "--model", "x", "--source", "x.pth", "--output", "y.pth"],
        ["onnx", "--source", "x.onnx", "--output", "y.pth"],
        ["dataset", "--output", "d", "--val_images", "0"],
    ],
)
def test_wrong_usage_is_refused(retrieve, capsys, flags):
    with pytest.raises(SystemExit) as left:
        retrieve.main(flags)
    assert left.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_too_few_images_and_a_foreign_folder_are_refused(retrieve, tmp_path, capsys):
    output = tmp_path / "results" / "demo"
    assert "--val_images 3" in fails(retrieve, output, capsys, "dataset", "--output", output, "--val_images", 3)
    mine = tmp_path / "mine"
    (mine / "val" / "n01440764").mkdir(parents=True)
    assert "n01440764" in fails(retrieve, output, capsys, "dataset", "--output", mine)
    assert (mine / "val" / "n01440764").exists()
