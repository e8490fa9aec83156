"""The plan knows how many classes a model gives, if a file that is there says it, and holds the images to it."""

import json
import shutil

import onnx
import pytest
import their_onnx
import torch

from smlp.core import files, identity
from smlp.core.cli import UserError
from smlp.models import architectures
from smlp.models import class_counts as of_files
from smlp.workflow import checks, class_counts, outside, settings, watch
from smlp.workflow.plan import Sweep

SIZE = {"image_size": 8, "resize": 8, "interpolation": "bilinear", "crop_mode": "center", "mean": 0.5, "std": 0.25}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with images of two classes, where nothing is too young to be remembered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch, "SETTLED_NS", -(10**18))
    for index in range(4):
        path = tmp_path / "data" / "val" / "ab"[index % 2] / f"{index}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{index}")
    return tmp_path


_count = class_counts._count


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """The files whose classes were counted, in this process: it has imported torch already."""
    found = []

    def count(words):
        found.append(json.loads(words)[1])
        try:
            return of_files.of_file(*json.loads(words))
        except UserError:
            return None

    monkeypatch.setattr(class_counts, "_count", count)
    return found


def plan(**model):
    """A new plan, with what the last one has written down."""
    complete = settings.complete(
        {
            "models": {"mine": model},
            "dataset": {"name": "photos", "root": "data"},
            "targets": [{"backend": "onnxruntime"}],
        },
        "sweep.yaml",
    )
    sweep = Sweep(complete)
    contents = outside.Contents(sweep, complete)
    try:
        checks.Checks(sweep, complete, contents).images()
    finally:
        contents.watch.save()


def refused(**model):
    with pytest.raises(UserError) as caught:
        plan(**model)
    return str(caught.value)


def checkpoint(classes, path="mine.pth"):
    torch.manual_seed(0)
    torch.save(architectures.create("test_resnet", classes).state_dict(), path)
    return {"model_name": "test_resnet", "checkpoint": str(path)}


def retrieved(folder, classes, **told):
    """What an earlier run left of a checkpoint on a server."""
    place = folder / "results/retrieve/mine"
    place.mkdir(parents=True)
    checkpoint(classes, place / "checkpoint.pth")
    state = identity.state("checkpoint", identity.contents(place / "checkpoint.pth"))
    facts = {"model_name": "test_resnet", "num_classes": classes, "source": "https://host/x.pth", **told, **state}
    files.write_json(place / "checkpoint.json", identity.sealed(facts))
    return {"model_name": "test_resnet", "checkpoint": "https://host/x.pth"}


def test_a_checkpoint_with_another_number_of_classes_is_found_in_the_plan(counted):
    model = checkpoint(10)
    said = refused(**model)
    assert said.startswith(
        "data: the data set has 2 class folders, but mine.pth (models.mine.checkpoint) gives 10 classes, so that "
        "labels mean other classes; "
    )
    assert "name the model's 10 classes in its order in dataset.classes" in said
    assert "set dataset.background_class: 0" in refused(**checkpoint(3))
    plan(**checkpoint(2))
    assert counted == ["mine.pth"] * 3
    plan(**checkpoint(2))  # the same bytes again
    assert counted == ["mine.pth"] * 3


def test_the_weights_that_the_settings_name_are_counted(folder):
    two, three = (architectures.create("test_resnet", classes).state_dict() for classes in (2, 3))
    torch.save({"first": two, "second": three}, "both.pth")
    plan(model_name="test_resnet", checkpoint={"source": "both.pth", "key": "first"})
    said = refused(model_name="test_resnet", checkpoint={"source": "both.pth", "key": "second"})
    assert "both.pth (models.mine.checkpoint) gives 3 classes" in said


def test_what_the_settings_state_needs_no_file(counted):
    model = checkpoint(10)
    assert "models.mine.num_classes gives 3 classes" in refused(**model, num_classes=3)
    plan(**model, num_classes=2)
    assert counted == []


def test_a_process_of_its_own_counts(folder, counted, monkeypatch):
    monkeypatch.setattr(class_counts, "_count", _count)
    assert "gives 10 classes" in refused(**checkpoint(10))
    (folder / "mine.pth").write_bytes(b"x")
    plan(model_name="test_resnet", checkpoint="mine.pth")
    monkeypatch.setattr(class_counts, "_PATIENCE_S", 0.01)
    plan(**checkpoint(11))
    monkeypatch.setattr(class_counts, "_COUNT", "import os; os.abort()")
    plan(**checkpoint(12))


@pytest.mark.parametrize("content", [b"x", b"", b"PK\3\4 no archive"])
def test_a_checkpoint_that_cannot_be_read_is_left_to_the_job_that_reads_it(folder, counted, content):
    (folder / "mine.pth").write_bytes(content)
    plan(model_name="test_resnet", checkpoint="mine.pth")
    plan(model_name="test_resnet", checkpoint="mine.pth")
    assert counted == ["mine.pth"]


def test_an_onnx_file_with_another_number_of_classes_is_found_in_the_plan(counted):
    onnx.save(their_onnx.classifier(classes=5), "theirs.onnx")
    model = {"onnx": "theirs.onnx", "transform": SIZE}
    assert "but theirs.onnx (models.mine.onnx) gives 5 classes" in refused(**model)
    onnx.save(their_onnx.classifier(classes=2), "theirs.onnx")
    plan(**model)
    plan(**model)
    assert counted == ["theirs.onnx"] * 2


def test_what_an_onnx_file_states_is_not_believed(counted):
    onnx.save(their_onnx.state_output(their_onnx.classifier(classes=2), 1, ["N", "classes"]), "theirs.onnx")
    plan(onnx="theirs.onnx", transform=SIZE)
    assert counted == ["theirs.onnx"]


def test_an_earlier_run_knows_what_a_server_has(folder, counted):
    model = {"model_name": "test_resnet", "checkpoint": "https://host/x.pth"}
    plan(**model)  # nothing is known yet
    model = retrieved(folder, 10)
    assert "but https://host/x.pth (models.mine.checkpoint) gives 10 classes" in refused(**model)
    assert counted == []


def test_an_earlier_run_of_other_weights_does_not_count(folder, counted):
    model = retrieved(folder, 10)
    plan(**{**model, "checkpoint": "https://host/other.pth"})
    plan(**{**model, "model_name": "test_vit"})
    plan(**{**model, "checkpoint": {"source": "https://host/x.pth", "key": "ema"}})
    (folder / "results/retrieve/mine/checkpoint.json").write_text('{"num_classes": 10, "source": "https://host/x.pth"}')
    plan(**model)
    (folder / "results/retrieve/mine/checkpoint.json").write_text("[]")
    plan(**model)
    assert counted == []


def test_an_earlier_run_of_the_same_file_saves_reading_it(folder, counted):
    retrieved(folder, 10, source="mine.pth")
    shutil.copy(folder / "results/retrieve/mine/checkpoint.pth", "mine.pth")
    assert "mine.pth (models.mine.checkpoint) gives 10 classes" in refused(
        model_name="test_resnet", checkpoint="mine.pth"
    )
    assert counted == []
    plan(**checkpoint(2))  # another file now
    assert counted == ["mine.pth"]


def test_an_onnx_file_of_a_server_is_read_where_an_earlier_run_left_it(folder, counted):
    place = folder / "results/retrieve/mine"
    place.mkdir(parents=True)
    onnx.save(their_onnx.classifier(classes=5), place / "model.onnx")
    state = identity.state("onnx", identity.contents(place / "model.onnx"))
    files.write_json(place / "model.json", identity.sealed({"source": "https://host/x.onnx", **state}))
    assert "but https://host/x.onnx (models.mine.onnx) gives 5 classes" in refused(
        onnx="https://host/x.onnx", transform=SIZE
    )
    assert counted == ["results/retrieve/mine/model.onnx"]
