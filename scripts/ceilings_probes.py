"""What ceilings.py measures with: products and memory of the CPU, and of one GPU."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple

from smlp.core import host
from smlp.core.provenance import Facts

# Sides of square matrices: small ones stay in a processor's own cache, larger ones have less overhead.
_CPU_SIDES = (256, 384, 512, 768, 1024)
_CUDA_SIDES = (4096, 8192)
_PRECISIONS = ("fp32", "bf16", "fp16", "int8")
_TRIAL_SIDE = 256
# What a processor lacks is computed number by number: slower than this share of fp32, it is no ceiling of anything.
_TOO_SLOW = 1 / 4
_LONGEST_S = 0.1
# The rate that counts was reached so often. It has settled if two rounds came so close to it.
_REACHED, _AGREEMENT = 3, 1.08
# So many rounds; on a host that is busy, so often as many.
_ROUNDS, _PATIENCE = 4, 2
_PASS_S = 1e-3
_MEMORY_BYTES, _MEMORY_BYTES_MOST = 256 << 20, 512 << 20

Work = Callable[[], Any]


class Rate(NamedTuple):
    """Of one precision or level. settled: whether it was reached again and again."""

    per_s: float
    settled: bool


class NoCeiling(Exception):
    """Why nothing can be measured; no reason to stop a sweep."""


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise NoCeiling(f"PyTorch is not installed here ({error})") from None
    return torch


# --- the CPU


def of_cpu(threads: int, time_s: float) -> Facts:
    """The ceilings of `threads` processors, in about `time_s` seconds, as the keys of the report."""
    levels = _levels(host.caches())
    products = {precision: probe for precision in _PRECISIONS if (probe := cpu_product(precision, threads))}
    bandwidths = [(name, holds, Bandwidth(size, threads)) for name, holds, size in levels]
    measure([*products.values(), *(probe for *_, probe in bandwidths)], time_s)
    slowest = products["fp32"].rate.per_s * _TOO_SLOW
    rates = {name: probe.rate for name, probe in products.items() if probe.rate.per_s > slowest}
    return _report(host.cpu_model(), rates, [(name, holds, probe.rate) for name, holds, probe in bandwidths])


def _report(
    name: str, rates: dict[str, Rate], bandwidths: list[tuple[str, int | None, Rate]], to_device: float | None = None
) -> Facts:
    return {
        "name": name,
        "operations_per_s": {precision: rate.per_s for precision, rate in rates.items()},
        "settled": {precision: rate.settled for precision, rate in rates.items()},
        "bandwidths": [
            {"level": level, "holds_bytes": holds, "bytes_per_s": rate.per_s} for level, holds, rate in bandwidths
        ],
        "host_to_device_bytes_per_s": to_device,
    }


def measure(probes: Sequence[Products | Bandwidth], time_s: float) -> None:
    """Let probes take turns in rounds, so that a slow moment of the host meets all alike; more of them if need be."""
    for _ in range(_ROUNDS * _PATIENCE):
        unsettled = [probe for probe in probes if not probe.rate.settled]
        for probe in unsettled:
            probe.run(time_s / _ROUNDS / len(probes))


def _agreed(rounds: Sequence[float], per_s: float) -> bool:
    """Whether so many rounds are done, two of which came close to what all of them together reached."""
    return len(rounds) >= _ROUNDS and sorted(rounds)[-2] * _AGREEMENT >= per_s


class Products:
    """Matrix products in one precision on `threads` processors. sides: those of the matrices that are tried."""

    def __init__(self, precision: str, threads: int, sides: Sequence[int]) -> None:
        self._work = {side: [_product(precision, side) for _ in range(threads)] for side in sides}
        self._seconds: dict[int, list[list[float]]] = {side: [[] for _ in range(threads)] for side in sides}
        self._rounds: list[float] = []

    def run(self, time_s: float) -> None:
        """One round. After the first one only the two sides that were fastest take part."""
        sides = sorted(self._work, key=lambda side: _sum_of_rates(side, self._seconds[side]), reverse=True)
        sides = sides[:2] if self._rounds else sides
        found = []
        for side in sides:
            seconds = _together(self._work[side], time_s / len(sides))
            found.append(_sum_of_rates(side, seconds))
            for own, more in zip(self._seconds[side], seconds, strict=True):
                own += more
        self._rounds.append(max(found))

    @property
    def rate(self) -> Rate:
        """Operations a second, two for each multiply-add."""
        per_s = max(_sum_of_rates(side, seconds) for side, seconds in self._seconds.items())
        return Rate(per_s, _agreed(self._rounds, per_s))


def cpu_product(precision: str, threads: int) -> Products | None:
    """The probe of a precision; None if this torch has no such product."""
    from smlp.backends import _precision

    _torch()
    _precision.use_full_fp32(None)
    try:
        trial_s = _burst_s(_product(precision, _TRIAL_SIDE))
    except (AttributeError, NotImplementedError, RuntimeError):
        return None
    # what would take long is computed number by number, and no larger matrix makes it faster
    sides = [side for side in _CPU_SIDES if trial_s * (side / _TRIAL_SIDE) ** 3 < _LONGEST_S]
    return Products(precision, threads, sides or [_TRIAL_SIDE])


def _sum_of_rates(side: int, seconds: Sequence[list[float]]) -> float:
    return sum(2 * side**3 / _reached(own) for own in seconds if own)


def _reached(seconds: Sequence[float]) -> float:
    """The fastest that was reached so often; the slowest of fewer."""
    return sorted(seconds)[:_REACHED][-1]


def _burst_s(work: Work) -> float:
    """Seconds of a run, the shortest of a few."""
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _product(precision: str, side: int) -> Work:
    """A function that multiplies two square matrices on one processor."""
    torch = _torch()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    if dtype:
        left, right = (torch.ones((side, side)).to(dtype) for _ in range(2))
        made = torch.empty((side, side), dtype=dtype)
        return lambda: torch.mm(left, right, out=made)
    images = torch.ones((side, side), dtype=torch.uint8)
    weights = torch.ones((side, side), dtype=torch.int8)
    with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, TypeError):
        # unsigned by signed, with weights in the processor's own order: what engines run
        linear, packed = torch.ops.onednn.qlinear_pointwise, torch.ops.onednn.qlinear_prepack(weights, [side, side])
        scales, zeros = torch.ones(side), torch.zeros(side, dtype=torch.int64)
        arguments = (images, 1.0, 0, packed, scales, zeros, None, 1.0, 0, torch.uint8, "none", [], "")
        if int(linear(*arguments)[0, 0]) == min(side, 255):
            return lambda: linear(*arguments)
    return lambda: torch._int_mm(weights, weights)


def _together(work: Sequence[Work], time_s: float) -> list[list[float]]:
    """Run each function again and again in a thread of its own, all at once; the seconds of each run."""
    seconds: list[list[float]] = [[] for _ in work]

    def repeat(run: Work, own: list[float]) -> None:
        _torch().set_num_threads(1)  # of this thread alone
        run()
        end = time.perf_counter() + time_s
        while True:
            start = time.perf_counter()
            run()
            done = time.perf_counter()
            own.append(done - start)
            if done > end:
                return

    started = [threading.Thread(target=repeat, args=pair) for pair in zip(work, seconds, strict=True)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return seconds


def _levels(caches: dict[int, int]) -> list[tuple[str, int | None, int]]:
    """(name, bytes that it holds, bytes to move in it) of each cache beyond the first level, and of memory."""
    found = [(f"L{level} cache", size, size // 2) for level, size in caches.items() if level > 1]
    largest = max(caches.values(), default=0)
    beyond = max(_MEMORY_BYTES, min(2 * largest, _MEMORY_BYTES_MOST), largest * 5 // 4)
    return [*found, ("memory", None, beyond)]


class Bandwidth:
    """Copying and reading `size` bytes, by `threads` processors together, each its own part."""

    def __init__(self, size: int, threads: int) -> None:
        torch = _torch()
        elements = max(1, size // 8 // threads)
        arrays = [[torch.ones(elements) for _ in range(2)] for _ in range(threads)]
        copied = [lambda pair=pair: pair[1].copy_(pair[0]) for pair in arrays]
        read = [lambda pair=pair: (pair[0].sum(), pair[1].sum()) for pair in arrays]
        self._moved = 8 * elements * threads
        self._ways = [(copied, []), (read, [])]
        self._rounds: list[float] = []

    def run(self, time_s: float) -> None:
        """One round."""
        found = []
        for work, seconds in self._ways:
            more = _barrier_seconds(work, time_s / len(self._ways))
            found.append(self._moved / _reached(more))
            seconds += more
        self._rounds.append(max(found))

    @property
    def rate(self) -> Rate:
        """Bytes a second."""
        per_s = max((self._moved / _reached(seconds) for _, seconds in self._ways if seconds), default=0.0)
        return Rate(per_s, _agreed(self._rounds, per_s))


def _barrier_seconds(work: Sequence[Work], time_s: float) -> list[float]:
    """Seconds of each pass if all functions start together, until the last one ends: memory is shared."""
    begin, ends = threading.Barrier(len(work)), [0.0] * len(work)
    passes, seconds, stop = 1, [], [False]

    def repeat(place: int) -> None:
        _torch().set_num_threads(1)
        while True:
            begin.wait()
            if stop[0]:
                return
            for _ in range(passes):
                work[place]()
            ends[place] = time.perf_counter()
            begin.wait()

    others = [threading.Thread(target=repeat, args=(place,)) for place in range(1, len(work))]
    for thread in others:
        thread.start()
    _torch().set_num_threads(1)
    end = time.perf_counter() + time_s
    while not seconds or time.perf_counter() < end:
        begin.wait()
        start = time.perf_counter()
        for _ in range(passes):
            work[0]()
        ends[0] = time.perf_counter()
        begin.wait()
        took = max(ends) - start
        if took < _PASS_S:  # too short to begin together
            passes *= 2
        else:
            seconds.append(took / passes)
    stop[0] = True
    begin.wait()
    for thread in others:
        thread.join()
    return seconds


# --- CUDA


def of_cuda(device: str, time_s: float) -> Facts:
    """The ceilings of one GPU, in about `time_s` seconds after torch has opened it, as the keys of the report."""
    torch = _torch()
    if not torch.cuda.is_available():
        raise NoCeiling("this PyTorch sees no GPU")
    if torch.device(device).index >= torch.cuda.device_count():
        raise NoCeiling(f"this PyTorch sees {torch.cuda.device_count()} GPUs")
    torch.cuda.set_device(torch.device(device))
    try:
        return _of_this_gpu(time_s)
    except torch.cuda.OutOfMemoryError as error:
        raise NoCeiling(f"the GPU's memory is full ({error})") from None


def _of_this_gpu(time_s: float) -> Facts:
    torch = _torch()
    about = torch.cuda.get_device_properties(torch.cuda.current_device())
    cache = getattr(about, "L2_cache_size", 0)
    free = torch.cuda.mem_get_info()[0]
    sizes = [("L2 cache", cache, cache // 2)] * bool(cache) + [("memory", None, min(2 << 30, free // 4))]
    share_s = time_s / (len(_PRECISIONS) + 2 + len(sizes))
    rates = {
        precision: rate
        for precision in (*_PRECISIONS, "tf32")
        if (rate := operations_on_cuda(precision, share_s)) is not None
    }
    bandwidths = [(name, holds, _device_bandwidth(size, share_s)) for name, holds, size in sizes]
    source = torch.ones(64 << 20, dtype=torch.uint8).pin_memory()
    target = torch.empty_like(source, device="cuda")
    to_device = _cuda_rate(lambda: target.copy_(source, non_blocking=True), source.numel(), share_s)
    return _report(about.name, rates, bandwidths, to_device.per_s)


def operations_on_cuda(precision: str, time_s: float) -> Rate | None:
    """As `operations`, of the current GPU; None for a precision that it, or this torch, does not have."""
    torch = _torch()
    found = []
    with _tf32(precision == "tf32"):
        for side in _CUDA_SIDES:
            try:
                found.append(_cuda_rate(_cuda_product(precision, side), 2 * side**3, time_s / len(_CUDA_SIDES)))
            except (RuntimeError, NotImplementedError):  # too little memory is one of the former
                torch.cuda.empty_cache()
    return max(found, key=lambda rate: rate.per_s, default=None)


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    torch = _torch()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    yield
    torch.set_float32_matmul_precision(before)


def _cuda_product(precision: str, side: int) -> Work:
    torch = _torch()
    newer = torch.cuda.get_device_capability() >= (8, 0)
    if precision in ("bf16", "tf32") and not newer:
        raise NotImplementedError(precision)
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}
    left, right = (torch.ones((side, side), device="cuda").to(dtypes.get(precision, torch.float32)) for _ in range(2))
    if precision == "int8":  # rows by columns, the order that the tensor cores take
        return lambda: torch._int_mm(left, right.t())
    made = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=made)


def _device_bandwidth(size: int, time_s: float) -> Rate:
    torch = _torch()
    source = torch.ones(size // 8, device="cuda")
    target = torch.empty_like(source)
    return _cuda_rate(lambda: target.copy_(source), 8 * source.numel(), time_s)


def _cuda_rate(work: Work, amount: int, time_s: float) -> Rate:
    """`amount` a second: the GPU's own clock, over as many runs in a row as take a millisecond."""
    torch = _torch()
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    passes, seconds = 1, []
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    end = time.perf_counter() + time_s
    while len(seconds) < _REACHED or time.perf_counter() < end:
        start.record()
        for _ in range(passes):
            work()
        stop.record()
        stop.synchronize()
        took = start.elapsed_time(stop) / 1000
        if took < _PASS_S:
            passes *= 2
        else:
            seconds.append(took / passes)
    return Rate(amount / _reached(seconds), statistics.median(seconds) <= _AGREEMENT * min(seconds))
