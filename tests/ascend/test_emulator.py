"""The emulator against the contracts. A comment at each test names file and section.

Tests and emulator are written from the same contracts: what these tests hold true is the contract, not an NPU.
"""

from __future__ import annotations

import ast
import atexit
import ctypes
import fcntl
import importlib
import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

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


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture(scope="module")
def oms(tmp_path_factory):
    """fp16 and fp32 models of batch 2, one with gears."""
    host = Host(tmp_path_factory.mktemp("oms"))
    gears = {"input_shape": "input:-1,3,8,8", "dynamic_batch_size": "1,4,2"}
    host.fp16, host.fp32 = host.compile("fp16"), host.compile("fp32", precision_mode="force_fp32")
    host.gears = host.compile("gears", **gears)
    return host


@pytest.fixture
def load_acl(monkeypatch, oms):
    """Import a fresh aclruntime, as a new process would."""
    loaded = []

    def load(variant="0.0.2", devices=1, **more):
        for key, value in environment(oms.root / "Ascend", aclruntime=variant, devices=devices, **more).items():
            if key.startswith(("ASCEND_", "SMLP_")):
                monkeypatch.setenv(key, value)
        monkeypatch.syspath_prepend(HERE / "site")
        monkeypatch.delitem(sys.modules, "aclruntime", raising=False)
        loaded.append(importlib.import_module("aclruntime"))
        return loaded[-1]

    yield load
    for module in loaded:
        atexit.unregister(module._shut_down)
        sys.modules.pop("aclruntime", None)


@pytest.fixture
def acl(load_acl):
    return load_acl()


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


# --- atc -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version, dots", [("5.1.RC2", ""), ("7.0.0", "...\n"), ("8.3.RC2", "...\n")])
def test_atc_success(tmp_path, capsys, version, dots):  # atc_contract.md 3
    host = Host(tmp_path, version)
    assert host.atc(output="new/folder/a.om") == 0
    start, end = "ATC start working now, please wait for a moment.", "ATC run success, welcome to the next use."
    assert capsys.readouterr() == (f"{start}\n{dots}{end}\n", "")
    om = tmp_path / "new/folder/a.om.om"  # the suffix is always appended
    assert om.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "fusion_result.json").exists() and (tmp_path / "kernel_meta").is_dir()
    header = json.loads(om.read_bytes().split(b"\n", 1)[0])
    assert header["inputs"] == [
        {"name": "input", "dtype": "float32", "shape": [2, 3, 8, 8], "size": 1536, "layout": "NCHW"}
    ]
    assert header["outputs"] == [{"name": OUTPUT, "dtype": "float32", "shape": [2, 5], "size": 40, "layout": "ND"}]


FAILURES = {  # atc_contract.md 3, table of codes; 2 for the options
    "E10007": {"framework": None},
    "E10054": {"soc_version": None},
    "E10004": {"soc_version": ""},
    "E10001": {"op_precision_mode": "missing.ini"},
    "E10001 path with a blank": {"model": "a b.onnx"},
    "E10001 trailing slash": {"model": "a/"},
    "E10001 soc without Ascend": {"soc_version": "310P3"},
    "E10001 pairing": {"optypelist_for_implmode": "Gelu"},
    "E10001 deprecated": {"auto_tune_mode": "RL,GA"},
    "E10001 precision": {"precision_mode": "fp8"},
    "E10009": {"dynamic_batch_size": "1,2", "dynamic_dims": "1;2"},
    "E10010": {"log": "loud"},
    "E10016": {"input_shape": "inputs:2,3,8,8"},
    "E13000": {"model": "missing.onnx"},
    "E11005": {"input_shape": None},
    "E10018": {"input_shape": "input:-1,3,8,8", "dynamic_batch_size": "0,2"},
    "E10031": {"dynamic_batch_size": "1,2"},
    "E10035": {"input_shape": "input:-1,3,8,8", "dynamic_batch_size": "4"},
    "E10036": {"input_shape": "input:-1,3,8,8", "dynamic_batch_size": ",".join(map(str, range(1, 102)))},
    "E10039": {"input_shape": "input:-1,3,8,8", "dynamic_batch_size": "2,2"},
    "E19999 not emulated": {"out_nodes": "Gemm_7:0"},
}


@pytest.mark.parametrize("code", FAILURES)
def test_atc_failure(host, capsys, code):  # atc_contract.md 3
    assert host.atc(**FAILURES[code]) == 255
    out, err = capsys.readouterr()
    assert "\nATC run failed, Please check the detail log, Try 'atc --help' for more information\n" in out
    assert re.findall(r"^\s*([EW][0-9A-Z]\d{3,4}):", out, re.M) == [code.split()[0]]
    assert "ATC run success" not in out and err == "" and not list(host.root.glob("*.om"))


@pytest.mark.parametrize(
    "words, message",
    [
        (["--batch_size=1"], "ERROR: unknown command line flag 'batch_size'"),
        (["--log"], "ERROR: flag '--log' is missing its argument"),
        (["–-log=error"], "ERROR: Non-option parameter: –-log=error"),
    ],
)
def test_atc_bad_flags_go_to_stderr(host, capsys, words, message):  # atc_contract.md 3
    assert host.atc(*words) == 255
    out, err = capsys.readouterr()
    assert err.startswith(message) and "E19999: Inner Error!\n        An unknown error occurred." in out


def test_atc_spellings(host):  # atc_contract.md 1
    assert host.atc("-soc-version", "Ascend310P3", "--log", "error", soc_version=None) == 0


@pytest.mark.parametrize(
    "version, opset, code",
    [("5.1.RC2", 14, "EZ9010"), ("6.0.1", 14, "E19010"), ("7.0.0", 19, "E19010"), ("9.0.0", 19, "E16002")],
)
def test_atc_opset_limits(tmp_path, capsys, version, opset, code):  # atc_contract.md 3 and 7
    host = Host(tmp_path, version)
    assert host.atc(onnx=write_onnx(tmp_path / "new.onnx", opset)) == 255
    out = capsys.readouterr().out
    assert re.search(rf"^{code}: ", out, re.M) and f"ai.onnx::{opset}::Conv" in out
    dated = re.search(r"\[PID: \d+\] \d{4}-\d\d-\d\d-\d\d:\d\d:\d\d\.\d{3}\.\d{3} ", out)
    assert bool(dated) == (version == "9.0.0")
    limit = 13 if version < "7" else 18
    assert host.atc(onnx=write_onnx(tmp_path / "old.onnx", min(limit, 17))) == 0  # ReduceMean changed in 18


def test_atc_operator_without_kernel(host, capsys):  # atc_contract.md 3
    assert host.atc(onnx=write_onnx(host.root / "double.onnx", dtype=np.float64)) == 255
    assert "EZ3003: No supported Ops kernel and engine are found for [Conv_0], optype [Conv]" in capsys.readouterr().out


def test_atc_baked_batch_is_an_error(host, capsys):  # atc_contract.md 3, E11005
    shape = helper.make_node("Constant", [], ["s"], value_ints=[1, 5])
    reshape = helper.make_node("Reshape", ["output", "s"], ["r"], name="Reshape_8")
    model = onnx.load(write_onnx(host.root / "baked.onnx", 12, 1, [shape, reshape]))
    model.graph.output[0].name = "r"
    onnx.save(model, host.root / "baked.onnx")
    assert host.atc(onnx=host.root / "baked.onnx") == 255
    assert "E11005" in capsys.readouterr().out


def test_atc_warning_comes_after_success(host, capsys):  # atc_contract.md 3
    cut = [numpy_helper.from_array(np.array([value]), name) for name, value in (("from", 0), ("to", 5))]
    model = onnx.load(write_onnx(host.root / "slice.onnx"))
    model.graph.initializer.extend(cut)
    model.graph.node.append(helper.make_node("Slice", ["output", "from", "to"], ["s"], name="Slice_29"))
    model.graph.output[0].name = "s"
    onnx.save(model, host.root / "slice.onnx")
    assert host.atc(onnx=host.root / "slice.onnx") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "ATC run success, welcome to the next use."
    assert lines[-1].startswith("W11001: Op [Slice_29] does not hit the high-priority operator information library")


@pytest.mark.parametrize(
    "text, mode",
    [
        ("Gelu=high_performance\n", "high_performance"),
        ("# fast\r\n[ByOpType]\r\nGelu = high_performance", "high_performance"),
        ("Gelu=high_precision\nGelu=high_performance\n", "high_precision"),  # the first wins
        ("Gelu=high_precision\n[ByNodeName]\nMul_5/Gelu=high_performance\n", "high_performance"),  # by name beats
        ("gelu=high_performance\n", None),  # silently without effect
        ("Gelu=highperformance\n", None),
        ("Erf=high_performance\nnonsense\n", None),
    ],
)
def test_atc_op_precision(oms, load_acl, text, mode):  # atc_contract.md 4
    (oms.root / "op_precision.ini").write_text(text)
    path = oms.compile("high", op_precision_mode="op_precision.ini", precision_mode="force_fp32")
    header = json.loads(Path(path).read_bytes().split(b"\n", 1)[0])
    assert header["impl_modes"] == ({"Mul_5/Gelu": mode} if mode else {})
    acl = load_acl()
    high = infer(acl, open_session(acl, path), IMAGES[:2])
    plain = infer(acl, open_session(acl, oms.fp32), IMAGES[:2])
    np.testing.assert_allclose(high, plain, atol=2e-3)
    assert (high != plain).any() == (mode == "high_performance")


def test_atc_options_for_gelu(oms):  # atc_contract.md 4
    path = oms.compile("spach", optypelist_for_implmode="Gelu", op_select_implmode="high_performance")
    assert b'"Mul_5/Gelu": "high_performance"' in Path(path).read_bytes().split(b"\n", 1)[0]


def test_atc_types_at_the_boundary(oms, acl):  # atc_contract.md 2 and 7
    session = open_session(acl, oms.compile("half", output_type="FP16", input_fp16_nodes="input"))
    assert session.get_inputs()[0].datatype == acl.float16 == session.get_outputs()[0].datatype
    output = infer(acl, session, IMAGES[:2].astype(np.float16))
    assert output.dtype == np.float16
    np.testing.assert_allclose(output, expected(IMAGES[:2], oms.onnx), atol=1e-2)


def test_atc_aipp(oms, acl):  # atc_contract.md 5
    (oms.root / "aipp.cfg").write_text(
        "aipp_op {\n aipp_mode: static\n input_format : RGB888_U8\n related_input_rank: 0\n"
        " src_image_size_w: 12\n src_image_size_h: 10\n crop: true\n load_start_pos_h: 1\n load_start_pos_w: 2\n"
        " crop_size_w: 8\n crop_size_h: 8\n min_chn_0: 123.675\n min_chn_1: 116.28\n min_chn_2: 103.53\n"
        " var_reci_chn_0: 0.0171\n var_reci_chn_1: 0.0175\n var_reci_chn_2: 0.0174\n}\n"
    )
    session = open_session(acl, oms.compile("aipp", insert_op_conf="aipp.cfg"))
    (desc,) = session.get_inputs()
    assert (desc.shape, desc.datatype, desc.realsize, desc.format) == ([2, 10, 12, 3], acl.uint8, 720, 1)
    photos = np.random.default_rng(2).integers(0, 256, (2, 10, 12, 3), np.uint8)
    images = (photos[:, 1:9, 2:10] - np.array([123.675, 116.28, 103.53])) * [0.0171, 0.0175, 0.0174]
    images = images.transpose(0, 3, 1, 2).astype(np.float32)
    np.testing.assert_allclose(infer(acl, session, photos), expected(images, oms.onnx), atol=2e-2)
    (oms.root / "aipp.cfg").write_text("aipp_op { aipp_mode: static input_format: RGB888_U8 }")
    assert oms.atc(insert_op_conf="aipp.cfg") == 255


def test_atc_as_a_command(host):  # atc_contract.md 1 and 3; npu_smi.md 4.2
    line = "atc --framework=5 --model=tiny.onnx --output=x --soc_version=Ascend310P3 --input_shape=input:1,3,8,8"
    done = host.run(*line.split(), SMLP_EMULATOR_OM_SUFFIX="host")
    assert done.returncode == 0 and done.stdout.endswith("ATC run success, welcome to the next use.\n"), done
    assert [path.name for path in host.root.glob("*.om")] == [f"x_linux_{os.uname().machine}.om"]
    assert host.run("atc").returncode == 255
    assert host.run("sh", "-c", "atc", sourced=False).returncode == 127  # atc: command not found


def test_atc_wants_a_directory_of_its_own(host):  # atc_contract.md 3
    (host.root / "kernel_meta").mkdir()
    with open(host.root / "kernel_meta/kernel_meta.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert host.atc() == 255
    assert host.atc() == 0


def test_set_env(host):  # npu_smi.md 4.2
    script = f". '{host.home.parent}/set_env.sh' && command -v atc && python3 -c 'import aclruntime'"
    clean = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    sourced, strict = (
        subprocess.run(["bash", flags, script], env=clean, capture_output=True, text=True) for flags in ("-c", "-uc")
    )
    assert (sourced.returncode, sourced.stdout) == (0, f"{host.home}/bin/atc\n"), sourced
    assert strict.returncode != 0 and "unbound variable" in strict.stderr  # it reads unset variables


@pytest.mark.parametrize("version, place", [("5.1.RC2", "ascend-toolkit/latest"), ("8.5.0", "cann")])
def test_version_files(tmp_path, version, place):  # npu_smi.md 4.1
    home = make_cann_tree(tmp_path, version)
    assert home == tmp_path / place
    info = (home / f"{os.uname().machine}-linux/ascend_toolkit_install.info").read_text()
    assert f"\nversion={version}\n" in info
    assert f"runtime_running_version=[7.6.0.1.220:{version}]\n" in (home / "version.cfg").read_text()
    assert home.resolve().name == (version if place != "cann" else "cann")
    assert (tmp_path / "driver/version.info").read_text().startswith("Version=24.1.rc1\n")


# --- aclruntime ------------------------------------------------------------------------------------------------------


def test_names(acl):  # aclruntime_api.md 1
    classes = (
        "BaseTensor session_options tensor_desc sumary InferenceSession MemorySummary Tensor dtype type model batch"
    )
    assert all(hasattr(acl, name) for name in classes.split()) and not hasattr(acl, "__version__")
    assert acl.SMLP_EMULATED is True
    assert int(acl.dtype(1)) == 1 and acl.float16 is acl.dtype.float16 and acl.float16 == 1 and acl.double.value == 11
    assert acl.memory_device == 1 and acl.bool.name == "bool" and len({acl.int8, acl.dtype.int8}) == 1
    assert len(acl.dtype.__members__) == 12


def test_options(acl):  # aclruntime_api.md 2
    options = acl.session_options()
    assert (options.loop, options.log_level, options.acl_json_path) == (1, 2, "")
    for name, value, error in (("loops", 1, AttributeError), ("loop", 1.0, TypeError), ("acl_json_path", 1, TypeError)):
        with pytest.raises(error):
            setattr(options, name, value)


def test_constructor(acl, oms, capfd):  # aclruntime_api.md 3
    options = acl.session_options()
    for wrong in ((oms.fp16,), (oms.fp16, 0), (oms.fp16, 0.0, options), (Path(oms.fp16), 0, options)):
        with pytest.raises(TypeError):
            acl.InferenceSession(*wrong)
    with pytest.raises(TypeError):
        acl.InferenceSession(model_path=oms.fp16, device_id=0, options=options)
    with pytest.raises(TypeError):
        acl.model(oms.fp16, -1, options)
    session = acl.InferenceSession(oms.fp16, 0, options)
    lines = ["acl init success", "open device 0 success", f"load model {oms.fp16} success"]
    assert printed(capfd) == "".join(f"[INFO] {line}\n" for line in [*lines, "create model description success"])
    assert session.options() is options
    assert repr(session) == (
        "<Model>\ndevice:\t0\ninput:\n  #0    input  (2, 3, 8, 8)  float32  1536  1536\n"
        f"output:\n  #0    {OUTPUT}  (2, 5)  float32  40  40\n"
    )
    del session
    assert printed(capfd) == "[INFO] unload model success, model Id is 1\n"


def test_constructor_failures(acl, oms, capfd, monkeypatch):  # aclruntime_api.md 3, table; atc_contract.md 7
    with pytest.raises(RuntimeError, match=r"^\[507033\]\[Error code unknown\] $"):
        open_session(acl, oms.fp16, 5)
    assert "[ERROR] acl open device 5 failed\nSetDevice failed. ret=507033\n" in printed(capfd)
    for path in ("missing.om", str(oms.onnx)):
        with pytest.raises(RuntimeError, match=r"^\[1\]\[ACL: invalid parameter\] $"):
            open_session(acl, path)
        out = printed(capfd)
        assert f"\n[ERROR] load model from file failed, model file is {path}\n[WARN] Check failed:" in out
        assert out.endswith("ret:1\n\n[WARN] no model had been loaded, unload failed\n")
    monkeypatch.setenv("SMLP_EMULATOR_SOC", "Ascend910B3")
    with pytest.raises(RuntimeError, match=r"\[1\]"):
        open_session(acl, oms.fp16)
    monkeypatch.setenv("SMLP_EMULATOR_SOC", "Ascend310P3")
    assert infer(acl, open_session(acl, oms.fp16), IMAGES[:2]).shape == (2, 5)  # the process stays usable


def test_results_are_fp16_but_plausible(acl, oms):  # README (b); atc_contract.md 7
    exact = expected(IMAGES[:2], oms.onnx)
    half, single = (infer(acl, open_session(acl, path), IMAGES[:2]) for path in (oms.fp16, oms.fp32))
    assert half.dtype == np.float32 and half.shape == (2, 5)
    np.testing.assert_allclose(half, exact, atol=5e-3)
    assert (half != exact).any() and (half == half.astype(np.float16)).all()
    np.testing.assert_allclose(single, exact, atol=1e-6)


@pytest.mark.parametrize("form", ["list", "tuple", "dict"])
def test_run_with_tensors(acl, oms, form):  # aclruntime_api.md 3.1, 4.3, 4.4
    session = open_session(acl, oms.fp16)
    tensor = acl.Tensor(IMAGES[:2])
    assert (tensor.shape, tensor.dtype, tensor.device, tensor.type) == ([2, 3, 8, 8], acl.float32, -1, acl.memory_host)
    tensor.to_device(0)
    assert (tensor.device, tensor.type) == (0, acl.memory_device)
    feeds = {"list": [tensor], "tuple": (tensor,), "dict": {"input": tensor}}[form]
    (output,) = session.run((OUTPUT,), feeds)
    assert session.run([], feeds) == []
    del session
    assert repr(output) == "<Tensor>\nshape:\t(2, 5)\ndtype:\tfloat32\ndevice:\t0"
    with pytest.raises(BufferError, match="tensor is in npu"):  # section 9: never on the device
        np.array(output)
    output.to_host()
    np.testing.assert_array_equal(np.array(output), infer(acl, open_session(acl, oms.fp16), IMAGES[:2]))


def test_run_checks(acl, oms, capfd):  # aclruntime_api.md 4.1
    session = open_session(acl, oms.fp16)
    small = np.zeros(40, np.uint8)
    cases = [
        ([acl.BaseTensor(small.ctypes.data, 40)], "[ERROR] Check i:0 name:input in size:40 needsize:1536 not match\n"),
        ([], "[WARN] intensors in:0 need:1 not match\n[ERROR] Set InputsData failed ret:-1\n"),
        ({"x": device_tensor(acl)}, "[ERROR] intensors i:0 name:input not find\n"),
        ({"input": device_tensor(acl), "x": device_tensor(acl)}, "[ERROR] intensors size:2 need size:1 not match\n"),
    ]
    for feeds, message in cases:
        printed(capfd)
        with pytest.raises(RuntimeError, match=r"^\[-1\]\[ACL: general failure\] $"):
            session.run([OUTPUT], feeds)
        assert message in printed(capfd)
    for feeds in (None, [IMAGES[:2]], {"input": acl.BaseTensor(IMAGES.ctypes.data, 1536)}, [None]):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            session.run([OUTPUT], feeds)
    assert session.sumary().exec_time_list == []
    with pytest.raises(RuntimeError, match=r"\[-1\]"):  # names are looked at after the execution
        session.run(["output"], [device_tensor(acl)])
    assert "[ERROR] outnames output not valid\n[ERROR] Get OutTensors failed ret:-1\n" in printed(capfd)
    assert len(session.sumary().exec_time_list) == 1
    first, second = session.run([OUTPUT, OUTPUT], [device_tensor(acl)])
    first.to_host()
    with pytest.raises(RuntimeError, match=r"^\[1004\]\[Invalid parameter\] $"):
        second.to_host()


def device_tensor(acl):
    tensor = acl.Tensor(IMAGES[:2])
    tensor.to_device(0)
    return tensor


def test_base_tensor_is_a_bare_address(acl, oms):  # aclruntime_api.md 4.1, 4.2
    session = open_session(acl, oms.fp16)
    images = IMAGES[:2].copy()
    feed = acl.BaseTensor(images.ctypes.data, images.nbytes)
    right = infer(acl, session, images)
    images[:] = 0  # changed after the BaseTensor was made, before run()
    (output,) = session.run([OUTPUT], [feed])
    output.to_host()
    assert not np.allclose(np.array(output), right)
    scrambled = np.asfortranarray(IMAGES[:2])  # neither strides nor dtype are looked at
    assert not np.allclose(infer(acl, session, scrambled), right)
    assert infer(acl, session, IMAGES[:1].astype(np.float64)).shape == (2, 5)
    for wrong in ((1.0, 2), (images, 2), (1,)):
        with pytest.raises(TypeError):
            acl.BaseTensor(*wrong)


def test_tensor_copies_and_converts(acl, oms):  # aclruntime_api.md 9
    with pytest.raises(RuntimeError, match=r"^\[2\]"):  # section 8: no context before the first session
        acl.Tensor(IMAGES)
    session = open_session(acl, oms.fp16)
    for kind in sorted({*acl.dtype.__members__} - {"double"}):
        assert acl.Tensor(np.zeros(2, kind)).dtype is acl.dtype[kind]
    assert acl.Tensor(np.zeros(2)).dtype is acl.double
    for odd in (np.zeros(2, np.longlong), np.zeros(2, ">f4"), np.zeros(2, complex)):
        assert (acl.Tensor(odd).dtype, len(bytes(np.array(acl.Tensor(odd))))) == (acl.uint8, 2)
    assert acl.Tensor(b"abc").shape == [3] and acl.Tensor(np.float32(1)).shape == []
    for wrong in ([1.0], None):
        with pytest.raises(TypeError):
            acl.Tensor(wrong)
    source = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(np.array(acl.Tensor(source.T)), [[0, 1], [2, 3], [4, 5]])  # strides are ignored
    tensor = acl.Tensor(source)
    source[:] = 9
    shared = np.asarray(tensor)
    assert shared[0, 1] == 1  # a deep copy
    tensor.to_device(0)
    assert np.isnan(shared).all()  # dangles
    for device, message in ((9, r"\[1004\]"), (-1, r"\[1004\]")):
        with pytest.raises(RuntimeError, match=message):
            tensor.to_device(device)
    assert acl.batch([tensor, tensor]).shape == [2, 2, 3] and acl.batch([tensor, tensor], True).shape == [4, 3]
    with pytest.raises(RuntimeError, match=r"\[1004\]"):
        acl.batch([])
    assert session.get_inputs()


def test_times(acl, oms, capfd):  # aclruntime_api.md 7
    acl.MemorySummary().reset()
    session = open_session(acl, oms.fp16, loop=3)
    output = infer(acl, session, IMAGES[:2])
    times = session.sumary().exec_time_list
    assert len(times) == 3 and all(isinstance(time, float) and 0 < time < 1e3 for time in times)
    assert "\n\rloop inference exec: (1/3)\rloop inference exec: (2/3)\rloop inference exec: (3/3)\n" in printed(capfd)
    session.sumary().exec_time_list.append(1.0)  # a fresh list
    assert len(session.sumary().exec_time_list) == 3
    memory = acl.MemorySummary()
    assert len(memory.H2D_time_list) == 1 and len(acl.MemorySummary().D2H_time_list) == 1
    session.options().loop = 0  # executes nothing and still returns tensors
    assert np.isnan(infer(acl, session, IMAGES[:2])).all() and output.shape == (2, 5)
    assert session.reset_sumaryinfo() == 0 and session.sumary().exec_time_list == []


def test_descriptions_are_live(acl, oms):  # aclruntime_api.md 6
    session = open_session(acl, oms.fp16)
    (desc,) = session.get_inputs()
    assert session.get_inputs()[0] is desc and (desc.name, desc.datatype, desc.format) == ("input", acl.float32, 0)
    desc.shape.append(1)
    assert desc.shape == [2, 3, 8, 8]
    desc.realsize = 40
    with pytest.raises(RuntimeError, match=r"\[-1\]"):
        infer(acl, session, IMAGES[:2])


def test_gears(acl, oms, capfd):  # aclruntime_api.md 5
    session = open_session(acl, oms.gears)
    (desc,) = session.get_inputs()
    assert (desc.shape, desc.size, desc.realsize) == ([-1, 3, 8, 8], 3072, 3072)  # the largest by default
    whole = infer(acl, session, IMAGES)
    assert session.set_dynamic_batchsize(2) == 0
    assert (desc.shape, desc.size, desc.realsize) == ([-1, 3, 8, 8], 3072, 1536)
    np.testing.assert_allclose(infer(acl, session, IMAGES[:2]), whole[:2], atol=1e-3)
    printed(capfd)
    with pytest.raises(RuntimeError, match=r"^\[1\]\[ACL: invalid parameter\] $"):
        session.set_dynamic_batchsize(3)
    assert "[ERROR] model has dynamic batch size:{[1][2][4]}, please set correct dynamic batch size" in printed(capfd)
    assert desc.realsize == 1536  # the previous gear stays
    with pytest.raises(RuntimeError, match=r"\[1\]"):
        open_session(acl, oms.fp16).set_dynamic_batchsize(2)
    assert "[ERROR] the dynamic_batch_size parameter is not specified for model conversion" in printed(capfd)


def test_two_devices_in_one_process(load_acl, oms):  # aclruntime_api.md 8
    acl = load_acl(devices=2)
    first, second = open_session(acl, oms.fp16, 0), open_session(acl, oms.fp16, 1)
    with pytest.raises(RuntimeError, match="context of device 1"):
        infer(acl, first, IMAGES[:2])
    first.run([OUTPUT], [device_tensor(acl)])  # to_device(0) switched the context
    with pytest.raises(RuntimeError, match="context of device 0"):
        infer(acl, second, IMAGES[:2])
    acl = load_acl("0.0.2-pairs", devices=2)  # section 10: one context a session
    first, second = open_session(acl, oms.fp16, 0), open_session(acl, oms.fp16, 1)
    np.testing.assert_array_equal(infer(acl, first, IMAGES[:2]), infer(acl, second, IMAGES[:2]))


def test_other_thread_has_no_context(acl, oms, capfd):  # aclruntime_api.md 8
    session, errors = open_session(acl, oms.fp16), []

    def work():
        for call in (lambda: infer(acl, session, IMAGES[:2]), lambda: acl.Tensor(IMAGES)):
            try:
                call()
            except RuntimeError as error:
                errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == ["[-1][ACL: general failure] ", "[2][ACL: memory allocation fail] "]
    assert "in size:2 needsize:1536 not match" in printed(capfd)


def test_other_sessions_are_dead_after_finalize(acl, oms):  # aclruntime_api.md 8
    first, second = open_session(acl, oms.fp16), open_session(acl, oms.fp16)
    assert first.finalize() == 0 and first.finalize() == 0
    with pytest.raises(RuntimeError, match=r"\[-1\]"):
        infer(acl, second, IMAGES[:2])
    with pytest.raises(RuntimeError, match=r"\[507033\]"):
        open_session(acl, oms.fp16)


@pytest.mark.parametrize(
    "misuse",
    [
        "acl.InferenceSession(path, 0, None)",
        "session.run([], [feed, feed])",
        "session.run([], [acl.Tensor(images)])",
        "session.finalize(); session.run([], [feed])",
        "desc = session.get_inputs()[0]; del session; desc.name",
        "session.set_custom_outsize([8]); session.run([], [feed])",
    ],
)
def test_undefined_behaviour_dies(oms, misuse):  # aclruntime_api.md 3, 4.1, 4.3, 6, 8
    program = (
        "import aclruntime as acl, numpy as np\n"
        f"path, images = {oms.fp16!r}, np.zeros((2, 3, 8, 8), np.float32)\n"
        "session = acl.InferenceSession(path, 0, acl.session_options())\n"
        "feed = acl.BaseTensor(images.ctypes.data, images.nbytes)\n" + misuse
    )
    done = oms.run(sys.executable, "-c", program)
    assert done.returncode == -11 and "aclruntime emulator: " in done.stderr, done


def test_host_without_onnxruntime(oms, load_acl, monkeypatch):  # README (b): computing in the atc interpreter
    here = load_acl()
    right = infer(here, open_session(here, oms.fp16), IMAGES[:2])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    acl = load_acl()
    session = open_session(acl, oms.fp16, loop=2)
    np.testing.assert_array_equal(infer(acl, session, IMAGES[:2]), right)
    assert len(session.sumary().exec_time_list) == 2
    for path in (HERE / "site").glob("*.py"):  # the interpreters of such hosts are old
        ast.parse(path.read_text(), feature_version=(3, 9))


def test_import_needs_cann(host):  # aclruntime_api.md 10
    done = host.run(sys.executable, "-c", "import aclruntime", sourced=False)
    assert "ImportError: libascendcl.so: cannot open shared object file" in done.stderr


@pytest.mark.parametrize("variant", ["0.0.1", "0.0.2", "0.0.2-pairs", "0.0.2-g25", "0.0.3"])
def test_versions(load_acl, oms, variant):  # aclruntime_api.md 10
    acl = load_acl(variant)
    old, new = variant == "0.0.1", variant == "0.0.3"
    assert (hasattr(acl, "MemorySummary"), hasattr(acl, "BaseTensor")) == (not old, not old)
    assert (hasattr(acl, "sumary"), hasattr(acl, "Summary")) == (not new, new)
    session = open_session(acl, oms.fp16)
    assert hasattr(session, "finalize") != old
    assert (hasattr(session, "summary"), hasattr(session, "reset_summaryinfo")) == (new, new)
    assert hasattr(session, "reset_sumaryinfo") != new
    tensor = acl.Tensor(IMAGES[:2])
    tensor.to_device(0)
    session.run([OUTPUT], [tensor])
    (time,) = session.sumary().exec_time_list
    if variant in ("0.0.1", "0.0.2"):
        assert 0 < time < 1e3
    else:
        assert 0 < time[0] < time[1] < 1e5
    if not old:
        assert infer(acl, session, IMAGES[:2]).shape == (2, 5)
    if new:
        assert acl.Tensor(IMAGES[:2], 0).device == 0 and tensor.nbytes == 1536


def test_newest_validates(load_acl, oms, tmp_path):  # aclruntime_api.md 10, row G25
    acl = load_acl("0.0.2-g25")
    for options, message in (({"loop": 0}, "loop num out of range"), ({"log_level": 9}, "log level out of range")):
        with pytest.raises(RuntimeError, match=message):
            open_session(acl, oms.fp16, **options)
    (tmp_path / "link.om").symlink_to(oms.fp16)
    (tmp_path / "a b.om").write_bytes(Path(oms.fp16).read_bytes())
    (tmp_path / "wide.om").write_bytes(Path(oms.fp16).read_bytes())
    (tmp_path / "wide.om").chmod(0o666)
    for path in ("link.om", "a b.om", "wide.om", "missing.om"):
        with pytest.raises(RuntimeError, match="please check model path"):
            open_session(acl, str(tmp_path / path))
    with pytest.raises(RuntimeError, match=r"\[-1\]"):  # surplus feeds are an error there
        open_session(acl, oms.fp16).run([], [acl.BaseTensor(IMAGES.ctypes.data, 1536)] * 2)


# --- npu-smi ---------------------------------------------------------------------------------------------------------

ROW_1 = re.compile(
    r"^\|\s*(\d+)\s+([A-Za-z0-9_]+)\s*\|\s*(\w+)\s*\|\s*(NA|-|[\d.]+)\s+(-?\d+|NA)\s+(\S+)\s*/\s*(\S+)\s*\|", re.M
)
ROW_2 = re.compile(
    r"^\|\s*(\d+)(?:\s+(\d+))?\s*\|\s*([0-9A-Fa-f:.]+|NA)\s*\|\s*(\d+)\s+(\S+)\s*/\s*(\d+)(?:\s+(\d+)\s*/\s*(\d+))?\s*\|",
    re.M,
)


@pytest.fixture
def smi(monkeypatch, capsys):
    """Call npu-smi on the emulated host `variant`. Returns exit status and stdout."""

    def call(variant, *words):
        monkeypatch.setenv("SMLP_EMULATOR_NPU_SMI", variant)
        status = load_script("npu-smi").main(list(words))
        out, err = capsys.readouterr()
        assert err == ""
        return status, out

    return call


@pytest.mark.parametrize(
    "variant, version, cards, health, devices, processes",
    [
        ("310P3-old", "22.0.3", [("0", "310P3")], "OK", ["0"], None),
        ("310P3-new", "25.3.rc1", [("6", "310P3")], "OK", ["0"], []),
        ("310P3-busy", "25.3.rc1", [("6", "310P3")], "OK", ["0"], [("6", "395864", "power_test", "5118")]),
        ("310P3-alarm", "25.3.rc1", [("6", "310P3")], "Alarm", ["0"], []),
        (
            "310P3-two",
            "25.3.rc1",
            [("1", "310P3"), ("10", "310P3")],
            "OK",
            ["0", "1"],
            [("10", "1333928", "", "999")],
        ),
        ("910B3", "23.0.rc3.3", [("0", "910B3")], "OK", [""], []),
        ("a3", "25.3.rc1", [("0", "Ascend910"), ("0", "Ascend910")], "OK", ["0", "1"], []),
    ],
)
def test_npu_smi_info(smi, variant, version, cards, health, devices, processes):  # npu_smi.md 1.1 to 1.3
    status, text = smi(variant, "info")
    assert status == 0 and len({len(line) for line in text.splitlines()}) == 1
    assert re.search(r"npu-smi\s+(\S+)\s+Version:\s+(\S+)", text).groups() == (version, version)
    rows = [row for row in ROW_1.findall(text) if ":" not in row[2] and not row[2].isdigit()]
    assert [row[:2] for row in rows] == cards and {row[2] for row in rows} == {health}
    assert [row[1] for row in ROW_2.findall(text) if ":" in row[2]] == devices
    assert (rows[0][3] == "NA") == (variant.startswith("310P3") and variant != "310P3-old")
    if variant == "a3":
        assert rows[1][3] == "-"
    found = re.findall(r"^\|\s*(\d+)\s+\d+\s*\|\s*(\d+)\s*\|\s*(.*?)\s*\|\s*(\d+)\s*\|", text, re.M)
    assert found == (processes or [])
    idle = set(re.findall(r"No running processes found in NPU (\d+)", text))
    assert idle == (set() if processes is None else {card for card, _ in cards} - {row[0] for row in processes})


def test_npu_smi_queries(smi):  # npu_smi.md 2
    def fields(*words):
        status, text = smi("310P3-busy", "info", *words)
        assert status == 0
        return [tuple(part.strip() for part in line.split(":", 1)) for line in text.splitlines() if " : " in line]

    assert fields("-l") == [("Total Count", "1"), ("NPU ID", "6"), ("Chip Count", "1")]
    assert smi("310P3-busy", "info", "-m")[1].splitlines()[1].split() == ["6", "0", "0", "Ascend", "310P3"]
    assert ("Software Version", "25.3.rc1") in fields("-t", "board", "-i", "6")
    assert ("Chip Name", "310P3") in fields("-t", "board", "-i", "6", "-c", "0")
    assert ("Health", "OK") in fields("-t", "health", "-i", "6")
    assert ("DDR Capacity(MB)", "21534") in fields("-t", "usages", "-i", "6")
    for kind, label in (("common", "NPU Real-time Power(W)"), ("power", "Power Dissipation(W)")):
        assert 15.8 <= float(dict(fields("-t", kind, "-i", "6"))[label]) <= 19.3
    text = smi("310P3-busy", "info", "-t", "power", "-i", "6")[1]
    assert re.search(r"^\tPower Dissipation\(W\) {11}: \d", text, re.M)  # label padded to 30
    assert (
        "\tProcess id:395864  Process name:power_test        Process memory(MB):5118\n"
        in smi("310P3-busy", "info", "-t", "proc-mem", "-i", "6")[1]
    )
    assert "\tNo process in device.\n" in smi("310P3-new", "info", "-t", "proc-mem", "-i", "6")[1]


@pytest.mark.parametrize(
    "variant, words, status, text",
    [
        ("310P3-old", [], 215, "Usage"),
        ("310P3-old", ["inform"], 211, "Command or option is not found."),
        ("used-8020", ["info"], 172, "dcmi model initialized failed, because the device is used. ret is -8020\n"),
        ("driver-8005", ["info"], 187, "dcmi module initialize failed. ret is -8005\n"),
        ("310P3-old", ["info", "-t", "power", "-i", "0", "-c", "0"], 193, "does not support"),
        ("310P3-old", ["-v"], 0, "npu-smi version: 22.0.3\n"),
    ],
)
def test_npu_smi_status(smi, variant, words, status, text):  # npu_smi.md 3
    got, out = smi(variant, *words)
    assert got == status and text in out


def test_npu_smi_as_a_command(host):  # npu_smi.md 3
    done = host.run("npu-smi", "info", npu_smi="used-8020", sourced=False)
    assert done.returncode == 172 and done.stdout.startswith("dcmi model initialized failed")
