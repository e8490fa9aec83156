"""Graphs that one file cannot hold are exported, adopted, normalised, compiled, shared and run from two files.

The limit is 2 GB. Here it is a hundred bytes.
"""

import json

import numpy as np
import onnx
import pytest
import their_onnx

from smlp import backends
from smlp.core import files
from smlp.core.cli import UserError
from smlp.models import onnx_files, onnx_graph, preprocessing


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch):
    monkeypatch.setattr(onnx_files, "LIMIT_BYTES", 100)
    monkeypatch.setattr(onnx_files, "SMALL_BYTES", 64)


@pytest.fixture
def large(load_command, tmp_path):
    """A ready-made file in our form, with its weights beside it."""
    theirs, ours = tmp_path / "theirs.onnx", tmp_path / "model.onnx"
    model = their_onnx.classifier(("N", 3, 160, 160), size=8)
    onnx.save(model, theirs, save_as_external_data=True, location="w.data", size_threshold=0)
    about = ["--model_name", "test_resnet", "--source_onnx_path", str(theirs), "--onnx_path", str(ours)]
    assert load_command("export").main(about) == 0
    return ours


def images(load_command):
    return load_command("export").photographs(preprocessing.resolve("test_resnet"))


def test_a_checkpoint_is_exported(load_command, tiny, tmp_path):
    target = tmp_path / "x.onnx"
    about = ["--model_name", "test_resnet", "--pth_path", str(tiny.pth), "--onnx_path", str(target)]
    assert load_command("export").main(about) == 0
    sidecar = json.loads(target.with_suffix(".json").read_text())
    assert sidecar["identity"]["files"] == {
        ".onnx": files.digest(target), ".onnx.data": files.digest(tmp_path / "x.onnx.data")
    }  # fmt: skip
    assert target.stat().st_size < (tmp_path / "x.onnx.data").stat().st_size
    assert sidecar["macs"] == json.loads(tiny.onnx.with_suffix(".json").read_text())["macs"]
    photos = images(load_command)
    np.testing.assert_allclose(onnx_graph.run(target, photos), onnx_graph.run(tiny.onnx, photos), atol=1e-5)


def test_bytes_are_normalised(load_command, large, tmp_path):
    target = tmp_path / "model_uint8.onnx"
    about = ["--model_name", "test_resnet", "--source_onnx_path", str(large), "--onnx_path", str(target)]
    assert load_command("normalise").main(about) == 0
    identity = json.loads(target.with_suffix(".json").read_text())["identity"]
    assert identity["files"].keys() == {".onnx", ".onnx.data"}


@pytest.mark.parametrize(("backend", "suffix"), [("onnxruntime", ".onnx"), ("openvino", ".xml")])
def test_engines_are_compiled_and_run(load_command, large, tmp_path, backend, suffix):
    engine = tmp_path / "engines" / f"bs2{suffix}"
    about = ["--backend", backend, "--batch_size", "2", "--onnx_path", str(large), "--output", str(engine)]
    assert load_command("compile").main(about) == 0
    found = json.loads(engine.with_suffix(".json").read_text())["identity"]["files"]
    assert found.keys() == {"onnxruntime": {".onnx", ".onnx.data"}, "openvino": {".xml", ".bin"}}[backend]
    photos = images(load_command)[:2]
    _, _, opened = backends.open_engine(engine, backend=None, device=None, threads=1)
    with opened as running:
        scores = running.run(photos)[0][0]
    np.testing.assert_allclose(scores, onnx_graph.run(large, photos), atol=1e-4)
    data = engine.with_suffix(sorted(found)[-1] if backend == "onnxruntime" else ".bin")
    data.write_bytes(b"other")
    with pytest.raises(UserError, match="is not the file that"):
        backends.open_engine(engine, backend=None, device=None, threads=1)


def test_a_smaller_file_leaves_no_weights_of_the_larger_one(load_command, large, monkeypatch):
    monkeypatch.setattr(onnx_files, "LIMIT_BYTES", 1 << 30)
    about = ["--source_onnx_path", str(large.with_name("theirs.onnx")), "--onnx_path", str(large)]
    assert load_command("export").main(["--model_name", "test_resnet", *about]) == 0
    assert not large.with_suffix(".onnx.data").exists()
