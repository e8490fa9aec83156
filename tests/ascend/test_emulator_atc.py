"""The emulator's atc against its contract. A comment at each test names file and section.

Tests and emulator are written from the same contracts: what these tests hold true is the contract, not an NPU.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from cann import make_cann_tree
from emulated import IMAGES, OUTPUT, Host, expected, infer, open_session, write_onnx
from onnx import helper, numpy_helper


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
