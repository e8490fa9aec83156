"""Many verdicts in one table: how many, the chance of a false pass, and Holm's way to judge them together."""

import numpy as np
import pytest
from result_files import Sweep, accuracy, assert_refused, judged
from statsmodels.stats.multitest import multipletests

from smlp.results import statistics

IMAGES = 1000


def engine(precision, right_to_wrong, batch=8, first=0, **more):
    """A row whose engine gets images wrong that the reference has right, those from `first` on."""
    low, high = statistics.paired_difference_interval(right_to_wrong, 0, IMAGES)
    noninferiority_p, inferiority_p = statistics.paired_p_values(right_to_wrong, 0, IMAGES, 0.05)
    flips = [
        {"image": f"{number}.JPEG", "label": 1, "reference": 1, "predicted": 2, "kind": "right_to_wrong"}
        for number in range(first, first + right_to_wrong)
    ]
    found = {
        "agreement": 100 - 100 * right_to_wrong / IMAGES,
        "margin_points": 5.0,
        "noninferiority_p": noninferiority_p,
        "inferiority_p": inferiority_p,
        "verdict": "pass" if 100 * high < 5 else "fail" if 100 * low > 5 else "undecided",
        "flips": flips,
    }
    return judged("openvino", precision, batch, **{**found, **more})


REFERENCE = accuracy("pytorch", "fp32", 8)
# by themselves: three passes, one undecided, one fail
MIXED = [engine("fp32", 28), engine("fp16", 35, first=100), engine("bf16", 36, first=200), engine("int8", 50)]
MIXED += [engine("int4", 67)]


def verdicts(sweep):
    return [row["verdict"] for row in sweep.rows("accuracy.csv") if row["is_reference"] == "false"]


def note_of(sweep):
    (note,) = [line for line in sweep.text("accuracy.md").splitlines() if line.startswith("- verdicts: ")]
    assert note.removeprefix("- ").split(";")[0][:40] in sweep.text("report.html")
    return note.removeprefix("- ")


def test_the_tables_say_how_many_verdicts_they_give_and_the_chance_of_a_false_pass(tmp_path):
    made = Sweep(tmp_path, [REFERENCE, *MIXED], []).make()
    assert verdicts(made) == ["pass", "pass", "pass", "undecided", "fail"]
    assert note_of(made) == (
        "verdicts: 5 were given, each by itself: if every engine lost exactly the margin, the chance of at least one "
        "false pass would be at most 11.9 %. accuracy.familywise: holm judges them together."
    )


def test_engines_that_predict_the_same_count_once(tmp_path):
    same = [engine("fp32", 20, batch) for batch in (1, 8, 64)]
    alone = engine("fp16", 20, first=1)  # as many images, but others
    unknown = [engine("bf16", 20, batch, flips=None) for batch in (1, 8)]  # a file that does not list them
    note = note_of(Sweep(tmp_path, [REFERENCE, *same, alone, *unknown], []).make())
    chance = 100 * (1 - 0.975**4)
    assert note.startswith("verdicts: 6 were given, on 4 different sets of predictions, each by itself: ")
    assert f"at most {chance:.1f} %" in note


def test_rows_that_are_judged_for_another_reason_are_no_tests(tmp_path):
    contents = [engine("fp32", 20), engine("int8", 600, verdict_reason="only 40 % agree")]
    contents += [engine("bf16", 3, verdict=None, verdict_reason="too close to guessing")]
    assert note_of(Sweep(tmp_path, [REFERENCE, *contents], []).make()).startswith("verdicts: 1 was given, each")


def test_without_a_verdict_nothing_is_said_about_them(tmp_path):
    assert "verdicts: " not in Sweep(tmp_path, [REFERENCE], []).make().text("accuracy.md")


def test_holm_judges_the_verdicts_of_a_table_together(tmp_path):
    made = Sweep(tmp_path, [REFERENCE, *MIXED], []).make("--familywise", "holm")
    p_values = [content["noninferiority_p"] for content in MIXED]
    passed = multipletests(p_values, alpha=0.025, method="holm")[0]
    assert passed.tolist() == [True, False, False, False, False]
    assert verdicts(made) == ["pass", "undecided", "undecided", "undecided", "undecided"]
    assert note_of(made) == (
        "verdicts: 5 were given, judged together by Holm's method: if every engine lost exactly the margin, the chance "
        "of a false pass among them would be at most 2.5 %."
    )


def test_holm_takes_equal_predictions_for_one_test_and_gives_them_one_verdict(tmp_path):
    same = [engine("fp16", 36, batch) for batch in (1, 4, 8, 16, 32, 64)]
    made = Sweep(tmp_path, [REFERENCE, *same, engine("int8", 120)], []).make("--familywise", "holm")
    assert same[0]["noninferiority_p"] < 0.025  # but not below a sixth of that
    assert verdicts(made) == ["undecided"] * 6 + ["fail"]
    alone = Sweep(tmp_path, [REFERENCE, *same], []).make("--familywise", "holm")
    assert verdicts(alone) == ["pass"] * 6


def test_holm_leaves_verdicts_for_another_reason(tmp_path):
    contents = [engine("fp32", 20), engine("int8", 600, verdict="fail", verdict_reason="only 40 % agree")]
    made = Sweep(tmp_path, [REFERENCE, *contents], []).make("--familywise", "holm")
    assert verdicts(made) == ["pass", "fail"]


def test_holm_needs_the_p_values(tmp_path, capsys):
    sweep = Sweep(tmp_path, [REFERENCE, engine("fp32", 20, noninferiority_p=None)], [])
    assert_refused(sweep, capsys, "openvino fp32, batch size 8", "evaluate it again", flags=["--familywise", "holm"])


@pytest.mark.parametrize("tests", [1, 2, 8])
def test_a_false_pass_of_independent_engines_is_as_likely_as_stated(tests):
    """By simulation: engines that lose exactly the margin, on images of their own."""
    random = np.random.default_rng(tests)
    lost = random.binomial(IMAGES, 0.05, size=(4000, tests))
    passes = np.array([statistics.paired_p_values(b, 0, IMAGES, 0.05)[0] < 0.025 for b in range(IMAGES // 4)])
    found = passes[lost].any(axis=1).mean()
    stated = 1 - 0.975**tests
    assert found <= stated + 4 * np.sqrt(stated * (1 - stated) / 4000)
