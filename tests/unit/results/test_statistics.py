"""The formulas against scipy, statsmodels and published values."""

import math

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from smlp.results import statistics


@pytest.mark.parametrize(
    ("successes", "total"), [(0, 1), (1, 1), (0, 64), (64, 64), (13, 16), (40625, 50000), (1, 50000)]
)
def test_wilson_interval_agrees_with_statsmodels(successes, total):
    expected = proportion_confint(successes, total, method="wilson")
    assert statistics.wilson_interval(successes, total) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_wilson_interval_of_the_guides_accuracy_is_a_third_of_a_point():
    low, high = statistics.wilson_interval(40625, 50000)  # 81.25% of ImageNet's validation set
    assert (high - low) / 2 * 100 == pytest.approx(0.34, abs=0.005)


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_what_is_no_proportion(successes, total):
    with pytest.raises(ValueError, match="not a proportion"):
        statistics.wilson_interval(successes, total)


@pytest.mark.parametrize(
    ("b", "c"),
    [(0, 0), (0, 1), (1, 0), (1, 1), (5, 0), (3, 9), (9, 3), (40, 20), (75, 75), (120, 80), (500, 650), (12600, 12400)],
)
def test_mcnemar_p_agrees_with_scipy_and_statsmodels(b, c):
    p = statistics.mcnemar_exact_p(b, c)
    if b + c:
        assert p == pytest.approx(stats.binomtest(b, b + c).pvalue, rel=1e-9)
        assert p == pytest.approx(mcnemar([[0, b], [c, 0]], exact=True).pvalue, rel=1e-9)
    else:
        assert p == 1.0


def test_mcnemar_p_holds_for_every_image_of_imagenet():
    assert statistics.mcnemar_exact_p(25000, 25000) == 1.0
    assert statistics.mcnemar_exact_p(25300, 24700) == pytest.approx(stats.binomtest(24700, 50000).pvalue, rel=1e-8)
    assert statistics.mcnemar_exact_p(1000, 0) == 2.0 * 2.0**-1000
    assert statistics.mcnemar_exact_p(50000, 0) == 0.0  # 2^-49999 is below the smallest double


@pytest.mark.parametrize(
    ("b", "c", "n", "low", "high"),
    [
        # Fagerland, Lydersen, Laake: Statistical Analysis of Contingency Tables, ch. 8, Tango's interval:
        (1, 7, 21, -0.517, -0.026),  # Bentur et al. 2009
        (6, 16, 161, -0.1240, -0.0054),  # Cavo et al. 2012
    ],
)
def test_paired_interval_agrees_with_published_tables(b, c, n, low, high):
    assert statistics.paired_difference_interval(b, c, n) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize("n", [64, 200, 1797, 50000])
def test_paired_interval_without_flips_is_the_closed_form(n):
    # b = c = 0: the score equation reduces to n d = z^2 (1 - d)
    z2 = stats.norm.ppf(0.975) ** 2
    assert statistics.paired_difference_interval(0, 0, n) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), rel=1e-9)


@pytest.mark.parametrize(("b", "c", "n"), [(3, 0, 200), (12, 5, 1797), (90, 60, 50000), (40, 20, 160)])
def test_paired_interval_inverts_the_score_test(b, c, n):
    """An independent way: find the restricted estimate by maximising the likelihood, then the statistic."""
    for bound, sign in zip(statistics.paired_difference_interval(b, c, n), (1, -1), strict=True):

        def minus_log_likelihood(p21, bound=bound):
            cells = np.array([p21 + bound, p21, 1 - 2 * p21 - bound])
            return -np.sum(np.array([b, c, n - b - c]) * np.log(np.maximum(cells, 1e-300)))

        floor, ceiling = max(0.0, -bound), (1 - bound) / 2
        p21 = optimize.minimize_scalar(
            minus_log_likelihood, bounds=(floor, ceiling), method="bounded", options={"xatol": 1e-14}
        ).x
        statistic = (b - c - n * bound) / math.sqrt(n * (2 * p21 + bound - bound * bound))
        assert statistic == pytest.approx(sign * 1.959964, abs=2e-3)


@pytest.mark.parametrize(("b", "c", "n"), [(0, 5, 40), (7, 7, 100), (120, 80, 50000), (3, 0, 3), (0, 3, 3)])
def test_paired_interval_mirrors_when_the_roles_are_swapped(b, c, n):
    low, high = statistics.paired_difference_interval(b, c, n)
    assert statistics.paired_difference_interval(c, b, n) == pytest.approx((-high, -low), abs=1e-12)
    assert -1 <= low <= (b - c) / n <= high <= 1


def test_paired_interval_keeps_its_promise_if_flips_are_few():
    """Exact chance to pass an engine whose true drop is the margin: at most the 2.5% that the method allows."""
    drop = 0.01
    for n in (200, 400, 1000):
        flips = np.arange(0, 60)
        chance = stats.binom.pmf(flips, n, drop)
        passes = [statistics.paired_difference_interval(int(b), 0, n)[1] < drop for b in flips]
        assert chance[passes].sum() <= 0.025


@pytest.mark.parametrize(("b", "c", "n"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_paired_interval_refuses_impossible_counts(b, c, n):
    with pytest.raises(ValueError, match="not possible"):
        statistics.paired_difference_interval(b, c, n)
    with pytest.raises(ValueError, match="not possible"):
        statistics.paired_p_values(b, c, n, 0.01)


def test_one_sided_p_values_and_the_interval_give_the_same_verdict():
    """Over random counts: p below 0.025 exactly where the bound of the interval lies beyond the margin."""
    random = np.random.default_rng(0)
    verdicts = []
    for _ in range(3000):
        n = int(10 ** random.uniform(0, 4.7))
        rates = random.dirichlet([0.4, 0.4, 3.0])
        b, c, _rest = random.multinomial(n, rates)
        margin = float(random.choice([0.0, 0.1, 0.5, 1.0, 5.0, 30.0, 100.0]))
        low, high = statistics.paired_difference_interval(int(b), int(c), n)
        noninferiority_p, inferiority_p = statistics.paired_p_values(int(b), int(c), n, margin / 100)
        assert (noninferiority_p < 0.025) == (100 * high < margin), (b, c, n, margin)
        assert (inferiority_p < 0.025) == (100 * low > margin), (b, c, n, margin)
        assert noninferiority_p + inferiority_p == pytest.approx(1)
        verdicts.append("pass" if noninferiority_p < 0.025 else "fail" if inferiority_p < 0.025 else "undecided")
    assert min(map(verdicts.count, ("pass", "fail", "undecided"))) > 300


def test_one_sided_p_values_without_a_margin_are_those_of_mcnemars_score_test():
    statistic = (30 - 14) / math.sqrt(30 + 14)
    assert statistics.paired_p_values(30, 14, 500, 0.0) == pytest.approx(
        (stats.norm.cdf(statistic), stats.norm.sf(statistic))
    )
    assert statistics.paired_p_values(0, 0, 500, 0.0) == (0.5, 0.5)


@pytest.mark.parametrize(("classes", "limit"), [(1, 100), (2, 75), (3, 200 / 3), (4, 50), (10, 20), (1000, 0.2)])
def test_chance_limit_is_twice_chance_or_halfway_to_everything(classes, limit):
    assert statistics.chance_limit_percent(classes) == pytest.approx(limit)


def correct(right_both, right_to_wrong, wrong_to_right, wrong_both):
    reference = [True] * (right_both + right_to_wrong) + [False] * (wrong_to_right + wrong_both)
    engine = [True] * right_both + [False] * right_to_wrong + [True] * wrong_to_right + [False] * wrong_both
    return np.array(reference), np.array(engine)


def test_verdict_counts_both_directions_of_flips():
    found = statistics.verdict(*correct(800, 12, 5, 183), margin_points=1.0)
    assert (found.right_to_wrong, found.wrong_to_right) == (12, 5)
    assert found.drop_points == pytest.approx(0.7)
    assert found.drop_low_points < 0.7 < found.drop_high_points


@pytest.mark.parametrize(
    ("cells", "margin", "expected"),
    [
        ((40600, 90, 60, 9250), 1.0, "pass"),  # 0.06 points of 50,000 images
        ((39000, 900, 50, 10050), 1.0, "fail"),  # 1.7 points
        ((39500, 560, 60, 9880), 1.0, "undecided"),  # 1.0 point: the margin lies inside
        ((50, 0, 0, 14), 1.0, "undecided"),  # 64 identical images prove nothing within a point
        ((300, 0, 0, 100), 1.0, "pass"),  # 400 identical ones do
        ((100, 0, 0, 20), 5.0, "pass"),
        ((10, 40, 0, 14), 5.0, "fail"),
    ],
)
def test_verdict(cells, margin, expected):
    assert statistics.verdict(*correct(*cells), margin).verdict == expected


def test_verdict_wants_the_same_images():
    with pytest.raises(ValueError, match="same images"):
        statistics.verdict(np.ones(3, bool), np.ones(4, bool), 1.0)


@pytest.mark.parametrize(
    ("runs", "supported"),
    [
        (1, [50]),
        (29, [50]),
        (30, [50, 90]),
        (59, [50, 90]),
        (60, [50, 90, 95]),
        (299, [50, 90, 95]),
        (300, [50, 90, 95, 99]),
    ],
)
def test_percentiles_only_if_the_sample_supports_them(runs, supported):
    latencies = np.linspace(1, 2, runs)
    found = statistics.latency_percentiles(latencies)
    assert list(found) == ["latency_ms_p50", "latency_ms_p90", "latency_ms_p95", "latency_ms_p99"]
    for percent in (50, 90, 95, 99):
        expected = pytest.approx(np.percentile(latencies, percent)) if percent in supported else None
        assert found[f"latency_ms_p{percent}"] == expected


# how steady a series is


def series(runs=1000, noise=0.01, seed=0, correlation=0.0):
    """Latencies around 10 ms with this relative standard deviation, of a first-order autoregression."""
    draws = np.random.default_rng(seed).standard_normal(runs)
    found = np.empty(runs)
    found[0] = draws[0]
    for place in range(1, runs):
        found[place] = correlation * found[place - 1] + np.sqrt(1 - correlation**2) * draws[place]
    return 10 * (1 + noise * found)


def test_steady_latencies_have_no_drift_and_a_known_mean():
    found = statistics.steadiness(series())
    assert found.drift_percent == 0 and abs(found.autocorrelation) < 0.1 and found.known_to_percent < 0.1


@pytest.mark.parametrize("drift", [0.07, -0.07])
def test_a_drift_is_told_from_noise(drift):
    found = statistics.steadiness(series() * np.linspace(1, 1 + drift, 1000))
    assert found.drift_percent == pytest.approx(100 * drift, rel=0.1)


@pytest.mark.parametrize("period", [2, 100, 200])
def test_a_series_that_is_slow_every_other_while_has_no_known_mean(period):
    """100 runs a second: blocks of the same length as the period are all alike, and neighbours show it then."""
    slow = np.arange(1000) // (period // 2) % 2 == 1
    found = statistics.steadiness(series() * np.where(slow, 2, 1))
    assert (found.known_to_percent > 5) == (period > 2)  # every other run is a mean of many


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_the_mean_is_known_as_well_as_it_varies(correlation):
    means = [series(400, 0.05, seed, correlation).mean() for seed in range(400)]
    told = [statistics.steadiness(series(400, 0.05, seed, correlation)) for seed in range(40)]
    wanted = 1.96 * 100 * np.std(means) / 10
    assert np.median([found.known_to_percent for found in told]) == pytest.approx(wanted, rel=0.4)
    assert np.median([found.autocorrelation for found in told]) == pytest.approx(correlation, abs=0.1)


def test_few_runs_tell_nothing_and_equal_ones_are_steady():
    assert statistics.steadiness(np.full(4, 3.0)) == (None, None, None)
    assert statistics.steadiness(np.full(5, 3.0)) == (0, 0, 0)


def test_no_latencies_are_refused():
    with pytest.raises(ValueError, match="one latency per run"):
        statistics.latency_percentiles(np.array([]))
