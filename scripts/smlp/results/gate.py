"""Did anything get worse? The ratio of two measurements with its interval, and two sets of predictions, judged.

Speed. The replicate is the load. The ratio is that of the geometric means of images/s over loads, head over base, and
its interval is a t interval on the logarithms (log-normal rates: a spread in percent). `slower` needs the whole
interval below 1 - margin, `faster` the whole one above its inverse, `same` the whole one between; else `undecided`.

Few loads know their own spread badly: with three a side a t interval is a third wider than with many. Rows of one
comparison lend each other that knowledge (`moderated`), unless their spreads do not fit together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from . import statistics

# Fewer loads support no interval, as in the tables.
MIN_LOADS = 3
# Two-sided 95% intervals: a verdict is false with a chance of at most this.
ALPHA = 0.025
MARGIN_PERCENT = 3.0
FAMILYWISE = ("none", "holm")
# Rows that it takes to learn how their spreads scatter.
_MIN_ROWS = 4
# A spread that the others make less likely than this is the row's own.
_OUTLIER = 0.01


class Difference(NamedTuple):
    """Of the logarithms of two sets of loads, or of the rounds of both together.

    log_ratio: head minus base. variance: of one load, or of one round's difference; freedom: its degrees. scale: what
    the standard error is in units of its root.
    """

    log_ratio: float
    variance: float
    freedom: float
    scale: float


class Speed(NamedTuple):
    """A row's change. ratio: head over base; low, high: its 95% interval, None with too few loads.

    verdict: faster, same, slower or undecided; reason: why undecided, if that is not the interval. p_slower, p_faster:
    one-sided, of the hypothesis that the change is within the margin. false_chance: of `slower` if nothing had changed.
    """

    ratio: float | None
    low: float | None = None
    high: float | None = None
    verdict: str = "undecided"
    reason: str | None = None
    p_slower: float | None = None
    p_faster: float | None = None
    false_chance: float = 0.0


class Accuracy(NamedTuple):
    """What the head's predictions lost against the base's, in points of top-1 with Tango's interval.

    Positive: the head is worse.
    """

    loss_points: float
    low_points: float
    high_points: float
    right_to_wrong: int
    wrong_to_right: int
    mcnemar_p: float
    verdict: str  # better, same, worse or undecided


def unpaired(base: Sequence[float], head: Sequence[float]) -> Difference | None:
    """Two sets of loads that were measured apart, images/s; None if either has too few.

    The variance of as many loads on both sides is pooled (Student 1908, Biometrika 6:1-25): with as few as these,
    Welch's degrees of freedom cost more than a spread that differs does. Of unequal numbers the standard error and
    degrees are Welch's (1947, Biometrika 34:28-35).
    """
    if min(len(base), len(head)) < MIN_LOADS:
        return None
    logs = np.log(base), np.log(head)
    scale = math.sqrt(1 / len(base) + 1 / len(head))
    freedom = float(len(base) + len(head) - 2)
    variance = sum(((one - one.mean()) ** 2).sum() for one in logs) / freedom
    if len(base) != len(head) and variance > 0:  # only then does an unequal spread shift the level
        parts = [one.var(ddof=1) / len(one) for one in logs]
        freedom = sum(parts) ** 2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, logs))
        variance = sum(parts) / scale**2
    return Difference(float(logs[1].mean() - logs[0].mean()), float(variance), float(freedom), scale)


def paired(base: Sequence[float], head: Sequence[float]) -> Difference | None:
    """Loads that were measured in turn, one of each a round: what slows a whole round cancels. None if too few."""
    if len(base) != len(head):
        raise ValueError(f"{len(base)} and {len(head)} loads are not of the same rounds")
    if len(base) < MIN_LOADS:
        return None
    logs = np.log(head) - np.log(base)
    return Difference(float(logs.mean()), float(logs.var(ddof=1)), len(logs) - 1.0, 1 / math.sqrt(len(logs)))


def moderated(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """The same with variances that rows lend each other (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3).

    Each row's variance becomes the mean of its own and the common one, weighted by degrees of freedom; those of the
    common one follow from how far the rows' variances scatter beyond what their own degrees explain. A row whose own
    variance is too large for that (F test at 1%) keeps it, with its own degrees.
    """
    from scipy import special  # its distributions are a hundred times as slow in scipy.stats

    usable = [one for one in differences if one and one.variance > 0]
    if len(usable) < _MIN_ROWS:
        return list(differences)
    common, freedom = _prior(usable)
    found: list[Difference | None] = []
    for one in differences:
        if one is None:
            found.append(None)
            continue
        alone = special.fdtrc(one.freedom, min(freedom, 1e6), one.variance / common) < _OUTLIER
        if alone or not freedom:
            found.append(one)
        elif math.isinf(freedom):
            found.append(one._replace(variance=common, freedom=sum(each.freedom for each in usable)))
        else:
            total = one.freedom + freedom
            variance = (one.freedom * one.variance + freedom * common) / total
            found.append(one._replace(variance=variance, freedom=total))
    return found


def _prior(usable: Sequence[Difference]) -> tuple[float, float]:
    """The common variance and its degrees of freedom, by the moments of log variances (Smyth 2004, section 6.2)."""
    from scipy import optimize, special

    freedom = np.array([one.freedom for one in usable])
    logs = np.log([one.variance for one in usable]) - special.digamma(freedom / 2) + np.log(freedom / 2)
    beyond = logs.var(ddof=1) - special.polygamma(1, freedom / 2).mean()
    if beyond <= special.polygamma(1, 5e5):
        return math.exp(logs.mean()), math.inf
    half = optimize.brentq(lambda value: special.polygamma(1, value) - beyond, 1e-3, 1e6) if beyond < 1e5 else 0.0
    if not half:
        return math.exp(logs.mean()), 0.0
    return math.exp(logs.mean() + special.digamma(half) - math.log(half)), 2 * half


def judge_speed(
    differences: Sequence[Difference | None], margin_percent: float = MARGIN_PERCENT, familywise: str = "none"
) -> list[Speed]:
    """The verdicts on rows of one comparison; None, a row with too few loads, is undecided.

    familywise: "holm" judges all rows together (Holm 1979), so that ALPHA is the chance of one false `slower` among
    them all, and of one false `faster`.
    """
    from scipy import special

    limit = -math.log1p(-margin_percent / 100)  # the same either way: 0.97, and 1 / 0.97
    found = []
    for one in moderated(differences):
        if one is None:
            reason = f"needs {MIN_LOADS} loads or more on both sides"
            found.append(Speed(None, reason=reason))
            continue
        error = math.sqrt(one.variance) * one.scale
        if error < 1e-12:  # equal to the last bits
            low = high = one.log_ratio
            p_slower, p_faster, chance = float(low > -limit), float(high < limit), 0.0
        else:
            half = float(special.stdtrit(one.freedom, 1 - ALPHA)) * error
            low, high = one.log_ratio - half, one.log_ratio + half
            p_slower = float(special.stdtr(one.freedom, (one.log_ratio + limit) / error))
            p_faster = float(special.stdtr(one.freedom, (limit - one.log_ratio) / error))
            chance = float(special.stdtr(one.freedom, -(half + limit) / error))
        verdict = "undecided"
        if -limit < low and high < limit:
            verdict = "same"
        elif high < -limit:
            verdict = "slower"
        elif low > limit:
            verdict = "faster"
        ends = (math.exp(value) for value in (one.log_ratio, low, high))
        found.append(Speed(*ends, verdict, None, p_slower, p_faster, chance))
    return _together(found) if familywise == "holm" else found


def _together(found: list[Speed]) -> list[Speed]:
    """`slower` and `faster` only where Holm's method says so; `same` stays."""
    from statsmodels.stats.multitest import multipletests  # takes a second

    judged = [place for place, one in enumerate(found) if one.p_slower is not None]
    for verdict, name in (("slower", "p_slower"), ("faster", "p_faster")):
        values = [getattr(found[place], name) for place in judged]
        rejected = multipletests(values, alpha=ALPHA, method="holm")[0] if values else []
        for place, holds in zip(judged, rejected):
            if found[place].verdict == verdict and not holds:
                reason = f"{verdict} alone, not among {len(judged)} rows together"
                found[place] = found[place]._replace(verdict="undecided", reason=reason, false_chance=0.0)
    return found


def chance_of_one(chances: Sequence[float]) -> float:
    """The chance of at least one of these independent events."""
    return 1 - math.prod(1 - chance for chance in chances)


def judge_accuracy(
    labels: np.ndarray, base: np.ndarray, head: np.ndarray, accept_points: float = 0.0, margin_points: float = 1.0
) -> Accuracy:
    """What the head lost. labels, base, head: int (N,), the classes of the same images and what both predict.

    worse: the whole 95% interval of the loss is above `accept_points`; better: below minus that; same: it is neither,
    and the interval is within `margin_points`, or no image changed between right and wrong.
    """
    was, now = base == labels, head == labels
    lost, won, images = int((was & ~now).sum()), int((~was & now).sum()), len(labels)
    low, high = (100 * bound for bound in statistics.paired_difference_interval(lost, won, images))
    if low > accept_points:
        verdict = "worse"
    elif high < -accept_points:
        verdict = "better"
    elif not lost + won or max(-low, high) < margin_points:
        verdict = "same"
    else:
        verdict = "undecided"
    p = statistics.mcnemar_exact_p(lost, won)
    return Accuracy(100 * (lost - won) / images, low, high, lost, won, p, verdict)
