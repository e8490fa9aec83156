"""What compiling for Ascend does with texts, and summaries of ais_bench; the rest is in tests/ascend/."""

from pathlib import Path

import numpy as np
import pytest

from smlp.backends.ascend import atc, op_precision, session
from smlp.core.cli import UserError
from smlp.core.tensor import TensorInfo
from smlp.data import bins

INI = Path(__file__).parents[3] / "resources" / "op_precision.ini"


def test_command_of_the_guide():
    command = atc.command_line(
        "smlp.onnx", "sMLPNet-T-batch8-high", batch_size=8, soc_version="Ascend310P3", precision="high",
        options={"op_precision_ini": "resources/op_precision.ini", "enable_small_channel": "1"},
    )  # fmt: skip
    assert command == [
        "atc", "--framework=5", "--model=smlp.onnx", "--output=sMLPNet-T-batch8-high", "--input_format=NCHW",
        "--input_shape=input:8,3,224,224", "--log=error", "--soc_version=Ascend310P3",
        "--op_precision_mode=op_precision.ini", "--enable_small_channel=1",
    ]  # fmt: skip
    plain = atc.command_line("a.onnx", "a", batch_size=1, soc_version="Ascend310P3", precision="fp32", options={})
    assert "--precision_mode=must_keep_origin_dtype" in plain and not any("op_precision_mode" in w for w in plain)


def test_good_entries_pass(tmp_path):
    (tmp_path / "op.ini").write_text(
        "# comment\n\nGelu = high_performance\r\n[ByNodeName]\nMul_5/Gelu=high_precision\nConv_0=keep_fp16"
    )
    op_precision.check(tmp_path / "op.ini", {("Gelu", "high_performance")}, {"Mul_5", "Conv_0"})
    op_precision.check(INI, None, set())


def test_messages_of_every_generation():
    said = (
        "ATC start working now, please wait for a moment.\n...\nATC run failed, Please check the detail log\n"
        "EZ3003: [PID: 10490] 2025-03-18-09:02:18.501.341 No supported Ops kernel for [x].\n"
        "        Possible Cause: The operator type is unsupported.\n        Solution: Change it.\n"
        "        TraceBack (most recent call last):\n        [FUNC:BuildModel][LINE:148]\n"
    )
    text = "EZ3003: No supported Ops kernel for [x]. Possible Cause: The operator type is unsupported. "
    text += "Solution: Change it."
    assert atc.messages(said, "E") == [("EZ3003", text)] and atc.explain(said) == text
    warned = "ATC run success, welcome to the next use.\nW11001: Op [Slice_29] does not hit the library.\n"
    assert atc.messages(warned, "W") == [("W11001", "W11001: Op [Slice_29] does not hit the library.")]
    assert "export.opset_version" in atc.explain("E19010: No parser is registered for Op [x].")
    assert "unknown command line flag 'x'" in atc.explain("ERROR: unknown command line flag 'x'\n")


@pytest.mark.parametrize("device, number", [("0", 0), ("ascend:3", 3), ("npu:12", 12)])
def test_names_of_devices(device, number):
    engine = session.open_engine(Path("x.om"), device=device, threads=None, facts={})
    assert engine.device == f"ascend:{number}"


@pytest.mark.parametrize("device", ["cpu", "ascend:", "-1", "cuda:0", "ascend:0,1"])
def test_other_devices_are_refused(device):
    with pytest.raises(UserError, match="ascend:<number>, was expected"):
        session.open_engine(Path("x.om"), device=device, threads=None, facts={})


@pytest.mark.parametrize("key", ["input_shape", "precision_mode", "model"])
def test_options_that_the_command_states_itself(tmp_path, key):
    with pytest.raises(UserError, match=f"--option {key}: the command states that itself"):
        atc.compile_engine(Path("x.onnx"), tmp_path / "x.om", precision="fp16", batch_size=1, options={key: "1"})


def test_images_of_another_type_are_seen_by_the_manifest(tmp_path):
    np.zeros((3, 4, 4), np.float32).tofile(tmp_path / "a.bin")
    (tmp_path / "manifest.csv").write_text("index,bin,image,class,label,sha256\n0,a.bin,a.png,a,0,\n")
    info = TensorInfo("input", np.dtype(np.uint8), (4, 4, 4, 3))
    with pytest.raises(UserError, match="holds 1 images by manifest.csv, but by its size 4"):
        list(bins.batches([tmp_path / "a.bin"], info, 4))
