"""Measure an engine's latency and throughput: the performance pass, with the device to itself.

Warms up until three windows agree within 5% (or --warmup_max_s), then measures for at least --min_time_s and
--min_runs on real images. Throughput = 1000 · batch / mean compute milliseconds, as ais_bench and the guide
define it; end-to-end images/s, transfers included, beside it. Writes a summary JSON with ais_bench's keys, ours
under `smlp`, and every single latency beside it as .npy, float64 (runs, 2): compute and end-to-end ms.

  scripts/measure.py --model bs8.onnx --input bins/ --output bs8.json
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from smlp import aisbench, backends, bins, cli, files, lock, provenance, statistics
from smlp.backends import Engine, Timings, timed
from smlp.cli import UserError

# enough different images that caches cannot learn one by heart, few enough to stay in memory
_IMAGE_BYTES = 128 << 20
_AGREEMENT = 0.05
_POWER_INTERVAL_S = 1.0
_STATE = ("temperature_c", "power_w", "aicore_percent")


class Latencies(NamedTuple):
    """end_to_end_ms: one a run. timings: compute and transfers as the runtime tells them."""

    end_to_end_ms: list[float]
    timings: Timings


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    name, facts, engine = backends.open_engine(
        flags.model, backend=flags.backend, device=flags.device, threads=flags.threads
    )
    ask = getattr(backends.load(name), "telemetry", lambda device: {})
    with lock.hold(engine.device, exclusive=True):
        # before the engine is opened: later this process is one of the device's
        before = ask(engine.device)
        refuse_unfit(engine.device, before, flags.allow_busy_device)
        with engine:
            batch_size = backends.batch_size(engine, flags.batchsize)
            images = load_images(flags.input, engine, batch_size)
            load_before = os.getloadavg()[0]
            warmup_runs, warm = warm_up(engine, images, flags.warmup_window_s, flags.warmup_max_s)
            with PowerMeter(lambda: ask(engine.device) if before else {}) as meter:
                latencies = measure(engine, images, flags.min_time_s, flags.min_runs)
            load_after = os.getloadavg()[0]
            after = ask(engine.device)
    compute_ms = np.asarray(latencies.timings.compute_ms)
    low, high = statistics.bootstrap_interval_mean_throughput(compute_ms, batch_size)
    report = aisbench.summary(latencies.timings, batch_size, {})
    end_to_end_images_per_s = 1000 * batch_size / float(np.mean(latencies.end_to_end_ms))
    report["smlp"] = provenance.describe(
        packages=backends.load(name).PACKAGES,
        emulated=engine.emulated,
        model=flags.model_label or facts.get("model_name") or flags.model.stem,
        backend=name,
        precision=facts.get("precision", "unknown"),
        batch=batch_size,
        device=engine.device,
        threads=flags.threads,
        engine={"path": str(flags.model), "sha256": facts.get("sha256") or files.digest(flags.model)},
        runs=len(compute_ms),
        warmup_runs=warmup_runs,
        stable=warm and _agree([part.mean() for part in np.array_split(compute_ms, 3) if len(part)]),
        latency_ms_mean=float(compute_ms.mean()),
        **statistics.latency_percentiles(compute_ms),
        images_per_s=report["throughput"],
        images_per_s_low=low,
        images_per_s_high=high,
        end_to_end_images_per_s=end_to_end_images_per_s,
        host_load_before=load_before,
        host_load_after=load_after,
        **{f"{key}_before": before.get(key) for key in _STATE},
        **{f"{key}_after": after.get(key) for key in _STATE},
        power_w_mean=meter.mean_w,
        images_per_joule=end_to_end_images_per_s / meter.mean_w if meter.mean_w else None,
        device_state={"before": before, "after": after},
    )
    with files.whole_file(flags.output) as partial:
        np.save(partial.with_suffix(".npy"), np.column_stack([compute_ms, latencies.end_to_end_ms]))
        files.write_json(partial, report)
    aisbench.print_summary(report, batch_size, True)
    return 0


def refuse_unfit(device: str, state: dict[str, Any], allow: bool) -> None:
    """Raise UserError where the device is not healthy or another process is on it; with `allow` only say so."""
    problems = [f"its health is {state['health']}"] if state.get("health", "OK") != "OK" else []
    problems += [f"{process} uses it" for process in state.get("processes") or ()]
    if problems and not allow:
        raise UserError(
            f"device {device}: {', '.join(problems)}; figures would not be the engine's own. Free the device, choose "
            "another, or add --allow_busy_device (allow_busy_device: true)"
        )
    for problem in problems:
        cli.say(f"device {device}: {problem}; measuring all the same, as asked")


class PowerMeter:
    """Samples a device's power while the block runs; `mean_w` is None where nothing tells it.

    read: a function that returns what a backend's `telemetry` does.
    """

    def __init__(self, read: Callable[[], dict[str, Any]]) -> None:
        self._read = read
        self._samples: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._over.is_set():
            try:
                power_w = self._read().get("power_w")
            except UserError as error:
                cli.say(f"power is not recorded: {error}")
                return
            if power_w is None:
                return
            self._samples.append(power_w)
            self._over.wait(_POWER_INTERVAL_S)

    def __enter__(self) -> PowerMeter:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def mean_w(self) -> float | None:
        """Mean power of the samples in watts."""
        return float(np.mean(self._samples)) if self._samples else None


def load_images(spec: str, engine: Engine, batch_size: int) -> list[np.ndarray]:
    """Batches of real images for the engine; images repeat where there are fewer than a batch."""
    info = engine.inputs[0]
    batch_bytes = batch_size * int(np.prod(info.shape[1:])) * info.dtype.itemsize
    wanted = max(1, _IMAGE_BYTES // batch_bytes) * batch_size
    paths = bins.find(spec)
    bins.check_manifest(paths[0], len(bins.read(paths[0], info)))
    contents: Iterator[np.ndarray] = (bins.read(path, info) for path in paths)
    images: list[np.ndarray] = []
    while len(images) < wanted and (content := next(contents, None)) is not None:
        images.extend(content)
    count = max(1, min(wanted, len(images)) // batch_size)
    endless = itertools.cycle(images)
    return [np.stack([next(endless) for _ in range(batch_size)]) for _ in range(count)]


def warm_up(engine: Engine, images: Sequence[np.ndarray], window_s: float, max_s: float) -> tuple[int, bool]:
    """Run until the last three windows of `window_s` agree within 5%; returns (runs, whether they did)."""
    windows: list[float] = []
    runs = 0
    started = time.perf_counter()
    while True:
        compute_ms = measure(engine, images, window_s, 1).timings.compute_ms
        windows.append(float(np.mean(compute_ms)))
        runs += len(compute_ms)
        if len(windows) >= 3:
            if _agree(windows[-3:]):
                return runs, True
            if time.perf_counter() - started >= max_s:
                return runs, False


def measure(engine: Engine, images: Sequence[np.ndarray], min_time_s: float, min_runs: int) -> Latencies:
    """Every latency of at least `min_runs` runs over at least `min_time_s`."""
    latencies = Latencies([], Timings([], [], []))
    endless = itertools.cycle(images)
    collecting = gc.isenabled()
    gc.disable()  # a collection inside a run would be counted as the engine's
    try:
        started = time.perf_counter()
        while len(latencies.end_to_end_ms) < min_runs or time.perf_counter() - started < min_time_s:
            (_, timings), end_to_end_ms = timed(engine.run, next(endless))
            latencies.end_to_end_ms.append(end_to_end_ms)
            for have, new in zip(latencies.timings, timings):
                have.extend(new)
    finally:
        if collecting:
            gc.enable()
    return latencies


def _agree(values: Sequence[float]) -> bool:
    return bool(max(values) <= (1 + _AGREEMENT) * min(values))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    aisbench.add_engine_flags(parser)
    parser.add_argument("--input", required=True, help="folder of .bin or .npy files with real images, or a comma list")
    parser.add_argument("--output", type=Path, required=True, help="summary to write, ending in .json")
    parser.add_argument("--min_time_s", type=cli.positive_number, default=10, help="measure at least this long")
    parser.add_argument("--min_runs", type=cli.positive_int, default=100, help="and at least this often")
    parser.add_argument("--warmup_window_s", type=cli.positive_number, default=1, help="length of a warm-up window")
    parser.add_argument("--warmup_max_s", type=cli.positive_number, default=60, help="longest warm-up")
    parser.add_argument(
        "--allow_busy_device", action="store_true", help="measure also where others use the device, or it is not well"
    )
    flags = parser.parse_args(argv)
    if flags.output.suffix != ".json":
        raise UserError(
            f"--output {flags.output}: a name ending in .json was expected; the latencies take the same stem"
        )
    return flags


if __name__ == "__main__":
    cli.run(main)
