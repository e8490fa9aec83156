"""One row of the throughput table from its loads: each is a fresh process that loaded the engine and measured it.

A load is what repeats: runs within one share its memory layout, its threads and its moment, so that they tell how
steady the load was, and not how well the figure would repeat.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from ..core.provenance import Facts
from . import statistics

# Loads that an interval needs: the t distribution of two would be 12.7 standard errors wide.
MIN_LOADS = 3
# Loads that differ by more (standard deviation, percent of their mean) are no single figure.
SPREAD_PERCENT = 5.0


class Figures(NamedTuple):
    """The figures of a row in one way of running. images_per_s_low, images_per_s_high: None of too few loads."""

    images_per_s: float
    images_per_s_low: float | None
    images_per_s_high: float | None
    spread_percent: float | None


def figures(rates: Sequence[float]) -> Figures:
    """The throughput of loads with these images/s: their harmonic mean, with its 95% interval.

    The mean of the latencies, in other words. The interval is Student's, of the logarithms: loads differ by factors,
    and neither end can be below 0. It holds whatever the runs within a load are, correlated or not.
    """
    latencies = 1 / np.asarray(rates, dtype=np.float64)
    mean, count = float(1 / latencies.mean()), len(latencies)
    spread = 100 * float(latencies.std(ddof=1) / latencies.mean()) if count > 1 else None
    if count < MIN_LOADS:
        return Figures(mean, None, None, spread)
    half = float(special.stdtrit(count - 1, 0.975) * np.log(latencies).std(ddof=1) / math.sqrt(count))
    return Figures(mean, mean * math.exp(-half), mean * math.exp(half), spread)


def row(loads: Sequence[Facts], latencies_ms: Sequence[np.ndarray]) -> Facts:
    """The facts of a row from those of its loads, which are all of one engine.

    latencies_ms: of each load, float64 (runs, 2), compute and end-to-end. What does not vary is the first load's.
    """
    first = loads[0]
    facts = {**first, **_way(loads, [of_load[:, 0] for of_load in latencies_ms])}
    facts["end_to_end_images_per_s"] = figures([load["end_to_end_images_per_s"] for load in loads]).images_per_s
    for key in (
        "load_s",
        "first_inference_ms",
        "power_w_mean",
        "clock_mhz_mean",
        "images_per_joule",
        "idle_w",
        "joules_per_image",
    ):
        facts[key] = _mean([load.get(key) for load in loads])
    for key in ("peak_host_mb", "peak_device_mb"):
        facts[key] = max((load[key] for load in loads if load[key] is not None), default=None)
    reasons = [reason for load in loads for reason in (load.get("throttling") or "").split("; ") if reason]
    facts["throttling"] = "; ".join(dict.fromkeys(reasons)) or None
    facts["discarded"] = sum(load["discarded"] for load in loads)
    why = [f"load {number}: {load['discarded_why']}" for number, load in enumerate(loads) if load["discarded_why"]]
    facts["discarded_why"] = "; ".join(why) or None
    if first["throughput_way"] is not None:
        ways = [{**load, **load["throughput_way"]} for load in loads]
        together = _way(ways, [np.asarray(way["latency_ms"]) for way in ways])
        settings = first["throughput_way"]["settings"]
        facts["throughput_way"] = {"settings": settings, **together}
    last = loads[-1]
    return facts | {key: last[key] for key in last if key.endswith("_after") or key == "device_released_at"}


def _way(loads: Sequence[Facts], latencies_ms: Sequence[np.ndarray]) -> Facts:
    rates = [load["images_per_s"] for load in loads]
    found = figures(rates)
    pooled = np.concatenate(latencies_ms)
    reasons = list(_reasons(loads, found))
    drifts = [load["drift_percent"] for load in loads if load["drift_percent"] is not None]
    return {
        "loads": len(loads),
        "rates_of_loads": rates,
        "runs": len(pooled),
        "warmup_runs": sum(load["warmup_runs"] for load in loads),
        "stable": not reasons,
        "disturbed": "; ".join(reasons) or None,
        "latency_ms_mean": _mean([load["latency_ms_mean"] for load in loads]),
        **statistics.latency_percentiles(pooled),
        **found._asdict(),
        "autocorrelation": _mean([load["autocorrelation"] for load in loads]),
        "drift_percent": max(drifts, key=abs, default=None),
        "known_to_percent": max((load["known_to_percent"] or 0 for load in loads), default=0) or None,
    }


def _reasons(loads: Sequence[Facts], found: Figures) -> Iterator[str]:
    """Why the row bears the mark: what is known against its loads, each reason once, and how they differ."""
    of_loads: dict[str, list[int]] = {}
    for number, load in enumerate(loads):
        for reason in (load["disturbed"] or "").split("; "):
            of_loads.setdefault(reason, []).append(number)
    of_loads.pop("", None)
    for reason, numbers in of_loads.items():
        where = "" if len(numbers) == len(loads) else f"load {', '.join(map(str, numbers))}: "
        yield where + reason
    if (found.spread_percent or 0) > SPREAD_PERCENT:
        yield f"its loads differ by {found.spread_percent:.0f}% (standard deviation)"
    if any(_comparable(load) != _comparable(loads[0]) for load in loads):
        yield "its loads ran under different conditions"


def _comparable(load: Facts) -> Mapping[str, Any]:
    return {key: value for key, value in load["fingerprint"].items() if key != "where"}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
