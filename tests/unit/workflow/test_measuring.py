"""How often, and in which order, engines are measured."""

from test_plan import cell, pairs, sweep

from smlp.workflow.measuring import FIRST, Measuring, priority


def rounds(targets=({"backend": "onnxruntime"},), **more):
    found = sweep(targets, **more)
    return Measuring(found, found._settings)


def test_a_row_is_made_of_its_loads():
    folder = "results/measure/mine/onnxruntime/fp32"
    assert rounds(measure={"loads": 2}).loads(cell()) == [f"{folder}/bs4/load-0.json", f"{folder}/bs4/load-1.json"]
    assert rounds().loads(cell(variant="v"))[2] == f"{folder}/v/bs4/load-2.json"


def test_rounds_follow_each_other_after_everything_that_they_need():
    found = [priority(number) for number in range(50)]
    assert found == sorted(set(found), reverse=True)
    assert found[0] < FIRST and found[-1] > 0


def test_flags_of_measuring():
    found = rounds([{"backend": "ascend"}], backends={"ascend": {"devices": [2, 0], "allow_busy_device": True}})
    flags = found.flags(cell("ascend", "high"))
    assert flags[-1] == "--allow_busy_device"
    assert pairs(flags[:-1]) == {
        "--retry_max_s": "120",
        "--min_time_s": "10",
        "--min_runs": "100",
        "--warmup_window_s": "1",
        "--warmup_max_s": "60",
        "--device": "ascend:2",
    }
    variant = rounds([{"backend": "onnxruntime"}, {"backend": "onnxruntime", "name": "v"}])
    assert variant.flags(cell(variant="v")) == [*variant.flags(cell()), "--variant", "v"]
