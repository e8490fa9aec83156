"""The two tables, the plots and the report from small JSON files."""

import csv
import html.parser
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from smlp.core import cli
from smlp.results import plots, reader, report, tables

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "tabulate.py"
# by its path: an installed package has the same name
_SPEC = importlib.util.spec_from_file_location("command_tabulate", SCRIPT)
tabulate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tabulate)
PUBLISHED = reader.read_published(ROOT / "resources" / "published.csv")
OUTPUTS = {
    "accuracy.csv",
    "accuracy.md",
    "throughput.csv",
    "throughput.md",
    "throughput.png",
    "throughput.svg",
    "latency.png",
    "latency.svg",
    "decision.csv",
    "flips.csv",
    "report.html",
}
HOST = {"cpu_model": "Testor 9000", "cpu_count": 4, "machine": "x86_64", "system": "Linux-6"}


def about(backend, precision, batch, **more):
    return {
        "model": "smlpnet_tiny",
        "backend": backend,
        "precision": precision,
        "batch": batch,
        "device": "cpu",
        "emulated": False,
        "versions": {"python": "3.11.7", "numpy": "2.4.0", backend: "1.2.3"},
        "host": HOST,
        "started_at": "2026-01-02T03:04:05+00:00",
        **more,
    }


COMPARED = {
    "agreement": 99.6,
    "flips_right_to_wrong": 3,
    "flips_wrong_to_right": 1,
    "mcnemar_p": 0.625,
    "drop_points": 0.2,
    "drop_low_points": -0.25,
    "drop_high_points": 0.83,
    "margin_points": 1.0,
    "verdict": "pass",
    "flips": [{"image": "a/<b>.JPEG", "label": 3, "reference": 3, "predicted": 8, "kind": "right_to_wrong"}],
}


def accuracy(backend, precision, batch, **more):
    figures = {
        "images": 1000,
        "skipped": 0,
        "num_classes": 10,
        "top1": 81.7,
        "top5": 95.8,
        "top1_wilson_low": 79.2,
        "top1_wilson_high": 83.98,
        "engine_sha256": "ab" * 32,
    }
    figures |= dict.fromkeys(COMPARED)
    return {**about(backend, precision, batch), **figures, **more}


def throughput(backend, precision, batch, images_per_s, **more):
    latency_ms = 1000 * batch / images_per_s
    figures = {
        "threads": 2,
        "runs": 64,
        "warmup_runs": 9,
        "stable": True,
        "latency_ms_mean": latency_ms,
        "latency_ms_p50": latency_ms * 0.98,
        "latency_ms_p90": latency_ms * 1.1,
        "latency_ms_p95": latency_ms * 1.2,
        "latency_ms_p99": None,
        "images_per_s": images_per_s,
        "images_per_s_low": images_per_s * 0.97,
        "images_per_s_high": images_per_s * 1.02,
        "end_to_end_images_per_s": images_per_s * 0.9,
        "host_load_before": 0.25,
        "host_load_after": 1.5,
        "engine": {"path": "bs.onnx", "sha256": "cd" * 32},
    }
    return {"throughput": images_per_s, "smlp": {**about(backend, precision, batch), **figures, **more}}


def failure(backend, precision, batch, reason="out of memory"):
    return {"failed": reason, "smlp": about(backend, precision, batch)}


ACCURACY = [
    accuracy("pytorch", "fp32", 1),
    accuracy("onnxruntime", "fp32", 1, **COMPARED),
    accuracy("onnxruntime", "fp32", 8, **COMPARED),
    failure("openvino", "int8", 1, "no calibration images"),
    accuracy("ascend", "fp16", 8, **{**COMPARED, "verdict": "undecided", "emulated": True}),
]
THROUGHPUT = [
    throughput("onnxruntime", "fp32", 1, 40.0),
    throughput("onnxruntime", "fp32", 8, 80.0),
    throughput("openvino", "fp32", 1, 60.0),
    throughput("openvino", "fp32", 8, 72.0, stable=False),
    failure("openvino", "fp32", 64),
    throughput("ascend", "fp16", 8, 2.0, emulated=True, runs=300, latency_ms_p99=5000.0),
]


class Sweep:
    """The JSON files of a sweep, and the flags to tabulate them."""

    def __init__(self, root, accuracy=ACCURACY, throughput=THROUGHPUT):
        self.root = root
        self.output = root / "out put" / "tables"
        self.files = {"accuracy": [], "throughput": []}
        for stage, contents in (("accuracy", accuracy), ("throughput", throughput)):
            for number, content in enumerate(contents):
                path = root / f"{stage}-{number}.json"
                path.write_text(json.dumps(content))
                self.files[stage].append(path)

    def flags(self, *more):
        stages = [part for stage, paths in self.files.items() for part in (f"--{stage}", *map(str, paths))]
        return [*stages, "--output_dir", str(self.output), *map(str, more)]

    def make(self, *more):
        assert tabulate.main(self.flags(*more)) == 0
        return self

    def text(self, name):
        return (self.output / name).read_text(encoding="utf-8")

    def rows(self, name):
        with open(self.output / name, newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def table(self, name, title):
        """The cells of a Markdown table: {first cell: [the others]}, the header under ""."""
        part = self.text(name).split(f"## {title}\n")[1].split("\n## ")[0]
        lines = [line for line in part.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return {"": cells[0], **{row[0]: row[1:] for row in cells[2:]}}


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sweep that is tabulated; only to be read."""
    return Sweep(tmp_path_factory.mktemp("sweep")).make()


def accuracy_rows(sweep, reference=("pytorch", "fp32"), applies=()):
    found = reader.read_records(sweep.files["accuracy"], ())
    quoted = reader.choose_published(PUBLISHED, applies, [])
    return tables.make_accuracy_rows(found, reader.Target(*reference), quoted)


def series(sweep, model, renamed=()):
    found = reader.read_records(sweep.files["throughput"], ())
    return tables.make_series(found, model, reader.choose_published(PUBLISHED, [model], renamed)[model])


def assert_refused(sweep, capsys, *named, flags=()):
    """Status 1, one line on stderr that names the culprit, and nothing written."""
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda _: tabulate.main(sweep.flags(*flags)))
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert err.startswith("error: ") and err.count("\n") == 1 and out == ""
    for name in named:
        assert str(name) in err
    assert not sweep.output.exists()


def test_everything_is_written(made):
    assert {path.name for path in made.output.iterdir()} == OUTPUTS


def test_accuracy_rows(made):
    rows = made.rows("accuracy.csv")
    names = [(row["backend"], row["precision"], row["batch"]) for row in rows]
    assert names == [
        ("pytorch", "fp32", "1"),
        ("onnxruntime", "fp32", "1"),
        ("onnxruntime", "fp32", "8"),
        ("openvino", "int8", "1"),
        ("ascend", "fp16", "8"),
    ]
    assert [row["is_reference"] for row in rows] == ["true", "false", "false", "false", "false"]
    assert rows[1]["top1_percent"] == "81.7" and rows[1]["drop_points"] == "0.2" and rows[1]["mcnemar_p"] == "0.625"
    assert rows[0]["agreement_percent"] == "" and rows[0]["verdict"] == ""
    assert rows[3]["failed"] == "no calibration images" and rows[3]["top1_percent"] == ""
    assert rows[4]["emulated"] == "true"


def test_accuracy_table(made):
    text = made.text("accuracy.md")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1  # aligned, readable as plain text
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    header = cells[0]
    rows = [dict(zip(header, row, strict=True)) for row in cells[2:]]
    assert rows[0]["verdict"] == "reference" and rows[0]["agreement (%)"] == "–"
    assert rows[1] == {
        "model": "smlpnet_tiny",
        "backend": "onnxruntime",
        "precision": "fp32",
        "batch size": "1",
        "images": "1000",
        "top-1 (%)": "81.70",
        "95% interval (%)": "79.20 to 83.98",
        "top-5 (%)": "95.80",
        "agreement (%)": "99.60",
        "flips right → wrong": "3",
        "flips wrong → right": "1",
        "McNemar p": "0.625",
        "reference → engine (points)": "+0.20",
        "95% interval (points)": "-0.25 to +0.83",
        "verdict": "pass",
    }
    assert rows[3]["top-1 (%)"] == "failed [1]"
    assert rows[4]["backend"] == "ascend (emulated)" and rows[4]["verdict"] == "undecided"
    assert "- [1] smlpnet_tiny, openvino int8, batch size 1: no calibration images\n" in text
    assert "1.0 points" in text and "- (emulated): an emulator stood in" in text


def test_the_published_drop_is_another_figure_and_only_for_the_published_data(sweep):
    reference, engine, *_ = rows = accuracy_rows(sweep)
    assert "published" not in str(tables.make_accuracy_table(rows))
    assert {row["published_top1"] for row in rows} == {None}
    reference, engine, *_ = rows = accuracy_rows(sweep, applies=["smlpnet_tiny"])
    table = tables.make_accuracy_table(rows)
    assert "smlpnet_tiny: 81.74 % top-1 are published (pytorch), on the same data." in table.notes
    column = table.header.index("published → reference (points)")
    assert [row[column] for row in table.rows] == ["+0.04", "–", "–", "–", "–"]
    assert (reference["published_top1"], reference["published_device"]) == (81.74, "pytorch")
    assert reference["published_to_reference_drop_points"] == pytest.approx(0.04)
    assert engine["published_to_reference_drop_points"] is None and engine["drop_points"] == 0.2


def test_the_papers_figure_stands_in_where_no_other_is_published(tmp_path):
    content = {**accuracy("pytorch", "fp32", 1), "model": "smlpnet_small"}
    (row,) = accuracy_rows(Sweep(tmp_path, [content], []), applies=["smlpnet_small"])
    assert (row["published_top1"], row["published_device"]) == (83.1, "paper")


def test_another_reference(sweep):
    marks = [row["is_reference"] for row in accuracy_rows(sweep, ("onnxruntime", "fp32"))]
    assert marks == [False, True, True, False, False]


def test_skipped_images_show(tmp_path):
    rows = accuracy_rows(Sweep(tmp_path, [accuracy("pytorch", "fp32", 1, skipped=7)], []))
    table = tables.make_accuracy_table(rows)
    assert table.rows[0][table.header.index("skipped")] == "7"
    rows[0]["skipped"] = 0
    assert "skipped" not in tables.make_accuracy_table(rows).header


def test_throughput_table_has_the_guides_shape(made):
    table = made.table("throughput.md", "Throughput: smlpnet_tiny")
    assert table[""] == [
        "batch size",
        "onnxruntime fp32 (images/s)",
        "openvino fp32 (images/s)",
        "ascend fp16 (emulated) (images/s)",
        "published Ascend310P3, CANN 5.1 (images/s)",
        "published Tesla T4, TensorRT (not stated) (images/s)",
    ]
    assert list(table)[1:] == ["1", "4", "8", "16", "32", "64", "best"]
    assert table["1"] == ["40.0", "60.0", "–", "171.6", "177.7"]
    assert table["8"] == ["80.0", "72.0*", "2.0", "298.7", "359.0"]
    assert table["64"] == ["–", "failed [1]", "–", "257.5", "359.1"]
    assert table["best"] == ["80.0 (bs 8)", "72.0* (bs 8)", "2.0 (bs 8)", "298.7 (bs 8)", "371.0 (bs 32)"]
    notes = made.text("throughput.md")
    assert "- [1] openvino fp32, batch size 64: out of memory\n" in notes
    assert "- *: unstable" in notes and "- (emulated): an emulator" in notes and "- published: quoted" in notes
    assert "- openvino fp32: cpu (Testor 9000); openvino 1.2.3; 64 runs after 9 warm-up runs.\n" in notes


def test_ratios_are_to_the_first_target_and_to_the_published_columns(made):
    table = made.table("throughput.md", "Throughput ratios: smlpnet_tiny")
    assert table[""] == ["ratio at batch size", "1", "4", "8", "16", "32", "64", "best / best"]
    assert table["openvino fp32 / onnxruntime fp32"] == ["1.50", "–", "0.90", "–", "–", "–", "0.90"]
    assert table["onnxruntime fp32 / published Tesla T4, TensorRT (not stated)"] == (
        ["0.23", "–", "0.22", "–", "–", "–", "0.22"]  # 80.0 / 371.0: each column's own best
    )
    assert not any("ascend" in name for name in table)  # an emulator's speed enters no ratio
    assert len(table) == 1 + 1 + 2 * 2


def test_the_guides_own_columns_give_its_ratio(tmp_path):
    contents = [
        throughput("ascend", "fp16", batch, value)
        for batch, value in ((1, 171.6), (4, 273.5), (8, 298.7), (16, 290.0), (32, 273.0), (64, 257.5))
    ]
    columns = series(Sweep(tmp_path, [], contents), "smlpnet_tiny")
    ratios = {row[0]: row[1:] for row in tables.make_throughput_tables("smlpnet_tiny", columns)[1].rows}
    assert ratios["ascend fp16 / published Tesla T4, TensorRT (not stated)"][-1] == "0.81"
    assert ratios["ascend fp16 / published Ascend310P3, CANN 5.1"] == ["1.00"] * 7


def test_published_columns_belong_to_their_model(tmp_path):
    contents = [throughput("openvino", "fp32", 1, 4.0), throughput("openvino", "fp32", 1, 5.0, model="digits")]
    sweep = Sweep(tmp_path, [], contents)
    assert [column.published for column in series(sweep, "smlpnet_tiny")] == [False, True, True]
    assert [column.published for column in series(sweep, "digits")] == [False]
    assert [column.published for column in series(sweep, "digits", [("digits", "resnet18")])] == [False]
    renamed = series(sweep, "digits", [("digits", "smlpnet_tiny")])
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
    assert rows[1]["engine_sha256"] == "cd" * 32 and rows[1]["cpu_model"] == "Testor 9000"
    assert json.loads(rows[1]["versions"])["onnxruntime"] == "1.2.3"


def test_order_is_that_of_the_files_but_batches_ascend(tmp_path):
    contents = [throughput("openvino", "fp32", 8, 9.0), throughput("aotinductor", "fp32", 16, 8.0)]
    contents += [throughput("aotinductor", "fp32", 2, 7.0), throughput("openvino", "fp32", 1, 6.0)]
    found = reader.read_records(Sweep(tmp_path, [], contents).files["throughput"], ())
    assert [(record.target.backend, record.batch) for record in found] == [
        ("openvino", 1),
        ("openvino", 8),
        ("aotinductor", 2),
        ("aotinductor", 16),
    ]


def test_flips(made):
    rows = made.rows("flips.csv")
    assert len(rows) == 3
    assert rows[0] == {
        "model": "smlpnet_tiny",
        "backend": "onnxruntime",
        "precision": "fp32",
        "batch": "1",
        "kind": "right_to_wrong",
        "image": "a/<b>.JPEG",
        "label": "3",
        "reference": "3",
        "predicted": "8",
    }


def test_the_same_files_give_the_same_bytes(made, tmp_path):
    output = tmp_path / "again"
    flags = [str(output) if flag == str(made.output) else flag for flag in made.flags()]
    # another hash seed, and settings of the user's that must not matter
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 20\n")
    environment = {"PYTHONHASHSEED": "7", "MPLCONFIGDIR": str(tmp_path)}
    subprocess.run([sys.executable, SCRIPT, *flags], check=True, capture_output=True, env=environment)
    assert {path.name for path in output.iterdir()} == OUTPUTS
    for path in output.iterdir():
        assert path.read_bytes() == (made.output / path.name).read_bytes(), path.name


class Outline(html.parser.HTMLParser):
    """What a page holds: its tags balance, its ids, and everything that it would load."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.loads, self.tags = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.loads += [
            value for name, value in attributes.items() if name in ("src", "href", "xlink:href") and value[:1] != "#"
        ]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_whole_page(made):
    text = made.text("report.html")
    page = Outline()
    page.feed(text)
    assert page.open == []
    assert page.loads == [] and "script" not in page.tags
    assert len(page.ids) == len(set(page.ids))  # two plots in one page, each refers to its own parts
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(page.ids)
    assert page.tags.count("svg") == 2
    assert "a/&lt;b&gt;.JPEG" in text and "a/<b>" not in text
    for wanted in ("Testor 9000", "3.11.7", "failed [1]", "McNemar", "298.7 (bs 8)", "Wilson", "0.25"):
        assert wanted in text


def test_the_report_shows_some_flips_and_says_where_the_others_are(tmp_path):
    flips = [{**COMPARED["flips"][0], "image": f"{number}.JPEG"} for number in range(250)]
    sweep = Sweep(tmp_path, [accuracy("openvino", "fp32", 1, **{**COMPARED, "flips": flips})], [])
    found = reader.read_records(sweep.files["accuracy"], ())
    listed = tables.make_flips(found)
    assert len(listed) == 250
    text = report.make_report([], {}, tables.make_detail_table([]), listed, found)
    assert "50 more are in flips.csv" in text and ">199.JPEG<" in text and ">200.JPEG<" not in text


def test_plots_are_pictures(made):
    for name in ("throughput", "latency"):
        assert (made.output / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(made.output / f"{name}.svg").getroot().tag.endswith("svg")


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_what_the_plots_show(sweep):
    columns = {"smlpnet_tiny": series(sweep, "smlpnet_tiny")}
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


def test_names_that_plots_and_tables_could_take_for_markup(tmp_path):
    contents = [throughput("back|end", "$fp_32$", 1, 4.0, model="<i>&$model$")]
    made = Sweep(tmp_path, [accuracy("back|end", "$fp_32$", 1, model="<i>&$model$")], contents).make()
    assert "back\\|end" in made.text("accuracy.md")
    assert "&lt;i&gt;&amp;$model$" in made.text("report.html")


def test_nothing_measured_still_makes_every_file(tmp_path):
    made = Sweep(tmp_path, ACCURACY, []).make()
    assert {path.name for path in made.output.iterdir()} == OUTPUTS
    assert made.text("throughput.md") == "nothing was measured\n"
    assert made.rows("throughput.csv") == []


def test_everything_failed(tmp_path):
    made = Sweep(tmp_path, [failure("openvino", "fp32", 1)], [failure("openvino", "fp32", 1)]).make()
    assert made.table("throughput.md", "Throughput: smlpnet_tiny")["1"][0] == "failed [1]"
    assert made.table("throughput.md", "Throughput: smlpnet_tiny")["best"][0] == "–"
    assert {path.name for path in made.output.iterdir()} == OUTPUTS


def test_print_on_a_terminal_without_the_signs(sweep):
    done = subprocess.run(
        [sys.executable, SCRIPT, *sweep.flags("--print")],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0 and b"## Throughput: smlpnet_tiny" in done.stdout


@pytest.mark.parametrize(
    ("stage", "edit", "named"),
    [
        ("accuracy", lambda text: text[:-1], "is not JSON"),
        ("accuracy", lambda text: "[]", "is no summary"),
        ("accuracy", lambda text: '{"smlp": 3}', "is no summary"),
        ("accuracy", lambda text: text.replace('"model": "smlpnet_tiny"', '"model": null'), "does not say its model"),
        ("accuracy", lambda text: text.replace('"top1":', '"top_1":'), "top1 is None"),
        ("accuracy", lambda text: text.replace('"top5": 95.8', '"top5": NaN'), "top5 is nan"),
        ("accuracy", lambda text: text.replace('"skipped": 0', '"skipped": "none"'), "skipped is 'none'"),
        ("accuracy", lambda text: text.replace('"batch": 1', '"batch": 0'), "batch is 0"),
        ("accuracy", lambda text: text.replace('"flips": null', '"flips": 3'), "flips is not"),
        ("accuracy", lambda text: text.replace('"flips": null', '"flips": [3]'), "flips is not"),
        ("throughput", lambda text: text.replace('"batch": 1', '"batch": null'), "batch is None"),
        ("throughput", lambda text: text.replace('"images_per_s": 40.0', '"images_per_s": -1'), "images_per_s is -1"),
        (
            "throughput",
            lambda text: text.replace('"images_per_s": 40.0', '"images_per_s": true'),
            "images_per_s is True",
        ),
        ("throughput", lambda text: json.dumps(ACCURACY[0]), "is it a file of another stage?"),
        ("throughput", lambda text: json.dumps({"throughput": 3.0, "args": []}), "does not say its model"),
    ],
)
def test_a_damaged_file_is_refused_by_name(sweep, stage, edit, named, capsys):
    path = sweep.files[stage][0]
    path.write_text(edit(path.read_text()))
    assert_refused(sweep, capsys, path, named)


def test_the_same_measurement_twice_is_refused(sweep, capsys):
    copied = sweep.root / "copy.json"
    copied.write_text(sweep.files["throughput"][1].read_text())
    sweep.files["throughput"].append(copied)
    assert_refused(sweep, capsys, copied, sweep.files["throughput"][1], "batch size 8")


def test_a_missing_file_is_refused(sweep, capsys):
    sweep.files["accuracy"][0].unlink()
    assert_refused(sweep, capsys, sweep.files["accuracy"][0])


def test_nothing_to_tabulate_is_refused(tmp_path, capsys):
    assert_refused(Sweep(tmp_path, [], []), capsys, "--accuracy", "--throughput")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--published_name", "cat=smlpnet_tiny"], "no model cat"),
        (["--published_applies", "cat"], "--published_applies cat"),
        (["--published", "no.csv"], "no.csv"),
    ],
)
def test_names_that_do_not_exist_are_refused(sweep, flags, named, capsys):
    assert_refused(sweep, capsys, named, flags=flags)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda text: text.replace("value", "number"), "no column value"),
        (lambda text: text.replace("81.74", "many"), "line 5"),
        (lambda text: text.replace("171.6", "0"), "line 9"),
        (lambda text: text.replace("CANN 5.1,4,", "CANN 5.1,,"), "line 10"),
        (lambda text: text + '"', "is no CSV file"),
    ],
)
def test_damaged_published_figures_are_refused(sweep, edit, named, capsys):
    table = sweep.root / "published.csv"
    table.write_text(edit((ROOT / "resources" / "published.csv").read_text()))
    assert_refused(sweep, capsys, table, named, flags=["--published", table])


@pytest.mark.parametrize("flags", [["--published_name", "smlpnet_tiny"], ["--output_folder", "x"]])
def test_wrong_usage(sweep, flags, capsys):
    with pytest.raises(SystemExit) as ended:
        tabulate.main(sweep.flags(*flags))
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


def test_the_command(sweep):
    done = subprocess.run([sys.executable, SCRIPT, *sweep.flags("--print")], capture_output=True, check=True)
    assert done.stdout.decode() == sweep.text("accuracy.md") + "\n" + sweep.text("throughput.md")
    sweep.files["accuracy"].append(sweep.root / "gone.json")
    failed = subprocess.run([sys.executable, SCRIPT, *sweep.flags()], capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.startswith("error: ") and "gone.json" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_the_shipped_figures():
    best = {}
    for line in PUBLISHED:
        if line.what == "throughput":
            best[line.device] = max(best.get(line.device, (0, 0)), (line.value, line.batch))
    assert best == {"Ascend310P3": (298.7, 8), "Tesla T4": (371.0, 32)}
