"""Sweeps and commands on an emulated Ascend host, and on one that has nothing."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from cann import HERE, environment, make_cann_tree
from emulated import Host

from smlp.core import lock

ROOT = HERE.parents[1]
GUIDE = ROOT / "configs" / "imagenet-ascend310p.yaml"
BATCH_SIZES = [1, 4, 8, 16, 32, 64]
# test_convnext has GELUs, for precision high to act on, and 160 px; timm has no smaller ones. It learns little
SETTINGS = {
    "models": {"small": {"model_name": "test_convnext", "checkpoint": "demo"}},
    "dataset": {"name": "digits", "demo": {"train_images": 200, "val_images": 70}},
    "targets": [{"backend": "ascend", "precision": "high"}],
    "batch_sizes": BATCH_SIZES,
    "accuracy": {"margin_points": 6.0},
    "ceilings": {"measure": False},
    "measure": {
        "loads": 1,
        "retry_max_s": 0,
        "min_time_s": 0.1,
        "min_runs": 3,
        "warmup_window_s": 0.05,
        "warmup_max_s": 0.3,
        "sustained_s": 2,
        "sustained_batch_sizes": [4],
    },
    "confirm": {"best": False},
    "profile": {"best": False},
}


def workplace(folder, settings):
    """A copy of the project that a sweep can run in, with its settings."""
    for name in ("rules", "scripts", "resources", "envs", "profiles", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(settings))
    return folder


def snakemake(folder, *flags, env=None, config="sweep.yaml"):
    line = [sys.executable, "-m", "snakemake", *flags, "--configfile", config]
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=1200)


def without_ascend_results(place, names):
    """For copytree: what a sweep without Ascend engines would not have; the package of that backend stays."""
    left_out = {"ascend", "Ascend", "tables", ".snakemake"}
    return [] if "scripts" in Path(place).parts else [name for name in names if name in left_out]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A whole sweep through the emulator; set_env.sh and the interpreter come from the settings."""
    folder = tmp_path_factory.mktemp("sweep with a space")
    root = folder / "Ascend"
    make_cann_tree(root, "7.0.0")
    set_env = str(root / "ascend-toolkit" / "set_env.sh")
    ascend = {"soc_version": "Ascend310P3", "set_env": set_env, "python": sys.executable}
    workplace(folder, {**SETTINGS, "backends": {"ascend": ascend}})
    env = environment(root, sourced=False, npu_smi="310P3-new", TMPDIR=str(tmp_path_factory.getbasetemp()))
    done = snakemake(folder, "--cores", "2", env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, env


def rows(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_sweep_through_the_emulator(swept):
    folder, _ = swept
    accuracy = rows(folder / "results/tables/accuracy.csv")
    assert [row["batch"] for row in accuracy if row["backend"] == "ascend"] == list(map(str, BATCH_SIZES))
    for row in accuracy:
        assert (row["emulated"], row["verdict"], row["images"]) == ("true", "pass", "70")
        assert float(row["agreement_percent"]) > 95 and 10 < float(row["top1_percent"]) < 100
    throughput = rows(folder / "results/tables/throughput.csv")
    assert [int(row["batch"]) for row in throughput] == BATCH_SIZES
    for row in throughput:
        assert row["emulated"] == "true" and float(row["images_per_s"]) > 0
        assert 15 < float(row["power_w_mean"]) < 21 and float(row["images_per_joule"]) > 0
        assert (row["clock_mhz_mean"], row["clock_mhz_after"], row["throttling"]) == ("900", "900", "")
        ran_on = [name for name, value in row.items() if name.startswith("sustained_") and value]
        assert bool(ran_on) is (row["batch"] == "4"), ran_on
    (ran,) = (row for row in throughput if row["batch"] == "4")
    assert float(ran["sustained_s"]) >= 2 and 15 < float(ran["sustained_power_w_max"]) < 21
    assert (ran["sustained_temperature_c_start"], ran["sustained_clock_mhz_end"]) == ("42", "900")
    assert "ascend high batch size 4 (emulated)" in (folder / "results/tables/sustained.svg").read_text()
    assert "(emulated)" in (folder / "results/tables/throughput.md").read_text()
    assert "(emulated)" in (folder / "results/tables/accuracy.md").read_text()
    sidecar = json.loads((folder / "results/compile/small/ascend/high/bs8.json").read_text())
    assert sidecar["emulated"] is True and sidecar["cann"] == "7.0.0" and sidecar["batch_checked"] is False
    assert sidecar["atc_command"][0] == "atc" and "--input_shape=input:8,3,160,160" in sidecar["atc_command"]
    litter = {"kernel_meta", "fusion_result.json"} & {path.name for path in folder.rglob("*")}
    assert not litter


def test_dry_run_said_what_was_run(swept):
    folder, env = swept
    done = snakemake(folder, "-n", "-p", "--forcerun", "compile_ascend", "--cores", "1", env=env)
    sidecar = json.loads((folder / "results/compile/small/ascend/high/bs8.json").read_text())
    assert "# in a scratch folder: " + " ".join(sidecar["atc_command"]) in done.stdout


def test_ini_reruns_what_it_changes(swept):
    folder, env = swept
    ini = folder / "resources" / "op_precision.ini"
    done = snakemake(folder, "-n", "--cores", "1", env=env)
    assert "Nothing to be done" in done.stdout + done.stderr
    before = ini.read_text()
    ini.write_text("# slower\nGelu=high_precision\n")
    os.utime(ini, (1_000_000_000, 1_000_000_000))  # as a file that was restored
    done = snakemake(folder, "-n", "--cores", "1", env=env)
    ini.write_text(before)
    counts = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if len(line.split()) == 2}
    assert counts["compile_ascend"] == "6" and counts["measure_load"] == "6"
    assert not {"export_onnx", "preprocess_shard", "evaluate_reference"} & set(counts)


def test_two_sweeps_at_once_share_no_device(swept, tmp_path):
    """Both come to the one NPU while somebody else has it; from then on nobody is on it with another."""
    folder, env = swept
    env = {**env, "SMLP_LOCK_DIR": str(tmp_path)}
    places, started = [tmp_path / "one", tmp_path / "another"], []
    for place in places:
        shutil.copytree(folder, place, symlinks=True)
        # with what follows from them: a table that stands there needs nothing that it was made from
        for name in ("infer/small/ascend", "measure", "evaluate/small/ascend", "tables"):
            shutil.rmtree(place / "results" / name)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as held:
        patch.setenv("SMLP_LOCK_DIR", str(tmp_path))
        held.enter_context(lock.hold("ascend:0", exclusive=True))
        for place in places:
            line = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "sweep.yaml"]
            log = held.enter_context(open(place / "said.txt", "wb"))
            started.append(subprocess.Popen(line, cwd=place, env=env, stdout=log, stderr=subprocess.STDOUT))
        deadline = time.monotonic() + 300
        for place, sweep in zip(places, started):
            while not any("waiting for device ascend:0" in p.read_text() for p in place.glob("results/logs/**/*.log")):
                assert sweep.poll() is None and time.monotonic() < deadline, (place / "said.txt").read_text()
                time.sleep(0.1)
    assert [sweep.wait(900) for sweep in started] == [0, 0], "".join((p / "said.txt").read_text() for p in places)
    uses = []
    for place in places:
        made = [
            *place.glob("results/infer/small/ascend/**/*_summary.json"),
            *place.glob("results/measure/**/load-*.json"),
        ]
        facts = [json.loads(path.read_text())["smlp"] for path in made]
        assert len(facts) == 2 * len(BATCH_SIZES) and {fact["device"] for fact in facts} == {"ascend:0"}
        uses += [(fact["device_taken_at"], fact["device_released_at"], place.name) for fact in facts]
    uses.sort()
    assert all(end <= start for (_, end, _), (start, _, _) in zip(uses, uses[1:]))


@pytest.mark.parametrize("old", [False, True], ids=["summary", "sumary of 0.0.1"])
def test_results_of_ais_bench_are_imported(swept, tmp_path, old):
    """As on a host that has no Snakemake: its folder in place of our infer, nothing of Ascend at hand."""
    folder, _ = swept
    there = tmp_path / "theirs" / "small" / "ascend" / "high" / "bs8"
    shutil.copytree(folder / "results/infer/small/ascend/high/digits/bs8", there)
    summary = json.loads((there / "shard-0_summary.json").read_text())
    del summary["smlp"]
    (there / "shard-0_summary.json").unlink()
    if old:
        for key in ("npu_compute_time_list", "pid"):
            del summary[key]
        for number, entry in summary["filesinfo"].items():
            result = there / "shard-0" / Path(entry["outfiles"][0]).name
            result.rename(result.with_name(f"sample_id_{number}_output_0.npy"))
            entry["outfiles"] = [f"sample_id_{number}_output_0.npy"]
    target = there / "shard-0" / "sumary.json" if old else there / "shard-0_summary.json"
    target.write_text(json.dumps(summary))
    other = tmp_path / "here"
    shutil.copytree(folder, other, ignore=without_ascend_results)
    measure = {key: value for key, value in SETTINGS["measure"].items() if not key.startswith("sustained")}
    theirs = {"batch_sizes": [8], "infer": {"import": str(tmp_path / "theirs")}}
    settings = {**SETTINGS, "measure": measure, **theirs}
    (other / "sweep.yaml").write_text(yaml.safe_dump(settings))
    done = snakemake(other, "--cores", "2", "--rerun-triggers", "mtime", env=_nothing_of_ascend(tmp_path))
    assert done.returncode == 0, done.stderr[-4000:]
    (theirs,) = (row for row in rows(other / "results/tables/accuracy.csv") if row["backend"] == "ascend")
    ours = [row for row in rows(folder / "results/tables/accuracy.csv") if row["batch"] == "8"][0]
    assert theirs["top1_percent"] == ours["top1_percent"] and theirs["verdict"] == "pass"
    (measured,) = rows(other / "results/tables/throughput.csv")
    assert float(measured["images_per_s"]) == pytest.approx(8000 / summary["NPU_compute_time"]["mean"])


def test_ready_made_engines(swept, tmp_path):
    """A path in place of compiling; an engine of another batch size is found out when it is opened."""
    folder, _ = swept
    oms = {batch: str(folder / f"results/compile/small/ascend/high/bs{batch}.om") for batch in (1, 4)}
    settings = {**SETTINGS, "batch_sizes": [1, 4]}
    settings["models"] = {"small": {**SETTINGS["models"]["small"], "om": {1: oms[1], 4: oms[1]}}}
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=without_ascend_results)
    (other / "sweep.yaml").write_text(yaml.safe_dump(settings))
    env = environment(folder / "Ascend", npu_smi="310P3-new")
    done = snakemake(other, "--cores", "2", "--rerun-triggers", "mtime", "--until", "infer_shard", env=env)
    assert done.returncode != 0 and "compile_ascend" not in done.stdout + done.stderr
    assert "is an engine for batch 1, but stands for batch 4" in done.stderr
    assert (other / "results/infer/small/ascend/high/digits/bs1/shard-0").is_dir()

    own = other / "bs4.om"
    settings["models"]["small"]["om"][4] = str(own)
    (other / "sweep.yaml").write_text(yaml.safe_dump(settings))
    shutil.copy2(oms[4], own)
    assert snakemake(other, "--cores", "2", "retrieve", env=env).returncode == 0
    assert "Nothing to be done" in snakemake(other, "-n", "--cores", "2", "retrieve", env=env).stdout
    shutil.copyfile(oms[1], own)
    os.utime(own, (1_000_000_000, 1_000_000_000))
    done = snakemake(other, "-n", "--cores", "2", "retrieve", env=env)
    assert "retrieve the .om file for batch 4" in done.stdout and "for batch 1" not in done.stdout


# without an NPU, without CANN


def _nothing_of_ascend(home):
    """The environment of a host that has nothing of Ascend."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("ASCEND_", "SMLP_"))}
    return {**env, "HOME": str(home), "PYTHONPATH": ""}


def test_dry_run_prints_the_commands_of_the_guide(tmp_path):
    done = snakemake(
        workplace(tmp_path, {}), "-n", "-p", "--cores", "1", config=GUIDE, env=_nothing_of_ascend(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    found = {line.partition("in a scratch folder: ")[2] for line in done.stdout.splitlines()} - {""}
    assert found == {
        f"atc --framework=5 --model=model.onnx --output=bs{batch} --input_format=NCHW "
        f"--input_shape=input:{batch},3,224,224 --log=error --soc_version=Ascend310P3 "
        "--op_precision_mode=op_precision.ini"
        for batch in BATCH_SIZES
    }


def test_published_columns_stand_beside_the_measured_one():
    settings = yaml.safe_load(GUIDE.read_text())
    assert settings["batch_sizes"] == BATCH_SIZES and settings["accuracy"]["margin_points"] == 1.0
    model = settings["models"]["smlpnet_tiny"]
    published = rows(ROOT / "resources" / "published.csv")
    # the guide's checkpoint is the one whose accuracy is published
    of_checkpoint = [row["images"] for row in published if row["checkpoint_md5"] == model["checkpoint"]["md5"]]
    assert of_checkpoint == ["50000", "50000"]
    assert {row["device"] for row in published if row["what"] == "throughput"} == {"Ascend310P3", "Tesla T4"}


def test_compile_without_cann_says_what_to_install(tmp_path, command, tiny):
    flags = ("--backend", "ascend", "--precision", "fp16", "--batch_size", 1, "--onnx_path", tiny.onnx)
    done = command("compile", *flags, "--output", tmp_path / "bs1.om", env=_nothing_of_ascend(tmp_path))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "CANN is not installed: install the package Ascend-cann-toolkit" in done.stderr
    assert "set_env.sh" in done.stderr and not list(tmp_path.iterdir())


def test_run_without_aclruntime_says_what_to_install(tmp_path, command):
    (tmp_path / "bs1.om").write_bytes(b"IMOD")
    done = command("infer", "--model", tmp_path / "bs1.om", env=_nothing_of_ascend(tmp_path))
    assert done.returncode == 1 and "needs the Python package 'aclruntime'" in done.stderr
    assert "install the aclruntime wheel" in done.stderr and "backends.ascend.python" in done.stderr
    make_cann_tree(tmp_path / "Ascend")
    done = command("infer", "--model", tmp_path / "bs1.om", env=environment(tmp_path / "Ascend", sourced=False))
    assert done.returncode == 1 and "libascendcl.so" in done.stderr and "set_env.sh" in done.stderr


def test_doctor_without_anything(tmp_path, command):
    done = command("doctor", "--ascend_root", tmp_path / "Ascend", env=_nothing_of_ascend(tmp_path))
    assert done.returncode == 1, done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines() if line]
    assert {words[1] for words in lines if words[0] == "missing"} == {"CANN", "atc", "NPUs", "aclruntime"}
    assert "install Ascend-cann-toolkit" in done.stdout and "compile for Ascend: no" in done.stdout
    assert len(done.stdout.splitlines()) < 24  # one screen


@pytest.mark.parametrize("variant, state", [("310P3-busy", "power_test"), ("310P3-alarm", "Alarm"), ("910B3", "idle")])
def test_doctor_on_an_ascend_host(tmp_path, command, variant, state):
    root = tmp_path / "Ascend"
    make_cann_tree(root, "8.3.RC2")
    env = environment(root, npu_smi=variant, sourced=False)
    flags = ("--ascend_root", root, "--python", sys.executable)
    done = command("doctor", *flags, env=env)
    assert "installed but not set up: source" in done.stdout and state in done.stdout
    assert done.returncode == 1 and "libascendcl.so" in done.stdout
    done = command("doctor", *flags, "--set_env", root / "ascend-toolkit/set_env.sh", env=env)
    assert done.returncode == 0 and "8.3.RC2" in done.stdout and "run on Ascend: yes" in done.stdout


# the interpreter of an NPU host


@pytest.fixture(scope="module")
def python39(tmp_path_factory):
    """A real Python 3.9 with NumPy and nothing else: SMLP_PYTHON39, or made from a python3.9 on this machine."""
    if "SMLP_PYTHON39" in os.environ:
        return os.environ["SMLP_PYTHON39"]
    places = [shutil.which("python3.9"), *map(str, Path.home().glob(".pyenv/versions/3.9*/bin/python3.9"))]
    works = [p for p in places if p and not subprocess.run([p, "-c", ""], capture_output=True).returncode]
    if not works:
        pytest.skip("no Python 3.9 on this machine; name one that has NumPy in SMLP_PYTHON39")
    folder = tmp_path_factory.mktemp("python39")
    subprocess.run([works[0], "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    done = subprocess.run([python, "-m", "pip", "install", "-q", "numpy<2.1"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NumPy for Python 3.9 cannot be installed: {done.stderr.strip()[-200:]}")
    return python


def test_infer_measure_and_sustain_under_python_39(python39, tmp_path):
    host = Host(tmp_path)
    om = host.compile("bs2")
    images = np.random.default_rng(1).normal(size=(5, 3, 8, 8)).astype(np.float32)
    (tmp_path / "bins").mkdir()
    for index, image in enumerate(images):
        image.tofile(tmp_path / "bins" / f"batch-{index:05d}.bin")
    env = environment(host.root / "Ascend", SMLP_EMULATOR_PYTHON=sys.executable, TMPDIR=str(tmp_path))
    warmup = ["--warmup_window_s=0.01", "--warmup_max_s=0.1"]
    quick = ["--retry_max_s=0", "--min_time_s=0.1", "--min_runs=3", *warmup]
    flags = ["--model", om, "--backend", "ascend", "--input", "bins"]
    for name, own in (
        ("infer", ["--output", ".", "--output_dirname", "out", "--outfmt", "NPY"]),
        ("measure", ["--output", "bs2.json", *quick]),
        ("sustain", ["--output", "sustained.json", "--sustained_s=0.1", *warmup]),
    ):
        line = [python39, str(ROOT / "scripts" / f"{name}.py"), *flags, *own]
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out_summary.json").read_text())
    assert summary["smlp"]["versions"]["python"].startswith("3.9") and summary["smlp"]["images"] == 5
    assert len(list((tmp_path / "out").glob("batch-*_0.npy"))) == 5


# the real front end of ais_bench


@pytest.mark.skipif("AIS_BENCH" not in os.environ, reason="AIS_BENCH: folder that holds the Python package ais_bench")
@pytest.mark.parametrize("form", ["NPY", "BIN", "TXT"])
def test_same_results_as_ais_bench(tmp_path, form):
    """Its own front end on the emulator: the same names, bytes and keys as ours, from the same folder."""
    host = Host(tmp_path)
    om = host.compile("bs4", input_shape="input:4,3,8,8")
    images = np.random.default_rng(1).normal(size=(11, 3, 8, 8)).astype(np.float32)
    (tmp_path / "bins").mkdir()
    for index, image in enumerate(images):
        image.tofile(tmp_path / "bins" / f"batch-{index:05d}.bin")
    (tmp_path / "bins" / "manifest.csv").write_text("index,bin,image,class,label,sha256\n")
    env = environment(host.root / "Ascend")
    theirs = {**env, "PYTHONPATH": f"{os.environ['AIS_BENCH']}:{env['PYTHONPATH']}"}
    flags = ["--model", om, "--input", "bins", "--output", ".", "--outfmt", form, "--output_dirname"]
    ours = [sys.executable, str(ROOT / "scripts" / "infer.py")]
    for line, variables in (
        ([sys.executable, "-m", "ais_bench", *flags, "theirs"], theirs),
        ([*ours, *flags, "ours"], env),
    ):
        done = subprocess.run(line, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    made = {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()} and len(made) == 11
    a, b = (json.loads((tmp_path / f"{name}_summary.json").read_text()) for name in ("theirs", "ours"))
    assert list(a) == [key for key in b if key != "smlp"]
    assert [entry["infiles"] for entry in a["filesinfo"].values()] == [e["infiles"] for e in b["filesinfo"].values()]
    for key in ("NPU_compute_time", "H2D_latency", "D2H_latency"):
        assert list(a[key]) == list(b[key]) and a[key]["count"] == b[key]["count"] == 3
