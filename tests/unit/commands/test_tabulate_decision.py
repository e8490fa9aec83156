"""The best rows under the accuracy rule and a limit on latency, both ways of running an engine, and failed rows."""

import json
import os
import subprocess
import sys

import pytest
from test_tabulate import COMPARED, OUTPUTS, SCRIPT, Sweep, accuracy, assert_refused, failure, labels, throughput

from smlp.results import decision, plots, reader, tables

PYTORCH = reader.Target("pytorch", "fp32")


def judged(backend, precision, batch, verdict="pass", **more):
    return accuracy(backend, precision, batch, **{**COMPARED, "verdict": verdict, **more})


def both_ways(backend, precision, batch, images_per_s, together_images_per_s, **together):
    """A measurement that holds the throughput way too: two requests over two streams."""
    content = throughput(backend, precision, batch, images_per_s, settings={"threads": 2, "streams": 1})
    latency_ms = 2000 * batch / together_images_per_s
    content["smlp"]["throughput_way"] = {
        "settings": {"requests": 2, "streams": 2, "threads": 4, "inference_precision": precision},
        "runs": 300,
        "warmup_runs": 5,
        "stable": True,
        "images_per_s": together_images_per_s,
        "images_per_s_low": together_images_per_s - 1,
        "images_per_s_high": together_images_per_s + 1,
        "latency_ms_mean": latency_ms,
        "latency_ms_p50": latency_ms,
        "latency_ms_p90": latency_ms * 1.25,
        "latency_ms_p95": latency_ms * 1.5,
        "latency_ms_p99": latency_ms * 2,
        **together,
    }
    return content


ACCURACY = [
    *(accuracy("pytorch", "fp32", batch) for batch in (1, 8)),
    *(judged("onnxruntime", "fp32", batch) for batch in (1, 8)),
    judged("openvino", "int8", 1, drop_points=0.4, top1=81.3),
    judged("openvino", "int8", 8, "fail", drop_points=7.5),
    judged("openvino", "bf16", 8),
]
THROUGHPUT = [
    throughput("pytorch", "fp32", 1, 10.0),
    throughput("pytorch", "fp32", 8, 20.0),
    throughput("onnxruntime", "fp32", 1, 15.0),
    throughput("onnxruntime", "fp32", 8, 30.0, stable=False),
    throughput("openvino", "int8", 1, 50.0),
    throughput("openvino", "int8", 8, 80.0),
    both_ways("openvino", "bf16", 8, 40.0, 44.0),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sweep that is tabulated with a limit of 500 ms; only to be read."""
    sweep = Sweep(tmp_path_factory.mktemp("decision"), ACCURACY, THROUGHPUT)
    return sweep.make("--latency_ms_max", 500)


def decide(root, accuracies, throughputs, latency_ms_max=None, reference=PYTORCH):
    sweep = Sweep(root, accuracies, throughputs)
    rows = tables.make_accuracy_rows(reader.read_accuracy(sweep.files["accuracy"]), reference, {})
    measured = reader.read_throughput(sweep.files["throughput"])
    return decision.make_decision("smlpnet_tiny", measured, rows, reference, latency_ms_max)


def named(rows):
    """What was chosen: {precision: (backend, way, batch)}."""
    return {row["precision"]: (row["backend"], row["way"], row["batch"]) for row in rows}


def cells_of(text, title):
    part = text.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# --- the rule of accuracy


def test_the_best_rows_keep_their_accuracy(made):
    header, _, *rows = cells_of(made.text("throughput.md"), "Best row: smlpnet_tiny")
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
            "1.50",
        ],
        [cpu, "int8", "openvino", "latency", "1", "50.0", "48.5 to 51.0", "24.000 (p95)", "81.30", "+0.40", "2.50"],
        # two requests of 8 images: 363.636 ms, p99 is 2 times that
        [cpu, "bf16", "openvino", "throughput", "8", "44.0", "43.0 to 45.0", "727.273 (p99)", "81.70", "+0.20", "2.20"],
    ]


def test_a_faster_row_that_fails_is_named(made):
    text = made.text("throughput.md").split("## Best row: ")[1].split("\n## ")[0]
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


def test_the_decision_stands_right_after_the_rates(made):
    titles = [line for line in made.text("throughput.md").splitlines() if line.startswith("## ")]
    assert titles == [
        "## Throughput: smlpnet_tiny",
        "## Best row: smlpnet_tiny",
        "## Best row within 500 ms: smlpnet_tiny",
        "## Throughput ratios: smlpnet_tiny",
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
    table = decision.make_decision_table(rows)
    assert table.rows == [["cpu (Testor 9000)", "int8", "none", *["–"] * 8]]
    assert table.notes[0] == "fastest row of smlpnet_tiny: none is eligible on a real device."


def test_the_reference_is_eligible_without_a_verdict(tmp_path):
    (row,) = decide(tmp_path, [], [throughput("pytorch", "fp32", 1, 10.0), throughput("openvino", "fp32", 1, 20.0)])
    assert (row["backend"], row["verdict"], row["ratio_to_reference"]) == ("pytorch", "reference", 1.0)
    assert "openvino fp32, batch size 1 (20.0 images/s) would be faster, its accuracy verdict: unknown." in row["note"]


def test_a_reference_that_failed_its_accuracy_run_is_not_eligible(tmp_path):
    (row,) = decide(tmp_path, [failure("pytorch", "fp32", 1)], [throughput("pytorch", "fp32", 1, 10.0)])
    assert row["backend"] is None


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
    table = decision.make_decision_table(rows)
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


# --- the limit on latency


def test_the_limit_chooses_other_rows(made):
    _, _, *rows = cells_of(made.text("throughput.md"), "Best row within 500 ms: smlpnet_tiny")
    chosen = [(row[1], row[2], row[3], row[5], row[7]) for row in rows]
    assert chosen == [
        ("fp32", "onnxruntime", "latency", "30.0*", "320.000 (p95)"),
        ("int8", "openvino", "latency", "50.0", "24.000 (p95)"),
        ("bf16", "openvino", "latency", "40.0", "240.000 (p95)"),  # the throughput way takes 727 ms
    ]


@pytest.mark.parametrize(
    ("limit", "chosen"),
    [(480, ("pytorch", 8)), (479.9, ("pytorch", 1)), (120, ("pytorch", 1)), (119.9, (None, None))],
)
def test_the_limit_is_one_on_the_highest_percentile(tmp_path, limit, chosen):
    # p95 is 120 ms at batch size 1 and 480 ms at 8, where the mean is 100 and 400 ms
    (row,) = rows = decide(tmp_path, ACCURACY[:2], THROUGHPUT[:2], limit)
    assert (row["backend"], row["batch"]) == chosen
    assert (row["rule"], row["latency_ms_max"]) == ("accuracy_and_latency", limit)
    if chosen[0] is None:
        assert row["note"] == (
            "no eligible row stays within 119.9 ms; the smallest latency is 120.000 ms "
            "(p95; pytorch fp32, batch size 1)."
        )
        assert decision.make_decision_table(rows).rows[0][2] == "none"


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
    (row,) = decide(tmp_path, ACCURACY[:2], THROUGHPUT[:2], 120)
    assert row["ratio_to_reference"] == 0.5  # 10 at batch size 1, 20 at batch size 8


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "soon"])
def test_a_limit_that_is_none_is_wrong_usage(tmp_path, limit):
    flags = Sweep(tmp_path, ACCURACY, THROUGHPUT).flags("--latency_ms_max", limit)
    done = subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True)
    assert done.returncode == 2 and "--latency_ms_max" in done.stderr


# --- files


def test_decision_csv_has_both_rules(made):
    rows = made.rows("decision.csv")
    keys = ("rule", "precision", "backend", "way", "batch", "images_per_s", "latency_percentile", "fastest_of_model")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("accuracy", "fp32", "onnxruntime", "latency", "8", "30", "p95", "false"),
        ("accuracy", "int8", "openvino", "latency", "1", "50", "p95", "true"),
        ("accuracy", "bf16", "openvino", "throughput", "8", "44", "p99", "false"),
        ("accuracy_and_latency", "fp32", "onnxruntime", "latency", "8", "30", "p95", "false"),
        ("accuracy_and_latency", "int8", "openvino", "latency", "1", "50", "p95", "true"),
        ("accuracy_and_latency", "bf16", "openvino", "latency", "8", "40", "p95", "false"),
    ]
    assert [row["latency_ms_max"] for row in rows] == ["", "", "", "500", "500", "500"]
    assert rows[0]["stable"] == "false" and rows[1]["top1_percent"] == "81.3" and rows[1]["drop_points"] == "0.4"
    assert (rows[2]["requests"], rows[2]["ratio_to_reference"], rows[2]["reference_images_per_s"]) == ("2", "2.2", "20")
    assert "openvino int8, batch size 8 (80.0 images/s) would be faster" in rows[1]["note"]


def test_the_report_and_the_screen_show_the_decision(made):
    text = made.text("report.html")
    for wanted in ("Best row: smlpnet_tiny", "Best row within 500 ms: smlpnet_tiny", "would be faster"):
        assert wanted in text
    for term in ("best row", "throughput way", "failed", "ratio to best"):
        assert f"<dt>{term}</dt>" in text
    done = subprocess.run([sys.executable, SCRIPT, *made.flags("--print")], capture_output=True, check=True)
    assert b"## Best row: smlpnet_tiny" in done.stdout and b"within 500 ms" not in done.stdout


def test_the_same_files_give_the_same_bytes_with_every_kind_of_row(tmp_path):
    contents = [*THROUGHPUT, failure("openvino", "bf16", 1), failure("tensorrt", "fp16", 1)]
    made = Sweep(tmp_path, [*ACCURACY, failure("tensorrt", "fp16", 1)], contents).make("--latency_ms_max", 100)
    output = tmp_path / "again"
    flags = [str(output) if flag == str(made.output) else flag for flag in made.flags("--latency_ms_max", 100)]
    environment = {**os.environ, "PYTHONHASHSEED": "11"}
    subprocess.run([sys.executable, SCRIPT, *flags], check=True, capture_output=True, env=environment)
    assert {path.name for path in output.iterdir()} == OUTPUTS
    for path in output.iterdir():
        assert path.read_bytes() == (made.output / path.name).read_bytes(), path.name


# --- the throughput way


def test_both_ways_are_rows(made):
    rows = [row for row in made.rows("throughput.csv") if row["precision"] == "bf16"]
    keys = ("way", "requests", "streams", "threads", "batch", "images_per_s", "runs", "latency_ms_p99", "stable")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("latency", "1", "1", "2", "8", "40", "64", "", "true"),
        ("throughput", "2", "2", "4", "8", "44", "300", "727.2727273", "true"),
    ]
    assert rows[1]["images_per_s_low"] == "43" and rows[1]["cpu_model"] == "Testor 9000"
    # what was taken around the latency way is not said of the other
    assert (rows[1]["end_to_end_images_per_s"], rows[1]["host_load_before"]) == ("", "")
    others = [row for row in made.rows("throughput.csv") if row["precision"] != "bf16"]
    assert {(row["way"], row["requests"], row["streams"], row["threads"]) for row in others} == {
        ("latency", "1", "", "2")
    }


def test_both_ways_are_columns(made):
    header, _, *rows = cells_of(made.text("throughput.md"), "Throughput: smlpnet_tiny")
    place = header.index("openvino bf16 (images/s)")
    assert header[place + 1] == "openvino bf16, throughput way (images/s)"
    cells = {row[0]: row[place : place + 2] for row in rows}
    assert (
        cells["1"] == ["–", "–"] and cells["8"] == ["40.0", "44.0"] and cells["best"] == ["40.0 (bs 8)", "44.0 (bs 8)"]
    )
    text = made.text("throughput.md")
    assert "- throughput way: several requests at once" in text
    assert (
        "- openvino bf16: cpu (Testor 9000); openvino 1.2.3; 1 request, 1 stream, 2 threads; "
        "64 runs after 9 warm-up runs.\n" in text
    )
    assert (
        "- openvino bf16, throughput way: cpu (Testor 9000); openvino 1.2.3; 2 requests, 2 streams, 4 threads; "
        "300 runs after 5 warm-up runs.\n" in text
    )
    assert "| openvino bf16, throughput way / pytorch fp32 " in text


def test_both_ways_are_plotted_in_one_colour(made):
    columns = tables.make_series(reader.read_throughput(made.files["throughput"]), "smlpnet_tiny", [])
    figure = plots.plot_throughput({"smlpnet_tiny": columns})
    lines = {container.get_label(): container.lines[0] for container in figure.axes[0].containers}
    one, several = lines["openvino bf16"], lines["openvino bf16, throughput way"]
    assert one.get_color() == several.get_color() and one.get_marker() == several.get_marker()
    assert (one.get_linestyle(), several.get_linestyle()) == ("-", "-.")
    assert labels(figure).index("openvino bf16, throughput way") == labels(figure).index("openvino bf16") + 1
    titles = [axes.get_title() for axes in plots.plot_latency({"smlpnet_tiny": columns}).axes]
    assert titles[-2:] == ["smlpnet_tiny\nopenvino bf16", "smlpnet_tiny\nopenvino bf16, throughput way"]


def test_an_unstable_throughput_way_is_marked_alone(tmp_path):
    content = both_ways("openvino", "bf16", 8, 40.0, 44.0, stable=False)
    made = Sweep(tmp_path, [judged("openvino", "bf16", 8)], [content]).make()
    assert made.table("throughput.md", "Throughput: smlpnet_tiny")["8"][:2] == ["40.0", "44.0*"]
    assert cells_of(made.text("throughput.md"), "Best row: smlpnet_tiny")[2][5] == "44.0*"


def test_the_details_say_the_way(made):
    table = tables.make_detail_table(reader.read_throughput(made.files["throughput"]))
    assert table.header[:7] == ["model", "backend", "precision", "way", "batch size", "requests", "streams"]
    assert [row[3:8] for row in table.rows[-2:]] == [
        ["latency", "8", "1", "1", "2"],
        ["throughput", "8", "2", "2", "4"],
    ]
    assert {len(row) for row in table.rows} == {len(table.header)}


def test_no_throughput_way_is_no_column(tmp_path):
    content = throughput("pytorch", "fp32", 1, 10.0, throughput_way=None, settings={"threads": 2})
    made = Sweep(tmp_path, [], [content]).make()
    assert "throughput way" not in made.text("throughput.md")
    assert len(made.rows("throughput.csv")) == 1


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda facts: facts.update(throughput_way=3), "throughput_way is not"),
        (lambda facts: facts.update(settings=[]), "settings is not"),
        (lambda facts: facts["settings"].update(streams="2"), "settings.streams is '2'"),
        (lambda facts: facts["throughput_way"].update(settings=None), "the number of requests"),
        (lambda facts: facts["throughput_way"]["settings"].update(requests=2.5), "throughput_way.settings.requests"),
        (lambda facts: facts["throughput_way"].update(images_per_s=0), "throughput_way.images_per_s is 0"),
        (lambda facts: facts["throughput_way"].pop("latency_ms_p50"), "throughput_way.latency_ms_p50 is None"),
        (lambda facts: facts["throughput_way"].update(latency_ms_p99="x"), "throughput_way.latency_ms_p99 is 'x'"),
    ],
)
def test_a_damaged_throughput_way_is_refused(tmp_path, edit, named, capsys):
    content = both_ways("openvino", "bf16", 8, 40.0, 44.0)
    edit(content["smlp"])
    sweep = Sweep(tmp_path, [], [content])
    assert_refused(sweep, capsys, sweep.files["throughput"][0], named)


# --- failed rows


def test_a_failed_batch_size_shows_in_both_tables_and_the_rest_goes_on(tmp_path):
    accuracies = [judged("openvino", "bf16", 8), failure("openvino", "bf16", 64, "not enough\nmemory")]
    contents = [both_ways("openvino", "bf16", 8, 40.0, 44.0), failure("openvino", "bf16", 64, "not enough\nmemory")]
    made = Sweep(tmp_path, accuracies, contents).make()
    table = made.table("throughput.md", "Throughput: smlpnet_tiny")
    assert table["64"][:2] == ["failed [1]", "failed [1]"]  # one reason for both ways
    assert made.text("throughput.md").count("openvino bf16, batch size 64: not enough memory\n") == 1
    assert "smlpnet_tiny, openvino bf16, batch size 64: not enough memory\n" in made.text("accuracy.md")
    rows = made.rows("throughput.csv")
    assert [(row["batch"], row["way"], row["failed"]) for row in rows] == [
        ("8", "latency", ""),
        ("8", "throughput", ""),
        ("64", "latency", "not enough\nmemory"),
    ]
    assert [row["batch"] for row in made.rows("decision.csv")] == ["8"]


def test_targets_that_failed_throughout_still_have_a_column(tmp_path):
    contents = [throughput("pytorch", "fp32", 1, 10.0), failure("tensorrt", "fp16", 1, "no GPU")]
    made = Sweep(tmp_path, [accuracy("pytorch", "fp32", 1), failure("tensorrt", "fp16", 1)], contents).make()
    table = made.table("throughput.md", "Throughput: smlpnet_tiny")
    assert table[""][2] == "tensorrt fp16 (images/s)"
    assert (table["1"][1], table["best"][1]) == ("failed [1]", "–")
    assert [row["precision"] for row in made.rows("decision.csv")] == ["fp32"]


def test_nothing_but_failures_makes_no_decision(tmp_path):
    made = Sweep(tmp_path, [], [failure("openvino", "fp32", 1)]).make("--latency_ms_max", 5)
    assert made.rows("decision.csv") == [] and "Best row" not in made.text("throughput.md")
    assert {path.name for path in made.output.iterdir()} == OUTPUTS


def test_a_failed_file_may_hold_anything_beside_its_reason(tmp_path):
    content = failure("openvino", "fp32", 1, " ")
    content["smlp"] |= {"images_per_s": "none", "threads": [], "throughput_way": 3, "settings": 4, "stable": False}
    made = Sweep(tmp_path, [], [content]).make()
    assert "openvino fp32, batch size 1: no reason was given\n" in made.text("throughput.md")
    assert made.rows("throughput.csv")[0]["images_per_s"] == ""


def test_a_failed_measurement_must_say_its_batch_size(tmp_path, capsys):
    content = failure("openvino", "fp32", 1)
    del content["smlp"]["batch"]
    sweep = Sweep(tmp_path, [], [json.loads(json.dumps(content))])
    assert_refused(sweep, capsys, sweep.files["throughput"][0], "batch is None")
