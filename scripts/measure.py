"""Measure one load of an engine, its latency and throughput: the performance pass, with the device to itself.

Warms up until three windows agree within 5% and get no faster (or --warmup_max_s), then measures for at least
--min_time_s and --min_runs on real images. Throughput = 1000 · batch / mean compute milliseconds, as ais_bench and the
guide define it; the end-to-end images/s beside it include transfers. If the runtime can work on several batches at
once, that is measured too, after the latency. Its figures are under `throughput_way`; its images/s are counted by the
wall clock, since latencies overlap. A load that was disturbed, or was not steady, is taken again by a fresh process
for up to --retry_max_s. Writes a summary JSON with ais_bench's keys, ours under `smlp`, and every single latency beside
it as .npy, float64 (runs, 2): compute and end-to-end ms. scripts/measure_row.py makes a row of several loads.

  scripts/measure.py --model bs8.onnx --input bins/ --output bs8.json
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import io
import itertools
import json
import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Callable, NamedTuple, NoReturn

import numpy as np

from smlp import backends
from smlp.backends.base import Backend, Engine, EngineFailure, Timings, batch_size_of, failure_record, timed
from smlp.core import cli, disturbance, files, host, lock, provenance
from smlp.core.cli import UserError
from smlp.core.energy import Meter
from smlp.core.provenance import Facts
from smlp.core.runs import RunFacts
from smlp.core.sampling import Watch
from smlp.data import bins
from smlp.results import aisbench, one_load

# enough different images that caches cannot learn one by heart, few enough to stay in memory
_IMAGE_BYTES = 128 << 20
_IDLE_S = 1.0
_POWER_CAP = "power cap"
# What a process that starts itself anew hands on to the next: its id, when the first began, why loads were discarded.
_TAKES = "SMLP_TAKES"
_DECIDING = ("threads", "min_time_s", "min_runs", "warmup_window_s", "warmup_max_s")
_STATE = ("temperature_c", "power_w", "aicore_percent", "clock_mhz")


class Latencies(NamedTuple):
    """end_to_end_ms: one per run. timings: compute and transfers as the runtime tells them."""

    end_to_end_ms: list[float]
    timings: Timings


class Takes(NamedTuple):
    """The loads that this measurement took. began_s: time.monotonic() of the first. discarded: why those went."""

    began_s: float
    discarded: list[str]

    @classmethod
    def so_far(cls) -> Takes:
        """What the process before left, if there was one."""
        try:
            left = json.loads(os.environ.pop(_TAKES, "null"))
            return cls(left["began_s"], left["discarded"]) if left["pid"] == os.getpid() else cls(time.monotonic(), [])
        except (ValueError, LookupError, TypeError):  # there was none, or somebody else set the variable
            return cls(time.monotonic(), [])

    def take_again(self, why: str) -> NoReturn:
        """Become a fresh process that does the same: memory, threads and kernels are as in any load."""
        left = {"pid": os.getpid(), "began_s": self.began_s, "discarded": [*self.discarded, why]}
        words = getattr(sys, "orig_argv", ["", *sys.argv])[1:]  # Python 3.9 does not know its own flags
        os.execve(sys.executable, [sys.executable, *words], {**os.environ, _TAKES: json.dumps(left)})


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    takes = Takes.so_far()
    started_s = time.monotonic()
    try:
        report, latencies = run(flags, takes.discarded)
    except EngineFailure as failure:
        if not flags.record_failure:
            raise
        cli.say(f"nothing to measure: {failure}")
        report, latencies = failure_record(failure, flags), npy(np.empty((0, 2)))
    why = "failed" not in report and _against(report["smlp"])
    another_s = time.monotonic() - started_s
    if why and time.monotonic() + another_s - takes.began_s < flags.retry_max_s and __name__ == "__main__":
        cli.say(f"{why}; this load is discarded and taken again")
        takes.take_again(why)
    with files.whole_file(flags.output) as partial:
        partial.with_suffix(".npy").write_bytes(latencies)
        files.write_json(partial, report)
    if "failed" not in report:
        aisbench.print_summary(report, report["smlp"]["batch"], True)
    return 0


def _against(facts: Facts) -> str | None:
    """What is known against a load, in either way of running, that another load might not have."""
    ways = [way for way in (facts, facts["throughput_way"]) if way and way["known_to_percent"] is not None]
    return next((way["disturbed"] for way in ways if way["disturbed"]), None)


def run(flags: argparse.Namespace, discarded: Sequence[str] = ()) -> tuple[Facts, bytes]:
    """Measure the engine: the summary, and as .npy every latency, float64 (runs, 2), compute and end-to-end ms.

    discarded: why the loads before this one were.
    """
    backend, sidecar, engine = backends.open_engine(
        flags.model, backend=flags.backend, device=flags.device, threads=flags.threads
    )
    asked = RunFacts.asked(flags, sidecar)
    ask = asker(backend, engine.device)
    with lock.hold(engine.device, exclusive=True):
        taken_at = provenance.now()
        # before the engine is opened: later this process is one of the device's
        before = ask()
        refuse_unfit(engine.device, before, flags.allow_busy_device)
        energy = Meter(engine.device, lambda: ask() if before else {})
        energy.idle(_IDLE_S)
        started = time.perf_counter()
        with engine:
            load_s = time.perf_counter() - started
            batch_size = batch_size_of(engine, flags.batchsize)
            images, made_from = load_images(flags.input, engine, batch_size)
            fingerprint = host.fingerprint(provenance.versions(backend.packages), engine.settings, flags.threads)
            fingerprint["where"] = flags.where
            load_before = os.getloadavg()[0]
            first_inference_ms = measure(engine, images, 0, 1).end_to_end_ms[0]
            warm = one_load.warm_up(lambda: window(engine, images, flags.warmup_window_s), flags.warmup_max_s)
            started_at = disturbance.now()
            with Watch(lambda: ask() if before else {}) as watch, energy:
                latencies = measure(engine, images, flags.min_time_s, flags.min_runs)
            seen = disturbance.between(started_at, disturbance.now())
            throughput_way = measure_together(engine, images, flags)
            load_after = os.getloadavg()[0]
            after = ask()
            say_unseen(engine.device, after)
        released_at = provenance.now()
    of_device = reasons_of_device([before, after], watch.throttling)
    power_w = watch.mean("power_w")
    compute_ms = np.asarray(latencies.timings.compute_ms)
    report = aisbench.summary(latencies.timings, batch_size, [])
    end_to_end_images_per_s = 1000 * batch_size / float(np.mean(latencies.end_to_end_ms))
    latencies_npy = npy(np.column_stack([compute_ms, latencies.end_to_end_ms]))
    content = {".npy": hashlib.sha256(latencies_npy).hexdigest()}
    ran = aisbench.facts_of_run(asked, backend, engine, batch_size)
    asked_for = {name: getattr(flags, name) for name in _DECIDING}
    state = aisbench.state_of_run(
        "measure", "measurement", content, ran, backend, engine, made_from, asked_for, dict(flags.env)
    )
    report["smlp"] = provenance.describe(
        packages=backend.packages,
        state=state,
        **ran.of_engine(),
        device_taken_at=taken_at,
        device_released_at=released_at,
        settings=engine.settings,
        environment=dict(flags.env),
        fingerprint=fingerprint,
        **one_load.figures(warm, compute_ms, compute_ms, report["throughput"], [*seen.reasons(), *of_device]),
        disturbance=seen.facts(),
        discarded=len(discarded),
        discarded_why="; ".join(discarded) or None,
        end_to_end_images_per_s=end_to_end_images_per_s,
        compile_s=sidecar.get("compile_s"),
        engine_mb=_size_mb(flags.model, backend),
        load_s=load_s,
        first_inference_ms=first_inference_ms,
        peak_host_mb=disturbance.peak_memory_mb(),
        peak_device_mb=watch.peak("memory_mb"),
        throughput_way=throughput_way,
        host_load_before=load_before,
        host_load_after=load_after,
        **{f"{key}_before": before.get(key) for key in _STATE},
        **{f"{key}_after": after.get(key) for key in _STATE},
        clock_mhz_mean=watch.mean("clock_mhz"),
        throttling="; ".join(throttling_reasons(watch.throttling, seen)) or None,
        power_w_mean=power_w,
        images_per_joule=end_to_end_images_per_s / power_w if power_w else None,
        **energy.facts(batch_size * len(latencies.end_to_end_ms), power_w),
        device_state={"before": before, "after": after},
    )
    return report, latencies_npy


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _size_mb(engine: Path, backend: Backend) -> float:
    """All files of an engine, in 10^6 bytes."""
    paths = [engine, *(engine.with_suffix(suffix) for suffix in (*backend.companions, *backend.large))]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def asker(backend: Backend, device: str) -> Callable[[], Facts]:
    """What tells how a device is just now: its backend, or the host if that is the device."""
    return host.telemetry if device == "cpu" else lambda: backend.telemetry(device)


def refuse_unfit(device: str, state: Facts, allow: bool) -> None:
    """Raise UserError if the device is not healthy or another process uses it; with `allow` only say so."""
    problems = [f"its health is {state['health']}"] if state.get("health", "OK") != "OK" else []
    problems += [f"{process} uses it" for process in state.get("processes") or ()]
    if problems and not allow:
        raise UserError(
            f"device {device}: {', '.join(problems)}; figures would not be the engine's own. Free the device, choose "
            "another, or add --allow_busy_device (allow_busy_device: true)"
        )
    for problem in problems:
        cli.say(f"device {device}: {problem}; measuring all the same, as asked")


def say_unseen(device: str, state: Facts) -> None:
    """Say so if the device lists no processes, not even this one that computed on it: others may have, too."""
    if "processes" in state and state["processes"] is None:
        cli.say(f"device {device}: whether other processes used it is unknown, its tool lists none, not even this one")


def reasons_of_device(states: Sequence[Facts], throttling: Collection[str]) -> list[str]:
    """Why figures would not be the engine's own, by what its device told before, while and after it was measured.

    throttling: reasons for low clocks, as telemetry names them. A power cap is the device as it was sold.
    """
    used = dict.fromkeys(process for state in states for process in state.get("processes") or ())
    slowed = sorted(set(throttling) - {_POWER_CAP})
    found = [f"{process} used the device" for process in used]
    return found + ([f"the device was slowed down: {', '.join(slowed)}"] if slowed else [])


def throttling_reasons(of_device: Collection[str], seen: disturbance.Disturbance) -> list[str]:
    """Every reason for low clocks that was seen, of the device or of the processors; a power cap is one."""
    return [*sorted(of_device), *(["heat of the processors"] if seen.throttled else [])]


def load_images(spec: str, engine: Engine, batch_size: int) -> tuple[list[np.ndarray], dict[str, str]]:
    """Batches of real images for the engine, and what they were made from: the ids of the bins that are read.

    Images repeat if there are fewer than a batch.
    """
    info = engine.inputs[0]
    batch_bytes = batch_size * int(np.prod(info.shape[1:])) * info.dtype.itemsize
    wanted = max(1, _IMAGE_BYTES // batch_bytes) * batch_size
    paths = bins.find(spec)
    bins.check_manifest(paths[0], bins.count(paths[0], info))
    before = itertools.accumulate((bins.count(path, info) for path in paths), initial=0)
    paths = [path for path, _ in itertools.takewhile(lambda pair: pair[1] < wanted, zip(paths, before))]
    made_from = bins.made_from(paths)
    contents: Iterator[np.ndarray] = itertools.chain.from_iterable(bins.read(path, info, batch_size) for path in paths)
    images = list(itertools.islice(itertools.chain.from_iterable(contents), wanted))
    count = max(1, min(wanted, len(images)) // batch_size)
    endless = itertools.cycle(images)
    return [np.stack([next(endless) for _ in range(batch_size)]) for _ in range(count)], made_from


def window(engine: Engine, images: Sequence[np.ndarray], window_s: float) -> tuple[int, float]:
    compute_ms = measure(engine, images, window_s, 1).timings.compute_ms
    return len(compute_ms), float(np.mean(compute_ms))


def measure(engine: Engine, images: Sequence[np.ndarray], min_time_s: float, min_runs: int) -> Latencies:
    """Every latency of at least `min_runs` runs over at least `min_time_s`."""
    latencies = Latencies([], Timings([], [], []))
    endless = itertools.cycle(images)
    with _no_collection():
        started = time.perf_counter()
        while len(latencies.end_to_end_ms) < min_runs or time.perf_counter() - started < min_time_s:
            (_, timings), end_to_end_ms = timed(engine.run, next(endless))
            latencies.end_to_end_ms.append(end_to_end_ms)
            for have, new in zip(latencies.timings, timings):
                have.extend(new)
    return latencies


def measure_together(engine: Engine, images: Sequence[np.ndarray], flags: argparse.Namespace) -> Facts | None:
    """The throughput way, warmed up as the latency way was; None if the runtime has none.

    Throughput = batch · runs / seconds, over whole windows of as many runs as there are requests, from the first start.
    How steady it was is told by these windows: single ends come in bursts, one per request.
    """
    endless = itertools.cycle(images)
    first = engine.run_together(endless, 0, 1)
    if first is None:
        return None
    requests = first.settings["requests"]

    def window() -> tuple[int, float]:
        ended_s = engine.run_together(endless, flags.warmup_window_s, 1).ended_s
        return len(ended_s), 1000 * float(ended_s[-1]) / len(ended_s)

    warm = one_load.warm_up(window, flags.warmup_max_s)
    before = disturbance.now()
    with _no_collection():
        together = engine.run_together(endless, flags.min_time_s, max(flags.min_runs, requests))
    seen = disturbance.between(before, disturbance.now())
    window_ends_s = together.ended_s[requests - 1 :: requests]
    window_ms = 1000 * np.diff(window_ends_s, prepend=0)
    window_images = len(images[0]) * requests
    images_per_s = window_images * len(window_ends_s) / float(window_ends_s[-1])
    return {
        "settings": together.settings,
        **one_load.figures(warm, together.latency_ms, window_ms, images_per_s, seen.reasons()),
        "latency_ms": together.latency_ms.tolist(),
        "ended_s": together.ended_s.tolist(),
    }


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """A garbage collection inside a run would be counted as the engine's."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def add_warmup_flags(parser: argparse.ArgumentParser) -> None:
    """How an engine is warmed up."""
    parser.add_argument("--warmup_window_s", type=cli.positive_number, default=1, help="length of a warm-up window")
    parser.add_argument("--warmup_max_s", type=cli.positive_number, default=60, help="longest warm-up")


def add_device_flags(parser: argparse.ArgumentParser) -> None:
    """Whose device it is."""
    parser.add_argument(
        "--where", choices=("here", "submitted"), default="here", help="whether a scheduler chose this host; recorded"
    )
    parser.add_argument(
        "--allow_busy_device", action="store_true", help="measure also if others use the device, or it is not healthy"
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    aisbench.add_engine_flags(parser)
    aisbench.add_images_flag(parser)
    parser.add_argument("--output", type=Path, required=True, help="summary to write, ending in .json")
    parser.add_argument("--min_time_s", type=cli.positive_number, default=10, help="measure at least this long")
    parser.add_argument("--min_runs", type=cli.positive_int, default=100, help="and at least this often")
    add_warmup_flags(parser)
    parser.add_argument(
        "--retry_max_s",
        type=cli.seconds,
        default=120,
        help="a load that was disturbed or not steady is taken again, for at most this long in all",
    )
    add_device_flags(parser)
    flags = parser.parse_args(argv)
    cli.require_json(flags.output, "; the latencies take the same stem")
    return flags


if __name__ == "__main__":
    cli.run(main)
