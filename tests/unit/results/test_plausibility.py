"""Ten absurd figures are caught, and no honest one: of sweeps, imported, published, and of the shipped CSV files."""

import csv
import json

import pytest
from result_files import ROOT, Sweep, judged, throughput

from smlp.core import host
from smlp.results import plausibility, reader, roofs
from smlp.results.accuracy import make_accuracy
from smlp.results.decision import make_decision
from smlp.results.throughput import make_throughput

SMLPNET_T = {
    "macs": 4989451520,
    "least_macs": 4989451520,
    "parameters": 24123584,
    "activation_elements": {"62720": 128, "125440": 74, "188160": 42, "752640": 6},
}
RESNET50 = roofs.Graph(4_100_000_000, 2_700_000_000, 25_600_000, {200_704: 100})
START = {"id": "5" * 64, "sha256": None, "md5": None}
HERE = {"host": {"processor": "Testor 9000"}, "processors": {"affinity": 2, "quota": None}, "where": "here"}
# an AVX-512 processor with AMX: what bench/results/engines-cpu.csv was measured on
CPU = {
    "device": "cpu",
    "name": "Testor 9000",
    "operations_per_s": {"fp32": 0.33e12, "bf16": 2.1e12, "int8": 4.5e12},
    "settled": {"fp32": True, "bf16": True, "int8": True},
    "bandwidths": [{"level": "memory", "holds_bytes": None, "bytes_per_s": 20e9}],
    "fingerprint": HERE,
}
SHEET = roofs.read_sheet(roofs.SHEET)


def row(backend, precision, batch, images_per_s, **more):
    """A measurement on the machine above, with figures as long as measured ones are."""
    about = {"start": START, "fingerprint": HERE, **more}
    return throughput(backend, precision, batch, images_per_s * (1 + batch / 7e5), **about)


HONEST = [
    row("onnxruntime", "fp32", 1, 18.55),
    row("onnxruntime", "fp32", 4, 18.4),
    row("onnxruntime", "fp32", 8, 18.21),
    row("onnxruntime", "int8", 1, 25.37),
    row("onnxruntime", "int8", 8, 22.02),
    row("openvino", "bf16", 1, 49.75),
    row("openvino", "bf16", 8, 78.36),
]
ASCEND = {"device": "ascend, measured by ais_bench", "fingerprint": None, "start": START}

# what is planted -> the rows, and those that must be caught: (backend, precision, batch)
ABSURD = {
    # as a public guide prints for another network, 63 times what it has at batch size 1
    "87,537 images/s on an Ascend 310P3": ([row("ascend", "fp16", 64, 87537.0, **ASCEND)], [("ascend", "fp16", 64)]),
    "its flat latency below the ceiling": (
        [row("ascend", "fp16", 1, 137.87, **ASCEND), row("ascend", "fp16", 8, 1102.9, **ASCEND)],
        [("ascend", "fp16", 8)],
    ),
    "fp32 above what this processor can": ([row("openvino", "fp32", 8, 55.5)], [("openvino", "fp32", 8)]),
    "bf16 above what this processor can": ([row("openvino", "bf16", 32, 401.5)], [("openvino", "bf16", 32)]),
    "int8 above what this processor can": ([row("openvino", "int8", 8, 900.1)], [("openvino", "int8", 8)]),
    "the throughput of a batch that was only claimed": (
        [row("aotinductor", "fp32", 1, 7.001), row("aotinductor", "fp32", 4, 27.3)],
        [("aotinductor", "fp32", 4)],
    ),
    "int8 at a third of fp32": (
        [row("openvino", "fp32", 8, 26.2), row("openvino", "int8", 8, 8.7)],
        [("openvino", "int8", 8)],
    ),
    "one summary under two names": (
        [row("openvino", "fp32", 1, 21.88), row("openvino", "int8", 1, 21.88)],
        [("openvino", "fp32", 1), ("openvino", "int8", 1)],
    ),
    "the rate of one batch size copied to another": (
        [throughput("openvino", "fp32", batch, 21.881234567, start=START, fingerprint=HERE) for batch in (1, 8)],
        [("openvino", "fp32", 1), ("openvino", "fp32", 8)],
    ),
    "images counted in thousands": ([row("onnxruntime", "fp32", 32, 15080.0)], [("onnxruntime", "fp32", 32)]),
}


def known(tmp_path, chip="Ascend310P3"):
    """The flags of tabulate.py that name ceilings and graphs."""
    (tmp_path / "cpu.json").write_text(json.dumps(CPU))
    (tmp_path / "graph.json").write_text(json.dumps({**SMLPNET_T, "start": START}))
    flags = ["--ceilings", tmp_path / "cpu.json", "--graphs", tmp_path / "graph.json"]
    return [*map(str, flags), "--chip", f"ascend={chip}"]


def accuracies(contents):
    return [judged(*(one["smlp"][key] for key in ("backend", "precision", "batch")), start=START) for one in contents]


def key(content):
    return tuple(content["smlp"][name] for name in ("backend", "precision", "batch"))


def tables(folder, contents):
    """The throughput table with its marks, and the best rows."""
    of_accuracy, of_throughput = Sweep(folder, accuracies(contents), contents).files.values()
    records = reader.read_throughput(of_throughput)
    known(folder)
    ceilings = roofs.read([folder / "cpu.json"], [folder / "graph.json"], roofs.SHEET, [("ascend", "Ascend310P3")])
    over = [ceilings.of_record(record) for record in records]
    table = make_throughput(records, over)
    table["implausible"], _ = plausibility.mark(table, over, {}, ceilings, {"smlpnet_tiny": START["id"]})
    accuracy = make_accuracy(
        reader.read_accuracy(of_accuracy), reader.Target("pytorch", "fp32"), {"smlpnet_tiny": []}, {}
    )
    return table, make_decision("smlpnet_tiny", table, accuracy, reader.Target("pytorch", "fp32"))


@pytest.mark.parametrize("what", ABSURD)
def test_ten_absurd_rows_are_caught_and_the_honest_ones_beside_them_are_not(tmp_path, what):
    planted, caught = ABSURD[what]
    replaced = {key(one) for one in planted}
    table, decision = tables(tmp_path, [*(one for one in HONEST if key(one) not in replaced), *planted])
    marked = table[table["implausible"].notna()]
    names = ["backend", "precision", "batch"]
    assert list(marked[names].itertuples(index=False, name=None)) == caught
    assert set(decision[names].itertuples(index=False, name=None)).isdisjoint(caught)
    assert len(ABSURD) == 10


def test_an_implausible_row_enters_no_ratio(tmp_path):
    contents = [
        row("onnxruntime", "fp32", 8, 18.21),
        row("openvino", "int8", 8, 900.1),
        row("openvino", "int8", 1, 58.9),
    ]
    shown = Sweep(tmp_path, accuracies(contents), contents).make(*known(tmp_path))
    ratios = shown.text("throughput.md").partition("## Throughput ratios")[2]
    cells = next(line for line in ratios.splitlines() if line.startswith("| openvino int8 / onnxruntime fp32"))
    assert [cell.strip() for cell in cells.split("|")[2:-1]][1] == "–"  # batch size 8, after 1
    assert "‡ [1]" in shown.text("throughput.md")


def test_what_an_emulator_says_is_not_judged(tmp_path):
    emulated = {"device": "ascend:0", "emulated": True}
    planted = [row("ascend", "fp16", batch, 87537.0, **emulated) for batch in (1, 8, 64)]
    sweep = Sweep(tmp_path, accuracies(planted), planted).make(*known(tmp_path))
    assert {(entry["implausible"], entry["ceiling_percent"]) for entry in sweep.rows("throughput.csv")} == {("", "")}


def test_a_published_figure_can_be_absurd_too(tmp_path):
    lines = (ROOT / "resources" / "published.csv").read_text(encoding="utf-8").splitlines()
    absurd = "smlpnet_tiny,throughput,Ascend310P3,a guide,{},{},images/s,somebody,,,,"
    lines += [absurd.format(1, 1378.7), absurd.format(64, 87537)]
    (tmp_path / "published.csv").write_text("\n".join(lines) + "\n")
    published = str(tmp_path / "published.csv")
    sweep = Sweep(tmp_path, accuracies(HONEST), HONEST).make(*known(tmp_path), "--published", published)
    shown = sweep.text("throughput.md")
    assert "87537.0‡ [1]" in shown and "1378.7 |" in shown
    assert shown.count("‡ [") == 1
    assert "take 874 Top/s; Ascend 310P reaches 140 in int8 (data sheet (Huawei" in shown


def figure(series, precision, batch, images_per_s, roof=None, family=None):
    digits = plausibility.digits(images_per_s)
    family = (family or series,)
    return plausibility.Figure(series, (series,), family, precision, batch, images_per_s, images_per_s, digits, roof)


def test_the_guide_that_prints_87537_images_per_second():
    """Batch 1 is what the chip did; the others are that times the batch that was claimed."""
    chip = roofs.Ceilings(SHEET).named("310P3")
    over = {batch: roofs.roof(chip, RESNET50, "", batch) for batch in (1, 4, 8, 16, 32, 64)}
    rates = {1: 1378.7, 4: 5510.2, 8: 11011.0, 16: 22030.5, 32: 43900.1, 64: 87537.0}
    found = plausibility.reasons([figure("310P", "", batch, rates[batch], over[batch]) for batch in rates])
    assert [batch for batch, reason in zip(rates, found) if reason] == [4, 8, 16, 32, 64]
    unknown = plausibility.reasons([figure("310P", "", batch, rate) for batch, rate in rates.items()])
    assert [batch for batch, reason in zip(rates, unknown) if reason] == [8, 16, 32, 64]


def test_fixed_costs_explain_a_latency_that_hardly_grows_on_a_device_that_is_hardly_busy():
    gpu = roofs.Machine("GPU", "measured", {"fp16": 800e12}, [], "cuda", {"fp16": True})
    small, large = (roofs.roof(gpu, RESNET50, "fp16", batch) for batch in (1, 8))
    assert plausibility.reasons([figure("a", "fp16", 1, 1000.5, small), figure("a", "fp16", 8, 7800.5, large)]) == [
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("rates", "marked"),
    [
        # as a table rounds them, equal by chance
        ({("a", 1): 7.92, ("b", 1): 7.92}, set()),
        ({("a", 1): 113.4, ("a", 4): 112.2, ("a", 8): 112.2}, set()),
        ({("a", 1): 171.6, ("b", 1): 171.6, ("a", 4): 273.5, ("b", 4): 274.5}, set()),
        # a whole column
        (
            {("a", 1): 171.6, ("b", 1): 171.6, ("a", 4): 273.5, ("b", 4): 273.5},
            {"a1", "b1", "a4", "b4"},
        ),
        ({("a", 1): 21.881234, ("b", 8): 21.881234}, {"a1", "b8"}),
        # round numbers are no measurements, and no copies
        ({("a", 1): 100.0, ("b", 1): 100.0, ("a", 4): 200.0, ("b", 4): 200.0}, set()),
    ],
)
def test_equal_cells_are_copies_if_they_have_more_digits_than_chance_allows(rates, marked):
    found = plausibility.reasons([figure(series, "fp32", batch, rate) for (series, batch), rate in rates.items()])
    assert {f"{series}{batch}" for (series, batch), reason in zip(rates, found) if reason} == marked


@pytest.mark.parametrize(
    ("number", "digits"), [(371.0, 3), (0.01234, 4), (1e-05, 1), (18.551234567890123, 17), (87537, 5), (200.5, 4)]
)
def test_digits_that_a_number_states(number, digits):
    assert plausibility.digits(number) == digits


# --- what the project ships

BENCHES = sorted((ROOT / "bench" / "results").glob("*.csv"))


def shipped(path):
    """The rates of a CSV file of bench/results as figures, with the ceilings that it states itself."""
    with open(path, encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    found = []
    for number, line in enumerate(lines):
        what = line.get("what") or line.get("way") or str(number)
        precision = line.get("precision", "")
        tops = {
            kind: 1e9 * float(line[f"ceiling_{kind}_gflop_per_s"])
            for kind in ("fp32", "bf16", "fp16", "int8")
            if line.get(f"ceiling_{kind}_gflop_per_s")
        }
        machine = roofs.Machine("host", "measured", tops, [], "cpu", dict.fromkeys(tops, True))
        batch = int(line.get("batch") or 1)
        graph = roofs.Graph(4989451520, 4989451520, 24123584, {})
        roof = roofs.roof(machine, graph, precision, batch) if precision in tops else None
        for column in ("images_per_s", "ours_images_per_s", "bare_images_per_s", "bare_loop_images_per_s"):
            if line.get(column):
                family = what.replace(precision, "") if precision else what
                found.append(
                    figure(f"{what} {column}", precision, batch, float(line[column]), roof, f"{family} {column}")
                )
    return found


@pytest.mark.parametrize("path", BENCHES, ids=lambda path: path.stem)
def test_no_honest_row_of_a_shipped_bench_is_marked(path):
    assert [reason for reason in plausibility.reasons(shipped(path)) if reason] == []


def test_the_shipped_benches_have_rows_with_ceilings():
    figures = [one for path in BENCHES for one in shipped(path)]
    assert len(figures) > 200 and sum(one.roof is not None for one in figures) > 100


@pytest.mark.parametrize(
    "path", [ROOT / "resources" / "published.csv", ROOT.parent / "shared" / "published.csv"], ids=str
)
def test_no_published_row_is_marked(path, tmp_path):
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    text = path.read_text(encoding="utf-8").splitlines()
    lacking = [name for name in reader._PUBLISHED_COLUMNS if name not in text[0]]
    head, *rest = text
    complete = [",".join([head, *lacking]), *(line + "," * len(lacking) for line in rest)]
    (tmp_path / "published.csv").write_text("\n".join(complete))
    lines = reader.read_published(tmp_path / "published.csv")
    graph = roofs.Graph(4989451520, 4989451520, 24123584, {62720: 128, 125440: 74, 188160: 42, 752640: 6})
    ceilings = roofs.Ceilings(SHEET, {"start": graph})
    over = [ceilings.of_published(line, "start") for line in lines if line.what == "throughput"]
    assert len(over) == 12 and all(over)
    table = make_throughput([])
    in_table, doubts = plausibility.mark(table, [], {"smlpnet_tiny": lines}, ceilings, {"smlpnet_tiny": "start"})
    assert in_table == [] and doubts == {}


def test_this_hosts_own_name_is_in_no_data_sheet():
    assert roofs.Ceilings(SHEET).named(host.cpu_model()) is None
