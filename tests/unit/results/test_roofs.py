"""Roofs: what a machine allows, from its ceilings and what a graph costs."""

import json
import math

import pytest
from result_files import Sweep, assert_refused, throughput

from smlp.core import cli
from smlp.results import plots, reader, roofs
from smlp.results.throughput import make_lines, make_throughput

START = {"id": "5" * 64, "sha256": None, "md5": None}
HERE = {"host": {"processor": "Testor 9000"}, "processors": {"affinity": 2, "quota": None}, "where": "here"}
# a tenth of a second of products, and 10 MB of weights
GRAPH = {
    "macs": 5_000_000,
    "least_macs": 5_000_000,
    "parameters": 2_500_000,
    "activation_elements": {"1000": 10},
    "start": START,
}
CPU = {
    "device": "cpu",
    "name": "Testor 9000",
    "operations_per_s": {"fp32": 1e8, "int8": 4e8},
    "settled": {"fp32": True, "int8": False},
    "bandwidths": [
        {"level": "memory", "holds_bytes": None, "bytes_per_s": 1e8},
        {"level": "L2 cache", "holds_bytes": 1_000_000, "bytes_per_s": 1e10},
    ],
    "fingerprint": HERE,
}


def machine(**more):
    levels = [roofs.Level("L2 cache", 1e6, 1e10), roofs.Level("memory", math.inf, 1e8)]
    return roofs.Machine("m", "measured", {"fp32": 1e8, "int8": 4e8}, levels, "cpu", {"fp32": True}, **more)


def graph(**more):
    own = {"macs": 5_000_000, "least_macs": 5_000_000, "parameters": 2_500_000, "activations": {1000: 10}}
    return roofs.Graph(**{**own, **more})


def test_weights_that_leave_the_cache_bind_a_small_batch_and_products_a_large_one():
    """Weights take 0.1 s a batch, products 0.1 s an image."""
    small, large = (roofs.roof(machine(), graph(), "fp32", batch) for batch in (1, 8))
    assert (small.binds, large.binds) == (roofs.MEMORY, roofs.COMPUTE)
    assert small.images_per_s == pytest.approx(1 / (0.1 + 10 * 4000 / 1e10))
    assert large.images_per_s == pytest.approx(10)
    assert large.operations_per_byte == pytest.approx(8e7 / (1e7 + 8 * 40_000))
    assert large.operations == 1e7 and large.kind == "fp32"


def test_a_tensor_moves_at_the_speed_of_the_level_that_holds_it():
    """40,000 bytes fit into the cache at batch 1; at batch 32 they do not."""
    many = graph(parameters=0, macs=1, activations={10_000: 100})
    inside, outside = (roofs.roof(machine(), many, "fp32", batch) for batch in (1, 32))
    assert inside.images_per_s == pytest.approx(1 / (100 * 40_000 / 1e10))
    assert outside.images_per_s == pytest.approx(1 / (100 * 40_000 / 1e8))


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("fp32", "fp32"), ("bf16", "fp32"), ("high", "fp32"), ("int8", "int8"), ("", "int8"), ("made up", "int8")],
)
def test_a_row_may_run_in_every_kind_of_product_that_its_precision_allows(precision, kind):
    assert machine().peak(precision)[0] == kind


def test_tf32_is_a_ceiling_of_fp32_unless_the_runtime_says_that_it_is_off():
    gpu = roofs.Machine("GPU", "measured", {"fp32": 50e12, "tf32": 400e12}, [], "cuda")
    assert gpu.peak("fp32") == ("tf32", 400e12) and gpu.peak("fp32", tf32=False) == ("fp32", 50e12)


def test_how_far_above_its_ceiling_a_row_may_be():
    """A measured ceiling is another moment's; one that never settled says little; a data sheet promises the most."""
    assert [machine().allows(kind) for kind in ("fp32", "int8")] == [1.25, 2.0]
    assert roofs.read_sheet(roofs.SHEET)[0].allows("fp16") == 1.0


def test_no_row_is_faster_than_its_weights_can_be_read_or_its_fewest_products_be_done():
    winograd = graph(parameters=0, least_macs=2_500_000)
    assert roofs.roof(machine(), winograd, "fp32", 8).most_images_per_s == pytest.approx(1.25 * 20)
    assert roofs.roof(machine(), graph(), "fp32", 1).most_images_per_s == pytest.approx(1.25 * 10)


@pytest.mark.parametrize("more", [{"macs": 0, "activations": {}}, {"macs": 0}])
def test_a_graph_without_products_has_no_roof(more):
    assert roofs.roof(machine(), graph(**more), "fp32", 1) is None


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("Ascend310P3", "Ascend 310P"),
        ("310P3", "Ascend 310P"),
        ("Ascend310", "Ascend 310"),
        ("Tesla T4", "Tesla T4"),
        ("NVIDIA T4", "Tesla T4"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", None),
        ("Ascend910B3", None),
        ("", None),
        (None, None),
    ],
)
def test_data_sheets_are_found_by_the_names_that_tools_and_tables_use(device, name):
    found = roofs.Ceilings(roofs.read_sheet(roofs.SHEET)).named(device)
    assert (found and found.name) == name


def test_every_line_of_the_data_sheets_has_a_source_and_the_ratios_of_its_kind():
    """int8 products are twice those of half precision on all of them."""
    for one in roofs.read_sheet(roofs.SHEET):
        assert re_source(one.source) and not one.kind
        assert one.operations_per_s["int8"] == pytest.approx(2 * one.operations_per_s["fp16"])


def re_source(text):
    return text.startswith("data sheet (") and len(text) > 30


@pytest.mark.parametrize(
    ("more", "has"),
    [
        ({}, True),
        ({"emulated": True}, False),
        ({"device": "cuda:0"}, False),
        ({"fingerprint": {**HERE, "host": {"processor": "Another"}}}, False),
        ({"fingerprint": {**HERE, "processors": {"affinity": 1, "quota": None}}}, False),
        ({"fingerprint": None}, False),
        ({"start": {"id": "another"}}, False),
        ({"start": None}, False),
        ({"device": "cuda:0", "settings": {"gpu": "Tesla T4"}}, True),
        ({"device": "ascend, measured by ais_bench", "backend": "ascend"}, True),
        ({"device": "npu:0", "device_state": {"before": {"name": "310P3"}}}, True),
        ({"device": "npu:0", "device_state": {"before": {"name": ["310P3"]}}}, False),
        ({"device": "npu:0", "device_state": {"before": None}}, False),
    ],
)
def test_a_row_has_a_roof_only_if_its_machine_and_its_graph_are_known(tmp_path, more, has):
    (tmp_path / "cpu.json").write_text(json.dumps(CPU))
    (tmp_path / "graph.json").write_text(json.dumps(GRAPH))
    content = throughput("openvino", "fp32", 8, 9.5)
    content["smlp"] |= {"start": START, "fingerprint": HERE, **more}
    sweep = Sweep(tmp_path, [], [content])
    known = roofs.read([tmp_path / "cpu.json"], [tmp_path / "graph.json"], roofs.SHEET, [("ascend", "Ascend310P3")])
    (record,) = reader.read_throughput(sweep.files["throughput"])
    assert (known.of_record(record) is not None) == has


def flags(folder, cpu=CPU, graph=GRAPH):
    (folder / "cpu.json").write_text(json.dumps(cpu))
    (folder / "graph.json").write_text(json.dumps(graph))
    return "--ceilings", folder / "cpu.json", "--graphs", folder / "graph.json"


def test_tables_and_page_state_the_share_of_the_ceiling_and_what_binds(tmp_path):
    contents = [
        throughput("openvino", "fp32", batch, rate, start=START, fingerprint=HERE)
        for batch, rate in ((1, 5.25), (8, 8.125))
    ]
    contents[0]["smlp"] |= {"ceiling_percent": 1.0, "roof": "made up", "implausible": "no"}  # nothing says it of itself
    sweep = Sweep(tmp_path, [], contents).make(*flags(tmp_path))
    rows = sweep.rows("throughput.csv")
    assert [row["roof"] for row in rows] == ["memory", "compute"]
    assert [round(float(row["ceiling_percent"])) for row in rows] == [53, 81]
    assert [row["implausible"] for row in rows] == ["", ""]
    ceilings = sweep.table("throughput.md", "Ceilings")
    assert ceilings[""][1:3] == ["fp32 (Top/s)", "int8 (Top/s)"]
    assert ceilings["Testor 9000"][:3] == ["0.0001", "0.0004 ~", "L2 cache 10, memory 0.1"]
    page = sweep.text("report.html")
    assert "Roofline: how near" in page and "% of ceiling" in page and "int8, 0.0004 Top/s" not in page


def test_without_ceilings_there_are_no_columns_for_people_and_no_roofline_in_the_page(tmp_path):
    sweep = Sweep(tmp_path, [], [throughput("openvino", "fp32", 8, 8.125)]).make()
    assert {sweep.rows("throughput.csv")[0][name] for name in ("ceiling_percent", "roof", "ceiling_source")} == {""}
    page = sweep.text("report.html")
    assert "Roofline: how near" not in page and '<th class="number">% of ceiling' not in page
    assert "## Ceilings" not in sweep.text("throughput.md")
    assert (sweep.output / "roofline.png").stat().st_size > 1000


def test_the_roofline_has_every_row_under_the_roofs_of_its_machine(tmp_path):
    contents = [
        throughput("openvino", precision, batch, 5.25 * batch**0.1, start=START, fingerprint=HERE)
        for precision in ("fp32", "int8")
        for batch in (1, 8)
    ]
    paths = flags(tmp_path)
    records = reader.read_throughput(Sweep(tmp_path, [], contents).files["throughput"])
    known = roofs.read(paths[1:2], paths[3:4], roofs.SHEET, [])
    over = [known.of_record(record) for record in records]
    table = make_throughput(records, over)
    table.loc[3, "implausible"] = "planted"
    lines = {"smlpnet_tiny": make_lines(table, "smlpnet_tiny", [])}
    (panel,) = roofs.panels(table, over)
    assert [(point.target.precision, point.implausible) for point in panel.points] == [
        *[("fp32", False)] * 2,
        ("int8", False),
        ("int8", True),
    ]
    assert panel.points[0].y == pytest.approx(5.25 * 1e7)
    (axes,) = plots.plot_roofline(lines, [panel]).axes
    texts = {text.get_text().strip() for text in axes.texts}
    assert {"fp32, 0.0001 Top/s", "int8, 0.0004 Top/s", "L2 cache, 10 GB/s", "memory, 0.1 GB/s", "‡"} == texts
    assert axes.get_xscale() == axes.get_yscale() == "log"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ({"operations_per_s": {"fp32": 0}}, "operations_per_s.fp32 is 0, a number of more than 0 was expected"),
        ({"operations_per_s": {"fp32": float("nan")}}, "operations_per_s.fp32 is nan"),
        ({"bandwidths": [{"level": "memory"}]}, "bandwidths.0.bytes_per_s is None"),
        ({"bandwidths": "many"}, "bandwidths is 'many', a list was expected"),
        ({"fingerprint": {"processors": []}}, "fingerprint.processors is [], a mapping was expected"),
        ({"device": None}, "device is None, a text was expected"),
    ],
)
def test_a_file_of_ceilings_that_is_not_as_expected_is_refused(tmp_path, capsys, edit, named):
    paths = flags(tmp_path, cpu={**CPU, **edit})
    sweep = Sweep(tmp_path, [], [throughput("openvino", "fp32", 8, 8.125)])
    assert_refused(sweep, capsys, "cpu.json", named, "measure the ceilings again", flags=paths)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ({"macs": -1}, "macs is -1, a whole number of at least 0 was expected"),
        ({"activation_elements": {"many": 1}}, "activation_elements is {'many': 1}, a mapping was expected"),
        ({"start": None}, "start is None, a mapping was expected"),
    ],
)
def test_a_sidecar_of_a_graph_that_is_not_as_expected_is_refused(tmp_path, capsys, edit, named):
    paths = flags(tmp_path, graph={**GRAPH, **edit})
    sweep = Sweep(tmp_path, [], [throughput("openvino", "fp32", 8, 8.125)])
    assert_refused(sweep, capsys, "graph.json", named, "export again", flags=paths)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("X,x,,,,fast,,,somebody", "line 2: 'fast' is no number above 0"),
        ("X,x,,,,-1,,,somebody", "line 2: '-1' is no number above 0"),
        ("X,x(,,,,1,,,somebody", "is no table of ceilings (missing )"),
        ("X,x", "line 2: has fewer values than the header has columns"),
    ],
)
def test_a_data_sheet_that_is_not_as_expected_is_refused(tmp_path, line, named):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(roofs.SHEET.read_text(encoding="utf-8").splitlines()[0] + f"\n{line}\n")
    with pytest.raises(cli.UserError) as refused:
        roofs.read_sheet(sheet)
    assert str(refused.value).startswith(f"{sheet}: ") and named in str(refused.value)


def test_ceilings_that_could_not_be_measured_are_none(tmp_path):
    (tmp_path / "cuda.json").write_text(json.dumps({"failed": "this PyTorch sees no GPU"}))
    assert [one.kind for one in roofs.read([tmp_path / "cuda.json"], [], roofs.SHEET, []).machines if one.kind] == []
