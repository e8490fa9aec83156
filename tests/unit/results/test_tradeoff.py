"""Accuracy against speed: which engines are shown where, and which of them none beats."""

from result_files import DECIDED_ACCURACY, DECIDED_THROUGHPUT, Sweep, judged, throughput

from smlp.results import reader, tradeoff
from smlp.results.accuracy import make_accuracy
from smlp.results.throughput import make_lines, make_throughput


def tables(root, accuracies=DECIDED_ACCURACY, rates=DECIDED_THROUGHPUT):
    files = Sweep(root, accuracies, rates).files
    accuracy = make_accuracy(reader.read_accuracy(files["accuracy"]), reader.Target("pytorch", "fp32"), {})
    return make_lines(make_throughput(reader.read_throughput(files["throughput"])), "smlpnet_tiny", ()), accuracy


def test_each_engine_is_where_it_is_fastest(tmp_path):
    lines, accuracy = tables(tmp_path)
    found = {dot.name: dot for dot in tradeoff.dots(lines, accuracy)}
    assert {name: (dot.images_per_s, dot.batch, dot.drop, dot.verdict) for name, dot in found.items()} == {
        "pytorch fp32": (20.0, 8, 0.0, "reference"),
        "onnxruntime fp32": (30.0, 8, 0.2, "pass"),
        "openvino int8": (80.0, 8, 7.5, "fail"),
        "openvino bf16": (40.0, 8, 0.2, "pass"),
        "openvino bf16, throughput way": (44.0, 8, 0.2, "pass"),
    }
    assert (found["onnxruntime fp32"].low, found["onnxruntime fp32"].high) == (-0.25, 0.83)


def test_the_frontier_holds_what_no_deployable_engine_beats_in_both(tmp_path):
    lines, accuracy = tables(tmp_path)
    best = tradeoff.frontier(tradeoff.dots(lines, accuracy))
    assert [dot.name for dot in best] == ["pytorch fp32", "openvino bf16, throughput way"]
    assert tradeoff.frontier([]) == []


def test_what_is_emulated_or_has_no_accuracy_is_not_shown(tmp_path):
    rates = [throughput("ascend", "fp16", 8, 9000.0, emulated=True), throughput("openvino", "fp32", 8, 20.0)]
    lines, accuracy = tables(tmp_path, [judged("ascend", "fp16", 8, emulated=True)], rates)
    assert tradeoff.dots(lines, accuracy) == []
    figure = tradeoff.plot_tradeoff({"smlpnet_tiny": lines}, accuracy)
    assert figure.axes[0].texts[0].get_text() == "no engine has a drop to show"


def test_the_plot_shows_them_with_the_margin(tmp_path):
    lines, accuracy = tables(tmp_path)
    figure = tradeoff.plot_tradeoff({"smlpnet_tiny": lines}, accuracy)
    (axes,) = figure.axes
    assert len(axes.containers) == 5 and all(one.has_yerr for one in axes.containers)
    assert [text.get_text() for text in axes.texts] == ["margin 1"]
    low, high = sorted(axes.get_ylim())
    assert axes.yaxis_inverted() and low < 0 and high > 7.5 and axes.get_xscale() == "log"
    (legend,) = figure.legends
    assert "openvino int8, bs 8: fail" in [text.get_text() for text in legend.get_texts()]
