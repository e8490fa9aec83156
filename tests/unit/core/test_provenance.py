"""A sidecar says what a file was made of, by what, where and when."""

import datetime
import platform
import sys
from importlib import metadata

import numpy as np

from smlp.core import files, provenance


def test_a_description_has_inputs_versions_and_host(tmp_path):
    source = tmp_path / "a b.pth"
    source.write_bytes(b"weights")
    described = provenance.describe({"checkpoint": source}, ["numpy", "no-such-package"], batch=4)
    assert list(described)[0] == "batch"
    assert described["batch"] == 4
    assert described["emulated"] is False
    assert described["inputs"] == {"checkpoint": {"path": str(source), "sha256": files.digest(source)}}
    assert described["command"] == [sys.executable, *sys.argv]
    assert described["versions"] == {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "no-such-package": None,
    }
    host = described["host"]
    assert host["cpu_model"] == provenance.cpu_model()
    assert host["cpu_count"] >= 1
    assert len(host["load_at_start"]) == 3
    started = datetime.datetime.fromisoformat(described["started_at"])
    assert datetime.timedelta(0) < datetime.datetime.now(datetime.timezone.utc) - started < datetime.timedelta(hours=2)
    assert 0 < described["seconds"] < 7200
    files.write_json(tmp_path / "x.json", described)
    assert files.read_json(tmp_path / "x.json", "a sidecar") == described


def test_an_emulated_run_says_so():
    assert provenance.describe(emulated=True)["emulated"] is True


def test_versions_need_no_import(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # importing it would fail
    assert provenance.versions(["onnxruntime"]) == {"onnxruntime": metadata.version("onnxruntime")}


def test_cpu_model_is_a_name():
    assert provenance.cpu_model().strip()
