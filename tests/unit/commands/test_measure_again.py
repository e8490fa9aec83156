"""A load that was disturbed is taken again by a fresh process, and a row is made of its loads."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smlp.core import disturbance, host
from smlp.core.cli import UserError

ROOT = Path(__file__).parents[3]
QUICK = ["--min_time_s=0.5", "--min_runs=40", "--warmup_window_s=0.05", "--warmup_max_s=0.5"]


@pytest.fixture(scope="module")
def measure(load_command):
    return load_command("measure")


@pytest.fixture
def place(tmp_path, mixer_onnx):
    """Engines of batch 2, and images."""
    for name in ("bs2", "other"):
        mixer_onnx(tmp_path / f"{name}.onnx", 2)
    (tmp_path / "bins").mkdir()
    for number in range(3):
        np.full((1, 3, 4, 4), number, np.float32).tofile(tmp_path / "bins" / f"{number}.bin")
    return tmp_path


def words(place, output, *more, engine="bs2"):
    where = ["--model", place / f"{engine}.onnx", "--input", place / "bins", "--output", place / output, *QUICK, *more]
    return [sys.executable, "scripts/measure.py", *map(str, where)]


def test_a_disturbed_load_is_taken_again_and_said_to_be(place):
    if disturbance.now().busy_s is None:
        pytest.skip("this host's /proc/stat tells nothing")
    burn = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(burn) for _ in range(host.usable_processors())]
    try:
        line = words(place, "load-0.json", "--retry_max_s=30", "--model_label=m")
        running = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        said = running.stderr.readline()
        assert said.endswith("; this load is discarded and taken again\n") and "other processes took" in said
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert running.wait(120) == 0
    running.stderr.close()
    ours = json.loads((place / "load-0.json").read_text())["smlp"]
    assert ours["discarded"] >= 1 and "other processes took" in ours["discarded_why"]


def test_a_load_that_stays_disturbed_is_kept_with_its_mark(place, measure, monkeypatch):
    seen = disturbance.Disturbance(40.0, 0.0, None, None)
    monkeypatch.setattr(disturbance, "between", lambda before, after: seen)
    assert measure.main([*words(place, "load-0.json", "--retry_max_s=0")[2:]]) == 0
    ours = json.loads((place / "load-0.json").read_text())["smlp"]
    assert ours["stable"] is False and "other processes took 40% of the processors" in ours["disturbed"]
    assert ours["disturbance"]["others_percent"] == 40.0


@pytest.mark.parametrize(
    ("states", "throttling", "reasons"),
    [
        ([{}, {}], [], []),
        ([{"processes": None}, {"processes": []}], ["power cap"], []),
        ([{"processes": ["process 7 x"]}, {"processes": ["process 7 x"]}], [], ["process 7 x used the device"]),
        ([{}], ["power cap", "hardware slowdown"], ["the device was slowed down: hardware slowdown"]),
    ],
)
def test_what_the_device_told_against_figures(measure, states, throttling, reasons):
    assert measure.reasons_of_device(states, throttling) == reasons


@pytest.mark.parametrize(("throttled", "more"), [(None, []), (0, []), (3, ["heat of the processors"])])
def test_reasons_for_low_clocks_are_those_of_the_device_and_of_the_processors(measure, throttled, more):
    seen = disturbance.Disturbance(None, None, throttled, None)
    assert measure.throttling_reasons({"power cap", "hardware slowdown"}, seen) == [
        "hardware slowdown",
        "power cap",
        *more,
    ]


# rows


@pytest.fixture
def loads(place, measure):
    """Summaries of three loads of one engine, and of one load of another."""
    found = []
    for number, engine in enumerate(("bs2", "bs2", "bs2", "other")):
        line = words(place, f"load-{number}.json", "--retry_max_s=0", "--model_label=m", engine=engine)
        measure.main(line[2:])
        found.append(place / f"load-{number}.json")
    return found


def test_a_row_is_made_of_its_loads_and_refuses_others(loads, load_command, place):
    command = load_command("measure_row")
    output = place / "bs2.json"
    assert command.main(["--loads", *map(str, loads[:3]), "--output", str(output)]) == 0
    row = json.loads(output.read_text())
    rates = [json.loads(path.read_text())["throughput"] for path in loads[:3]]
    assert row["smlp"]["rates_of_loads"] == rates and row["smlp"]["loads"] == 3
    assert row["throughput"] == row["smlp"]["images_per_s"] == pytest.approx(3 / sum(1 / rate for rate in rates))
    assert row["smlp"]["images_per_s_low"] < row["throughput"] < row["smlp"]["images_per_s_high"]

    with pytest.raises(UserError, match=r"load-3\.json: engine is .* loads of one row are of one engine"):
        command.main(["--loads", str(loads[0]), str(loads[3]), "--output", str(place / "row.json")])
    with pytest.raises(UserError, match=r"bs2\.json: is no load of measure\.py"):
        command.main(["--loads", str(output), "--output", str(place / "row.json")])
    np.save(loads[0].with_suffix(".npy"), np.ones((5, 2)))
    with pytest.raises(UserError, match=r"load-0\.npy: is not the file that .*load-0\.json describes"):
        command.main(["--loads", str(loads[0]), "--output", str(place / "row.json")])
    assert not (place / "row.json").exists()


def test_a_row_of_a_failed_load_has_failed(loads, load_command, place):
    failure = {
        "failed": "out of memory",
        "smlp": {"model": "m", "backend": "onnxruntime", "precision": "fp32", "batch": 2},
    }
    loads[1].write_text(json.dumps(failure))
    output = place / "bs2.json"
    load_command("measure_row").main(["--loads", *map(str, loads[:3]), "--output", str(output)])
    assert json.loads(output.read_text()) == failure
