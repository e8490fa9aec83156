"""Two working folders that share a store: what one has made, the other takes, and never a damaged entry."""

import pytest
from conftest import DEMO

SMALL = {**DEMO, "targets": [{"backend": "onnxruntime"}], "batch_sizes": [2]}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("a team") / "store"


@pytest.fixture(scope="module")
def first(make_project, store):
    project = make_project({**SMALL, "store": str(store)})
    project.sweep("compile", "preprocess")
    return project


MADE = ("export/*/*.onnx", "compile/*/*/*/*.onnx", "preprocess/*/*/*/*")


def taken(project):
    """What was taken from the store: the logs that say so."""
    logs = project.folder / "results" / "logs"
    return sorted(path.relative_to(logs).parts[0] for path in logs.rglob("*.log") if "taken from" in path.read_text())


def test_what_one_has_made_the_other_takes(first, new_project, store):
    assert taken(first) == []
    entries = list(store.glob("*/*/entry.json"))
    assert len(entries) == 5  # the export, one engine, three shards
    second = new_project({**SMALL, "store": str(store)})
    second.sweep("compile", "preprocess")
    assert taken(second) == ["compile", "export", *["preprocess"] * 3]
    assert second.contents(*MADE) == first.contents(*MADE) != {}
    assert list(store.glob("*/*/entry.json")) == entries
    assert second.planned("compile", "preprocess") == {}


def test_setting_a_store_reruns_nothing(first, new_project):
    without = new_project(first)
    without.configure(SMALL)
    assert without.planned("compile", "preprocess") == {}


def test_a_damaged_entry_is_made_again(first, new_project, store):
    for entry in store.glob("*/*/entry.json"):
        stored = [path for path in entry.parent.glob("artefact*") if path.suffix != ".json"]
        poisoned = max(path for path in (stored[0].iterdir() if stored[0].is_dir() else stored))
        poisoned.write_bytes(poisoned.read_bytes() + b"x")
    second = new_project({**SMALL, "store": str(store)})
    second.sweep("compile", "preprocess")
    assert taken(second) == []
    assert second.contents(*MADE) == first.contents(*MADE)
    logs = (second.folder / "results" / "logs").rglob("*.log")
    assert sum("is damaged and not used" in path.read_text() for path in logs) == 5


def test_other_images_are_other_entries(new_project, store):
    other = {**SMALL, "dataset": {**SMALL["dataset"], "demo": {**SMALL["dataset"]["demo"], "seed": 1}}}
    project = new_project({**other, "store": str(store)})
    project.sweep("preprocess")
    assert taken(project) == []
