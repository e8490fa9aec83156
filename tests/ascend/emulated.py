"""An emulated Ascend host, a small model for it, and what a careful runner does there."""

from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import importlib.util
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from cann import HERE, environment, make_cann_tree
from onnx import TensorProto, helper, numpy_helper

OUTPUT = "Gemm_7:0:output"
IMAGES = np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32)


def write_onnx(path, opset=11, batch="N", extra=(), dtype=np.float32):
    """Conv, erf GELU as PyTorch exports it, global average, Gemm: (batch, 3, 8, 8) -> (batch, 5)."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(4, 3, 3, 3)).astype(dtype),
        "m": random.normal(size=(5, 4)),
        "root2": np.sqrt(2),
        "one": 1,
        "half": 0.5,
    }
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"], name="Conv_0", pads=[1, 1, 1, 1]),
        helper.make_node("Div", ["c", "root2"], ["d"], name="Div_1"),
        helper.make_node("Erf", ["d"], ["e"], name="Erf_2"),
        helper.make_node("Add", ["e", "one"], ["a"], name="Add_3"),
        helper.make_node("Mul", ["c", "a"], ["b"], name="Mul_4"),
        helper.make_node("Mul", ["b", "half"], ["g"], name="Mul_5"),
        helper.make_node("ReduceMean", ["g"], ["p"], name="ReduceMean_6", axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["p", "m"], ["output"], name="Gemm_7", transB=1),
        *extra,
    ]
    arrays = [numpy_helper.from_array(np.asarray(a, dtype if k == "w" else np.float32), k) for k, a in weights.items()]
    shapes = (("input", [batch, 3, 8, 8]), ("output", [batch, 5]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    graph = helper.make_graph(nodes, "tiny", values[:1], values[1:], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def load_script(name):
    """bin/<name> as a module: most tests call main() here, where a process each would cost seconds."""
    loader = importlib.machinery.SourceFileLoader(name, str(HERE / "bin" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


class Host:
    """An emulated host in a folder: compile with atc in this process, or run a command on it."""

    def __init__(self, root, version="7.0.0"):
        self.root, self.onnx = root, write_onnx(root / "tiny.onnx")
        self.home = make_cann_tree(root / "Ascend", version)

    def atc(self, *words, onnx=None, output="tiny", **options):
        """Exit status of atc with a good command line, changed by `options` (None removes one) and `words`."""
        line = {"framework": "5", "model": str(onnx or self.onnx), "output": str(self.root / output)}
        line = {**line, "soc_version": "Ascend310P3", "input_shape": "input:2,3,8,8", **options}
        flags = [f"--{key}={value}" for key, value in line.items() if value is not None]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            patch.setenv("ASCEND_TOOLKIT_HOME", str(self.home))
            return load_script("atc").main([*flags, *words])

    def compile(self, name, **options):
        assert self.atc(output=name, **options) == 0
        return str(self.root / f"{name}.om")

    def run(self, *command, **variant):
        variables = environment(self.root / "Ascend", **variant)
        return subprocess.run(command, env=variables, cwd=self.root, capture_output=True, text=True, timeout=60)


def open_session(acl, path, device=0, **options):
    settings = acl.session_options()
    for key, value in options.items():
        setattr(settings, key, value)
    return acl.InferenceSession(path, device, settings)


def infer(acl, session, images):
    """What a careful runner does: README (a)."""
    (output,) = session.run([OUTPUT], [acl.BaseTensor(images.ctypes.data, images.nbytes)])
    output.to_host()
    return np.array(output)


def printed(capfd):
    """The log of the C runtime, aclruntime_api.md 8."""
    ctypes.CDLL(None).fflush(None)
    return capfd.readouterr().out


def expected(images, path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": images})[0]
