"""A sweep whose models' transforms are stated in the settings: everything takes images of that size."""

import csv
import json

import onnx

from smlp.models import onnx_graph

STATED = {"image_size": 96, "crop": 0.9, "interpolation": "bicubic"}
NAME = "test_resnet-96-crop0.9-bicubic"
WORDS = "resize 106 bicubic, center 96x96, mean 0.5 0.5 0.5, std 0.5 0.5 0.5"


def test_a_stated_transform_reaches_bins_graphs_engines_and_tables(make_project, small):
    tiny = {**small["models"]["tiny"], "transform": STATED}
    project = make_project({**small, "models": {"tiny": tiny}, "dataset": {**small["dataset"], "pixels": "uint8"}})
    project.sweep()
    results = project.folder / "results"
    assert [path.name for path in (results / "preprocess/digits").iterdir()] == [NAME]
    bins = json.loads((results / "preprocess/digits" / NAME / "shard-0.json").read_text())
    assert bins["transform"]["crop_px"] == [96, 96] and bins["transform_words"] == WORDS
    graph = onnx.load(results / "export/tiny/reference_uint8.onnx")
    assert onnx_graph.shape(onnx_graph.inputs(graph)[0]) == (None, 96, 96, 3)
    checkpoint = json.loads((results / "retrieve/tiny/checkpoint.json").read_text())
    assert checkpoint["image_size"] == [96, 96]
    with open(results / "tables/accuracy.csv", newline="") as stream:
        assert [row["transform"] for row in csv.DictReader(stream)] == [WORDS] * len(small["targets"])
    assert f"transform of the images of tiny: {WORDS}." in (results / "tables/accuracy.md").read_text()

    project.configure({**project.settings, "models": {"tiny": {**tiny, "transform": {**STATED, "mean": 0.25}}}})
    planned = project.planned()
    assert planned["preprocess_shard"] == planned["evaluate_reference"] == planned["export_uint8"] == 1
