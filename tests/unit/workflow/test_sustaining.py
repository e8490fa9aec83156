"""Which engines of a sweep run for minutes, and how."""

import pytest
from test_measuring import rounds
from test_plan import cell, pairs, sweep

from smlp.core.cli import UserError

TARGETS = [{"backend": "onnxruntime"}, {"backend": "openvino", "precision": "int8"}]


def files(measure, **more):
    return sweep(TARGETS, measure=measure, **more).files("sustain")


def test_nothing_runs_for_minutes_unless_somebody_asks_for_it():
    assert files({}) == files({"sustained_batch_sizes": [1]}) == []


def test_each_target_runs_at_the_largest_batch_size_or_at_those_that_are_named():
    places = [f"results/sustain/mine/{target}" for target in ("onnxruntime/fp32", "openvino/int8")]
    assert files({"sustained_s": 600}) == [f"{place}/bs4.json" for place in places]
    named = files({"sustained_s": 600, "sustained_batch_sizes": [1, 4]})
    assert named == [f"{place}/bs{batch}.json" for place in places for batch in (1, 4)]


def test_of_imported_results_there_is_no_engine_to_run(tmp_path):
    (tmp_path / "mine" / "ascend" / "high" / "bs4").mkdir(parents=True)
    more = {"infer": {"import": str(tmp_path)}, "backends": {"ascend": {"soc_version": "Ascend310P3"}}}
    found = sweep([{"backend": "onnxruntime"}, {"backend": "ascend"}], measure={"sustained_s": 1}, **more)
    assert found.files("sustain") == ["results/sustain/mine/onnxruntime/fp32/bs4.json"]


@pytest.mark.parametrize("seconds", [0, 600])
def test_a_batch_size_that_the_sweep_has_not_is_named(seconds):
    with pytest.raises(UserError) as error:
        files({"sustained_s": seconds, "sustained_batch_sizes": [4, 3]})
    assert str(error.value) == (
        "measure.sustained_batch_sizes: 3: is no batch size of this sweep; batch_sizes has 1, 4"
    )


@pytest.mark.parametrize(
    ("measure", "named"),
    [
        ({"sustained_s": -1}, "measure.sustained_s: -1"),
        ({"sustained_s": "10 min"}, "measure.sustained_s: '10 min'"),
        ({"sustained_batch_sizes": [0]}, "measure.sustained_batch_sizes.0: 0"),
        ({"sustained_batch_sizes": 8}, "measure.sustained_batch_sizes: 8"),
    ],
)
def test_bad_settings_are_one_clear_line(measure, named):
    with pytest.raises(UserError) as error:
        files(measure)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_flags_of_a_sustained_run_and_none_of_them_for_loads():
    settings = {"sustained_s": 600, "sustained_batch_sizes": [1], "warmup_max_s": 5}
    found = rounds([{"backend": "ascend"}], measure=settings, backends={"ascend": {"allow_busy_device": True}})
    flags = found.sustained_flags(cell("ascend", "high"))
    assert flags[-1] == "--allow_busy_device"
    assert pairs(flags[:-1]) == {
        "--sustained_s": "600",
        "--warmup_window_s": "1",
        "--warmup_max_s": "5",
        "--device": "ascend:0",
    }
    plain = rounds([{"backend": "ascend"}], measure={"warmup_max_s": 5}, backends={"ascend": {}})
    assert plain.flags(cell("ascend", "high")) == [word for word in found.flags(cell("ascend", "high"))[:-1]]
