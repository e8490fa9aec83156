"""Throughput from a summary that ais_bench wrote on another host."""

import json

import pytest

from smlp import backends

TIMES = {"min": 1.0, "max": 3.0, "mean": 2.0, "median": 1.5, "percentile(99%)": 3.0}


@pytest.mark.parametrize(
    "summary, mean_ms",
    [
        ({"NPU_compute_time": TIMES}, 2.0),  # 0.0.1
        ({"NPU_compute_time": TIMES, "npu_compute_time_list": [4.0, 4.0]}, 4.0),
        ({"npu_compute_time_list": [[10.0, 15.0], [20.0, 25.0]]}, 5.0),  # pairs
        ({"NPU_compute_time": TIMES, "throughput": -500.0}, 2.0),  # of an engine with gears, told no batch size
    ],
)
def test_throughput_comes_from_the_compute_times_of_a_summary(tmp_path, load_command, summary, mean_ms):
    (tmp_path / "in.json").write_text(json.dumps(summary))
    flags = ["--summary", tmp_path / "in.json", "--output", tmp_path / "out.json", "--model_label", "m"]
    flags += ["--precision", "high", "--batchsize", 8]
    assert load_command("measure_import").main(list(map(str, flags))) == 0
    facts = json.loads((tmp_path / "out.json").read_text())["smlp"]
    assert facts["images_per_s"] == pytest.approx(8000 / mean_ms) and facts["latency_ms_mean"] == mean_ms
    assert facts["backend"] == "ascend" and facts["stable"] is None


@pytest.mark.parametrize("text", ["[]", "{}", '{"NPU_compute_time": {"mean": 0}}', '{"npu_compute_time_list": ["x"]}'])
def test_a_summary_without_times_is_refused(tmp_path, command, text):
    (tmp_path / "in.json").write_text(text)
    flags = ("--summary", tmp_path / "in.json", "--output", tmp_path / "out.json", "--model_label", "m")
    done = command("measure_import", *flags, "--precision", "high", "--batchsize", 8)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "in.json: has no times" in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_the_result_says_which_target_it_is_of(tmp_path, load_command):
    (tmp_path / "in.json").write_text(json.dumps({"NPU_compute_time": TIMES}))
    flags = ["--summary", tmp_path / "in.json", "--output", tmp_path / "out.json", "--model_label", "m"]
    flags += ["--backend", "tensorrt", "--precision", "fp16", "--variant", "opset17", "--batchsize", 8]
    assert load_command("measure_import").main(list(map(str, flags))) == 0
    facts = json.loads((tmp_path / "out.json").read_text())["smlp"]
    target = {"model": "m", "backend": "tensorrt", "precision": "fp16", "variant": "opset17", "batch": 8}
    assert {key: facts[key] for key in target} == target
    assert facts["device"] == "tensorrt, measured by ais_bench"


def test_the_backend_is_the_one_that_takes_engines_ready_made(load_command, capsys):
    (name,) = [backend.name for backend in backends.every() if backend.ready_made]
    with pytest.raises(SystemExit):
        load_command("measure_import").main(["--help"])
    assert f"backend of the engine (default: {name})" in " ".join(capsys.readouterr().out.split())
