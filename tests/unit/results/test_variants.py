"""A variant of a target is a column of its own: in the tables, the decision, the plots and the page."""

import re

import pytest
from result_files import COMPARED, Sweep, accuracy, assert_refused, cells_of, failure, judged, throughput

from smlp.results import plots, reader
from smlp.results.throughput import make_lines, make_throughput

FLIPS = COMPARED["flips"]


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """Plain onnxruntime and two variants of it, one of which failed at one batch size; only to be read."""
    accuracies = [accuracy("pytorch", "fp32", 1), judged("onnxruntime", "fp32", 1, variant="")]
    accuracies += [judged("onnxruntime", "fp32", 1, variant="opset17", flips=FLIPS), failed_variant()]
    accuracies += [judged("onnxruntime", "fp32", 1, "fail", variant="fused")]
    contents = [throughput("pytorch", "fp32", 1, 10.0), throughput("onnxruntime", "fp32", 1, 20.0)]
    contents += [throughput("onnxruntime", "fp32", 1, 30.0, variant="opset17"), failed_variant()]
    contents += [throughput("onnxruntime", "fp32", 1, 40.0, variant="fused")]
    return Sweep(tmp_path_factory.mktemp("variants"), accuracies, contents).make()


def failed_variant():
    content = failure("onnxruntime", "fp32", 8)
    content["smlp"]["variant"] = "opset17"
    return content


def test_files_have_the_variant_after_the_precision(varied):
    expected = ["", "", "opset17", "opset17", "fused"]
    for name in ("accuracy.csv", "throughput.csv"):
        rows = varied.rows(name)
        assert [row["variant"] for row in rows] == expected
        assert list(rows[0])[:4] == ["model", "backend", "precision", "variant"]
    assert [row["variant"] for row in varied.rows("flips.csv")] == ["", "opset17", "fused"]


def test_the_accuracy_table_names_them(varied):
    _, _, *rows = cells_of(varied.text("accuracy.md"), "Accuracy: smlpnet_tiny, 1,000 images")
    plain = ["pytorch fp32", "onnxruntime fp32"]
    assert [row[0] for row in rows] == [*plain, *2 * ["onnxruntime fp32 opset17"], "onnxruntime fp32 fused"]
    assert "- [1] onnxruntime fp32 opset17, batch size 8: out of memory\n" in varied.text("accuracy.md")


def test_no_table_shows_a_column_for_them_without_any(made, decided):
    for sweep in (made, decided):
        for name in ("accuracy.md", "throughput.md", "report.html"):
            assert not re.search(r"(>|\| *)variant *(<|\|)", sweep.text(name))


def test_each_is_a_column_of_the_throughput_table(varied):
    table = varied.table("throughput.md", "Throughput: smlpnet_tiny, images/s")
    names = ["pytorch fp32", "onnxruntime fp32", "onnxruntime fp32 opset17", "onnxruntime fp32 fused"]
    assert table[""][1:5] == names
    assert table["1"][:4] == ["10.0", "20.0", "30.0", "40.0"]
    assert table["8"][:4] == ["–", "–", "failed [1]", "–"]
    assert "- [1] onnxruntime fp32 opset17, batch size 8: out of memory\n" in varied.text("throughput.md")
    assert table["best"][:4] == ["10.0 (bs 1)", "20.0 (bs 1)", "30.0 (bs 1)", "40.0 (bs 1)"]
    ratios = varied.table("throughput.md", "Throughput ratios: smlpnet_tiny")
    assert ratios["onnxruntime fp32 opset17 / pytorch fp32"][0] == "3.00"


def test_the_decision_judges_each_by_its_own_accuracy(varied):
    (row,) = varied.rows("decision.csv")
    assert (row["backend"], row["precision"], row["variant"], row["images_per_s"]) == (
        ("onnxruntime", "fp32", "opset17", "30")
    )
    assert "onnxruntime fp32 fused, batch size 1 (40.0 images/s) would be faster" in row["note"]
    header, _, cells = cells_of(varied.text("throughput.md"), "Best row: smlpnet_tiny")
    assert header[:4] == ["device", "precision", "variant", "engine"] and cells[2] == "opset17"
    assert "- fastest row of smlpnet_tiny: onnxruntime fp32 opset17, batch size 1, on cpu" in varied.text(
        "throughput.md"
    )


def test_a_variant_of_the_reference_is_not_the_reference(tmp_path):
    contents = [accuracy("pytorch", "fp32", 1), judged("pytorch", "fp32", 1, variant="compiled")]
    made = Sweep(tmp_path, contents, []).make()
    assert [row["is_reference"] for row in made.rows("accuracy.csv")] == ["true", "false"]


def test_each_has_a_line_of_its_own_colour(varied):
    table = make_throughput(reader.read_throughput(varied.files["throughput"]))
    columns = {"smlpnet_tiny": make_lines(table, "smlpnet_tiny", [])}
    drawn = {held.get_label(): held.lines[0] for held in plots.plot_throughput(columns).axes[0].containers}
    assert {"onnxruntime fp32", "onnxruntime fp32 opset17", "onnxruntime fp32 fused"} <= set(drawn)
    assert len({line.get_color() for line in drawn.values()}) == len(drawn)
    titles = [axes.get_title() for axes in plots.plot_latency(columns).axes]
    assert "smlpnet_tiny\nonnxruntime fp32 opset17" in titles


def test_the_page_shows_them(varied):
    page = varied.text("report.html")
    assert page.count('<th class="text">variant</th>') == 4  # accuracy, best rows, details, flips
    assert re.search('<td class="text" data-label="[^"]+">onnxruntime fp32 opset17</td>', page)  # provenance


def test_the_same_variant_twice_is_refused(tmp_path, capsys):
    contents = [judged("onnxruntime", "fp32", 1, variant="opset17")] * 2
    sweep = Sweep(tmp_path, contents, [])
    assert_refused(sweep, capsys, *sweep.files["accuracy"], "onnxruntime fp32 opset17")


def test_a_variant_is_a_text(tmp_path, capsys):
    sweep = Sweep(tmp_path, [judged("onnxruntime", "fp32", 1, variant=17)], [])
    assert_refused(sweep, capsys, sweep.files["accuracy"][0], "variant is 17, a text was expected")
