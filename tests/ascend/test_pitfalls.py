"""The ten pitfalls of an Ascend host, one section each: our code does not fall into them."""

from __future__ import annotations

import atexit
import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from cann import HERE, environment
from emulated import Host, expected, write_onnx

from smlp.backends.ascend import atc, npu_smi, session
from smlp.core import files
from smlp.core.cli import UserError

ROOT = HERE.parents[1]
IMAGES = np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32)
VARIANTS = ("0.0.1", "0.0.2", "0.0.2-pairs", "0.0.2-g25", "0.0.3")
INI = ROOT / "resources" / "op_precision.ini"


@pytest.fixture(scope="module")
def oms(tmp_path_factory):
    """Engines of batch 2, one with gears, one that takes uint8 images; in a folder with a space in its name."""
    there = Host(tmp_path_factory.mktemp("an Ascend host"))
    made = Host(tmp_path_factory.mktemp("made"))  # atc takes no spaces
    (made.root / "aipp.cfg").write_text(
        "aipp_op { aipp_mode: static input_format: RGB888_U8 src_image_size_w: 8 src_image_size_h: 8"
        " min_chn_0: 123.675 min_chn_1: 116.28 min_chn_2: 103.53 }"
    )
    gears = {"input_shape": "input:-1,3,8,8", "dynamic_batch_size": "1,4,2"}
    kinds = {"plain": {}, "gears": gears, "aipp": {"insert_op_conf": str(made.root / "aipp.cfg")}}
    for name, options in kinds.items():
        os.replace(made.compile(name, **options), there.root / f"{name}.om")
    return there


@pytest.fixture
def emulated(monkeypatch, oms):
    """Make this process one on the emulated host, with the aclruntime and the npu-smi that it is called with."""
    loaded = []

    def load(**variant):
        for module in ("aclruntime", "aclruntime_compute"):
            loaded.append(sys.modules.pop(module, None))
        for key, value in environment(oms.root / "Ascend", **variant).items():
            monkeypatch.setenv(key, value)
        monkeypatch.syspath_prepend(HERE / "site")

    monkeypatch.setattr(session._Session, "_of_process", None)
    yield load
    for module in (*loaded, sys.modules.pop("aclruntime", None)):
        if hasattr(module, "_shut_down"):
            atexit.unregister(module._shut_down)


def open_om(oms, name="plain", device="ascend:0", **facts):
    return session.open_engine(oms.root / f"{name}.om", device=device, threads=None, facts=facts)


def write_bins(folder, images, manifest=True):
    folder.mkdir()
    for index, image in enumerate(images):
        image.tofile(folder / f"batch-{index:05d}.bin")
    if manifest:
        lines = "".join(f"{index},batch-{index:05d}.bin,{index}.png,a,0,\n" for index in range(len(images)))
        (folder / "manifest.csv").write_text("index,bin,image,class,label,sha256\n" + lines)
    return folder


# 1, 3, 4: strides are ignored, BaseTensor is a bare address, tensors on the device are no arrays


@pytest.mark.parametrize("variant", VARIANTS)
def test_arrays_arrive_whole(emulated, oms, variant):
    emulated(aclruntime=variant)
    want = expected(IMAGES[:2], str(oms.onnx))
    scrambled = np.asfortranarray(IMAGES[:2])
    every_other = np.repeat(IMAGES[:2], 2, axis=0)[::2]
    with open_om(oms) as engine:
        for images in (IMAGES[:2], scrambled, every_other, IMAGES[:2] + 0):
            (output,), timings = engine.run(images)
            assert type(output) is np.ndarray and output.dtype == np.float32
            assert np.abs(output - want).max() < 0.02 and not np.array_equal(output, want)  # fp16
            assert len(timings.compute_ms) == 1 and 0 < timings.compute_ms[0] < 5000
            assert (len(timings.h2d_ms), len(timings.d2h_ms)) == ((0, 0) if variant == "0.0.1" else (1, 1))
        assert engine.emulated and engine.batch == 2


# 2: neither dtype nor shape is checked


@pytest.mark.parametrize(
    "images, message",
    [
        (IMAGES[:2].astype(np.float64), "takes float32 2x3x8x8 but got float64"),
        (IMAGES[:2].view(np.int32), "but got int32"),
        (IMAGES[:2].transpose(0, 2, 3, 1), "but got float32 2x8x8x3"),
        (IMAGES[:1], "but got float32 1x3x8x8"),
    ],
)
def test_other_dtypes_and_shapes_are_refused(emulated, oms, images, message):
    emulated()
    with open_om(oms) as engine, pytest.raises(UserError, match=message):
        engine.run(images)


def test_file_of_half_the_size_is_refused(emulated, oms, tmp_path, command):
    bins = write_bins(tmp_path / "bins", IMAGES.astype(np.float16))  # ais_bench takes two for one and pads
    emulated()
    done = command("infer", "--model", oms.root / "plain.om", "--input", bins, "--output", tmp_path / "out")
    assert done.returncode == 1 and "batch-00000.bin: has 384 bytes" in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


# 5: a crash in place of an exception


def test_what_is_no_engine_is_an_error_and_no_crash(emulated, oms, tmp_path, command):
    emulated()
    (tmp_path / "bad.om").write_bytes(b"IMOD")
    done = command("infer", "--model", tmp_path / "bad.om")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "bad.om: aclruntime cannot open it" in done.stderr and "compile it again" in done.stderr
    done = command("infer", "--model", oms.root / "plain.om", "--device", "7")
    assert done.returncode == 1 and "device ascend:7 cannot be opened" in done.stderr


def test_engine_can_be_closed_and_opened_again(emulated, oms):
    emulated()
    outputs = []
    for _ in range(2):  # after finalize() the second would die
        with open_om(oms) as engine:
            outputs.append(engine.run(IMAGES[:2])[0][0])
    np.testing.assert_array_equal(*outputs)


# 6: two devices in one process


def test_second_device_in_a_process_is_refused(emulated, oms):
    emulated(devices=2)
    with open_om(oms, device="0") as engine:
        engine.run(IMAGES[:2])
    with pytest.raises(UserError, match="this process has opened another"), open_om(oms, device="npu:1"):
        pass


# 7: what the times and the throughput mean


@pytest.mark.parametrize("variant", VARIANTS)
def test_gears_never_give_a_negative_throughput(emulated, oms, tmp_path, command, variant):
    emulated(aclruntime=variant)
    bins = write_bins(tmp_path / "bins", IMAGES[:3])
    flags = ("--model", oms.root / "gears.om", "--input", bins, "--output", tmp_path, "--output_dirname", "out")
    done = command("infer", *flags, "--batchsize", 4)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out_summary.json").read_text())
    assert summary["throughput"] == pytest.approx(4000 / summary["NPU_compute_time"]["mean"]) and summary[
        "smlp"
    ]["batch"] == 4  # fmt: skip
    assert summary["smlp"]["emulated"] is True
    done = command("infer", *flags, "--batchsize", 3)
    assert done.returncode == 1 and "3 is none of them" in done.stderr


def test_batch_is_the_engines_own(emulated, oms):
    emulated()
    with pytest.raises(UserError, match="is an engine for batch 2, but stands for batch 8"), open_om(oms, batch=8):
        pass


# 8: names and order of files; stale results


def test_names_that_collide_are_refused_and_stale_results_go(emulated, oms, tmp_path, command):
    emulated()
    bins = write_bins(tmp_path / "bins", IMAGES, manifest=False)
    flags = ("--model", oms.root / "plain.om", "--input", bins, "--output", tmp_path, "--output_dirname", "out")
    assert command("infer", *flags, "--outfmt", "NPY").returncode == 0
    (bins / "batch-00003.bin").rename(bins / "batch-00001.1.bin")
    done = command("infer", *flags, "--outfmt", "NPY")
    assert done.returncode == 1 and "would overwrite" in done.stderr
    (bins / "batch-00001.1.bin").unlink()
    assert command("infer", *flags, "--outfmt", "NPY").returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"batch-0000{i}_0.npy" for i in range(3)]


# 9: atc


def compile_om(oms, output, source=None, precision="high", batch_size=2, **options):
    options = {"soc_version": "Ascend310P3", "python": sys.executable, "op_precision_ini": str(INI), **options}
    return atc.compile_engine(source or oms.onnx, output, precision=precision, batch_size=batch_size, options=options)


def test_om_is_found_readable_and_the_folder_stays_clean(emulated, oms, tmp_path, monkeypatch):
    emulated(SMLP_EMULATOR_OM_SUFFIX="host")
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "with space" / "bs2.om"
    with files.whole_file(output) as partial:
        facts = compile_om(oms, partial)
    assert stat.S_IMODE(output.stat().st_mode) & 0o444 == 0o444 & ~files._umask()
    assert [path.name for path in tmp_path.iterdir()] == ["with space"]  # kernel_meta/ and so on are not here
    assert (facts["batch"], facts["batch_checked"], facts["emulated"]) == (2, False, True)
    header = json.loads(output.read_bytes().split(b"\n")[0])
    assert header["impl_modes"] == {"Mul_5/Gelu": "high_performance"} and header["precision"] == "fp16"
    with open_om(oms, batch=2) as engine:
        engine.run(IMAGES[:2])


def test_fp32_computes_in_fp32(emulated, oms, tmp_path):
    emulated()
    compile_om(oms, tmp_path / "bs2.om", precision="fp32")
    engine = session.open_engine(tmp_path / "bs2.om", device="0", threads=None, facts={})
    with engine:
        (output,), _ = engine.run(IMAGES[:2])
    assert np.allclose(output, expected(IMAGES[:2], str(oms.onnx)), atol=1e-5)


@pytest.mark.parametrize(
    "text, message",
    [
        ("gelu=high_performance", "writes Gelu"),
        ("Gelu=fast", "line 1, 'Gelu=fast', has no mode of high_performance"),
        ("Gelu", "is not of the form"),
        ("Erf=high_performance", "is not in the list of this CANN"),
        ("Gelu=high_performance\nGelu=high_precision", "line 2, .* repeats a key"),
        ("[ByNodeName]\nMul_9/Gelu=high_performance", "names no node"),
    ],
)
def test_entries_that_cann_would_ignore_are_refused(emulated, oms, tmp_path, text, message):
    emulated()
    (tmp_path / "op.ini").write_text(text)
    with pytest.raises(UserError, match=message):
        compile_om(oms, tmp_path / "bs2.om", op_precision_ini=str(tmp_path / "op.ini"))
    assert not (tmp_path / "bs2.om").exists()


@pytest.mark.parametrize("version, opset, limit", [("5.1.RC2", 14, 13), ("6.0.1", 17, 13)])
def test_opset_is_checked_before_atc(tmp_path, emulated, version, opset, limit):
    there = Host(tmp_path, version)
    emulated(ASCEND_TOOLKIT_HOME=str(there.home))
    source = write_onnx(tmp_path / "new.onnx", opset=opset)
    with pytest.raises(UserError, match=f"opset {opset} and CANN {version} reads up to {limit}; export .* 11"):
        compile_om(there, tmp_path / "bs2.om", source)


@pytest.mark.parametrize("version", ["5.1.RC2", "7.0.0", "8.3.RC2"])
def test_errors_of_atc_are_shown(tmp_path, emulated, version):
    there = Host(tmp_path, version)
    emulated(ASCEND_TOOLKIT_HOME=str(there.home))
    with pytest.raises(UserError) as caught:
        compile_om(there, tmp_path / "bs2.om", soc_version="Ascend999")
    assert "status 255: E10001: Value [Ascend999] for parameter [--soc_version] is invalid." in str(caught.value)
    assert "PID" not in str(caught.value) and "TraceBack" not in str(caught.value)


def test_success_needs_status_and_sentence(emulated, oms, tmp_path, monkeypatch):
    emulated()
    fake = tmp_path / "bin"
    fake.mkdir()
    for text in ("touch bs2.om; exit 0", "echo 'ATC run success, welcome'; touch bs2.om; exit 255", "exit 0"):
        (fake / "atc").write_text(f"#!/bin/sh\n{text}\n")
        (fake / "atc").chmod(0o755)
        monkeypatch.setenv("PATH", str(fake), prepend=os.pathsep)
        with pytest.raises(UserError, match="atc failed with status"):
            atc.compile_engine(
                oms.onnx, tmp_path / "out.om", precision="fp16", batch_size=2, options={"soc_version": "Ascend310P3"}
            )


def test_two_compiles_at_once(oms, tmp_path):
    variables = environment(oms.root / "Ascend")
    line = [sys.executable, ROOT / "scripts/compile.py", "--backend", "ascend", "--precision", "fp16"]
    line += ["--onnx_path", oms.onnx, "--option", "soc_version=Ascend310P3", "--option", f"python={sys.executable}"]
    jobs = [
        subprocess.Popen([*line, "--batch_size", batch, "--output", tmp_path / f"bs{batch}.om"], env=variables)
        for batch in ("1", "2")
    ]
    assert [job.wait() for job in jobs] == [0, 0]
    assert json.loads((tmp_path / "bs2.json").read_text())["emulated"] is True


# 10: npu-smi's tables, busy devices, engines with AIPP


@pytest.mark.parametrize(
    "variant, device, npu, power",
    [
        ("310P3-old", 0, 0, True),
        ("310P3-new", 0, 6, True),
        ("310P3-two", 1, 10, True),
        ("910B3", 0, 0, True),
        ("a3", 1, 0, True),
    ],
)
def test_device_is_not_the_npu_id(emulated, variant, device, npu, power):
    emulated(npu_smi=variant)
    state = session.telemetry(f"ascend:{device}")
    assert state["npu_id"] == npu and (state["power_w"] is not None) == power and state["health"] == "OK"
    assert (state["processes"] == []) == (variant != "310P3-two" or device == 0)


@pytest.mark.parametrize("variant", ["310P3-old", "310P3-new", "910B3", "a3"])
def test_clock_and_power_are_told_by_every_family(emulated, variant):
    emulated(npu_smi=variant)
    state = session.telemetry("ascend:0")
    assert state["clock_mhz"] == 900 and state["power_w"] > 15 and state["memory_mb"] is None


def test_the_process_that_asks_is_no_other_one_and_has_its_memory(emulated):
    emulated(npu_smi="310P3-own")
    state = session.telemetry("ascend:0")
    assert state["processes"] == [] and state["memory_mb"] == pytest.approx(812 * 1.048576)  # binary MB


def test_soc_version_is_that_of_the_host(emulated):
    for variant, soc in (("310P3-new", "Ascend310P3"), ("910B3", "Ascend910B3"), ("a3", "Ascend910_9392")):
        emulated(npu_smi=variant)
        assert npu_smi.soc_version() == soc


@pytest.mark.parametrize(
    "variant, message",
    [
        ("310P3-busy", "process 395864 power_test uses it"),
        ("310P3-alarm", "its health is Alarm"),
        ("used-8020", "another container holds the device"),
        ("driver-8005", "check that the driver is installed"),
    ],
)
def test_unfit_device_is_not_measured(emulated, oms, tmp_path, command, variant, message):
    emulated(npu_smi=variant)
    bins = write_bins(tmp_path / "bins", IMAGES)
    flags = ("--model", oms.root / "plain.om", "--input", bins, "--output", tmp_path / "bs2.json")
    done = command("measure", *flags)
    assert done.returncode == 1 and message in done.stderr and not (tmp_path / "bs2.json").exists()


def test_power_is_measured(emulated, oms, tmp_path, command):
    emulated(npu_smi="310P3-busy")
    bins = write_bins(tmp_path / "bins", IMAGES)
    flags = ("--model", oms.root / "plain.om", "--input", bins, "--output", tmp_path / "bs2.json")
    quick = ("--retry_max_s", 0, "--min_time_s", 0.1, "--min_runs", 3, "--warmup_window_s", 0.01, "--warmup_max_s", 0.1)
    done = command("measure", *flags, *quick, "--allow_busy_device")
    assert done.returncode == 0 and "measuring all the same" in done.stderr
    facts = json.loads((tmp_path / "bs2.json").read_text())["smlp"]
    assert 15 < facts["power_w_mean"] < 21 and facts["emulated"] is True
    assert (facts["clock_mhz_mean"], facts["clock_mhz_before"], facts["throttling"]) == (900, 900, None)
    assert facts["images_per_joule"] == pytest.approx(facts["end_to_end_images_per_s"] / facts["power_w_mean"])
    assert facts["temperature_c_before"] == 42 and facts["aicore_percent_after"] == 0
    assert facts["device_state"]["before"]["npu_id"] == 6 and facts["batch"] == 2


def test_float_images_are_not_fed_to_an_engine_with_aipp(emulated, oms, tmp_path, command):
    emulated()
    bins = write_bins(tmp_path / "bins", IMAGES)
    done = command("measure", "--model", oms.root / "aipp.om", "--input", bins, "--output", tmp_path / "x.json")
    assert done.returncode == 1 and "holds 1 images by manifest.csv, but by its size 4" in done.stderr
    raw = write_bins(tmp_path / "raw", np.zeros((2, 8, 8, 3), np.uint8))
    done = command("infer", "--model", oms.root / "aipp.om", "--input", raw, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
