"""What commands that run an engine share, in ais_bench's form."""

import argparse
import os
import sys
from types import SimpleNamespace

import pytest

from smlp.backends.base import Timings
from smlp.core.runs import RunFacts
from smlp.results import aisbench

TIMINGS = Timings([0.5, 0.5], [2.0, 6.0], [])


def test_a_summary_states_times_throughput_and_files():
    made = [aisbench.Entry(["a.bin"], ["out/a_0.npy", "out/a_1.npy"]), aisbench.Entry([], [])]
    zeros = {"min": 0, "max": 0, "mean": 0, "median": 0, "percentile(99%)": 0, "count": 0}
    compute = {"min": 2, "max": 6, "mean": 4, "median": 4, "percentile(99%)": pytest.approx(5.96), "count": 2}
    assert aisbench.summary(TIMINGS, 8, made) == {
        "filesinfo": {
            "0": {"infiles": ["a.bin"], "outfiles": ["out/a_0.npy", "out/a_1.npy"]},
            "1": {"infiles": [], "outfiles": []},
        },
        "args": sys.argv,
        "NPU_compute_time": compute,
        "H2D_latency": {"min": 0.5, "max": 0.5, "mean": 0.5, "median": 0.5, "percentile(99%)": 0.5, "count": 2},
        "D2H_latency": zeros,
        "throughput": 2000,
        "npu_compute_time_list": [2.0, 6.0],
        "pid": os.getpid(),
    }


@pytest.mark.parametrize("display_all", [False, True])
def test_the_last_line_about_throughput_is_that_of_ais_bench(capsys, display_all):
    aisbench.print_summary(aisbench.summary(TIMINGS, 8, []), 8, display_all)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "[INFO] throughput 1000*batchsize.mean(8)/NPU_compute_time.mean(4.0): 2000.0"
    assert len([line for line in lines if "latency" in line]) == (2 if display_all else 0)


def test_a_run_is_of_the_engine_that_was_opened_whatever_was_asked_for():
    asked = RunFacts("m", "asked", None, "v", 4, threads=2, engine_path="bs8.onnx", engine_id="ab" * 32)
    backend, engine = SimpleNamespace(name="found"), SimpleNamespace(device="cuda:1", emulated=False)
    run = aisbench.facts_of_run(asked, backend, engine, 8)
    assert run == RunFacts("m", "found", "unknown", "v", 8, "cuda:1", False, 2, "bs8.onnx", "ab" * 32)


def test_a_plain_target_is_the_default():
    parser = argparse.ArgumentParser()
    aisbench.add_engine_flags(parser)
    assert parser.parse_args(["--model", "a.onnx"]).variant == ""
    assert parser.parse_args(["--model", "a.onnx", "--variant", "opset17"]).variant == "opset17"
