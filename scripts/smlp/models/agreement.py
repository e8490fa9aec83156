"""Do two runs of a network agree? A difference counts by how far its scores are apart, whatever their size.

Probabilities over a thousand classes differ by less than 1e-4 whatever a network computes; so do the scores of one
that was not trained.
"""

from __future__ import annotations

from typing import Callable

import numpy as np

from ..core.cli import UserError

# Scores that are all alike, far from 0, still differ by what float32 rounds: they count as apart by this part of them.
_ALIKE = 0.02


def spread(scores: np.ndarray) -> float:
    """How far scores, (N, classes), are apart."""
    return float(np.ptp(scores)) if scores.size > 1 else float(np.abs(scores).max(initial=0))


def allowed(expected: np.ndarray, tolerance: float, steepness: float = 1.0) -> float:
    """The largest difference that still counts as none: a fraction of the spread."""
    return tolerance * steepness * max(spread(expected), _ALIKE * float(np.abs(expected).max(initial=0)))


def require(
    expected: np.ndarray,
    actual: np.ndarray,
    tolerance: float,
    differs: Callable[[float, float], str],
    steepness: float = 1.0,
) -> float:
    """The largest difference of scores, (N, classes). Raises UserError if they disagree, or an image's class changes.

    differs: difference, what is allowed -> the message. steepness: by how much more than one part of the spread a
    difference may grow, of probabilities: that of the scores behind them.
    """
    difference = float(np.abs(actual.astype(np.float64) - expected).max(initial=0))
    bound = allowed(expected, tolerance, steepness)
    best = np.take_along_axis(expected, actual.argmax(axis=1)[:, None], axis=1)[:, 0]
    if not difference <= bound or (expected.max(axis=1) - best > 2 * bound).any():
        raise UserError(differs(difference, bound))
    return difference
