"""What the plots show."""

from xml.etree import ElementTree

from result_files import PUBLISHED

from smlp.results import plots, reader
from smlp.results.throughput import make_lines, make_throughput


def lines_of(sweep, published=PUBLISHED):
    found = make_throughput(reader.read_throughput(sweep.files["throughput"]))
    quoted = reader.choose_published(published, ["smlpnet_tiny"], [])
    return make_lines(found, "smlpnet_tiny", quoted["smlpnet_tiny"])


def test_plots_are_pictures(made):
    for name in ("throughput", "latency"):
        assert (made.output / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(made.output / f"{name}.svg").getroot().tag.endswith("svg")


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_what_the_plots_show(sweep):
    columns = {"smlpnet_tiny": lines_of(sweep)}
    figure = plots.plot_throughput(columns)
    (axes,) = figure.axes
    assert labels(figure) == [
        "onnxruntime fp32",
        "openvino fp32",
        "ascend fp16 (emulated)",
        "published Ascend310P3, CANN 5.1",
        "published Tesla T4, TensorRT (not stated)",
        "open marker: unstable",
    ]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4", "8", "16", "32", "64"]
    assert axes.get_xscale() == "log"
    # a slow target beside fast published ones shows on a logarithmic axis; columns of one kind start at zero
    assert axes.get_yscale() == "log"
    published_only = {"smlpnet_tiny": [one for one in columns["smlpnet_tiny"] if one.published]}
    (near,) = plots.plot_throughput(published_only).axes
    assert near.get_yscale() == "linear" and near.get_ylim()[0] == 0
    lines = {container.get_label(): container for container in axes.containers}
    assert lines["openvino fp32"].has_yerr and not lines["published Tesla T4, TensorRT (not stated)"].has_yerr
    assert lines["published Tesla T4, TensorRT (not stated)"].lines[0].get_linestyle() == "--"
    assert lines["onnxruntime fp32"].lines[0].get_ydata().tolist() == [40, 80]

    figure = plots.plot_latency(columns)
    assert [axes.get_title() for axes in figure.axes] == [
        "smlpnet_tiny\nonnxruntime fp32",
        "smlpnet_tiny\nopenvino fp32",
        "smlpnet_tiny\nascend fp16 (emulated)",
    ]
    assert labels(figure) == ["p50", "p90", "p95", "p99"]
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["p50", "p90", "p95"]  # 64 runs support no p99


def test_both_ways_are_plotted_in_one_colour(decided):
    columns = lines_of(decided, [])
    figure = plots.plot_throughput({"smlpnet_tiny": columns})
    lines = {container.get_label(): container.lines[0] for container in figure.axes[0].containers}
    one, several = lines["openvino bf16"], lines["openvino bf16, throughput way"]
    assert one.get_color() == several.get_color() and one.get_marker() == several.get_marker()
    assert (one.get_linestyle(), several.get_linestyle()) == ("-", "-.")
    assert labels(figure).index("openvino bf16, throughput way") == labels(figure).index("openvino bf16") + 1
    titles = [axes.get_title() for axes in plots.plot_latency({"smlpnet_tiny": columns}).axes]
    assert titles[-2:] == ["smlpnet_tiny\nopenvino bf16", "smlpnet_tiny\nopenvino bf16, throughput way"]
