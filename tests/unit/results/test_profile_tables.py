"""The tables of profiles: shares, what ran otherwise than asked, and how operators add up to the latency."""

from pathlib import Path

import pandas
import pytest

from smlp.results import profiles
from smlp.results.columns import frame
from smlp.results.reader import Record, Target
from smlp.results.throughput_columns import THROUGHPUT

NAMES = ("name", "type", "precision", "unit", "ms", "moves", "elsewhere")
OPERATIONS = [
    ("gelu", "Gelu", "fp32", "cpu kernel", 3.0, False, False),
    ("product", "MatMul", "int8", "cpu kernel", 5.0, False, False),
    ("quantise", "QuantizeLinear", "fp32 to int8", "cpu kernel", 1.0, True, False),
    ("nonzero", "NonZero", None, "AI_CPU", 1.0, False, True),
]


def record(failed=None, profiled_ms=10.5, plain_ms=10.2, operations=OPERATIONS):
    facts = {"device": "cpu", "engine_id": "e"}
    if failed is None:
        listed = [{**dict(zip(NAMES, one)), "calls": 1} for one in operations]
        facts |= {"operations": listed, "operators_ms": sum(one["ms"] for one in listed)}
        facts |= {"profiled_ms_mean": profiled_ms, "plain_ms_mean": plain_ms}
    return Record(Path("p.json"), "tiny", Target("onnxruntime", "int8"), 8, False, failed, facts)


def measured(latency_ms=None, engine_id="e"):
    about = {"model": "tiny", "backend": "onnxruntime", "precision": "int8", "variant": "", "batch": 8}
    rows = [{**about, "way": "latency", "engine_id": engine_id, "latency_ms_mean": latency_ms}] if latency_ms else []
    return frame(THROUGHPUT, rows)


def notes(*arguments, **facts):
    (table,) = profiles.make_profile_tables(profiles.make_profile([record(**facts)], measured(*arguments)))
    return table.notes


def test_one_row_per_operator_the_most_expensive_first():
    table = profiles.make_profile([record()], measured(10.0))
    assert table["operator"].tolist() == ["product", "gelu", "quantise", "nonzero"]
    assert table["share"].tolist() == [50, 30, 10, 10]
    assert table["precision"].unique().tolist() == ["int8"]
    assert table["ran_in"].fillna("?").tolist() == ["int8", "fp32", "fp32 to int8", "?"]
    assert table["measured_ms"].unique().tolist() == [10]


def test_what_ran_otherwise_than_asked_is_named():
    _, moved, by_type, other = notes(10.0)
    assert moved == (
        "conversions and transposes: 10.0% of the time; elsewhere than asked: 10.0% (NonZero (AI_CPU) 10.0%)."
    )
    assert by_type.startswith("by type: MatMul (int8) 50.0%, Gelu (fp32) 30.0%")
    assert other == "not in int8: 30.0% of the time, Gelu (fp32) 30.0%; of 10.0% the runtime does not tell."


@pytest.mark.parametrize(("latency_ms", "share"), [(10.0, "100.0%"), (9.2, "108.7%"), (11.0, "90.9%")])
def test_operators_that_add_up_to_the_latency_need_no_reason(latency_ms, share):
    expected = f"sum: the operators take 10.000 ms, {share} of the measured latency, {latency_ms:.3f} ms."
    assert notes(latency_ms)[0] == expected


def test_a_difference_has_its_reason():
    slower = notes(5.0)[0]
    assert "They differ by more than 10%: plain runs took 10.200 ms while it was profiled: the machine" in slower
    assert "slower than when it was measured" in slower
    between = notes(20.0, profiled_ms=20.0, plain_ms=20.0)[0]
    assert "50% of a profiled run are spent between operators" in between
    assert "profiling, or what else ran" not in between
    cost = notes(5.0, profiled_ms=10.0, plain_ms=5.0)[0]
    assert "profiling, or what else ran then, made runs 100% slower (10.000 ms)" in cost


def test_without_a_measurement_of_the_same_engine_plain_runs_are_compared():
    assert notes()[0].endswith("of its runs without profiling (no measurement of it is given), 10.200 ms.")
    table = profiles.make_profile([record()], measured(10.0, engine_id="another"))
    assert table["measured_ms"].isna().all()


def test_an_engine_that_was_not_profiled_says_why_and_a_second_profile_of_it_does_not_count():
    table = profiles.make_profile([record("no msprof"), record()], measured(10.0))
    assert (len(table), table["failed"].tolist()) == (1, ["no msprof"])
    (shown,) = profiles.make_profile_tables(table)
    assert shown.notes == ["not profiled: no msprof"]
    assert profiles.make_profile_tables(profiles.make_profile([], measured())) == []
    assert isinstance(table, pandas.DataFrame)
