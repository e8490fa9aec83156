"""How often, and in which order, engines are measured."""

from test_plan import ONNX, cell, pairs, sweep

from smlp.workflow.measuring import Measuring


def rounds(targets=({"backend": "onnxruntime"},), **more):
    found = sweep(targets, **more)
    return Measuring(found, found._settings)


def test_a_row_is_made_of_its_loads():
    folder = "results/measure/mine/onnxruntime/fp32"
    assert rounds(measure={"loads": 2}).loads(cell()) == [f"{folder}/bs4/load-0.json", f"{folder}/bs4/load-1.json"]
    assert rounds().loads(cell(variant="v"))[2] == f"{folder}/v/bs4/load-2.json"


def test_a_round_waits_for_the_one_before_it():
    found = rounds([{"backend": "onnxruntime"}, {"backend": "openvino"}], models={"mine": ONNX, "other": ONNX})
    before = found.before(cell(), 2)
    assert before == [found.load(cell(), 1), found.load(cell("openvino"), 1)]
    assert found.before(cell(), 0) == []


def test_imported_results_are_waited_for_by_nobody(tmp_path):
    (tmp_path / "mine" / "ascend" / "high" / "bs4").mkdir(parents=True)
    targets = [{"backend": "onnxruntime"}, {"backend": "ascend", "precision": "high"}]
    found = rounds(targets, infer={"import": str(tmp_path)}, backends={"ascend": {"soc_version": "Ascend310P3"}})
    assert found.before(cell(), 1) == [found.load(cell(), 0)]


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
