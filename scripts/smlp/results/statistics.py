"""Statistics behind the two tables: intervals, tests, verdicts.

NumPy and the standard library only: the commands that run on the target import this under Python 3.9.
Every function takes plain counts or arrays and has a published source, named in its docstring.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

# 97.5% quantile of the standard normal distribution: two-sided 95% intervals throughout.
_Z = 1.959963984540054

# Runs needed before a percentile is worth quoting: about three samples beyond it.
PERCENTILE_MIN_RUNS = {50: 1, 90: 30, 95: 60, 99: 300}

# Fewer runs than this say nothing about how steady they are.
STEADY_MIN_RUNS = 5
_BLOCKS = 20


class PairedDrop(NamedTuple):
    """What happens to top-1 accuracy between a reference and an engine on the same images."""

    right_to_wrong: int
    wrong_to_right: int
    drop_points: float  # reference minus engine, percentage points; positive = the engine is worse
    drop_low_points: float  # 95% confidence interval of the drop
    drop_high_points: float
    verdict: str  # pass | fail | undecided
    noninferiority_p: float  # one-sided p of the hypothesis that the drop is at least the margin
    inferiority_p: float  # and of the hypothesis that it is at most the margin


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """95% score interval of a proportion, as fractions (Wilson 1927, JASA 22:209-212)."""
    if not 0 <= successes <= total or total == 0:
        raise ValueError(f"{successes} of {total} is not a proportion")
    p, z2 = successes / total, _Z * _Z
    centre = p + z2 / (2 * total)
    half = _Z * math.sqrt(p * (1 - p) / total + z2 / (4 * total * total))
    # The bounds are exactly 0 and 1 at the extremes; rounding must not push them beyond.
    low = 0.0 if successes == 0 else (centre - half) / (1 + z2 / total)
    high = 1.0 if successes == total else (centre + half) / (1 + z2 / total)
    return low, high


def mcnemar_exact_p(right_to_wrong: int, wrong_to_right: int) -> float:
    """Two-sided exact McNemar p of the discordant counts (McNemar 1947, Psychometrika 12:153-157).

    Twice the smaller tail of a binomial(n, 1/2), at most 1. Summed in whole numbers, so it is exact to
    the last bit for any count (a tail of 2^-50000 underflows to 0.0).
    """
    discordant = right_to_wrong + wrong_to_right
    term = tail = 1  # binomial(discordant, 0)
    for k in range(min(right_to_wrong, wrong_to_right)):
        term = term * (discordant - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << discordant))


def paired_difference_interval(b: int, c: int, n: int) -> tuple[float, float]:
    """95% score interval of the difference (b - c) / n of two paired proportions, as fractions.

    b, c: pairs of which only the first, only the second is a success; n: all pairs.
    Tango 1998, Statistics in Medicine 17:891-908: the differences that a score test with the restricted
    maximum-likelihood estimate does not reject. Chosen over the Wald family because flips are few:
    with none among 200 images Wald is 0 wide and Agresti-Min still passes a true drop of 1.0 point in
    13% of samples; Tango keeps to the 2.5% it promises.
    """
    observed = (b - c) / n if n else 0.0
    low = -1.0 if observed == -1 else _bisect(lambda drop: paired_score(b, c, n, drop) - _Z, -1.0, observed)
    high = 1.0 if observed == 1 else _bisect(lambda drop: paired_score(b, c, n, drop) + _Z, observed, 1.0)
    return low, high


def paired_score(b: int, c: int, n: int, difference: float) -> float:
    """Standardised distance of the observed (b - c) / n from an assumed difference; falls as the latter rises.

    b, c, n, source: as for `paired_difference_interval`. Asymptotically standard normal if the difference is true.
    """
    if min(b, c) < 0 or b + c > n or n == 0:
        raise ValueError(f"{b} and {c} discordant pairs of {n} are not possible")
    linear = (2 * n - b + c) * difference - b - c
    constant = c * difference * (1 - difference)
    root = math.sqrt(max(0.0, linear * linear + 8 * n * constant))
    # Probability of "only the second" given the difference; the form without cancellation.
    only_second = 2 * constant / (linear + root) if linear > 0 else (root - linear) / (4 * n)
    variance = n * (2 * only_second + difference * (1 - difference))
    distance = b - c - n * difference
    if distance == 0:
        return 0.0
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)


def paired_p_values(b: int, c: int, n: int, difference: float) -> tuple[float, float]:
    """One-sided p values of the score test (Tango 1998, as `paired_difference_interval`).

    The first is of the hypothesis that the true difference is at least `difference`, the second that it is at most
    that. One is below 0.025 exactly if the whole 95% interval lies beyond `difference` on its side.
    """
    score = paired_score(b, c, n, difference)
    return math.erfc(-score / math.sqrt(2)) / 2, math.erfc(score / math.sqrt(2)) / 2


def images_to_decide(b: int, c: int, n: int, difference: float) -> int | None:
    """How many images would take the whole 95% interval to one side of `difference`, if flips go on at the same rate.

    b, c, n: as for `paired_difference_interval`. With b / n and c / n as they are, the score grows with the square root
    of n. None if the observed difference is the assumed one, which no number of images decides.
    """
    score = paired_score(b, c, n, difference)
    return math.ceil(n * (_Z / score) ** 2) if score else None


def _bisect(falling, low: float, high: float) -> float:
    """Where a falling function crosses zero between low and high, to the last bit or nearly so."""
    for _ in range(100):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def verdict(correct_reference: np.ndarray, correct_engine: np.ndarray, margin_points: float) -> PairedDrop:
    """Judge the top-1 drop from reference to engine against a margin in percentage points.

    correct_reference, correct_engine: bool (N,), one entry per image, in the same order.
    pass: the whole 95% interval of the drop lies below the margin; fail: the whole interval lies above
    it; undecided: the margin is inside, the images are too few to tell.
    """
    if correct_reference.shape != correct_engine.shape:
        raise ValueError(f"{correct_reference.shape} and {correct_engine.shape} are not the same images")
    right_to_wrong = int(np.count_nonzero(correct_reference & ~correct_engine))
    wrong_to_right = int(np.count_nonzero(~correct_reference & correct_engine))
    images = len(correct_reference)
    low, high = (100 * bound for bound in paired_difference_interval(right_to_wrong, wrong_to_right, images))
    judgement = "pass" if high < margin_points else "fail" if low > margin_points else "undecided"
    drop = 100 * (right_to_wrong - wrong_to_right) / images
    p_values = paired_p_values(right_to_wrong, wrong_to_right, images, margin_points / 100)
    return PairedDrop(right_to_wrong, wrong_to_right, drop, low, high, judgement, *p_values)


def chance_limit_percent(num_classes: int) -> float:
    """Top-1 up to which a model has shown nothing: twice chance, or halfway from chance to 100 if that is less.

    Chance is 1 / classes: what guessing reaches whatever the images are (Cohen 1960, Educational and Psychological
    Measurement 20:37-46, counts agreement from there on). Twice that would be everything for two classes.
    """
    chance = 100 / num_classes
    return min(2 * chance, (100 + chance) / 2)


def latency_percentiles(latencies_ms: np.ndarray) -> dict[str, float | None]:
    """`latency_ms_p50` … `latency_ms_p99`, None if there are too few runs to support one.

    latencies_ms: float (N,), N >= 1. Linear interpolation, as ais_bench (numpy.percentile's default).
    """
    latencies_ms = _latencies(latencies_ms)
    return {
        f"latency_ms_p{percent}": float(np.percentile(latencies_ms, percent)) if len(latencies_ms) >= needed else None
        for percent, needed in PERCENTILE_MIN_RUNS.items()
    }


class Steadiness(NamedTuple):
    """How a series of latencies behaves over its time; percentages are of its mean, None if the runs are too few.

    autocorrelation: of each latency with the next one. drift_percent: from the first to the last, along a straight
    line; 0 if it lies within twice its standard error. known_to_percent: half of a 95% interval of the mean.
    """

    autocorrelation: float | None
    drift_percent: float | None
    known_to_percent: float | None


def steadiness(latencies_ms: np.ndarray) -> Steadiness:
    """How steady a series of latencies is, float (N,), in the order of time.

    The standard error is the larger one of two, since each misses what the other sees: that of the means of up to 20
    blocks (Law & Carson 1979, Operations Research 27:1011-1025), and that of a first-order autoregression (Priestley
    1981, Spectral Analysis and Time Series, 5.3.2), sd / sqrt(n) · sqrt((1 + r) / (1 - r)).
    """
    latencies_ms = _latencies(latencies_ms)
    runs = len(latencies_ms)
    if runs < STEADY_MIN_RUNS:
        return Steadiness(None, None, None)
    mean = latencies_ms.mean()
    deviations = latencies_ms - mean
    squares = float(deviations @ deviations)
    # the estimate is too low for few runs (Marriott & Pope 1954, Biometrika 41:390-402)
    correlation = float(deviations[1:] @ deviations[:-1]) / squares if squares else 0.0
    correlation = max(-0.999, min(correlation + (1 + 3 * correlation) / runs, 0.999)) if squares else 0.0
    blocks = np.array([part.mean() for part in np.array_split(latencies_ms, min(_BLOCKS, runs))])
    of_blocks = blocks.std(ddof=1) / math.sqrt(len(blocks))
    of_runs = latencies_ms.std(ddof=1) / math.sqrt(runs) * math.sqrt((1 + correlation) / (1 - correlation))
    places = np.arange(len(blocks)) - (len(blocks) - 1) / 2
    slope = float(places @ blocks) / float(places @ places)
    rest = blocks - blocks.mean() - slope * places
    slope_error = math.sqrt(float(rest @ rest) / (len(blocks) - 2) / float(places @ places))
    drift = 100 * slope * len(blocks) / mean if abs(slope) > 2 * slope_error else 0.0
    return Steadiness(correlation, drift, 100 * _Z * float(max(of_blocks, of_runs)) / mean)


def _latencies(latencies_ms: np.ndarray) -> np.ndarray:
    latencies_ms = np.asarray(latencies_ms, dtype=np.float64)
    if latencies_ms.ndim != 1 or not len(latencies_ms):
        raise ValueError(f"one latency per run was expected, not an array of shape {latencies_ms.shape}")
    return latencies_ms
