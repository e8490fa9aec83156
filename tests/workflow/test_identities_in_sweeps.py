"""Files that look the same, or lie where they did, and are not the same: a run that was cut short is no way around."""

import pytest
import torch
from conftest import DEMO

from smlp.models import architectures

MODEL = {"model_name": "test_resnet", "transform": "test_resnet", "checkpoint": "mine.pth"}
SETTINGS = {
    "models": {"mine": MODEL},
    "dataset": {"name": "photos", "root": "my images", "shards": 2},
    "targets": [{"backend": "openvino"}],
    "batch_sizes": [1],
    "accuracy": {"reference_batch_size": 1},
    **{key: DEMO[key] for key in ("ceilings", "measure", "confirm", "profile")},
    "store": "a store",
}
# two shards through the reference and the engine, and what follows
FOLLOWS = {
    "infer_shard": 4,
    "evaluate_reference": 1,
    "evaluate_engine": 1,
    "measure_load": 1,
    "measure_engine": 1,
    "tabulate": 1,
}


def save_weights(project, seed):
    torch.manual_seed(seed)
    torch.save(architectures.create("test_resnet", 2).state_dict(), project.folder / "mine.pth")


@pytest.fixture(scope="module")
def swept(make_project, jpeg):
    """A finished sweep of somebody's own network, compiled by OpenVINO, whose weights lie beside the engine."""
    project = make_project(SETTINGS)
    for index in range(5):
        path = project.folder / "my images" / "val" / "ab"[index % 2] / f"{index + 1}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(index))
    save_weights(project, 0)
    project.sweep()
    assert project.planned() == {}
    return project


def test_other_weights_in_the_same_graph_are_run_and_measured(swept, new_project):
    """Only the engine is made anew, as if the sweep had been stopped then: its graph is the same to the byte."""
    project = new_project(swept)
    save_weights(project, 1)
    before = project.contents("compile/**/*.xml", "compile/**/*.bin")
    project.sweep("compile")
    after = project.contents("compile/**/*.xml", "compile/**/*.bin")
    assert [path.rpartition(".")[2] for path in after if after[path] != before[path]] == ["bin"]
    assert project.planned() == FOLLOWS


def test_another_architecture_of_the_same_weights_is_run_and_measured(swept, new_project):
    project = new_project(swept)
    project.configure({**SETTINGS, "models": {"mine": {**MODEL, "model_name": "test_resnet.r160_in1k"}}})
    before = project.contents("retrieve/mine/*.pth")
    project.sweep("retrieve")
    assert project.contents("retrieve/mine/*.pth") == before != {}
    assert project.planned() == {"export_onnx": 1, "compile_openvino": 1, **FOLLOWS}


@pytest.mark.parametrize("store", [True, False], ids=["with a store", "without"])
def test_an_image_before_all_others_moves_those_that_follow(swept, new_project, jpeg, store):
    """The last shard has the same images as before, with other indices."""
    project = new_project(swept)
    if not store:
        project.configure({key: value for key, value in SETTINGS.items() if key != "store"})
    (project.folder / "my images" / "val" / "a" / "0.jpeg").write_bytes(jpeg(9))
    project.sweep("evaluate")
    manifests = project.contents("preprocess/**/manifest.csv")
    indices = [line.partition(",")[0] for text in manifests.values() for line in text.decode().splitlines()[1:]]
    assert sorted(indices) == list("012345")
