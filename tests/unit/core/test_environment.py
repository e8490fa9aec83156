"""No variable of the environment changes arithmetic, threads or kernels unless it is asked for."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smlp.core import cli, environment

SCRIPTS = Path(__file__).parents[3] / "scripts"
# What a command sees of a few variables, how often it started, and its flags.
PROGRAM = f"""
import os, sys
sys.path.insert(0, {str(SCRIPTS)!r})
from smlp.core import cli
def main(argv):
    print({{name: value for name, value in os.environ.items() if name.startswith(("OMP_", "ONEDNN_", "SMLP_RES"))}})
    print(sys.argv[1:], sys.flags.optimize)
{{more}}
cli.run(main)
"""


def run(*flags, more="", **variables):
    return subprocess.run(
        [sys.executable, "-O", "-c", PROGRAM.replace("{more}", more), *flags],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "name",
    [
        *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_NUM_THREADS", "OMP_NUM_THREADS"),
        *("GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OPENBLAS_CORETYPE", "OV_CPU_MAX_ISA", "ORT_INTRA_OP_NUM_THREADS"),
        *(
            "ATEN_CPU_CAPABILITY",
            "TORCHINDUCTOR_MAX_AUTOTUNE",
            "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
            "TORCH_COMPILE_DEBUG",
        ),
        *("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF", "INF_NAN_MODE_ENABLE"),
        "GLIBC_TUNABLES",
    ],
)
def test_what_changes_arithmetic_threads_or_kernels_matters(name):
    assert environment.matters(name)


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "CXX", "CUDA_VISIBLE_DEVICES", "CUDA_HOME"),
        *("ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH", "ASCEND_RT_VISIBLE_DEVICES", "TORCH_HOME", "TRITON_CACHE_DIR"),
        *("TORCHINDUCTOR_CACHE_DIR", "TORCH_LOGS", "ONEDNN_VERBOSE", "SMLP_STORE", "SLURM_JOB_ID"),
    ],
)
def test_what_says_where_something_is_or_what_is_logged_does_not(name):
    assert not environment.matters(name)


def test_every_variable_that_snakemake_sets_for_jobs_matters():
    from smlp.workflow import jobs

    assert all(map(environment.matters, jobs._SET_BY_SNAKEMAKE))


def test_words_that_ask():
    words = ["--", "--env", "A=1", "x", "--env=B=2=3", "--env", "A=4", "--env", "nonsense", "C=5"]
    assert environment.asked(words) == {"A": "4", "B": "2=3"}


def test_a_command_starts_anew_without_what_nobody_asked_for():
    done = run("a b", "--env", "OMP_NUM_THREADS=1", OMP_NUM_THREADS="2", ONEDNN_DEFAULT_FPMATH_MODE="BF16")
    assert done.returncode == 0
    assert done.stdout == "{'OMP_NUM_THREADS': '1'}\n['a b', '--env', 'OMP_NUM_THREADS=1'] 1\n"
    (line,) = done.stderr.splitlines()
    assert "OMP_NUM_THREADS, ONEDNN_DEFAULT_FPMATH_MODE" in line and "backends.<name>.env" in line and "--env" in line


def test_what_is_asked_for_is_set_without_a_word():
    done = run("--env", "OMP_WAIT_POLICY=active")
    assert done.stdout.startswith("{'OMP_WAIT_POLICY': 'active'}\n") and done.stderr == ""


def test_an_interpreter_that_sets_a_variable_at_each_start_is_named():
    done = run(more="os.environ['OMP_PLACES'] = 'cores'")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1].startswith("error: OMP_PLACES: set anew whenever ")


def test_share_passes_on_what_the_command_asks_for(command, tmp_path):
    words = ["python", "-c", "import os; print(os.environ.get('OMP_NUM_THREADS'))", "--env", "OMP_NUM_THREADS=5"]
    done = command(
        *("share", "--output", tmp_path / "x", "--", sys.executable, *words[1:]),
        env={**os.environ, "OMP_NUM_THREADS": "3", "SMLP_STORE": ""},
    )
    assert (done.returncode, done.stdout) == (0, "5\n")


def test_tests_and_benches_that_call_a_command_are_not_started_anew(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda argv: 0)
    assert ended.value.code == 0


@pytest.mark.parametrize("text", ["A", "=1", ""])
def test_a_flag_that_is_no_assignment_is_refused(text, load_command, capsys):
    with pytest.raises(SystemExit) as ended:
        load_command("infer").main(["--model", "x", "--env", text])
    assert ended.value.code == 2 and "is not of the form NAME=VALUE" in capsys.readouterr().err


# The last changes the order of fp32 sums on every x86 processor; the others only where there are kernels for it.
FAST_AND_WRONG = {
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "OMP_NUM_THREADS": "1",
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}


@pytest.mark.parametrize("backend", ["pytorch", "openvino"])
def test_logits_do_not_depend_on_the_environment(backend, tiny, command, tmp_path):
    engine = tiny.pth
    if backend == "openvino":
        engine = tmp_path / "bs2.xml"
        made = command("compile", "--backend", backend, "--batch_size", 2, "--onnx_path", tiny.onnx, "--output", engine)
        assert made.returncode == 0, made.stderr
    size = 160  # of test_resnet's images
    images = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)
    np.save(tmp_path / "bins.npy", images)

    def logits(name, *flags, **variables):
        where = ["--input", tmp_path / "bins.npy", "--output", tmp_path, "--output_dirname", name, "--outfmt", "NPY"]
        done = command(
            *("infer", "--model", engine, "--backend", backend, "--batchsize", 2, *where, *flags),
            env={**os.environ, **variables},
        )
        assert done.returncode == 0, done.stderr
        return np.load(tmp_path / name / "bins_0.npy").tobytes(), cli_summary(tmp_path / f"{name}_summary.json")

    plain, about = logits("plain")
    assert about["environment"] == {}
    assert logits("cleared", **FAST_AND_WRONG)[0] == plain
    asked, about = logits(
        "asked", *(word for name in FAST_AND_WRONG for word in ("--env", f"{name}={FAST_AND_WRONG[name]}"))
    )
    assert about["environment"] == FAST_AND_WRONG
    assert asked != plain


def cli_summary(path):
    from smlp.core import files

    return files.read_json(path, "a summary")["smlp"]
