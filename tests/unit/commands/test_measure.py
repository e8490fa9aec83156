"""The performance pass: when it stops, what it counts, and that it has the device to itself."""

import gc
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from smlp.backends.base import Engine, Timings, Together
from smlp.core import identity
from smlp.core.cli import UserError
from smlp.core.tensor import TensorInfo
from smlp.results import one_load, statistics

ROOT = Path(__file__).parents[3]
SIZE = (3, 4, 4)


@pytest.fixture(scope="module")
def measure(load_command):
    return load_command("measure")


class Scripted(Engine):
    """An engine whose runs take the milliseconds that `latency_ms(run)` says, and 1 ms more for the transfers."""

    device = "nowhere"

    def __init__(self, clock, latency_ms, batch=2):
        self.clock, self.latency_ms = clock, latency_ms
        self.inputs = [TensorInfo("input", np.dtype(np.float32), (batch, *SIZE))]
        self.outputs = [TensorInfo("output", np.dtype(np.float32), (batch, 5))]
        self.seen = []

    def _open(self):
        """It is open from the start."""

    def _close(self):
        """It stays open."""

    def _execute(self, images):
        compute_ms = self.latency_ms(len(self.seen))
        self.seen.append(images)
        self.clock.now_s += (compute_ms + 1) / 1000
        return [np.zeros((len(images), 5), np.float32)], Timings([0.25], [compute_ms], [0.75])


IMAGES = [np.full((2, *SIZE), value, np.float32) for value in range(3)]


# warm-up


def test_warm_up_ends_when_three_windows_agree(measure, clock):
    engine = Scripted(clock, lambda run: 9.0)
    assert one_load.warm_up(lambda: measure.window(engine, IMAGES, 0.1), 60) == (
        30,
        True,
    )  # 3 windows of 0.1 s, 10 ms a run
    assert clock.now_s == pytest.approx(100.3)


def test_warm_up_goes_on_while_the_engine_gets_faster(measure, clock):
    """Halved every window of 0.1 s until 9 ms: windows of 72, 36, 18, 9, 9 and 9 ms."""
    started = clock.now_s
    engine = Scripted(clock, lambda run: max(9.0, 72 * 0.5 ** math.floor((clock.now_s - started) / 0.11)))
    runs, warm = one_load.warm_up(lambda: measure.window(engine, IMAGES, 0.1), 60)
    assert warm
    assert runs == len(engine.seen)
    assert clock.now_s - started > 0.6
    assert engine.latency_ms(0) == 9.0


def test_warm_up_is_bounded(measure, clock):
    started = clock.now_s
    engine = Scripted(clock, lambda run: 9.0 if math.floor((clock.now_s - started) / 0.1) % 2 else 19.0)
    runs, warm = one_load.warm_up(lambda: measure.window(engine, IMAGES, 0.1), 2)
    assert not warm
    assert runs == len(engine.seen)
    assert 2 <= clock.now_s - started <= 2.2


def test_three_windows_are_always_seen(measure, clock):
    engine = Scripted(clock, lambda run: 10.0 * (run + 1))
    runs, warm = one_load.warm_up(lambda: measure.window(engine, IMAGES, 0.001), 0.001)
    assert (runs, warm) == (3, False)


@pytest.mark.parametrize(
    ("windows_ms", "settled"),
    [
        ([100, 100, 100], True),
        ([100, 105, 102], True),
        ([100, 106, 100], False),
        ([100, 97.6, 95.3], False),  # within 5%, and still 2.4% faster each time
        ([95.3, 97.6, 100], True),  # a drift is seen while measuring
    ],
)
def test_windows_agree_and_get_no_faster(windows_ms, settled):
    windows = iter(windows_ms)
    assert one_load.warm_up(lambda: (1, next(windows)), 0) == (3, settled)


# measuring


def test_measuring_takes_at_least_min_runs(measure, clock):
    engine = Scripted(clock, lambda run: 9.0)
    latencies = measure.measure(engine, IMAGES, 0.001, 25)
    assert latencies.end_to_end_ms == pytest.approx([10.0] * 25)
    assert latencies.timings == ([0.25] * 25, [9.0] * 25, [0.75] * 25)


def test_measuring_takes_at_least_min_time(measure, clock):
    engine = Scripted(clock, lambda run: 9.0)
    latencies = measure.measure(engine, IMAGES, 0.5, 3)
    assert len(latencies.end_to_end_ms) == 50
    assert clock.now_s == pytest.approx(100.5)


def test_images_take_turns(measure, clock):
    engine = Scripted(clock, lambda run: 9.0)
    measure.measure(engine, IMAGES, 0.001, 7)
    assert [images[0, 0, 0, 0] for images in engine.seen] == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("collecting", [True, False])
def test_no_garbage_collection_inside_a_run(measure, clock, collecting):
    states = []
    engine = Scripted(clock, lambda run: states.append(gc.isenabled()) or 9.0)
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        measure.measure(engine, IMAGES, 0.001, 3)
        assert gc.isenabled() is collecting
        with pytest.raises(ZeroDivisionError):
            measure.measure(Scripted(clock, lambda run: 1 / 0), IMAGES, 0.001, 3)
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()
    assert states == [False] * 3


# images


def bins_of(folder, *counts):
    folder.mkdir(exist_ok=True)
    images = []
    for index, count in enumerate(counts):
        content = np.full((count, *SIZE), 0, np.float32) + np.arange(count)[:, None, None, None] + 10 * index
        content.astype(np.float32).tofile(folder / f"{index}.bin")
        images.extend(content)
    return [int(image.flat[0]) for image in images]


def batches(loaded):
    return [[int(image.flat[0]) for image in batch] for batch in loaded]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([1], [[0, 0]]),
        ([1, 1], [[0, 10]]),
        ([1, 1, 1], [[0, 10]]),
        ([2, 2], [[0, 1], [10, 11]]),
        ([3, 1], [[0, 1], [2, 10]]),
    ],
)
def test_images_are_loaded_as_whole_batches(measure, clock, tmp_path, counts, expected):
    bins_of(tmp_path / "bins", *counts)
    engine = Scripted(clock, lambda run: 1.0)
    loaded = measure.load_images(str(tmp_path / "bins"), engine, 2)[0]
    assert batches(loaded) == expected
    assert all(batch.shape == (2, *SIZE) and batch.dtype == np.float32 for batch in loaded)


def test_images_repeat_if_there_are_fewer_than_a_batch(measure, clock, tmp_path):
    bins_of(tmp_path / "bins", 1, 1, 1)
    loaded = measure.load_images(str(tmp_path / "bins"), Scripted(clock, None, 8), 8)[0]
    assert batches(loaded) == [[0, 10, 20, 0, 10, 20, 0, 10]]


def test_images_stay_within_their_memory(measure, clock, tmp_path, monkeypatch):
    bins_of(tmp_path / "bins", *[1] * 9)
    monkeypatch.setattr(measure, "_IMAGE_BYTES", 5 * 4 * int(np.prod(SIZE)))
    assert batches(measure.load_images(str(tmp_path / "bins"), Scripted(clock, None), 2)[0]) == [[0, 10], [20, 30]]
    monkeypatch.setattr(measure, "_IMAGE_BYTES", 1)
    assert batches(measure.load_images(str(tmp_path / "bins"), Scripted(clock, None), 2)[0]) == [[0, 10]]


# the whole command

QUICK = ["--retry_max_s=0", "--min_time_s=0.01", "--min_runs=40", "--warmup_window_s=0.01", "--warmup_max_s=0.1"]


@pytest.fixture
def place(tmp_path, mixer_onnx):
    """An engine of batch 2 and three images."""
    mixer_onnx(tmp_path / "bs2.onnx", 2)
    bins_of(tmp_path / "the bins", 1, 1, 1)
    return tmp_path


def flags(place, *more):
    where = ["--model", place / "bs2.onnx", "--input", place / "the bins", "--output", place / "out put" / "bs2.json"]
    return [str(part) for part in (*where, *QUICK, *more)]


def test_the_command_writes_a_summary_and_every_latency(command, place):
    finished = command("measure", *flags(place, "--threads", 1, "--model_label", "mixer"))
    assert (finished.returncode, finished.stderr) == (0, "")
    assert sorted(path.name for path in (place / "out put").iterdir()) == ["bs2.json", "bs2.npy"]
    report = json.loads((place / "out put" / "bs2.json").read_text())
    latencies_ms = np.load(place / "out put" / "bs2.npy")

    assert latencies_ms.dtype == np.float64
    runs = len(latencies_ms)
    assert runs >= 40
    assert latencies_ms.shape == (runs, 2)
    compute_ms, end_to_end_ms = latencies_ms.T
    assert (compute_ms > 0).all() and (compute_ms <= end_to_end_ms).all()

    keys = ["filesinfo", "args", "NPU_compute_time", "H2D_latency", "D2H_latency"]
    assert list(report) == [*keys, "throughput", "npu_compute_time_list", "pid", "smlp"]
    assert report["filesinfo"] == {}
    assert report["args"][0].endswith("measure.py")
    assert report["npu_compute_time_list"] == compute_ms.tolist()
    assert report["NPU_compute_time"]["count"] == runs
    assert report["throughput"] == pytest.approx(1000 * 2 / compute_ms.mean())

    ours = report["smlp"]
    named = [ours[key] for key in ("model", "backend", "batch", "device", "threads")]
    assert named == ["mixer", "onnxruntime", 2, "cpu", 1]
    assert ours["runs"] == runs
    assert ours["warmup_runs"] >= 3
    assert ours["stable"] in (True, False)
    assert ours["latency_ms_mean"] == pytest.approx(compute_ms.mean())
    percentiles = statistics.latency_percentiles(compute_ms)
    assert {name: ours[name] for name in percentiles} == percentiles
    assert (ours["latency_ms_p50"], ours["latency_ms_p90"]) == pytest.approx(tuple(np.percentile(compute_ms, [50, 90])))
    assert ours["images_per_s"] == report["throughput"]
    assert (ours["loads"], ours["rates_of_loads"]) == (1, [ours["images_per_s"]])
    assert (ours["discarded"], ours["discarded_why"]) == (0, None)
    assert ours["engine_mb"] == (place / "bs2.onnx").stat().st_size / 1e6
    assert ours["load_s"] > 0 and ours["first_inference_ms"] > 0 and ours["peak_host_mb"] > 10
    assert ours["end_to_end_images_per_s"] == pytest.approx(1000 * 2 / end_to_end_ms.mean())
    assert ours["engine"] == {"path": str(place / "bs2.onnx"), "id": identity.known(place / "bs2.onnx").id}
    assert ours["host_load_before"] >= 0 and ours["host_load_after"] >= 0
    assert ours["emulated"] is False
    assert {"python", "onnxruntime"} <= set(ours["versions"])

    lines = finished.stdout.splitlines()
    assert lines[-2].endswith(f": {report['throughput']}")
    assert any(line.startswith("[INFO] H2D_latency (ms): ") for line in lines)


def test_percentiles_need_enough_runs(measure, place):
    assert measure.main(flags(place, "--min_runs", 1, "--min_time_s", "1e-9", "--variant", "opset17")) == 0
    ours = json.loads((place / "out put" / "bs2.json").read_text())["smlp"]
    assert (ours["runs"], ours["variant"]) == (1, "opset17")
    assert (ours["latency_ms_p90"], ours["latency_ms_p99"]) == (None, None)
    assert (ours["stable"], ours["disturbed"], ours["known_to_percent"]) == (False, "only a single run", None)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--input", "{place}/none"], "{place}/none: is no file"),
        (["--batchsize", "4"], "--batchsize 4: the engine was compiled for batch 2"),
        (["--model", "{place}/none.onnx"], "{place}/none.onnx: no such engine"),
        (["--output", "{place}/out put/bs2.npy"], "--output {place}/out put/bs2.npy: a name ending in .json"),
        (["--device", "cuda"], "device 'cuda:0': ONNX Runtime"),
        (["--device", "npu"], "backend 'onnxruntime' runs on cpu, cuda or cuda:N, not on 'npu'"),
        (["--backend", "pytorch"], "{place}/bs2.onnx: which model is it?"),
    ],
)
def test_flags_that_do_not_fit_are_refused(measure, place, more, message):
    with pytest.raises(UserError) as error:
        measure.main(flags(place, *(part.format(place=place) for part in more)))
    assert str(error.value).startswith(message.format(place=place))
    assert not (place / "out put").exists()


def test_images_of_another_model_are_refused(measure, place):
    (place / "the bins" / "0.bin").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=r"0\.bin: has 100 bytes"):
        measure.main(flags(place))
    assert not (place / "out put").exists()


@pytest.mark.parametrize("flag", ["--min_time_s", "--warmup_window_s", "--warmup_max_s"])
def test_times_must_be_positive(measure, place, flag, capsys):
    with pytest.raises(SystemExit) as stopped:
        measure.main(flags(place, flag, "0"))
    assert stopped.value.code == 2
    assert f"{flag}: '0' is not a number above 0" in capsys.readouterr().err


# the device to itself


class Other:
    """Another process that holds the device "cpu"."""

    def __init__(self, exclusive=True):
        code = f"""
import sys; sys.path.insert(0, {str(ROOT / "scripts")!r})
from smlp.core import lock
with lock.hold("cpu", exclusive={exclusive}):
    print("holding", flush=True)
    sys.stdin.readline()
"""
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "holding\n"

    def release(self):
        self.process.communicate("\n", timeout=30)

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=30)


def start(name, arguments):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("how", ["release", "kill"])
def test_a_measurement_waits_for_another_one(place, how):
    other = Other()
    waiting = start("measure", flags(place))
    said = waiting.stderr.readline()
    assert said.startswith(f"waiting for device cpu, used by process {other.process.pid} of user {_uid()} since ")
    assert waiting.poll() is None
    assert not (place / "out put").exists()
    getattr(other, how)()
    _, errors = waiting.communicate(timeout=60)
    assert (waiting.returncode, errors) == (0, "")
    assert (place / "out put" / "bs2.json").exists()


def test_inference_keeps_a_measurement_waiting_but_not_other_inference(command, place):
    other = Other(exclusive=False)
    infer_flags = ["--model", place / "bs2.onnx", "--input", place / "the bins"]
    finished = command("infer", *infer_flags)
    assert (finished.returncode, finished.stderr) == (0, "")
    waiting = start("measure", flags(place))
    assert waiting.stderr.readline().startswith("waiting for device cpu, used by process ")
    other.release()
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0


def test_inference_waits_for_a_measurement(place):
    other = Other()
    waiting = start("infer", ["--model", str(place / "bs2.onnx"), "--input", str(place / "the bins")])
    assert waiting.stderr.readline().startswith(f"waiting for device cpu, used by process {other.process.pid} ")
    other.release()
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0


def _uid():
    return Path("/proc/self").stat().st_uid


def test_the_throughput_way_counts_whole_windows(measure):
    """Three requests, ends in bursts, and one run more than whole windows at the end."""

    class Queue:
        def run_together(self, batches, min_time_s, min_runs):
            ended_s = np.array([1.0, 1.1, 1.2, 2.1, 2.2, 2.3, 3.0, 3.1, 3.2, 5.0])
            return Together(ended_s, np.full(len(ended_s), 1000.0), {"requests": 3})

    flags = SimpleNamespace(warmup_window_s=0.1, warmup_max_s=0.1, min_time_s=1, min_runs=1)
    way = measure.measure_together(Queue(), IMAGES, flags)
    assert way["images_per_s"] == pytest.approx(2 * 9 / 3.2)
    assert (way["runs"], way["settings"]) == (10, {"requests": 3})


def test_a_tool_that_sees_no_processes_is_not_taken_for_an_idle_device(measure, capsys):
    for state in ({}, {"processes": []}, {"processes": ["process 1"]}):
        measure.say_unseen("cuda:0", state)
    assert capsys.readouterr().err == ""
    measure.say_unseen("cuda:0", {"processes": None})
    assert "cuda:0: whether other processes used it is unknown" in capsys.readouterr().err
