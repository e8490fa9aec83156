"""Best rows that were measured again: which take part, who wins then, and what the tables show."""

import json

import pytest
from result_files import Sweep, both_ways, cells_of, dicts, judged, throughput

from smlp.results import reader
from smlp.results.accuracy import make_accuracy
from smlp.results.confirmed import read_confirmed
from smlp.results.decision import finalists, make_decision
from smlp.results.throughput import make_throughput

PYTORCH = reader.Target("pytorch", "fp32")
PASSED = [judged(backend, precision, 1) for backend in ("openvino", "onnxruntime") for precision in ("fp32", "int8")]
RATES = {("pytorch", "fp32"): 10.0, ("openvino", "fp32"): 39.0, ("onnxruntime", "fp32"): 40.0, ("openvino", "int8"): 37}


def rows_of(rates, **more):
    return [throughput(backend, precision, 1, rate, **more) for (backend, precision), rate in rates.items()]


def frames(root, contents, accuracies=PASSED):
    sweep = Sweep(root, accuracies, contents)
    accuracy = make_accuracy(reader.read_accuracy(sweep.files["accuracy"]), PYTORCH, {})
    return make_throughput(reader.read_throughput(sweep.files["throughput"])), accuracy


def again(root, contents, unconfirmed=()):
    path = root / "confirmed.json"
    path.write_text(json.dumps({"model": "smlpnet_tiny", "rows": contents, "unconfirmed": list(unconfirmed)}))
    return path


def names(found):
    return [f"{row.backend} {row.precision}" for row in found]


def test_those_near_the_fastest_and_the_reference_are_finalists(tmp_path):
    found = finalists("smlpnet_tiny", *frames(tmp_path, rows_of(RATES)), PYTORCH, [(None, None)], 3)
    assert names(found) == ["onnxruntime fp32", "openvino fp32", "pytorch fp32"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"emulated": True, "device": "ascend:0"}, []),
        ({"batch_checked": False}, []),
    ],
)
def test_rows_that_cannot_be_the_best_are_none(tmp_path, more, expected):
    found = finalists("smlpnet_tiny", *frames(tmp_path, rows_of(RATES, **more)), PYTORCH, [(None, None)], 3)
    assert names(found) == expected


def test_the_finalists_within_a_limit_take_part_too(tmp_path):
    contents = [*rows_of(RATES), throughput("openvino", "fp32", 8, 60.0)]
    known = frames(tmp_path, contents, [*PASSED, judged("openvino", "fp32", 8)])
    limits = [(None, None), (40.0, "p95")]
    found = finalists("smlpnet_tiny", *known, PYTORCH, limits, 1)
    assert [(row.backend, row.batch) for row in found] == [("openvino", 8), ("pytorch", 1), ("onnxruntime", 1)]


def test_two_ways_of_one_engine_are_one_finalist(tmp_path):
    contents = [throughput("pytorch", "fp32", 1, 10.0), both_ways("openvino", "fp32", 1, 39.0, 40.0)]
    found = finalists("smlpnet_tiny", *frames(tmp_path, contents), PYTORCH, [(None, None)], 3)
    assert names(found) == ["openvino fp32", "pytorch fp32"]


def test_who_was_faster_then_is_the_best_row(tmp_path):
    measured, accuracy = frames(tmp_path, rows_of(RATES))
    second = {("pytorch", "fp32"): 11.0, ("openvino", "fp32"): 38.5, ("onnxruntime", "fp32"): 36.0}
    confirmed = read_confirmed([again(tmp_path, rows_of(second))]).records
    fp32, int8 = dicts(make_decision("smlpnet_tiny", measured, accuracy, PYTORCH, confirmed=confirmed))
    assert (fp32["backend"], fp32["images_per_s"], fp32["confirmed_images_per_s"]) == ("openvino", 39.0, 38.5)
    assert fp32["fastest_of_model"] and not int8["fastest_of_model"]
    assert (fp32["reference_images_per_s"], fp32["ratio_to_reference"]) == (11.0, 3.5)
    assert fp32["note"].startswith("onnxruntime fp32, batch size 1 was ahead with 40.0 images/s, and not when it was")
    # nobody measured this one again
    assert (int8["confirmed_images_per_s"], int8["reference_images_per_s"]) == (None, 10.0)
    assert int8["ratio_to_reference"] == 3.7


def test_figures_of_another_engine_confirm_nothing(tmp_path):
    measured, accuracy = frames(tmp_path, rows_of(RATES))
    engine = {"path": "bs.onnx", "id": "another"}
    confirmed = read_confirmed([again(tmp_path, rows_of({("openvino", "fp32"): 50.0}, engine=engine))]).records
    fp32, _ = dicts(make_decision("smlpnet_tiny", measured, accuracy, PYTORCH, confirmed=confirmed))
    assert (fp32["backend"], fp32["confirmed_images_per_s"]) == ("onnxruntime", None)


def test_the_tables_show_it_with_its_marks(tmp_path):
    second = rows_of({("pytorch", "fp32"): 11.0, ("onnxruntime", "fp32"): 38.5})
    second[1]["smlp"] |= {"stable": False, "disturbed": "other processes took 30% of the processors"}
    path = again(tmp_path, second, ["a row was measured elsewhere"])
    sweep = Sweep(tmp_path, PASSED, rows_of(RATES)).make("--confirmed", path)
    header, _, fp32, int8 = cells_of(sweep.text("throughput.md"), "Best row: smlpnet_tiny")
    shown = dict(zip(header, fp32))
    assert (shown["images/s"], shown["confirmed (images/s)"]) == ("40.0", "38.5*")
    assert shown["95% interval, confirmed (images/s)"] == "37.3 to 39.3"
    assert shown["ratio to best pytorch fp32"] == "3.50*"
    assert dict(zip(header, int8))["confirmed (images/s)"] == "–"
    text = sweep.text("throughput.md")
    assert (
        "fastest row of smlpnet_tiny: onnxruntime fp32, batch size 1, on cpu (Testor 9000): 38.5* images/s, measured "
        "again (40.0 in the sweep), 3.50* times the best of pytorch fp32, verdict pass."
    ) in text
    assert "- ratio: to the best images/s of pytorch fp32, 10.0.\n" in text
    assert "- ratio of a confirmed figure: to the best images/s of pytorch fp32, measured again too, 11.0.\n" in text
    assert "- not confirmed: a row was measured elsewhere.\n" in text
    assert "fp32, measured again: other processes took 30% of the processors." in text
    (row, _) = sweep.rows("decision.csv")
    assert (row["confirmed_images_per_s"], row["confirmed_stable"]) == ("38.5", "false")
