"""Fixtures that several test files use."""

import importlib.util
import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent

# A shell's & and nohup start us with Ctrl-C ignored; what we start, and interrupt, would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def command():
    """Run `scripts/<name>.py` with flags as a user would; returns the finished process with its text output."""

    def run(name, *flags, **options):
        options = {"capture_output": True, "text": True, "timeout": 600, "cwd": ROOT, **options}
        return subprocess.run([sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, flags)], **options)

    return run


@pytest.fixture(scope="session")
def load_command():
    """Import `scripts/<name>.py` as a module: some share their names with packages and builtins."""

    def load(name):
        spec = importlib.util.spec_from_file_location(f"command_{name}", ROOT / "scripts" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session", autouse=True)
def _own_device_locks(tmp_path_factory):
    """The tests must not wait for a sweep on the same machine."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SMLP_LOCK_DIR", str(tmp_path_factory.mktemp("locks")))
        yield


@pytest.fixture(scope="session")
def golden():
    """Golden values: `tensor` and `images` make them, `logits` and `state_dicts` are those of the reference."""
    folder = ROOT / "tests" / "golden"
    spec = importlib.util.spec_from_file_location("deterministic_weights", folder / "deterministic_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.logits = np.load(folder / "logits.npz")
    module.state_dicts = json.loads((folder / "state_dicts.json").read_text())
    return module


@pytest.fixture(scope="session")
def golden_weights(golden):
    """A function: shapes of a state dict -> the state dict with golden values, as tensors of `dtype`."""
    import torch

    def make(shapes, dtype=torch.float32):
        values = {key: torch.from_numpy(golden.tensor(key, tuple(shape), "golden")) for key, shape in shapes.items()}
        return {key: value.to(dtype) if value.is_floating_point() else value for key, value in values.items()}

    return make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, load_command, golden_weights):
    """A small real model with 7 classes: pth and json as retrieve leaves them, onnx with its sidecar as export does."""
    import torch

    from smlp.core import files, identity, provenance
    from smlp.models import architectures

    folder = tmp_path_factory.mktemp("tiny")
    paths = SimpleNamespace(
        model_name="test_resnet", classes=7, pth=folder / "checkpoint.pth", onnx=folder / "model.onnx"
    )
    shapes = {
        key: value.shape for key, value in architectures.create(paths.model_name, paths.classes).state_dict().items()
    }
    torch.save(golden_weights(shapes), paths.pth)
    about = {"model_name": paths.model_name, "num_classes": paths.classes}
    state = identity.state("checkpoint", identity.contents(paths.pth), flags=about)
    start = identity.start(state["id"], paths.pth)
    facts = provenance.describe(state=state, **about, backend="pytorch", precision="fp32", start=start)
    files.write_json(files.sidecar_path(paths.pth), facts)
    flags = ["--model_name", paths.model_name, "--pth_path", str(paths.pth), "--onnx_path", str(paths.onnx)]
    assert load_command("export").main(flags) == 0
    return paths


@pytest.fixture(scope="session")
def jpeg():
    """A function: seed, and perhaps width and height in pixels -> the bytes of a small JPEG of noise."""
    from PIL import Image

    def make(seed, width=64, height=48):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG")
        return stream.getvalue()

    return make


@pytest.fixture(scope="session")
def mixer_onnx():
    """A function that writes an ONNX classifier whose scores tell of the whole batch: padding shows in them.

    mixer(path, batch=4, classes=5, size=(3, 4, 4)): scores of an image = its products with W, plus the sum of all
    products in the batch. batch None: any. Returns W, float32 (pixels, classes).
    """
    from onnx import TensorProto, helper, numpy_helper, save

    def write(path, batch=4, classes=5, size=(3, 4, 4), seed=0):
        weights = np.random.default_rng(seed).normal(size=(int(np.prod(size)), classes)).astype(np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("Flatten", ["input"], ["flat"]),
                helper.make_node("MatMul", ["flat", "W"], ["own"]),
                helper.make_node("ReduceSum", ["own"], ["everyone"], axes=[0]),
                helper.make_node("Add", ["own", "everyone"], ["output"]),
            ],
            "mixer",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch or "batch", *size])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch or "batch", classes])],
            [numpy_helper.from_array(weights, "W")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
        save(model, path)
        return weights

    return write
