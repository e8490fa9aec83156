"""One contract for every backend in scripts/smlp/backends/. Those whose runtime is not installed are skipped by name.

A new backend needs nothing here but, for a precision that is new, an entry in TOLERANCE. What this machine's
processors cannot do is skipped with the backend's own words.
"""

import json

import pytest
from contract import BACKENDS, BATCHES, COMPILING, NAMES, SCRIPTS, TOLERANCE, every_backend, python, require_runtime

from smlp import backends
from smlp.core import files, identity, provenance
from smlp.core.cli import UserError


@every_backend
def test_attributes(name):
    module = BACKENDS[name]
    assert module.compiles_from in ("onnx", "checkpoint", None)
    assert module.suffix.startswith(".") and module.suffix != ".json"
    assert module.precisions and len(set(module.precisions)) == len(module.precisions)
    assert isinstance(module.device, str) and module.device
    assert module.packages and all(isinstance(package, str) for package in module.packages)
    assert (module.compile is not None) is (module.compiles_from is not None)
    assert callable(module.open)
    assert module.name == name
    assert module.graph in ("reference", "fused")
    assert set(module.calibrated) <= set(module.precisions)
    assert set(module.precisions) <= set(TOLERANCE), "add the new precision to TOLERANCE"


def test_suffixes_tell_backends_apart():
    suffixes = [BACKENDS[name].suffix for name in NAMES]
    assert len(set(suffixes)) == len(suffixes)


def test_an_unknown_backend():
    with pytest.raises(UserError, match="backend 'tensorflow' is not known; choose one of .*pytorch"):
        backends.load("tensorflow")


# a backend's runtime that is not there

BLOCK = """
import importlib.abc, runpy

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "smlp"):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@every_backend
def test_a_missing_runtime_is_named(name, tmp_path):
    engine = tmp_path / f"bs1{BACKENDS[name].suffix}"
    engine.write_bytes(b"an engine")
    state = identity.state("engine", identity.contents(engine))
    facts = provenance.describe(state=state, backend=name, precision="fp32", model_name="test_resnet")
    files.write_json(tmp_path / "bs1.json", facts)
    finished = python(BLOCK, SCRIPTS / "infer.py", "--model", engine)
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"error: backend {name!r} needs the Python package ")
    assert finished.stderr.count("\n") == 1
    assert finished.stdout == ""


@every_backend
def test_a_runtime_is_imported_only_when_the_device_is_taken(name, engine_path):
    """Naming, finding and describing an engine costs nothing; `with` takes the device."""
    path = engine_path(name, BACKENDS[name].precisions[0], 1)
    code = """
import numpy
from pathlib import Path
from smlp import backends
before = {module.split(".")[0] for module in sys.modules}
engine = backends.open_engine(Path(sys.argv[1]), backend=None, device=None, threads=None)[2]
after = {module.split(".")[0] for module in sys.modules}
print(*sorted(after - before - set(sys.stdlib_module_names) - {"smlp"}))
"""
    finished = python(code, path)
    assert (finished.returncode, finished.stdout.split(), finished.stderr) == (0, [], "")


# compiling


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("name", "precision"), [(name, precision) for name in COMPILING for precision in BACKENDS[name].precisions]
)
def test_sidecar_of_an_engine(name, precision, batch, engine_path, tiny):
    path = engine_path(name, precision, batch)
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert (sidecar["backend"], sidecar["precision"], sidecar["batch"]) == (name, precision, batch)
    assert sidecar["identity"]["files"] == identity.contents(path, BACKENDS[name].companions)
    assert sidecar["inputs"]["source"]["sha256"] in (files.digest(tiny.onnx), files.digest(tiny.pth))
    assert set(BACKENDS[name].packages) <= set(sidecar["versions"])
    assert isinstance(sidecar["emulated"], bool)
    assert not [file for file in path.parent.iterdir() if file.stem != path.stem]  # nothing else is left


@pytest.mark.parametrize("name", COMPILING)
def test_what_compile_refuses(name, load_command, tiny, tmp_path):
    require_runtime(name)
    compiler, module = load_command("compile"), BACKENDS[name]
    source = {"onnx": tiny.onnx, "checkpoint": tiny.pth}[module.compiles_from]
    precision, target = module.precisions[0], tmp_path / f"out{module.suffix}"
    for arguments, message in [
        ((name, "fp7", 1, source, target, {}), f"backend {name!r} has no precision 'fp7'; choose {precision}"),
        ((name, precision, 1, source, tmp_path / "out.engine", {}), f"out.engine: engines of backend {name!r} end in"),
        ((name, precision, 1, source, target, {"no_such": "1"}), "option 'no_such'"),
        ((name, precision, 1, tmp_path / f"none{source.suffix}", target, {}), f"none{source.suffix}: no such"),
    ]:
        with pytest.raises(UserError) as error:
            compiler.compile_engine(*arguments)
        assert message in str(error.value)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in COMPILING if BACKENDS[name].compiles_from == "onnx"])
def test_an_onnx_file_of_another_batch_is_not_compiled(name, load_command, mixer_onnx, tmp_path):
    require_runtime(name)
    mixer_onnx(tmp_path / "fixed.onnx", batch=4)
    target = tmp_path / "out" / f"bs8{BACKENDS[name].suffix}"
    with pytest.raises(UserError, match="fixed batch of 4"):
        load_command("compile").compile_engine(
            name, BACKENDS[name].precisions[0], 8, tmp_path / "fixed.onnx", target, {}
        )
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in COMPILING])
def test_nothing_to_compile(name, load_command, tiny, tmp_path):
    with pytest.raises(UserError, match=f"backend '{name}' runs the checkpoint itself, there is nothing to compile"):
        load_command("compile").compile_engine(
            name, BACKENDS[name].precisions[0], 1, tiny.pth, tmp_path / f"x{BACKENDS[name].suffix}", {}
        )


def test_compile_as_a_command(command, tiny, tmp_path):
    flags = ["--backend", "onnxruntime", "--batch_size", 2, "--onnx_path", tiny.onnx]
    finished = command("compile", *flags, "--output", tmp_path / "a b" / "bs2.onnx")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "a b").iterdir()) == ["bs2.json", "bs2.onnx"]
    finished = command("compile", *flags, "--output", tmp_path / "x.onnx", "--option", "fast")
    assert finished.returncode == 1
    assert finished.stderr == "error: --option 'fast': key=value was expected\n"
