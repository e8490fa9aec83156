"""A sweep over engines that need more than an ONNX file: calibration images, a compiler; and one that cannot be."""

import csv
import json
import sys

import pytest
from conftest import DEMO

from smlp.data import dataset

ENGINES = {
    **DEMO,
    "dataset": {"name": "digits", "demo": {"train_images": 20, "val_images": 12}, "shards": 2},
    "targets": [
        {"backend": "pytorch", "precision": "fp32"},
        {"backend": "onnxruntime", "precision": "int8"},
        {"backend": "openvino", "precision": "int8"},
        {"backend": "aotinductor", "precision": "fp32"},
    ],
    "batch_sizes": [2],
    "calibration": {"images": 6},
}


@pytest.fixture(scope="module")
def swept(make_project):
    """The sweep, on a machine whose C++ compiler does not work."""
    project = make_project(ENGINES)
    project.environment["CXX"] = "false"
    project.python = sys.executable  # torch reads that when it is imported
    project.environment["TMPDIR"] = str(project.folder.parent)  # torch needs one without a blank
    project.output = project.sweep()
    return project


def rows(project, table):
    with open(project.folder / "results" / "tables" / f"{table}.csv", newline="") as stream:
        kept = [row for row in csv.DictReader(stream) if row.get("way") != "throughput"]
    return {(row["backend"], row["precision"]): row for row in kept}


def test_an_engine_that_cannot_be_made_is_a_row_that_says_so(swept):
    for table in ("accuracy", "throughput"):
        found = rows(swept, table)
        assert len(found) == 4
        assert "AOTInductor failed at batch 2" in found.pop(("aotinductor", "fp32"))["failed"]
        assert [row["failed"] for row in found.values()] == [""] * 3
    assert "AOTInductor failed at batch 2" in (swept.folder / "results" / "tables" / "report.html").read_text()
    assert swept.planned() == {}


def test_int8_engines_are_calibrated_on_training_images_that_are_not_scored(swept):
    results = swept.folder / "results"
    folder = results / "preprocess" / "digits" / "test_resnet"
    drawn = dataset.read_manifest(folder / "calibration" / "manifest.csv")
    scored = [row for shard in range(2) for row in dataset.read_manifest(folder / f"shard-{shard}" / "manifest.csv")]
    assert len(drawn) == 6 and all(row.image.startswith("train/") for row in drawn)
    assert len(scored) == 12 and {row.sha256 for row in drawn}.isdisjoint(row.sha256 for row in scored)
    for backend in ("onnxruntime", "openvino"):
        sidecar = json.loads((results / "compile" / "tiny" / backend / "int8" / "bs2.json").read_text())
        assert sidecar["calibration"]["images"] == 6


def test_both_ways_of_running_openvino_are_rows(swept):
    with open(swept.folder / "results" / "tables" / "throughput.csv", newline="") as stream:
        found = [row for row in csv.DictReader(stream) if row["backend"] == "openvino"]
    assert [row["way"] for row in found] == ["latency", "throughput"]
    assert all(float(row["images_per_s"]) > 0 and int(row["requests"]) >= 1 for row in found)


def test_another_calibration_makes_only_int8_engines_anew(swept):
    swept.configure({**ENGINES, "calibration": {"images": 6, "seed": 1}})
    try:
        planned = swept.planned()
    finally:
        swept.configure(ENGINES)
    assert planned["preprocess_calibration"] == 1
    assert (planned["compile_onnxruntime"], planned["compile_openvino"]) == (1, 1)
    assert (planned["infer_shard"], planned["measure_engine"]) == (4, 2)
    assert not {"export_onnx", "preprocess_shard", "compile_aotinductor"} & set(planned)
