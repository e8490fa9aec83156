"""Artefacts of two finished sweeps exchanged by hand: what takes one in ends with an error that names a file of it.

The sweeps differ in the seed, so in images, checkpoint and all that follows. What is exchanged here may be whole: file
and sidecar then agree, and only what they were made from does not.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BINS = "results/preprocess/digits/test_resnet/shard-0"
OUTPUTS = "results/infer/tiny/onnxruntime/fp32/digits/bs1/shard-0"
ENGINE = "results/compile/tiny/onnxruntime/fp32/bs1"
CHECKPOINT = "results/retrieve/tiny/checkpoint"
ONNX = "results/export/tiny/reference"
REFERENCE = "results/evaluate/tiny/reference/digits"
ACCURACY = "results/evaluate/tiny/onnxruntime/fp32/digits/bs1.json"
THROUGHPUT = "results/measure/tiny/onnxruntime/fp32/bs1"

# Of each command a part of its line that no other has.
COMMANDS = {
    "export": "scripts/export.py",
    "compile": f"--output {ENGINE}.onnx --record_failure",
    "infer": f"scripts/infer.py --model {ENGINE}.onnx",
    "infer openvino": "scripts/infer.py --model results/compile/tiny/openvino/",
    "infer reference": f"scripts/infer.py --model {CHECKPOINT}.pth",
    "measure": f"scripts/measure.py --model {ENGINE}.onnx",
    "measure row": f"--output {THROUGHPUT}.json",
    "evaluate reference": f"--predictions {REFERENCE}.csv",
    "evaluate": f"--json {ACCURACY}",
    "tabulate": "scripts/tabulate.py",
}
# What is exchanged; the commands that then run, of which the last one fails; what its error names.
SWAPS = {
    "one bin": ([f"{BINS}/batch-00003.bin"], ["infer"], r"shard-0/batch-00003\.bin"),
    "one bin, measured": ([f"{BINS}/batch-00003.bin"], ["measure"], r"shard-0/batch-00003\.bin"),
    "manifest": ([f"{BINS}/manifest.csv"], ["infer"], r"shard-0/manifest\.csv"),
    "manifest, scored": ([f"{BINS}/manifest.csv"], ["evaluate"], r"shard-0/manifest\.csv"),
    "bins": ([BINS], ["infer"], r"shard-0/batch-\d+\.bin"),
    "sidecar of bins": ([f"{BINS}.json"], ["infer"], r"shard-0\.json"),
    "bins with sidecar": ([BINS, f"{BINS}.json"], ["infer reference", "evaluate reference"], r"shard-0/manifest\.csv"),
    "one output": ([f"{OUTPUTS}/batch-00003_0.npy"], ["evaluate"], r"shard-0/batch-00003_0\.npy"),
    "outputs": ([OUTPUTS], ["evaluate"], r"shard-0/batch-\d+_0\.npy"),
    "summary": ([f"{OUTPUTS}_summary.json"], ["evaluate"], r"shard-0_summary\.json"),
    "outputs with summary": ([OUTPUTS, f"{OUTPUTS}_summary.json"], ["evaluate"], r"shard-0_summary\.json"),
    "engine": ([f"{ENGINE}.onnx"], ["infer"], r"bs1\.onnx"),
    "engine, measured": ([f"{ENGINE}.onnx"], ["measure"], r"bs1\.onnx"),
    "companion": (["results/compile/tiny/openvino/fp32/bs1.bin"], ["infer openvino"], r"openvino/fp32/bs1\.bin"),
    "sidecar of an engine": ([f"{ENGINE}.json"], ["infer"], r"bs1\.json"),
    "engine with sidecar": ([f"{ENGINE}.onnx", f"{ENGINE}.json"], ["infer", "evaluate"], r"onnxruntime/fp32/bs1\.json"),
    "ONNX file": ([f"{ONNX}.onnx"], ["compile"], r"reference\.onnx"),
    "sidecar of an ONNX file": ([f"{ONNX}.json"], ["compile"], r"reference\.json"),
    "ONNX file with sidecar": (
        [f"{ONNX}.onnx", f"{ONNX}.json"],
        ["compile", "infer", "evaluate"],
        r"export/tiny/reference\.json",
    ),
    "checkpoint": ([f"{CHECKPOINT}.pth"], ["export"], r"checkpoint\.pth"),
    "sidecar of a checkpoint": ([f"{CHECKPOINT}.json"], ["infer reference"], r"checkpoint\.json"),
    "checkpoint with sidecar": (
        [f"{CHECKPOINT}.pth", f"{CHECKPOINT}.json"],
        ["export", "infer reference", "evaluate reference"],
        r"checkpoint\.json",
    ),
    "predictions of the reference": ([f"{REFERENCE}.csv"], ["evaluate"], r"digits\.csv"),
    "figures of the reference": ([f"{REFERENCE}.json"], ["evaluate"], r"digits\.json"),
    "reference": ([f"{REFERENCE}.csv", f"{REFERENCE}.json"], ["evaluate"], r"digits\.csv"),
    "accuracy": ([ACCURACY], ["tabulate"], r"evaluate/tiny/onnxruntime/fp32/digits/bs1\.json"),
    "throughput": ([f"{THROUGHPUT}.json"], ["tabulate"], r"measure/tiny/onnxruntime/fp32/bs1\.json"),
    "latencies": ([f"{THROUGHPUT}/load-0.npy"], ["measure row"], r"measure/tiny/onnxruntime/fp32/bs1/load-0\.npy"),
    "summary of a load": ([f"{THROUGHPUT}/load-0.json"], ["measure row"], r"onnxruntime/fp32/bs1/load-0\.npy"),
    "load": (
        [f"{THROUGHPUT}/load-0.json", f"{THROUGHPUT}/load-0.npy"],
        ["measure row", "tabulate"],
        r"measure/tiny/onnxruntime/fp32/bs1\.json",
    ),
}
# Whole runs: what is exchanged, what was made from it (and the tables), what the error names.
RUNS = {
    "one bin": ([f"{BINS}/batch-00003.bin"], ["results/infer", "results/measure"], "shard-0/batch-00003.bin: "),
    "companion": (
        ["results/compile/tiny/openvino/fp32/bs1.bin"],
        ["results/infer/tiny/openvino", "results/measure/tiny/openvino"],
        "openvino/fp32/bs1.bin: ",
    ),
    "checkpoint with sidecar": (
        [f"{CHECKPOINT}.pth", f"{CHECKPOINT}.json"],
        ["results/export", "results/infer/tiny/pytorch", "results/measure/tiny/pytorch"],
        "results/retrieve/tiny/checkpoint.json: ",
    ),
    "measurement": (
        [f"{THROUGHPUT}.json", f"{THROUGHPUT}/load-0.json", f"{THROUGHPUT}/load-0.npy"],
        [],
        "measure/tiny/onnxruntime/fp32/bs1.json: ",
    ),
}


@pytest.fixture(scope="module")
def sweeps(make_project, small):
    """Two finished sweeps, only to be copied."""
    made = []
    for seed in (1, 2):
        demo = {**small["dataset"]["demo"], "seed": seed}
        targets = [{"backend": backend} for backend in ("pytorch", "onnxruntime", "openvino")]
        made.append(make_project({**small, "dataset": {**small["dataset"], "demo": demo}, "targets": targets}))
        made[-1].sweep()
    return made


@pytest.fixture(scope="module")
def lines(sweeps):
    """The line of each command, as the rules give it."""
    done = sweeps[0].snakemake("--cores", "2", "--dry-run", "--forceall", "--printshellcmds")
    assert done.returncode == 0, done.stdout
    shell = [line.partition("Shell command: ")[2] for line in done.stdout.splitlines() if "Shell command: " in line]
    found = {}
    for name, part in COMMANDS.items():
        (found[name],) = (line for line in shell if part in line)
    return found


@pytest.fixture
def exchanged(sweeps, new_project):
    """exchanged(paths): a copy of the first sweep with these artefacts of the second one."""

    def make(paths):
        project = new_project(sweeps[0])
        for path in paths:
            ours, theirs = project.folder / path, sweeps[1].folder / path
            if theirs.is_dir():
                shutil.rmtree(ours)
                shutil.copytree(theirs, ours)
            else:
                assert ours.read_bytes() != theirs.read_bytes()
                shutil.copy2(theirs, ours)
        return project

    return make


def run(project, line):
    """Run a command as Snakemake would; its status and what it logged."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**project.environment, "PATH": path}
    status = subprocess.run(["bash", "-c", line], cwd=project.folder, env=environment, timeout=600).returncode
    return status, (project.folder / re.search(r"> (\S+) 2>&1", line)[1]).read_text()


@pytest.mark.parametrize("swap", SWAPS)
def test_what_takes_it_in_refuses_it_by_its_name(exchanged, lines, swap):
    paths, commands, named = SWAPS[swap]
    project = exchanged(paths)
    *before, last = commands
    for command in before:
        assert run(project, lines[command])[0] == 0
    status, log = run(project, lines[last])
    error = log.splitlines()[-1]
    assert status == 1 and error.startswith("error: ") and re.search(named, error), log


@pytest.mark.parametrize("swap", RUNS)
def test_a_run_ends_with_that_error(exchanged, swap):
    paths, made_from_it, named = RUNS[swap]
    project = exchanged(paths)
    for folder in (*made_from_it, "results/tables"):
        shutil.rmtree(project.folder / folder)
    done = project.snakemake(*project.where)
    assert done.returncode == 1 and f"{named}" in done.stdout, done.stdout
    assert not (project.folder / "results" / "tables").exists()
