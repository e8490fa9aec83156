"""Rows that were measured under other conditions are marked, and enter no ratio and no best row with the others."""

import copy
import shlex

import pytest
from result_files import Sweep, accuracy, both_ways, judged, throughput

from smlp.results import conditions, reader

HOST = {
    "processor": "Testor 9000",
    "features": ["avx2", "avx512f"],
    "virtualisation": "none",
    "microcode": "0x1",
    "governor": "performance",
}
FINGERPRINT = {
    "host": HOST,
    "processors": {"affinity": 8, "quota": None, "asked": 2, "used": 2},
    "memory": {"transparent_huge_pages": "madvise", "numa_nodes": "0", "numa_policy": "default"},
    "versions": {"python": "3.11.7", "numpy": "2.4.0"},
    "settings": {},
}
ACCURACY = [
    *(accuracy("pytorch", "fp32", batch) for batch in (1, 8)),
    *(judged(backend, "fp32", batch) for backend in ("onnxruntime", "openvino") for batch in (1, 8)),
]


def other(part, **changes):
    """A fingerprint in which one part differs."""
    changed = copy.deepcopy(FINGERPRINT)
    changed[part].update(changes)
    return changed


ONE_THREAD = other("processors", asked=1, used=1)


def measured(backend, batch, images_per_s, fingerprint=FINGERPRINT, started="2026-01-01T00:00:00+00:00"):
    return throughput(backend, "fp32", batch, images_per_s, fingerprint=fingerprint, started_at=started)


def tabulated(tmp_path, contents):
    return Sweep(tmp_path, ACCURACY, contents).make()


def marks(tmp_path, contents):
    """{(backend, batch): what differs} of the rows that are marked."""
    rows = tabulated(tmp_path, contents).rows("throughput.csv")
    return {(row["backend"], int(row["batch"])): row["other_conditions"] for row in rows if row["other_conditions"]}


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Batch size 1 was measured with --cores 2, one engine at batch size 8 with --cores 1."""
    contents = [
        measured("pytorch", 1, 10.0),
        measured("pytorch", 8, 20.0),
        measured("onnxruntime", 1, 40.0),
        measured("onnxruntime", 8, 80.0, ONE_THREAD),
        measured("openvino", 1, 30.0),
        measured("openvino", 8, 60.0),
    ]
    return tabulated(tmp_path_factory.mktemp("runs"), contents)


def test_a_row_of_other_threads_is_marked_with_what_differs_and_the_command(two_runs):
    table = two_runs.table("throughput.md", "Throughput: smlpnet_tiny, images/s")
    assert table["1"][:3] == ["10.0", "40.0", "30.0"]
    assert table["8"][:3] == ["20.0", "80.0†", "60.0"]
    text = two_runs.text("throughput.md")
    line = next(line for line in text.splitlines() if line.startswith("- † threads 1, not 2"))
    file = two_runs.files["throughput"][3]
    loads = f"{shlex.quote(str(file.with_suffix('')))}/load-*.json"
    assert line == f"- † threads 1, not 2: onnxruntime fp32 batch size 8; snakemake --cores 2 --forcerun {loads}."
    assert "80.0†" in two_runs.text("report.html") and "--forcerun" in two_runs.text("report.html")
    assert "under other conditions" in two_runs.text("throughput.svg")


def test_a_marked_row_enters_no_ratio(two_runs):
    ratios = two_runs.table("throughput.md", "Throughput ratios: smlpnet_tiny")
    place = [ratios[""].index(name) - 1 for name in ("1", "8", "best / best")]
    assert [ratios["onnxruntime fp32 / pytorch fp32"][at] for at in place] == ["4.00", "–", "2.00"]
    assert [ratios["openvino fp32 / pytorch fp32"][at] for at in place] == ["3.00", "3.00", "3.00"]


def test_a_marked_row_is_no_best_row_among_the_others(two_runs):
    best = {row["other_conditions"]: row for row in two_runs.rows("decision.csv")}
    assert len(best) == 2
    own, marked = best.pop(""), best.popitem()[1]
    assert (own["backend"], own["images_per_s"], own["fastest_of_model"]) == ("openvino", "60", "true")
    assert (own["ratio_to_reference"], own["reference_images_per_s"]) == ("3", "20")
    assert (marked["backend"], marked["images_per_s"], marked["fastest_of_model"]) == ("onnxruntime", "80", "false")
    assert marked["ratio_to_reference"] == marked["reference_images_per_s"] == ""
    assert own["conditions"] != marked["conditions"]
    assert "cpu (Testor 9000) †" in two_runs.text("throughput.md")


def test_half_and_half_the_rows_that_were_measured_last_are_the_standard(tmp_path):
    late = "2026-06-01T00:00:00+00:00"
    contents = [
        measured("pytorch", 1, 10.0, ONE_THREAD, late),
        measured("pytorch", 8, 20.0),
        measured("openvino", 1, 30.0, ONE_THREAD, late),
        measured("openvino", 8, 60.0),
    ]
    assert set(marks(tmp_path, contents)) == {("pytorch", 8), ("openvino", 8)}


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("host", {"processor": "Testor 1"}, "processor Testor 1, not Testor 9000"),
        ("host", {"features": ["avx2", "amx_bf16"]}, "features with amx_bf16, features without avx512f"),
        ("host", {"virtualisation": "QEMU"}, "virtualisation QEMU, not none"),
        ("host", {"microcode": "0x2"}, "microcode 0x2, not 0x1"),
        ("host", {"governor": None}, "governor none, not performance"),
        ("processors", {"affinity": 2}, "usable processors 2, not 8"),
        ("processors", {"quota": 1.5}, "CPU quota 1.5, not none"),
        ("memory", {"numa_policy": "bind:0"}, "numa policy bind:0, not default"),
    ],
)
def test_every_part_of_the_fingerprint_counts(tmp_path, part, changes, words):
    contents = [measured("pytorch", 1, 10.0), measured("pytorch", 8, 20.0)]
    contents.append(measured("openvino", 1, 30.0, other(part, **changes)))
    assert marks(tmp_path, contents) == {("openvino", 1): words}


def test_versions_count_of_packages_that_both_rows_list(tmp_path):
    def with_versions(backend, batch, **versions):
        return measured(backend, batch, 10.0, other("versions", **versions))

    contents = [
        with_versions("pytorch", 1, torch="2.13"),
        with_versions("pytorch", 8, torch="2.13"),
        with_versions("openvino", 1, openvino="1"),
        with_versions("openvino", 8, openvino="2"),
        with_versions("aotinductor", 1, torch="2.12", numpy="1.26"),  # it has an interpreter of its own
        with_versions("onnxruntime", 1, onnxruntime="1", numpy="1.26"),
    ]
    found = marks(tmp_path, contents)
    assert found.pop(("aotinductor", 1)) == "torch 2.12, not 2.13"
    assert [words for (backend, _), words in found.items() if backend == "openvino"] in (
        ["openvino 1, not 2"],
        ["openvino 2, not 1"],
    )
    assert len(found) == 1


def test_two_kinds_of_gpu_are_two_conditions(tmp_path):
    contents = [
        measured("pytorch", 1, 1.0),
        measured("aotinductor", 1, 9.0, other("settings", gpu="A100")),
        measured("aotinductor", 8, 9.0, other("settings", gpu="A100")),
        measured("tensorrt", 1, 9.0, other("settings", gpu="T4")),
    ]
    assert marks(tmp_path, contents) == {("tensorrt", 1): "GPU T4, not A100"}


def test_rows_that_state_nothing_are_comparable_only_with_each_other(tmp_path):
    known = [measured("pytorch", 1, 10.0), measured("pytorch", 8, 20.0)]
    silent = [measured("openvino", batch, 30.0, None) for batch in (1, 8)]
    sweep = tabulated(tmp_path, [*known, measured("onnxruntime", 1, 5.0), *silent])
    rows = sweep.rows("throughput.csv")
    assert {row["backend"]: row["conditions"] for row in rows}["openvino"] == "unknown"
    assert {row["backend"]: row["other_conditions"] for row in rows} == {
        "pytorch": "",
        "onnxruntime": "",
        "openvino": "conditions unknown, not known",
    }


def test_rows_under_the_same_conditions_have_no_mark(tmp_path):
    contents = [measured("pytorch", 1, 10.0), both_ways("openvino", "fp32", 1, 40.0, 44.0)]
    contents[1]["smlp"]["fingerprint"] = other("settings", streams=1)
    sweep = tabulated(tmp_path, contents)
    assert "†" not in sweep.text("throughput.md")
    assert len({row["conditions"] for row in sweep.rows("throughput.csv")}) == 1
    assert {row["usable_processors"] for row in sweep.rows("throughput.csv")} == {"8"}


def test_conditions_do_not_depend_on_the_order_of_files(tmp_path):
    contents = [measured("pytorch", 1, 1.0), measured("openvino", 1, 2.0, ONE_THREAD), measured("openvino", 8, 3.0)]
    files = Sweep(tmp_path, [], contents).files["throughput"]

    def of(paths):
        records = reader.read_throughput(paths)
        return {record.path: found for record, found in zip(records, conditions.of_records(records), strict=True)}

    assert of(files) == of(files[::-1])
