"""The throughput table: the guide's shape, ratios, both ways of running an engine, failed rows."""

import json

from result_files import (
    OUTPUTS,
    PUBLISHED,
    Sweep,
    accuracy,
    both_ways,
    cells_of,
    engine_id,
    failure,
    judged,
    throughput,
)

from smlp.results import reader
from smlp.results.throughput import make_detail_table, make_lines, make_throughput, make_throughput_tables


def lines(sweep, model, renamed=()):
    found = make_throughput(reader.read_throughput(sweep.files["throughput"]))
    return make_lines(found, model, reader.choose_published(PUBLISHED, [model], renamed)[model])


def test_throughput_table_has_the_guides_shape(made):
    table = made.table("throughput.md", "Throughput: smlpnet_tiny, images/s")
    assert table[""] == [
        "batch size",
        "onnxruntime fp32",
        "openvino fp32",
        "ascend fp16 (emulated)",
    ]
    assert list(table)[1:] == ["1", "8", "64", "best"]
    assert table["1"] == ["40.0", "60.0", "–"]
    assert table["8"] == ["80.0", "72.0*", "2.0"]
    assert table["64"] == ["–", "failed [1]", "–"]
    assert table["best"] == ["80.0 (bs 8)", "72.0* (bs 8)", "2.0 (bs 8)"]
    notes = made.text("throughput.md")
    assert "- [1] openvino fp32, batch size 64: out of memory\n" in notes
    assert "- *: unstable" in notes and "- (emulated): an emulator" in notes and "- quoted, not measured" in notes
    assert "- openvino fp32: cpu (Testor 9000); openvino 1.2.3; 64 runs after 9 warm-up runs.\n" in notes


def test_what_others_published_is_a_table_of_its_own(made):
    table = made.table("throughput.md", "Published throughput: smlpnet_tiny, images/s")
    assert table[""][1:] == ["published Ascend310P3, CANN 5.1", "published Tesla T4, TensorRT (not stated)"]
    assert (table["1"], table["64"]) == (["171.6", "177.7"], ["257.5", "359.1"])
    assert table["best"] == ["298.7 (bs 8)", "371.0 (bs 32)"]


def test_ratios_are_to_the_first_target_and_not_to_hardware_that_nothing_ran_on(made):
    table = made.table("throughput.md", "Throughput ratios: smlpnet_tiny")
    assert table == {
        "": ["ratio at batch size", "1", "8", "64", "best / best"],
        "openvino fp32 / onnxruntime fp32": ["1.50", "0.90*", "–", "0.90*"],  # and none of an emulator
    }


def test_ratios_to_what_was_published_are_of_the_same_hardware(tmp_path):
    chip = {"device_state": {"before": {"name": "310P3"}, "after": {}}}
    contents = [
        throughput("ascend", "fp16", batch, value, **chip)
        for batch, value in ((1, 171.6), (4, 273.5), (8, 298.7), (16, 290.0), (32, 273.0), (64, 257.5))
    ]
    columns = lines(Sweep(tmp_path, [], contents), "smlpnet_tiny")
    ratios = {row[0]: row[1:] for row in make_throughput_tables("smlpnet_tiny", columns)[1].rows}
    assert ratios == {"ascend fp16 / published Ascend310P3, CANN 5.1": ["1.00"] * 7}


def test_published_columns_belong_to_their_model(tmp_path):
    contents = [throughput("openvino", "fp32", 1, 4.0), throughput("openvino", "fp32", 1, 5.0, model="digits")]
    sweep = Sweep(tmp_path, [], contents)
    assert [column.published for column in lines(sweep, "smlpnet_tiny")] == [False, True, True]
    assert [column.published for column in lines(sweep, "digits")] == [False]
    assert [column.published for column in lines(sweep, "digits", [("digits", "resnet18")])] == [False]
    renamed = lines(sweep, "digits", [("digits", "smlpnet_tiny")])
    assert [column.name for column in renamed] == [
        "openvino fp32",
        "published Ascend310P3, CANN 5.1",
        "published Tesla T4, TensorRT (not stated)",
    ]


def test_throughput_rows(made):
    rows = made.rows("throughput.csv")
    assert [(row["backend"], row["batch"]) for row in rows] == [
        ("onnxruntime", "1"),
        ("onnxruntime", "8"),
        ("openvino", "1"),
        ("openvino", "8"),
        ("openvino", "64"),
        ("ascend", "8"),
    ]
    assert rows[1]["images_per_s"] == "80" and rows[1]["latency_ms_mean"] == "100"
    assert (rows[1]["images_per_s_low"], rows[1]["images_per_s_high"]) == ("77.6", "81.6")
    assert (rows[3]["stable"], rows[1]["stable"]) == ("false", "true")
    assert rows[4]["failed"] == "out of memory" and rows[4]["images_per_s"] == ""
    assert rows[5]["emulated"] == "true" and rows[5]["latency_ms_p99"] == "5000" and rows[1]["latency_ms_p99"] == ""
    assert rows[1]["engine_id"] == engine_id("onnxruntime", "fp32", 8) and rows[1]["cpu_model"] == "Testor 9000"
    assert json.loads(rows[1]["versions"])["onnxruntime"] == "1.2.3"


def test_both_ways_are_rows(decided):
    rows = [row for row in decided.rows("throughput.csv") if row["precision"] == "bf16"]
    keys = ("way", "requests", "streams", "threads", "batch", "images_per_s", "runs", "latency_ms_p99", "stable")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("latency", "1", "1", "2", "8", "40", "64", "", "true"),
        ("throughput", "2", "2", "4", "8", "44", "300", "727.2727273", "true"),
    ]
    assert rows[1]["images_per_s_low"] == "43" and rows[1]["cpu_model"] == "Testor 9000"
    # what was taken around the latency way is not said of the other
    assert (rows[1]["end_to_end_images_per_s"], rows[1]["host_load_before"]) == ("", "")
    others = [row for row in decided.rows("throughput.csv") if row["precision"] != "bf16"]
    assert {(row["way"], row["requests"], row["streams"], row["threads"]) for row in others} == {
        ("latency", "1", "", "2")
    }


def test_both_ways_are_columns(decided):
    header, _, *rows = cells_of(decided.text("throughput.md"), "Throughput: smlpnet_tiny, images/s")
    place = header.index("openvino bf16")
    assert header[place + 1] == "openvino bf16, throughput way"
    cells = {row[0]: row[place : place + 2] for row in rows}
    assert (
        cells["1"] == ["–", "–"] and cells["8"] == ["40.0", "44.0"] and cells["best"] == ["40.0 (bs 8)", "44.0 (bs 8)"]
    )
    text = decided.text("throughput.md")
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


def test_an_unstable_throughput_way_is_marked_alone(tmp_path):
    content = both_ways("openvino", "bf16", 8, 40.0, 44.0, stable=False)
    made = Sweep(tmp_path, [judged("openvino", "bf16", 8)], [content]).make()
    assert made.table("throughput.md", "Throughput: smlpnet_tiny, images/s")["8"][:2] == ["40.0", "44.0*"]
    assert cells_of(made.text("throughput.md"), "Best row: smlpnet_tiny")[2][5] == "44.0*"


def test_the_details_say_the_way(decided):
    table = make_detail_table(make_throughput(reader.read_throughput(decided.files["throughput"])))
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


def test_a_failed_batch_size_shows_in_both_tables_and_the_rest_goes_on(tmp_path):
    accuracies = [judged("openvino", "bf16", 8), failure("openvino", "bf16", 64, "not enough\nmemory")]
    contents = [both_ways("openvino", "bf16", 8, 40.0, 44.0), failure("openvino", "bf16", 64, "not enough\nmemory")]
    made = Sweep(tmp_path, accuracies, contents).make()
    table = made.table("throughput.md", "Throughput: smlpnet_tiny, images/s")
    assert table["64"][:2] == ["failed [1]", "failed [1]"]  # one reason for both ways
    assert made.text("throughput.md").count("openvino bf16, batch size 64: not enough memory\n") == 1
    assert "openvino bf16, batch size 64: not enough memory\n" in made.text("accuracy.md")
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
    table = made.table("throughput.md", "Throughput: smlpnet_tiny, images/s")
    assert table[""][2] == "tensorrt fp16"
    assert (table["1"][1], table["best"][1]) == ("failed [1]", "–")
    assert [row["precision"] for row in made.rows("decision.csv")] == ["fp32"]


def test_everything_failed(tmp_path):
    made = Sweep(tmp_path, [failure("openvino", "fp32", 1)], [failure("openvino", "fp32", 1)]).make()
    assert made.table("throughput.md", "Throughput: smlpnet_tiny, images/s")["1"][0] == "failed [1]"
    assert made.table("throughput.md", "Throughput: smlpnet_tiny, images/s")["best"][0] == "–"
    assert {path.name for path in made.output.iterdir()} == OUTPUTS


def test_a_batch_size_at_which_the_reference_loses_accuracy_is_no_base_of_ratios(tmp_path):
    accuracies = [judged("pytorch", "fp32", 1), judged("pytorch", "fp32", 8, "fail"), failure("pytorch", "fp32", 64)]
    contents = [
        throughput(backend, "fp32", batch, rate)
        for backend, rate in (("pytorch", 10.0), ("openvino", 20.0))
        for batch in (1, 8, 64)
    ]
    made = Sweep(tmp_path, accuracies, contents).make("--published_name", "smlpnet_tiny=none")
    ratios = made.table("throughput.md", "Throughput ratios: smlpnet_tiny")
    assert ratios["openvino fp32 / pytorch fp32"] == ["2.00", "–", "–", "2.00"]
