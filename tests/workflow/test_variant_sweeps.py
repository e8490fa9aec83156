"""Variants of a target are columns of their own, and run again only for what they themselves depend on."""

import csv
import json

import pytest

TARGETS = [
    {"backend": "onnxruntime"},
    {"backend": "onnxruntime", "opset_version": 17},
    {"name": "older", "backend": "onnxruntime", "opset_version": 12},
]
VARIANTS = ["", "opset17", "older"]
# what follows from one engine
REST = {"infer_shard": 1, "evaluate_engine": 1, "measure_load": 1, "measure_engine": 1, "tabulate": 1}


@pytest.fixture(scope="module")
def swept(make_project, small):
    """A sweep of one backend with a plain target and two variants, finished."""
    project = make_project({**small, "targets": TARGETS})
    project.sweep()
    return project


def changed(project, *targets, **more):
    """What a run would do if these were the targets."""
    before = project.settings
    project.configure({**before, "targets": list(targets), **more})
    try:
        return project.planned()
    finally:
        project.configure(before)


def rows(project, table):
    with open(project.folder / "results/tables" / f"{table}.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_variant_has_files_of_its_own(swept):
    results = swept.folder / "results"
    for variant, opset in zip(VARIANTS, (11, 17, 12)):
        sidecar = json.loads((results / "compile/tiny/onnxruntime/fp32" / variant / "bs1.json").read_text())
        assert sidecar.get("variant", "") == variant
        source = f"results/export/tiny/reference{f'_opset{opset}' if variant else ''}"
        assert sidecar["inputs"]["source"]["path"] == f"{source}.onnx"
        assert json.loads((swept.folder / f"{source}.json").read_text())["opset"] == opset
        for path in ("evaluate/tiny/onnxruntime/fp32/{}/digits/bs1.json", "measure/tiny/onnxruntime/fp32/{}/bs1.json"):
            assert (results / path.format(variant)).is_file()
        summary = results / "infer/tiny/onnxruntime/fp32" / variant / "digits/bs1/shard-0_summary.json"
        assert json.loads(summary.read_text())["smlp"].get("variant", "") == variant
    assert swept.planned() == {}


@pytest.mark.parametrize("table", ["accuracy", "throughput"])
def test_every_variant_is_a_column(swept, table):
    assert [row["variant"] for row in rows(swept, table)] == VARIANTS
    assert len({row["batch"] for row in rows(swept, table)}) == 1


def test_the_page_and_the_tables_name_variants(swept):
    tables = swept.folder / "results/tables"
    header = (tables / "throughput.md").read_text().splitlines()[2]
    for variant in VARIANTS[1:]:
        assert f"onnxruntime fp32 {variant}" in header
        assert variant in (tables / "report.html").read_text()


@pytest.mark.parametrize(
    ("targets", "planned"),
    [
        (TARGETS[:2], {"tabulate": 1}),
        # the same engine under another name is made under that name
        ([*TARGETS[:2], {**TARGETS[2], "name": "old"}], {"compile_onnxruntime": 1, **REST}),
        # another opset of one variant concerns that one
        (
            [*TARGETS[:2], {**TARGETS[2], "opset_version": 13}],
            {"export_onnx": 1, "compile_onnxruntime": 1, **REST},
        ),
        ([*TARGETS, {"backend": "onnxruntime", "opset_version": 13}],
         {"export_onnx": 1, "compile_onnxruntime": 1, **REST}),
    ],
    ids=["variant removed", "renamed", "its opset changed", "another one"],
)  # fmt: skip
def test_a_change_concerns_only_its_variant(swept, targets, planned):
    assert changed(swept, *targets) == planned


def test_a_setting_of_all_leaves_a_variant_alone_that_states_its_own(swept):
    """The plain target follows export.opset_version, and so does the reference's side of nothing else."""
    assert changed(swept, *TARGETS, export={"opset_version": 13}) == {
        "export_onnx": 1,
        "compile_onnxruntime": 1,
        **REST,
    }
