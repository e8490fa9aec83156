"""The backend of docs/extending.md, put beside the others in a copy of scripts/."""

import json
import shutil
import subprocess
import sys

import pytest
from pages import ROOT, blocks

EXAMPLE, RULE = (block.text for block in blocks("python"))


@pytest.fixture
def scripts(tmp_path):
    """A copy of scripts/ with the backend of the page."""
    folder = tmp_path / "scripts"
    shutil.copytree(ROOT / "scripts", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "smlp" / "backends" / "onnxreference.py").write_text(EXAMPLE, encoding="utf-8")
    (tmp_path / "rules").symlink_to(ROOT / "rules")
    return folder


def test_the_backend_compiles_and_runs_an_engine(scripts, tiny, tmp_path):
    def run(name, *flags):
        words = [sys.executable, scripts / f"{name}.py", *flags]
        done = subprocess.run([*map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    engine = tmp_path / "bs2.pb"
    about = ["--backend", "onnxreference", "--precision", "fp32", "--batch_size", 2, "--option", "check=full"]
    run("compile", *about, "--onnx_path", tiny.onnx, "--output", engine)
    assert json.loads(engine.with_suffix(".json").read_text())["batch"] == 2
    run("infer", "--model", engine, "--pure_data_type", "random", "--output", tmp_path / "out")


def test_the_rule_is_like_those_of_the_other_backends():
    """Its outputs have the form of another backend's, with another suffix."""
    rules = (ROOT / "rules" / "compile.smk").read_text(encoding="utf-8")
    outputs = [line for line in RULE.splitlines() if line.lstrip().startswith(("engine=", "sidecar="))]
    assert len(outputs) == 2
    for line in outputs:
        assert line.replace(".pb", ".xml") in rules, "docs/extending.md: " + line
