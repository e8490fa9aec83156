"""Two sweeps row by row: what differs between them, in words, and rows that are one result."""

import numpy as np
import pytest

from smlp.results import regression_tables, regressions, series
from smlp.results.history import Entry, Key, Predictions, Row

KEY = Key("net", "openvino", "int8", "", 8)
IMAGES = ("a", "b", "c")


def entry(rates=(50.0, 50.1, 49.9), result=None, predicted=(1, 2, 3), when="2026-01-01T00:00", host="h", **figures):
    found = Predictions(IMAGES, np.array([1, 2, 3]), np.array(predicted))
    speed = {"images_per_s": float(np.mean(rates)), "device": "cpu", **figures}
    rows = (
        Row("accuracy", KEY, {"top1": 90.0}, result and f"a{result}", predictions=lambda: found),
        Row("throughput", KEY._replace(way="latency"), speed, result and f"t{result}", host, rates),
    )
    return Entry("x", rows, {}, {"h": {"host": {"processor": "one"}}, "g": {"host": {"processor": "two"}}}, None, when)


def test_one_result_of_both_sweeps_is_the_same_whatever_its_loads():
    found = regressions.compare(entry((1.0,), "r"), entry((1.0,), "r"))
    assert [one.speed.verdict for one in found.speeds] == ["same"]
    assert [one.verdict for one in found.accuracies] == ["same"]
    assert not found.got_worse and regression_tables.summary(found) == "Nothing got worse in 2 comparisons."


def test_only_rows_that_were_measured_in_turn_have_a_speed():
    key = KEY._replace(way="latency")
    rounds = {key: ([50.0, 60.0, 40.0], [45.0, 54.0, 36.1])}
    found = regressions.compare(entry(host="h"), entry(host="g"), interleaved=rounds)
    assert [one.speed.verdict for one in found.speeds] == ["slower"]
    assert "measured in turn" in regression_tables.make_tables(found)[0].notes[0]
    assert not regressions.compare(entry(), entry(), interleaved={}).speeds


@pytest.mark.parametrize("mark", ["emulated", "implausible"])
def test_what_says_nothing_says_nothing_in_turn_either(mark):
    rounds = {KEY._replace(way="latency"): ([50.0, 60.0, 40.0], [45.0, 54.0, 36.1])}
    found = regressions.compare(entry(), entry(**{mark: True}), interleaved=rounds)
    assert [one.speed.verdict for one in found.speeds] == ["undecided"]


@pytest.mark.parametrize(
    ("was", "now", "wanted"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["a.c: 2 → 3"]),
        ({"a": 1}, {"b": 1}, ["a: 1 → none", "b: none → 1"]),
        ({"a": ["x", "y"]}, {"a": ["y", "z"]}, ["a: without x, with z"]),
        ({"t": [{"k": 1}]}, {"t": [{"k": 2}, {"k": 3}]}, ["t.0.k: 1 → 2", "t.1: none → {'k': 3}"]),
        ({"a": {}}, {"a": {}}, []),
        ({"a": "v" * 200}, {"a": 1}, ["a: " + "v" * 77 + "… → 1"]),
    ],
)
def test_differences_in_words(was, now, wanted):
    assert regressions.differences(was, now) == wanted


def test_lists_do_not_grow_without_end():
    rows = tuple(Row("throughput", KEY._replace(batch=number, way="latency"), {}) for number in range(1, 200))
    found = regressions.compare(Entry("a", (), {}, {}), Entry("b", rows, {}, {}))
    (table,) = regression_tables.make_tables(found)
    assert len(table.rows) == 41 and table.rows[-1] == ["new", "and 159 more"]


def test_the_series_of_a_row_has_each_result_once_and_only_of_its_host():
    past = [
        entry((50.0,), "1", when="2026-01-01T00:00"),
        entry((50.0,), "1", when="2026-01-02T00:00"),  # tabulated again
        entry((20.0,), "2", when="2026-01-03T00:00", host="g"),
    ]
    now = entry((60.0,), "3", when="2026-01-04T00:00")
    history = series.make_history(now, [*past, now])
    speed, accuracy = history.panels
    assert (speed[1], speed[2][0].places, speed[2][0].values) == ("images/s", [0, 3], [50.0, 60.0])
    assert (accuracy[1], accuracy[2][0].places) == ("top-1 (%)", [0, 2, 3])
    assert len(history.times) == 4
    (section,) = series.make_sections(now, [*past, now])
    assert section.title == "History" and "Figures over time" in section.plots
    assert series.make_sections(past[0], past) == []
