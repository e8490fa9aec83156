"""What is stated of one load of an engine: its figures, and what is known against them.

NumPy only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Callable, NamedTuple

import numpy as np

from ..core.provenance import Facts
from . import statistics

_AGREEMENT = 0.05
# Of the last window over the two before it. Windows that agree may each be a little faster than the one before.
_STILL_FASTER = 0.01
# Limits beyond which a load is not steady, in percent of its mean.
_DRIFT_PERCENT, _KNOWN_TO_PERCENT = 3.0, 5.0


class WarmUp(NamedTuple):
    """How many runs it took, and whether its last three windows agreed."""

    runs: int
    agreed: bool


def warm_up(window: Callable[[], tuple[int, float]], max_s: float) -> WarmUp:
    """Call `window`, which returns (runs, mean ms), until three in a row agree within 5%, or for `max_s`.

    The last one may not be more than 1% faster than the two before it: latency still falls then.
    """
    means_ms: list[float] = []
    total_runs = 0
    started = time.perf_counter()
    while True:
        runs, mean_ms = window()
        means_ms.append(mean_ms)
        total_runs += runs
        if len(means_ms) >= 3:
            falls = means_ms[-1] < (1 - _STILL_FASTER) * (means_ms[-3] + means_ms[-2]) / 2
            if max(means_ms[-3:]) <= (1 + _AGREEMENT) * min(means_ms[-3:]) and not falls:
                return WarmUp(total_runs, True)
            if time.perf_counter() - started >= max_s:
                return WarmUp(total_runs, False)


def figures(
    warm: WarmUp, latency_ms: np.ndarray, window_ms: np.ndarray, images_per_s: float, seen: Iterable[str]
) -> Facts:
    """What is stated of the latency way and of the throughput way alike.

    latency_ms: float64 (runs,). window_ms: float64 (windows,), how steady which is told: the latencies themselves if
    one request runs at a time. seen: what else is known against them.
    """
    steady = statistics.steadiness(window_ms)
    reasons = [*_unsteady(warm, len(window_ms), steady), *seen]
    return {
        "loads": 1,
        "rates_of_loads": [images_per_s],
        "runs": len(latency_ms),
        "warmup_runs": warm.runs,
        "stable": not reasons,
        "disturbed": "; ".join(reasons) or None,
        "latency_ms_mean": float(latency_ms.mean()),
        **statistics.latency_percentiles(latency_ms),
        "images_per_s": images_per_s,
        **steady._asdict(),
    }


def _unsteady(warm: WarmUp, runs: int, steady: statistics.Steadiness) -> Iterator[str]:
    """Why a series of latencies is none that would repeat."""
    if steady.known_to_percent is None:
        yield "only a single run" if runs == 1 else f"only {runs} runs"
        return
    if not warm.agreed:
        yield "latency had not settled after the warm-up"
    if abs(steady.drift_percent) > _DRIFT_PERCENT:
        yield f"latency drifted by {steady.drift_percent:+.1f}%"
    if steady.known_to_percent > _KNOWN_TO_PERCENT:
        yield f"latency swung, its mean is known only to {steady.known_to_percent:.0f}%"
