"""TensorRT by trtexec, without a GPU: a contract, not a proof.

tests/data/trtexec holds what trtexec of each version prints, written after its sources (samples/common/
sampleReporting.cpp, logging.h, sampleDevice.cpp in NVIDIA/TensorRT at the tags 7.0.0 to 11.1), and the stand-in
below takes the flags that sampleOptions.cpp of that version takes, no others. What the package `tensorrt` does is
not covered.
"""

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from smlp.backends import tensorrt
from smlp.core.cli import UserError

DATA = Path(__file__).resolve().parents[2] / "data" / "trtexec"

_ALWAYS = (
    "--onnx --saveEngine --loadEngine --loadInputs --exportOutput --iterations --duration --warmUp --device --help"
)
# as `git grep '"  --'` finds them in sampleOptions.cpp at the version's tag
FLAGS = {
    "7.0.0": f"{_ALWAYS} --workspace --fp16 --explicitBatch --buildOnly",
    "7.2.1": f"{_ALWAYS} --workspace --fp16 --explicitBatch --buildOnly --noTF32 --noDataTransfers",
    "8.0.1": f"{_ALWAYS} --workspace --fp16 --explicitBatch --buildOnly --noTF32 --noDataTransfers",
    "8.6.1": f"{_ALWAYS} --workspace --memPoolSize --fp16 --skipInference --noTF32 --noDataTransfers",
    "10.13.3": f"{_ALWAYS} --memPoolSize --fp16 --stronglyTyped --skipInference --noTF32 --noDataTransfers",
    "11.1.0": f"{_ALWAYS} --memPoolSize --stronglyTyped --skipInference --noTF32 --includeDataTransfers --noCudaGraph",
}
FOUND = {version: set(flags.split()) for version, flags in FLAGS.items()}

STAND_IN = '''#!/bin/sh
"exec" "{python}" "$0" "$@"
"""trtexec {version}, as far as flags, files and words go; ONNX Runtime computes."""
import shutil, sys
from pathlib import Path

known, report = {flags!r}.split(), Path({report!r}).read_text()
given = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
if "--help" in given:
    print("=== Build Options ===")
    print("\\n".join(f"  {{flag}}=spec   what it does, see --other" for flag in known))
    sys.exit(0)
unknown = [flag for flag in given if flag not in known]
if unknown:
    print(f"[01/01/2026-00:00:00] [E] Unknown option: {{unknown[0]}} ")
    sys.exit(1)
Path({log!r}).open("a").write(" ".join(sys.argv[1:]) + "\\n")
if "--saveEngine" in given:
    shutil.copy(given["--onnx"], given["--saveEngine"])
    print(report.split("Warmup")[0])
    sys.exit(0)
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(Path(given["--loadEngine"]).read_bytes(), providers=["CPUExecutionProvider"])
name, _, path = given["--loadInputs"].partition(":")
shape = session.get_inputs()[0].shape
logits = session.run(None, {{name: np.fromfile(path, np.float32).reshape(shape)}})[0]
values = ", ".join(f"{{value:.6g}}" for value in logits.ravel())
head = '[\\n  {{ "name" : "output"\\n  , "dimensions" : "' + "x".join(map(str, logits.shape))
Path(given["--exportOutput"]).write_text(head + '"\\n  , "values" : [ ' + values + " ]\\n  }}\\n]\\n")
print(report)
'''


@pytest.fixture
def network(tmp_path):
    """ONNX file of a linear classifier over 3x4x4 images, 5 classes, free batch; and its weights."""
    weight = np.random.default_rng(0).standard_normal((48, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["product"]),
        helper.make_node("Relu", ["product"], ["output"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in {"input": ["batch", 3, 4, 4], "output": ["batch", 5]}.items()
    ]
    made = helper.make_graph(nodes, "linear", ends[:1], ends[1:], [numpy_helper.from_array(weight, "weight")])
    path = tmp_path / "a network" / "model.onnx"
    path.parent.mkdir()
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 11)], ir_version=7), path)
    return path, weight


@pytest.fixture
def trtexec(tmp_path, monkeypatch):
    """Put a stand-in for trtexec of a version on the PATH; returns the file that its commands are logged to."""

    def put(version):
        folder, log = tmp_path / f"tensorrt {version}", tmp_path / f"{version}.log"
        folder.mkdir()
        tool = folder / "trtexec"
        report = str(DATA / f"{version}.txt")
        text = STAND_IN.format(
            python=sys.executable, version=version, flags=FLAGS[version], report=report, log=str(log)
        )
        tool.write_text(text)
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return log

    return put


@pytest.mark.parametrize(
    ("version", "expected"),
    {
        "7.0.0": ("7", None, 0.859765, None, None),
        "7.2.1": ("7", "Tesla T4", 26.5123, None, None),
        "8.0.1": ("8.0.1", "Tesla T4", 24.75, 1.125, 0.025),
        "8.6.1": ("8.6.1", "Tesla T4", 8.19, 0.401, 0.0051),
        "10.13.3": ("10.13.3", "NVIDIA H100 80GB HBM3", 8.1875, 0.402, 0.0052),
        "11.1.0": ("11.1.0", "NVIDIA H200", 8.125, 0.403, 0.0053),
    }.items(),
)
def test_reads_gpu_compute_mean_and_not_host_latency(version, expected):
    report = tensorrt.parse_report((DATA / f"{version}.txt").read_text())
    assert tuple(report[key] for key in ("tensorrt", "gpu", "compute_ms", "h2d_ms", "d2h_ms")) == expected


def test_the_guides_figure():
    """SRCNN's README: mean 0.859765 ms at batch 1 is 1163.1 fps."""
    report = tensorrt.parse_report((DATA / "7.0.0.txt").read_text())
    assert round(1000 * 1 / report["compute_ms"], 1) == 1163.1


@pytest.mark.parametrize("mean", ["nan", "inf", "-1.5", "0", "fast"])
def test_a_mean_that_is_no_time_is_refused(mean):
    text = (DATA / "8.6.1.txt").read_text().replace("mean = 8.19 ms", f"mean = {mean} ms")
    with pytest.raises(UserError, match="GPU Compute Time"):
        tensorrt.parse_report(text)


def test_without_a_run_there_is_no_time():
    assert tensorrt.parse_report((DATA / "8.6.1.txt").read_text().split("Warmup")[0])["compute_ms"] is None


def test_the_build_command_uses_the_words_of_the_version():
    def words(version, precision, workspace_mib=None):
        command = tensorrt.build_command(
            "trtexec", FOUND[version], Path("n.onnx"), Path("e.plan"), precision, "cuda:1", workspace_mib
        )
        assert {word.partition("=")[0] for word in command[1:]} <= FOUND[version]
        return command[4:], "--device=1" in command

    assert words("7.0.0", "fp32") == (["--buildOnly", "--explicitBatch", "--workspace=4096"], True)
    assert words("7.2.1", "fp16", "512") == (["--buildOnly", "--explicitBatch", "--fp16", "--workspace=512"], True)
    assert words("8.6.1", "fp16") == (["--skipInference", "--fp16"], True)
    assert words("8.6.1", "fp32", "512") == (["--skipInference", "--noTF32", "--memPoolSize=workspace:512"], True)
    assert words("10.13.3", "fp16") == (["--skipInference", "--fp16"], True)
    assert words("11.1.0", "fp16") == (["--skipInference"], True)


def test_the_run_counts_the_same_way_in_every_version():
    for version, flags in FOUND.items():
        command = tensorrt.run_command("trtexec", flags, Path("/e.plan"), "cuda")
        assert {word.partition("=")[0] for word in command[1:]} <= flags
        extra = ["--includeDataTransfers", "--noCudaGraph"] if version == "11.1.0" else []
        assert command[4:] == ["--iterations=10", "--duration=0", "--warmUp=200", "--device=0", *extra]


def test_help_names_flags_and_not_what_it_says_about_others():
    text = "=== Build Options ===\n  --noTF32   Disable tf32, see --fp16\n             (--int8 too)\n --workspace=N\n"
    assert tensorrt.known_flags(text) == {"--noTF32", "--workspace"}


def test_outputs_keep_their_shape_and_what_is_not_finite():
    values = "1, -2.5, 1e-05, nan, inf, -inf"
    text = f'[\n  {{ "name" : "output"\n  , "dimensions" : "2x3"\n  , "values" : [ {values} ]\n  }}\n]\n'
    logits = tensorrt.parse_outputs(text)
    assert logits.shape == (2, 3) and logits.dtype == np.float32
    np.testing.assert_array_equal(logits, np.array([[1, -2.5, 1e-5], [np.nan, np.inf, -np.inf]], np.float32))


@pytest.mark.parametrize("text", ["", '"dimensions" : "2x3"\n , "values" : [ 1, 2 ]'])
def test_outputs_cut_short_are_refused(text):
    with pytest.raises(UserError, match="trtexec exported"):
        tensorrt.parse_outputs(text)


@pytest.mark.parametrize(("version", "precision"), [("7.2.1", "fp16"), ("8.6.1", "fp32"), ("11.1.0", "fp16")])
def test_build_read_back_and_run(network, trtexec, tmp_path, version, precision):
    path, weight = network
    log = trtexec(version)
    plan = tmp_path / "an engine" / "bs8.plan"
    plan.parent.mkdir()
    facts = tensorrt.compile_engine(path, plan, precision=precision, batch_size=8, options={})
    assert (facts["batch"], facts["num_classes"], facts["input_shape"]) == (8, 5, [8, 3, 4, 4])
    assert facts["tensorrt"] == {"7.2.1": "7", "8.6.1": "8.6.1", "11.1.0": "11.1.0"}[version]
    halves = any(tensor.data_type == TensorProto.FLOAT16 for tensor in onnx.load(plan).graph.initializer)
    assert halves == (version == "11.1.0")  # the others are told by a flag
    assert ("--fp16" in log.read_text()) == (version == "7.2.1")

    images = np.random.default_rng(1).standard_normal((8, 3, 4, 4)).astype(np.float32)
    facts["identity"] = {}
    with tensorrt.open_engine(plan, device="cuda:0", threads=None, facts=facts) as engine:
        assert engine.batch == 8
        outputs, timings = engine.run(images)
    np.testing.assert_allclose(outputs[0], np.maximum(images.reshape(8, -1) @ weight, 0), rtol=2e-2, atol=5e-2)
    assert timings.compute_ms == [{"7.2.1": 26.5123, "8.6.1": 8.19, "11.1.0": 8.125}[version]]
    assert len(timings.h2d_ms) == (version != "7.2.1")


def compiled(network, tmp_path):
    facts = tensorrt.compile_engine(network, tmp_path / "e.plan", precision="fp32", batch_size=2, options={})
    return tmp_path / "e.plan", {**facts, "identity": {}}


def test_another_gpu_is_refused(network, trtexec, tmp_path):
    trtexec("8.6.1")
    plan, facts = compiled(network[0], tmp_path)
    with (
        pytest.raises(UserError, match="was built for NVIDIA A10, this is Tesla T4"),
        tensorrt.open_engine(plan, device="cuda:0", threads=None, facts={**facts, "gpu": "NVIDIA A10"}) as engine,
    ):
        engine.run(np.zeros((2, 3, 4, 4), np.float32))


def test_an_engine_that_nobody_vouches_for_is_refused(network, trtexec, tmp_path):
    trtexec("8.6.1")
    plan, facts = compiled(network[0], tmp_path)
    del facts["identity"]
    with pytest.raises(UserError, match="e.plan: is code for a GPU, and no sidecar"):
        tensorrt.open_engine(plan, device="cuda:0", threads=None, facts=facts)


@pytest.mark.parametrize(("device", "word"), [("cpu", "'cpu'"), ("cuda:x", "'cuda:x'")])
def test_another_device_is_refused(network, trtexec, tmp_path, device, word):
    trtexec("8.6.1")
    plan, facts = compiled(network[0], tmp_path)
    with pytest.raises(UserError, match=f"not on {word}"):
        tensorrt.open_engine(plan, device=device, threads=None, facts=facts)


def test_too_little_memory_is_said_so(network, tmp_path):
    tool = tmp_path / "trtexec"
    tool.write_text(f"#!/bin/sh\n[ \"$1\" = --help ] || {{ cat '{DATA / 'out-of-memory.txt'}'; exit 1; }}\n")
    tool.chmod(0o755)
    with pytest.raises(UserError, match=r"e.plan: trtexec ended with 1: .*out of memory.*smaller --batch_size"):
        tensorrt.compile_engine(
            network[0], tmp_path / "e.plan", precision="fp16", batch_size=512, options={"trtexec": str(tool)}
        )
    assert not (tmp_path / "e.plan").exists()


def test_neither_trtexec_nor_the_package(network, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"'tensorrt'.*no trtexec on the PATH"):
        tensorrt.compile_engine(network[0], tmp_path / "e.plan", precision="fp32", batch_size=1, options={})
    facts = {"identity": {}, "tensorrt": "8.6.1", "gpu": "Tesla T4"}
    with pytest.raises(UserError, match="needs the Python package 'tensorrt'.*no trtexec on the PATH"):
        tensorrt.open_engine(tmp_path / "e.plan", device="cuda:0", threads=None, facts=facts)


@pytest.mark.parametrize("option", [{"fp16": "true"}, {"workspace_mib": "much"}])
def test_a_wrong_option_is_named(option):
    with pytest.raises(UserError, match=next(iter(option))):
        tensorrt.BACKEND.check_options(option)
