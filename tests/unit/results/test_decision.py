"""The best rows under the accuracy rule and a limit on latency."""

import pytest
from result_files import (
    DECIDED_ACCURACY,
    DECIDED_THROUGHPUT,
    OUTPUTS,
    Sweep,
    both_ways,
    cells_of,
    dicts,
    failure,
    judged,
    throughput,
)

from smlp.results import reader
from smlp.results.accuracy import make_accuracy
from smlp.results.columns import DECISION, frame
from smlp.results.decision import make_decision, make_decision_table
from smlp.results.throughput import make_throughput

PYTORCH = reader.Target("pytorch", "fp32")


def decide(root, accuracies, throughputs, latency_ms_max=None, reference=PYTORCH):
    sweep = Sweep(root, accuracies, throughputs)
    judged = make_accuracy(reader.read_accuracy(sweep.files["accuracy"]), reference, {})
    measured = make_throughput(reader.read_throughput(sweep.files["throughput"]))
    return dicts(make_decision("smlpnet_tiny", measured, judged, reference, latency_ms_max))


def table_of(rows):
    return make_decision_table(frame(DECISION, rows))


def named(rows):
    """What was chosen: {precision: (backend, way, batch)}."""
    return {row["precision"]: (row["backend"], row["way"], row["batch"]) for row in rows}


def test_the_best_rows_keep_their_accuracy(decided):
    header, _, *rows = cells_of(decided.text("throughput.md"), "Best row: smlpnet_tiny")
    assert header == [
        "device",
        "precision",
        "engine",
        "way",
        "batch size",
        "images/s",
        "95% interval (images/s)",
        "latency (ms)",
        "top-1 (%)",
        "drop (points)",
        "ratio to best pytorch fp32",
    ]
    cpu = "cpu (Testor 9000)"
    assert rows == [
        # 8 images at 30 images/s: 266.667 ms, p95 is 1.2 times that
        [
            cpu,
            "fp32",
            "onnxruntime",
            "latency",
            "8",
            "30.0*",
            "29.1 to 30.6",
            "320.000 (p95)",
            "81.70",
            "+0.20",
            "1.50*",
        ],
        [cpu, "int8", "openvino", "latency", "1", "50.0", "48.5 to 51.0", "24.000 (p95)", "81.30", "+0.40", "2.50"],
        # two requests of 8 images: 363.636 ms; p99 is known of this row alone
        [cpu, "bf16", "openvino", "throughput", "8", "44.0", "43.0 to 45.0", "545.455 (p95)", "81.70", "+0.20", "2.20"],
    ]


def test_a_faster_row_that_fails_is_named(decided):
    text = decided.text("throughput.md").split("## Best row: ")[1].split("\n## ")[0]
    assert (
        "- cpu (Testor 9000), int8: openvino int8, batch size 8 (80.0 images/s) would be faster, "
        "its accuracy verdict: fail.\n"
    ) in text
    assert text.count("would be faster") == 1
    assert (
        "- fastest row of smlpnet_tiny: openvino int8, batch size 1, on cpu (Testor 9000): 50.0 images/s, "
        "2.50 times the best of pytorch fp32, verdict pass.\n"
    ) in text
    assert "- ratio: to the best images/s of pytorch fp32, 20.0.\n" in text
    assert "- *: unstable" in text


def test_the_decision_comes_right_after_the_rates(decided):
    titles = [line for line in decided.text("throughput.md").splitlines() if line.startswith("## ")]
    assert titles == [
        "## Throughput: smlpnet_tiny, images/s",
        "## Best row: smlpnet_tiny",
        "## Best row within 500 ms: smlpnet_tiny",
        "## Throughput ratios: smlpnet_tiny",
        "## Published throughput: smlpnet_tiny, images/s",
    ]


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ([judged("openvino", "int8", 8, "fail")], "fail"),
        ([judged("openvino", "int8", 8, "undecided")], "undecided"),
        ([judged("openvino", "int8", 8, None)], "unknown"),
        ([judged("openvino", "int8", 1)], "unknown"),  # a verdict at another batch size counts for nothing
        ([judged("onnxruntime", "int8", 8)], "unknown"),
        ([judged("openvino", "int8", 8, model="resnet18")], "unknown"),
        ([failure("openvino", "int8", 8)], "unknown (its accuracy run failed)"),
        ([], "unknown"),
    ],
)
def test_only_a_pass_is_eligible(tmp_path, accuracies, verdict):
    (row,) = rows = decide(tmp_path, accuracies, [throughput("openvino", "int8", 8, 80.0)])
    assert (row["backend"], row["images_per_s"], row["fastest_of_model"]) == (None, None, False)
    assert row["note"] == (
        "no row is eligible. openvino int8, batch size 8 (80.0 images/s) was left out, "
        f"its accuracy verdict: {verdict}."
    )
    table = table_of(rows)
    assert table.rows == [["cpu (Testor 9000)", "int8", "none", *["–"] * 8]]
    assert table.notes[0] == "fastest row of smlpnet_tiny: none is eligible on a real device."


def test_the_reference_is_eligible_without_a_verdict(tmp_path):
    (row,) = decide(tmp_path, [], [throughput("pytorch", "fp32", 1, 10.0), throughput("openvino", "fp32", 1, 20.0)])
    assert (row["backend"], row["verdict"], row["ratio_to_reference"]) == ("pytorch", "reference", 1.0)
    assert "openvino fp32, batch size 1 (20.0 images/s) would be faster, its accuracy verdict: unknown." in row["note"]


def test_a_reference_that_failed_its_accuracy_run_is_not_eligible(tmp_path):
    (row,) = decide(tmp_path, [failure("pytorch", "fp32", 1)], [throughput("pytorch", "fp32", 1, 10.0)])
    assert row["backend"] is None


def test_a_batch_size_of_the_reference_that_loses_accuracy_is_no_best_row_and_no_base(tmp_path):
    accuracies = [judged("pytorch", "fp32", 1), judged("pytorch", "fp32", 8, "fail"), judged("openvino", "fp32", 1)]
    contents = [throughput("pytorch", "fp32", batch, rate) for batch, rate in ((1, 10.0), (8, 90.0))]
    (row,) = decide(tmp_path, accuracies, [*contents, throughput("openvino", "fp32", 1, 20.0)])
    assert (row["backend"], row["batch"]) == ("openvino", 1)
    assert (row["reference_images_per_s"], row["ratio_to_reference"]) == (10.0, 2.0)
    assert row["note"] == "pytorch fp32, batch size 8 (90.0 images/s) would be faster, its accuracy verdict: fail."


def test_nothing_is_the_best_if_the_reference_is_too_close_to_guessing(tmp_path):
    reason = {"verdict": None, "verdict_reason": "the reference is too close to guessing"}
    accuracies = [judged(backend, "fp32", 1, **reason) for backend in ("pytorch", "openvino")]
    contents = [throughput("pytorch", "fp32", 1, 10.0), throughput("openvino", "fp32", 1, 20.0)]
    (row,) = rows = decide(tmp_path, accuracies, contents)
    assert row["backend"] is None and row["reference_images_per_s"] == 10.0
    why = "was left out, its accuracy verdict: none, for the reason in the accuracy table."
    assert row["note"].count(why) == 2
    assert table_of(rows).rows[0][2] == "none"


def test_each_model_has_its_own_reference(tmp_path):
    sweep = Sweep(tmp_path, [], [throughput("onnxruntime", "fp32", 1, 10.0)])
    (row,) = sweep.make("--reference_of", "smlpnet_tiny=onnxruntime").rows("decision.csv")
    assert (row["backend"], row["verdict"], row["reference"]) == ("onnxruntime", "reference", "onnxruntime fp32")


def test_of_equals_the_smaller_batch_and_the_simpler_way_win(tmp_path):
    contents = [both_ways("openvino", "bf16", batch, 40.0, 40.0) for batch in (8, 1)]
    rows = decide(tmp_path, [judged("openvino", "bf16", batch) for batch in (1, 8)], contents)
    assert named(rows) == {"bf16": ("openvino", "latency", 1)}


def test_devices_are_told_apart_and_an_emulator_never_wins(tmp_path):
    rows = decide(
        tmp_path,
        [judged("openvino", "fp16", 1), judged("ascend", "fp16", 1), judged("ascend", "high", 1)],
        [
            throughput("pytorch", "fp32", 1, 10.0),
            throughput("openvino", "fp16", 1, 20.0),
            throughput("ascend", "fp16", 1, 500.0, device="ascend:0"),
            throughput("ascend", "high", 1, 900.0, device="ascend:0", emulated=True),
        ],
    )
    chosen = [(row["device"], row["emulated"], row["precision"], row["fastest_of_model"]) for row in rows]
    assert chosen == [
        ("cpu (Testor 9000)", False, "fp32", False),
        ("cpu (Testor 9000)", False, "fp16", False),
        ("ascend:0", False, "fp16", True),
        ("ascend:0", True, "high", False),
    ]
    assert [row["ratio_to_reference"] for row in rows] == [1.0, 2.0, 50.0, None]
    table = table_of(rows)
    assert table.rows[3][0] == "ascend:0 (emulated)" and table.rows[3][-1] == "–"
    assert any(note.startswith("(emulated)") for note in table.notes)


def test_an_emulated_reference_is_no_base_of_a_ratio(tmp_path):
    contents = [throughput("pytorch", "fp32", 1, 10.0, emulated=True), throughput("openvino", "fp16", 1, 20.0)]
    rows = decide(tmp_path, [judged("openvino", "fp16", 1)], contents)
    assert [(row["reference_images_per_s"], row["ratio_to_reference"]) for row in rows] == [(None, None)] * 2


def test_one_note_for_each_engine_left_out(tmp_path):
    contents = [throughput(backend, "int8", 1, rate) for backend, rate in (("openvino", 60.0), ("onnxruntime", 50.0))]
    contents += [throughput("openvino", "int8", 8, 70.0), throughput("aotinductor", "int8", 8, 55.0)]
    accuracies = [judged("openvino", "int8", batch, "fail") for batch in (1, 8)]
    accuracies += [judged("onnxruntime", "int8", 1, "undecided"), judged("aotinductor", "int8", 8)]
    (row,) = decide(tmp_path, accuracies, contents)
    assert row["backend"] == "aotinductor"
    # the slower figure of openvino and onnxruntime, slower than the best, go without saying
    assert row["note"] == "openvino int8, batch size 8 (70.0 images/s) would be faster, its accuracy verdict: fail."


def test_the_limit_chooses_other_rows(decided):
    _, _, *rows = cells_of(decided.text("throughput.md"), "Best row within 500 ms: smlpnet_tiny")
    chosen = [(row[1], row[2], row[3], row[5], row[7]) for row in rows]
    assert chosen == [
        ("fp32", "onnxruntime", "latency", "30.0*", "320.000 (p95)"),
        ("int8", "openvino", "latency", "50.0", "24.000 (p95)"),
        ("bf16", "openvino", "latency", "40.0", "240.000 (p95)"),  # the throughput way takes 545 ms
    ]


@pytest.mark.parametrize(
    ("limit", "chosen"),
    [(480, ("pytorch", 8)), (479.9, ("pytorch", 1)), (120, ("pytorch", 1)), (119.9, (None, None))],
)
def test_the_limit_is_one_on_the_highest_percentile_of_all_rows(tmp_path, limit, chosen):
    # p95 is 120 ms at batch size 1 and 480 ms at 8, where the mean is 100 and 400 ms
    (row,) = rows = decide(tmp_path, DECIDED_ACCURACY[:2], DECIDED_THROUGHPUT[:2], limit)
    assert (row["backend"], row["batch"]) == chosen
    assert (row["rule"], row["latency_ms_max"]) == ("accuracy_and_latency", limit)
    if chosen[0] is None:
        assert row["note"] == (
            "no eligible row stays within 119.9 ms; the smallest latency is 120.000 ms "
            "(p95; pytorch fp32, batch size 1)."
        )
        assert table_of(rows).rows[0][2] == "none"


def test_rows_with_too_few_runs_for_the_percentile_say_so(tmp_path):
    many = throughput("pytorch", "fp32", 8, 20.0, latency_ms_p99=500.0)
    contents = [throughput("pytorch", "fp32", 1, 30.0), many]
    measured = make_throughput(reader.read_throughput(Sweep(tmp_path, [], contents).files["throughput"]))
    judged = make_accuracy([], PYTORCH, {})
    (row,) = dicts(make_decision("smlpnet_tiny", measured, judged, PYTORCH, 600, "p99"))
    assert (row["batch"], row["latency_ms"], row["latency_percentile"]) == (8, 500.0, "p99")
    assert row["note"] == "too few runs for p99, so not within the limit: pytorch fp32, batch size 1."
    (row,) = dicts(make_decision("smlpnet_tiny", measured, judged, PYTORCH, 400, "p99"))
    assert row["backend"] is None and "the smallest latency is 500.000 ms (p99" in row["note"]


@pytest.mark.parametrize(
    ("percentiles", "limit", "expected"),
    [
        ({"latency_ms_p99": 300.0}, 250, None),
        ({"latency_ms_p99": 300.0}, 300, ("p99", 300.0)),
        ({"latency_ms_p95": None}, 110, ("p90", pytest.approx(110.0))),
        ({"latency_ms_p95": None, "latency_ms_p90": None}, 100, ("p50", 98.0)),
    ],
)
def test_the_highest_percentile_there_is_decides(tmp_path, percentiles, limit, expected):
    limit = limit + 1e-9
    (row,) = decide(tmp_path, [], [throughput("pytorch", "fp32", 1, 10.0, **percentiles)], limit)
    found = (row["latency_percentile"], row["latency_ms"]) if row["backend"] else None
    assert found == expected


def test_a_row_that_is_too_slow_and_fails_is_not_worth_a_note(tmp_path):
    contents = [throughput("openvino", "int8", 1, 50.0), throughput("openvino", "int8", 8, 80.0)]
    accuracies = [judged("openvino", "int8", 1), judged("openvino", "int8", 8, "fail")]
    (row,) = decide(tmp_path, accuracies, contents, 30)  # 24 ms and 120 ms
    assert (row["batch"], row["note"]) == (1, None)


def test_the_ratio_is_to_the_reference_at_its_best_whatever_its_latency(tmp_path):
    (row,) = decide(tmp_path, DECIDED_ACCURACY[:2], DECIDED_THROUGHPUT[:2], 120)
    assert row["ratio_to_reference"] == 0.5  # 10 at batch size 1, 20 at batch size 8


def test_decision_csv_has_both_rules(decided):
    rows = decided.rows("decision.csv")
    keys = ("rule", "precision", "backend", "way", "batch", "images_per_s", "latency_percentile", "fastest_of_model")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("accuracy", "fp32", "onnxruntime", "latency", "8", "30", "p95", "false"),
        ("accuracy", "int8", "openvino", "latency", "1", "50", "p95", "true"),
        ("accuracy", "bf16", "openvino", "throughput", "8", "44", "p95", "false"),
        ("accuracy_and_latency", "fp32", "onnxruntime", "latency", "8", "30", "p95", "false"),
        ("accuracy_and_latency", "int8", "openvino", "latency", "1", "50", "p95", "true"),
        ("accuracy_and_latency", "bf16", "openvino", "latency", "8", "40", "p95", "false"),
    ]
    assert [row["latency_ms_max"] for row in rows] == ["", "", "", "500", "500", "500"]
    assert rows[0]["stable"] == "false" and rows[1]["top1_percent"] == "81.3" and rows[1]["drop_points"] == "0.4"
    assert (rows[2]["requests"], rows[2]["ratio_to_reference"], rows[2]["reference_images_per_s"]) == ("2", "2.2", "20")
    assert "openvino int8, batch size 8 (80.0 images/s) would be faster" in rows[1]["note"]


def test_nothing_but_failures_makes_no_decision(tmp_path):
    made = Sweep(tmp_path, [], [failure("openvino", "fp32", 1)]).make("--latency_ms_max", 5)
    assert made.rows("decision.csv") == [] and "Best row" not in made.text("throughput.md")
    assert {path.name for path in made.output.iterdir()} == OUTPUTS
