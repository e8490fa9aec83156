"""retrieve.py with sources beside paths and URLs: the hub, what timm publishes, and the key of the weights."""

import hashlib
import json

import hub_server
import pytest
import torch
from hub_server import COMMIT, OLDER
from safetensors.torch import save_file

from smlp.core import cli
from smlp.models import architectures, checkpoint, published

MODEL = "test_resnet"
PUBLISHED = "test_resnet.r160_in1k"


@pytest.fixture
def server(monkeypatch, tmp_path):
    with hub_server.running() as server:
        hub_server.use(server, monkeypatch, tmp_path / "the home")
        yield server


@pytest.fixture
def output(tmp_path):
    return tmp_path / "the results" / "checkpoint.pth"


def safetensors(tmp_path, classes, seed):
    torch.manual_seed(seed)
    save_file(architectures.create(MODEL, classes).state_dict(), tmp_path / "x.safetensors")
    return (tmp_path / "x.safetensors").read_bytes()


def sidecar(output):
    return json.loads(output.with_suffix(".json").read_text())


def test_the_hub_and_what_timm_publishes(server, command, tmp_path, output):
    new, old = safetensors(tmp_path, 1000, 0), safetensors(tmp_path, 1000, 1)
    server.files = {
        (f"timm/{PUBLISHED}", COMMIT, "model.safetensors"): new,
        (f"timm/{PUBLISHED}", OLDER, "model.safetensors"): old,
    }
    flags = ("--model_name", PUBLISHED, "--output", output)
    finished = command("retrieve", "checkpoint", *flags, "--source", f"timm:{PUBLISHED}")
    assert finished.returncode == 0, finished.stderr
    assert f"main is now the commit {COMMIT}; to keep to it, write @{COMMIT}" in finished.stderr
    assert output.read_bytes() == new
    stated = {
        "source": f"timm:{PUBLISHED}",
        "found_at": f"hf-hub:timm/{PUBLISHED}",
        "repository": f"timm/{PUBLISHED}",
        "file": "model.safetensors",
        "revision": COMMIT,
    }
    assert stated.items() <= sidecar(output).items()
    assert sidecar(output)["identity"]["files"] == {".pth": hashlib.sha256(new).hexdigest()}
    source = f"hf-hub:timm/{PUBLISHED}@{OLDER}"
    checksum = hashlib.sha256(old).hexdigest()
    finished = command("retrieve", "checkpoint", *flags, "--source", source, "--sha256", checksum)
    assert finished.returncode == 0, finished.stderr
    assert output.read_bytes() == old
    assert {"source": source, "revision": OLDER}.items() <= sidecar(output).items()
    assert "found_at" not in sidecar(output)
    finished = command("retrieve", "checkpoint", *flags, "--source", source, "--sha256", "0" * 64)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.splitlines()[-1].startswith(f"error: {source}: sha256 is {checksum} but ")
    assert str(tmp_path / "the home") not in finished.stderr
    assert output.read_bytes() == old


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("timm:test_resnet", "it publishes test_resnet.r160_in1k"),
        ("timm:test_resnet.none", "it publishes test_resnet.r160_in1k"),
        ("timm:resnet50t.x", "it publishes none of resnet50t"),
        ("timm:resnott.a", "'resnott' is not known to timm"),
        ("timm:vit_huge_patch16_gap_448.in1k_ijepa@v1", "at a URL, which has no revisions"),
    ],
)
def test_what_timm_does_not_publish_is_named(source, named):
    with pytest.raises(cli.UserError, match=named):
        published.locate(source)


def test_where_timms_weights_are():
    assert published.locate("timm:resnet50.a1_in1k@v1") == "hf-hub:timm/resnet50.a1_in1k@v1"
    assert published.locate("timm:vit_huge_patch16_gap_448.in1k_ijepa").startswith("https://")


def test_a_key_chooses_the_weights_of_every_later_command(load_command, command, tmp_path, output):
    plain, averaged = (architectures.create(MODEL, 7).state_dict() for _ in range(2))
    source = tmp_path / "x.pth"
    torch.save({"model": plain, "model_ema": averaged}, source)
    flags = ["checkpoint", "--model_name", MODEL, "--source", str(source), "--output", str(output)]
    retrieve = load_command("retrieve")
    assert retrieve.main(flags) == 0
    usual = sidecar(output)
    assert "key" not in usual and "key" not in usual["identity"]["flags"]
    assert retrieve.main([*flags, "--key", "model_ema"]) == 0
    stated = sidecar(output)
    assert (stated["key"], stated["identity"]["flags"]["key"]) == ("model_ema", "model_ema")
    assert stated["taken"] == "model_ema; model left aside"
    assert stated["id"] != usual["id"]
    assert output.read_bytes() == source.read_bytes()

    from smlp.backends import aotinductor, pytorch

    compiled, _, _ = aotinductor._model(output, "reference", stencil=False)
    assert torch.equal(compiled.fc.weight, averaged["fc.weight"])
    engine = pytorch.open_engine(output, device="cpu", threads=None, facts=stated)
    with engine:
        images = torch.rand(2, 3, 160, 160).numpy()
        (scores,) = engine.run(images)[0]
    expected, _ = checkpoint.load_model(MODEL, output, key="model_ema")
    with torch.inference_mode():
        assert torch.allclose(torch.from_numpy(scores), expected(torch.from_numpy(images)), atol=1e-5)
    onnx_path = tmp_path / "m.onnx"
    finished = command("export", "--model_name", MODEL, "--pth_path", output, "--onnx_path", onnx_path)
    assert finished.returncode == 0, finished.stderr
    exported = json.loads(onnx_path.with_suffix(".json").read_text())
    assert exported["taken"] == "model_ema; model left aside"
    assert exported["identity"]["flags"]["key"] == "model_ema"
