"""Whether anything got worse: ratios of loads with their intervals, and predictions image by image."""

import math

import numpy as np
import pytest

from smlp.results import gate


def loads(random, rate, spread, count):
    return rate * np.exp(random.normal(0, spread, count))


def verdicts(pairs, how=gate.unpaired, **flags):
    return [one.verdict for one in gate.judge_speed([how(*pair) for pair in pairs], **flags)]


@pytest.mark.parametrize(("count", "spread"), [(3, 0.005), (3, 0.01), (5, 0.015), (10, 0.02)])
def test_twenty_pairs(count, spread):
    """Each seed is one comparison of 20 rows: nothing is said of identical ones, and 8% are found."""
    random = np.random.default_rng([count, int(1000 * spread)])
    wrong = found = 0
    for _ in range(25):
        same = [(loads(random, 50, spread, count), loads(random, 50, spread, count)) for _ in range(20)]
        slow = [(one, other / 1.08) for one, other in same]
        wrong += sum(verdict in ("slower", "faster") for verdict in verdicts(same)) > 1
        found += verdicts(slow).count("slower") >= 19
    assert wrong == 0 and found >= 24


def test_an_interval_of_equal_loads_is_that_of_student():
    base, head = [100.0, 102.0, 104.0], [90.0, 91.0, 95.0]
    (found,) = gate.judge_speed([gate.unpaired(base, head)])
    from scipy import stats

    wanted = stats.ttest_ind(np.log(head), np.log(base)).confidence_interval()
    assert (found.low, found.high) == pytest.approx((math.exp(wanted.low), math.exp(wanted.high)))
    assert found.ratio == pytest.approx(math.exp(np.log(head).mean() - np.log(base).mean()))


def test_unequal_numbers_of_loads_are_compared_as_welch_does():
    base, head = [100.0, 102.0, 104.0, 99.0, 101.0], [90.0, 91.0, 95.0]
    (found,) = gate.judge_speed([gate.unpaired(base, head)])
    from scipy import stats

    wanted = stats.ttest_ind(np.log(head), np.log(base), equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((math.exp(wanted.low), math.exp(wanted.high)))


def test_what_slows_a_whole_round_cancels():
    random = np.random.default_rng(3)
    rounds = np.exp(random.normal(0, 0.3, 7))
    base, head = loads(random, 50, 0.01, 7) * rounds, loads(random, 50 / 1.08, 0.01, 7) * rounds
    assert verdicts([(base, head)]) == ["undecided"]
    assert verdicts([(base, head)], gate.paired) == ["slower"]
    assert verdicts([(head, base)], gate.paired) == ["faster"]


@pytest.mark.parametrize("how", [gate.unpaired, gate.paired])
def test_too_few_loads_decide_nothing(how):
    (found,) = gate.judge_speed([how([50.0, 50.0], [20.0, 20.0])])
    assert (found.verdict, found.low) == ("undecided", None) and "3 loads" in found.reason


def test_loads_that_are_equal_to_the_last_bit():
    assert verdicts([([50.0] * 3, [50.0] * 3), ([50.0] * 3, [45.0] * 3), ([45.0] * 3, [50.0] * 3)]) == [
        "same",
        "slower",
        "faster",
    ]


def test_the_margin_decides():
    base, head = [100.0, 100.1, 99.9], [95.0, 95.1, 94.9]
    assert verdicts([(base, head)]) == ["slower"]
    assert verdicts([(base, head)], margin_percent=10) == ["same"]


def test_rows_lend_each_other_their_spread():
    random = np.random.default_rng(5)
    pairs = [(loads(random, 50, 0.02, 3), loads(random, 50 / 1.1, 0.02, 3)) for _ in range(30)]
    differences = [gate.unpaired(*pair) for pair in pairs]
    together = [one.verdict for one in gate.judge_speed(differences)]
    alone = [gate.judge_speed([one])[0].verdict for one in differences]
    assert together.count("slower") >= 28 > alone.count("slower")
    assert sum(one.freedom > 4 for one in gate.moderated(differences)) >= 27


def test_a_row_that_scatters_more_than_the_others_stands_alone():
    random = np.random.default_rng(6)
    wrong = 0
    for _ in range(200):
        pairs = [(loads(random, 50, 0.005, 3), loads(random, 50, 0.005, 3)) for _ in range(11)]
        pairs.append((loads(random, 50, 0.15, 3), loads(random, 50, 0.15, 3)))
        wrong += verdicts(pairs)[-1] in ("slower", "faster")
    assert wrong / 200 < 0.09  # 2.5% a side, and what chance adds


def test_holm_judges_all_rows_together():
    random = np.random.default_rng(7)
    alone = together = 0
    for _ in range(25):
        # slower by exactly the margin: the worst that must not be called slower
        pairs = [(loads(random, 50, 0.02, 5), loads(random, 50 * 0.97, 0.02, 5)) for _ in range(20)]
        alone += "slower" in verdicts(pairs)
        together += "slower" in verdicts(pairs, familywise="holm")
    assert alone >= 6 and together <= 3
    pairs = [(loads(random, 50, 0.01, 5), loads(random, 50 / 1.15, 0.01, 5)) for _ in range(20)]
    assert verdicts(pairs, familywise="holm") == ["slower"] * 20


def test_the_chance_of_a_false_alarm_is_told():
    random = np.random.default_rng(8)
    pairs = [(loads(random, 50, 0.05, 3), loads(random, 50, 0.05, 3)) for _ in range(20)]
    found = gate.judge_speed([gate.unpaired(*pair) for pair in pairs])
    told = gate.chance_of_one([one.false_chance for one in found])
    seen = np.mean(
        [
            "slower" in verdicts([(loads(random, 50, 0.05, 3), loads(random, 50, 0.05, 3)) for _ in range(20)])
            for _ in range(100)
        ]
    )
    assert 0 < told < 1 - 0.975**20 and abs(told - seen) < 0.15


def predictions(images, right_to_wrong, wrong_to_right=0):
    """The labels, and what a base that has 80% right and a head that loses some predict."""
    labels = np.arange(images) % 10
    base = labels.copy()
    base[::5] += 1
    head = base.copy()
    right, wrong = np.flatnonzero(base == labels), np.flatnonzero(base != labels)
    head[right[:right_to_wrong]] += 1
    head[wrong[:wrong_to_right]] = labels[wrong[:wrong_to_right]]
    return labels, base, head


@pytest.mark.parametrize(("lost", "won"), [(10, 0), (12, 2), (14, 4)])
def test_a_loss_of_a_point_in_a_thousand_images_is_found(lost, won):
    found = gate.judge_accuracy(*predictions(1000, lost, won))
    assert found.loss_points == pytest.approx(1.0) and found.verdict == "worse"
    assert (found.right_to_wrong, found.wrong_to_right) == (lost, won) and found.mcnemar_p < 0.05


def test_verdicts_of_accuracy():
    assert gate.judge_accuracy(*predictions(1000, 0)).verdict == "same"
    assert gate.judge_accuracy(*predictions(24, 0)).verdict == "same"
    assert gate.judge_accuracy(*predictions(1000, 3, 3)).verdict == "same"
    assert gate.judge_accuracy(*predictions(1000, 40, 40)).verdict == "undecided"
    assert gate.judge_accuracy(*predictions(1000, 0, 12)).verdict == "better"
    assert gate.judge_accuracy(*predictions(1000, 10, 0), accept_points=2).verdict != "worse"
