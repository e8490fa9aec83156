"""How often the printed intervals of throughput hold the truth, simulated.

Each simulated row has loads whose true means differ by a factor (log-normal, with the given spread), and runs within a
load that are a first-order autoregression of relative standard deviation 5%, around the load's mean. The truth is the
throughput of the mean latency over all possible loads. One line for each combination; the last one is the range.

    python bench/coverage.py
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import common
import numpy as np

from smlp.core import cli
from smlp.results import loads

LOADS = (3, 4, 5, 7, 10)
SPREADS = (0.0, 0.01, 0.03, 0.1)
CORRELATIONS = (0.0, 0.6, 0.9)
_NOISE = 0.05
_KEY = ("loads", "spread_percent", "autocorrelation")


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    rows = []
    for count, spread, correlation in itertools.product(LOADS, SPREADS, CORRELATIONS):
        covered = coverage(count, spread, correlation, flags.runs, flags.rows, flags.seed)
        rows.append(
            {
                "loads": count,
                "spread_percent": 100 * spread,
                "autocorrelation": correlation,
                "coverage_percent": round(100 * covered, 2),
            }
        )
        common.record(flags.output, rows[-1], _KEY)
    common.show(f"coverage of 95% intervals, {flags.rows} rows each", rows)
    found = [row["coverage_percent"] for row in rows]
    print(f"from {min(found)} to {max(found)} %")
    return 0


def coverage(count: int, spread: float, correlation: float, runs: int, rows: int, seed: int) -> float:
    """Share of simulated rows of `count` loads whose interval holds the truth."""
    random = np.random.default_rng([seed, count, round(1000 * spread), round(100 * correlation)])
    # the mean of a stationary autoregression of n runs is normal: its variance (Priestley 1981, 5.3.2)
    lags = np.arange(1, runs)
    variance = (1 + 2 * np.sum((1 - lags / runs) * correlation**lags)) / runs
    of_loads = np.exp(spread * random.standard_normal((rows, count)))
    latency_ms = 10 * of_loads * (1 + _NOISE * np.sqrt(variance) * random.standard_normal((rows, count)))
    truth = 1000 / (10 * np.exp(spread**2 / 2))
    found = [loads.figures(1000 / of_row) for of_row in latency_ms]
    return float(np.mean([one.images_per_s_low <= truth <= one.images_per_s_high for one in found]))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=cli.positive_int, default=10_000, help="simulated rows of each combination")
    parser.add_argument("--runs", type=cli.positive_int, default=100, help="runs in a load")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=common.RESULTS / "coverage.csv", help="CSV to write")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
