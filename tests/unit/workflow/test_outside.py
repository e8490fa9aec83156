"""Everything that a sweep takes from outside has a digest that changes with its content, and with nothing else."""

import importlib.machinery
import importlib.util
import json
import os
import shutil

import pytest

from smlp.core import files
from smlp.core.cli import UserError
from smlp.data import dataset, sources
from smlp.workflow import outside, settings, watch
from smlp.workflow.plan import Cell, Sweep

MODELS = {"mine": {"model_name": "smlpnet_tiny", "checkpoint": "mine.pth"}}


def contents(models=None, targets=({"backend": "onnxruntime"},), **more):
    """As of a new plan, which finds what the last one has written down."""
    config = {
        "models": models or MODELS,
        "dataset": {"name": "photos", "root": "data", "shards": 2},
        "targets": list(targets),
    }
    complete = settings.complete({"batch_sizes": [1], **config, **more}, "sweep.yaml")
    return outside.Contents(Sweep(complete), complete)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with images, where nothing is too young to be remembered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch, "SETTLED_NS", -(10**18))
    for split, count in (("val", 4), ("train", 12)):
        for index in range(count):
            path = tmp_path / "data" / split / "ab"[index * 2 // count] / f"{index}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{split} {index}")
    return tmp_path


def older(path):
    """Other bytes with an older time."""
    path.write_text(f"other {path.name}")
    os.utime(path, (1_000_000_000, 1_000_000_000))


def touch(folder):
    for path in folder.rglob("*"):
        os.utime(path)


def test_the_images_that_have_changed_are_known_by_name(folder):
    now = contents()
    entries = dataset.shard(dataset.list_images("data"), 0, 2)
    rows = [
        dataset.Row(e.index, "b", e.image, e.class_name, e.label, files.digest(folder / "data" / e.image))
        for e in entries
    ]
    (folder / "shard-0").mkdir()
    assert now.changed_images("shard-0", 0) == []
    dataset.write_manifest(folder / "shard-0/manifest.csv", rows)
    assert now.changed_images("shard-0", 0) == []
    older(folder / "data/val/a/0.JPEG")
    (folder / "data/val/a/1.JPEG").rename(folder / "data/val/a/2.JPEG")
    assert contents().changed_images("shard-0", 0) == ["val/a/0.JPEG", "val/a/1.JPEG", "val/a/2.JPEG"]


# checkpoints, ONNX files, engines, option files


def test_scores_must_come_from_what_is_outside_now(folder):
    (folder / "mine.pth").write_text("weights")
    cell = Cell("mine", "onnxruntime", "fp32", "", 1)
    now = contents()
    digests = [now.shard(0), now.shard(1)]
    expected = ["--sources_sha256", files.digest(folder / "mine.pth"), "--images_sha256", *digests]
    assert now.made_from(cell) == expected
    (folder / "data/val/a/0.JPEG").write_text("another")
    assert contents().made_from(cell)[-2] != digests[0] and contents().made_from(cell)[-1] == digests[1]
    demo = contents({"demo": {"model_name": "smlpnet_tiny", "checkpoint": "demo"}}, dataset={"name": "x", "demo": {}})
    assert demo.made_from(cell._replace(model="demo")) == []


@pytest.mark.parametrize("kind", ["checkpoint", "onnx"])
def test_a_source_is_its_content(folder, kind):
    models = {"mine": {"model_name": "smlpnet_tiny", kind: "mine.bin"}}
    (folder / "mine.bin").write_text("weights")
    before = contents(models).source("mine", kind)
    touch(folder)
    assert contents(models).source("mine", kind) == before == [files.digest("mine.bin")]
    older(folder / "mine.bin")
    assert contents(models).source("mine", kind) != before


def test_a_ready_made_engine_is_its_content(folder):
    models = {"mine": {**MODELS["mine"], "om": {1: "bs1.om"}}}
    (folder / "bs1.om").write_text("engine")
    before = contents(models, [{"backend": "ascend"}]).source("mine", "om", "1")
    older(folder / "bs1.om")
    assert contents(models, [{"backend": "ascend"}]).source("mine", "om", "1") != before


@pytest.mark.parametrize(
    "known",
    [
        {"aipp_config": "a file"},
        {"fusion_switch_file": "a file"},
        {"op_precision_ini": "a file"},
        {"atc_options": {"compression_optimize_conf": "a file"}},
    ],
)
def test_an_option_is_the_content_of_its_file(folder, known):
    cell = Cell("mine", "ascend", "high", "", 1)
    (folder / "a file").write_text("[ByType]")
    (folder / "resources").mkdir()
    (folder / "resources" / "op_precision.ini").touch()

    def found():
        return contents(targets=[{"backend": "ascend"}], backends={"ascend": known}).options(cell)

    before = found()
    touch(folder)
    assert found() == before
    older(folder / "a file")
    assert found() != before


# images


def shards(**more):
    asked = contents(**more)
    return [asked.shard(shard) for shard in "01"]


def test_a_shard_changes_with_its_own_images_alone(folder):
    before = shards()
    touch(folder)
    assert shards() == before
    older(folder / "data/val/b/3.JPEG")
    after = shards()
    assert after[0] == before[0] and after[1] != before[1]


def test_an_image_before_the_others_changes_every_shard(folder):
    before = shards()
    for name in ("00.JPEG", "000.JPEG"):
        (folder / "data/val/a" / name).write_text(name)
    after = shards()
    assert after[0] != before[0] and after[1] != before[1]  # of the same images, with other positions


def test_a_shard_changes_with_its_labels_in_a_file(folder):
    for path in (folder / "data/val").glob("*/*"):
        path.rename(folder / "data/val" / path.name)
    for name in "ab":
        (folder / "data/val" / name).rmdir()
    labels = folder / "data/val_label.txt"
    labels.write_text("".join(f"{index}.JPEG 7\n" for index in range(4)))
    before = shards()
    labels.write_text(labels.read_text().replace("3.JPEG 7", "3.JPEG 8"))
    os.utime(labels, (1_000_000_000, 1_000_000_000))
    after = shards()
    assert after[0] == before[0] and after[1] != before[1]


def test_a_further_class_folder_changes_what_every_shard_states(folder):
    before = shards()
    assert json.loads(contents().classes())["classes"] == 2
    (folder / "data/val/c").mkdir()
    (folder / "data/val/c/4.JPEG").write_text("val 4")
    (folder / "data/val/c/5.JPEG").write_text("val 5")
    assert json.loads(contents().classes())["classes"] == 3
    assert shards()[0] != before[0]


@pytest.mark.parametrize(
    ("lines", "changed"), [("b\na\n", True), ("x\na\nb\n", True), ("a\nb\n", False), ("a\r\nb", False)]
)
def test_a_list_of_classes_counts_by_its_content(folder, lines, changed):
    settings = {"name": "photos", "root": "data", "shards": 2, "classes": "names.txt"}
    (folder / "names.txt").write_text("a\nb\n")
    before = shards(dataset=settings), contents(dataset=settings).classes()
    (folder / "names.txt").write_bytes(lines.encode())
    os.utime(folder / "names.txt", (1_000_000_000, 1_000_000_000))
    assert ((shards(dataset=settings), contents(dataset=settings).classes()) != before) == changed


def test_images_are_required_only_of_the_user(folder):
    shutil.rmtree(folder / "data")
    demo = contents(dataset={"name": "digits", "demo": {}})
    demo.require_images()
    assert demo.shard(0) == demo.calibration() == demo.classes() == "made by the run itself"
    with pytest.raises(UserError, match="^data: no such dataset folder"):
        contents().require_images()
    assert contents().shard(0) == contents().calibration() == contents().classes() == "absent"


# calibration


def calibration(**more):
    asked = contents(**{"calibration": {"images": 3}, **more})
    found = asked.calibration()
    asked.watch.save()
    return found


def drawn(scored=()):
    entries = dataset.draw(dataset.list_images("data", "train"), "data", 3, 0, scored)
    return [entry.image for entry in entries]


def test_calibration_changes_with_the_images_that_are_drawn(folder):
    before, first = calibration(), drawn()
    touch(folder)
    assert calibration() == before
    others = [
        path for path in (folder / "data/train").glob("*/*") if str(path.relative_to(folder / "data")) not in first
    ]
    assert len(others) == 9
    for path in others:
        older(path)
    assert drawn() == first and calibration() == before
    older(folder / "data" / first[1])
    assert calibration() != before


def test_calibration_changes_with_what_is_scored_in_place_of_a_drawn_image(folder):
    before, first = calibration(), drawn()
    older(folder / "data/val/a/0.JPEG")
    assert calibration() == before
    shutil.copy2(folder / "data" / first[0], folder / "data/val/a/0.JPEG")
    scored = calibration()
    assert scored != before
    # the draw looked at an image that it did not take: it is one as soon as it changes
    older(folder / "data" / first[0])
    assert calibration() not in (before, scored)


@pytest.mark.parametrize("more", [{"images": 4}, {"seed": 1}, {"root": "other"}])
def test_calibration_changes_with_how_images_are_drawn(folder, more):
    shutil.copytree(folder / "data/train", folder / "other/train")
    older(folder / "other" / drawn()[0])
    assert calibration(calibration={"images": 3, **more}) != calibration()


@pytest.mark.parametrize("place", ["data/train/a/new.JPEG", "data/train/a/below/new.JPEG"])
def test_the_training_images_are_listed_once_until_a_folder_changes(folder, monkeypatch, place):
    (folder / place).parent.mkdir(exist_ok=True)
    before = calibration()
    listed = []
    find = sources.find
    monkeypatch.setattr(sources, "find", lambda *about: listed.append(about[1]) or find(*about))
    assert calibration() == before
    assert listed == ["val"]
    (folder / place).write_text("new")
    calibration()
    assert listed == ["val", "val", "train"]


def test_too_few_training_images_are_said_in_the_plan():
    with pytest.raises(UserError, match="has only 12 different images to calibrate with"):
        calibration(calibration={"images": 13})


# imported results


def test_imported_results_are_their_content(folder):
    there = folder / "theirs/mine/ascend/fp16/bs1"
    (there / "shard-0").mkdir(parents=True)
    (there / "shard-1").mkdir()
    for path in ("shard-0/0.npy", "shard-1/1.npy", "shard-1_summary.json", "shard-0/sumary.json"):
        (there / path).write_text(path)
    cell = Cell("mine", "ascend", "fp16", "", 1)

    def found():
        asked = contents(targets=[{"backend": "ascend", "precision": "fp16"}], infer={"import": "theirs"})
        return asked.imported(cell), asked.imported_summary(cell)

    states = [found()]
    touch(folder)
    os.utime(there / "shard-0", (1_000_000_000, 1_000_000_000))
    assert found() == states[0]
    for path in ("shard-0/0.npy", "shard-1_summary.json", "shard-0/sumary.json"):
        older(there / path)
        states.append(found())
    assert len({str(results) for results, _ in states}) == 4
    assert [summary for _, summary in states[:3]] == [states[0][1]] * 3 and states[3][1] != states[0][1]


# what timm states


def test_a_timm_models_transform_changes_with_timms_files(folder, monkeypatch):
    models = {"mine": MODELS["mine"], "theirs": {"model_name": "test_resnet", "checkpoint": "their.pth"}}
    assert contents(models).model_transform("mine") == []
    version, _ = installed = contents(models).model_transform("theirs")
    assert version and contents(models).transform("test_resnet") == installed

    for part in ("models", "data", "layers"):
        (folder / "timm" / part).mkdir(parents=True)
        (folder / "timm" / part / "one.py").write_text("mean = 0.5")
    spec = importlib.machinery.ModuleSpec("timm", None, is_package=True)
    spec.submodule_search_locations.append(str(folder / "timm"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    seen = []
    for path in (None, "layers/one.py", "models/one.py", "data/one.py"):
        if path:
            older(folder / "timm" / path)
        seen.append(contents(models).transform("test_resnet")[1])
    assert seen[0] == seen[1] and len(set(seen)) == 3
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert contents(models).transform("test_resnet") == [version]


def test_the_demos_checkpoint_depends_on_its_images_transform():
    demo = {"m": {"model_name": "test_resnet", "checkpoint": "demo"}}
    asked = contents(demo, dataset={"name": "digits", "demo": {}})
    assert asked.demo_transform("m") == asked.model_transform("m") != []
    theirs = {"m": {"model_name": "test_resnet", "checkpoint": "their.pth"}}
    assert contents(theirs).demo_transform("m") == []


def test_weights_beside_an_onnx_file_are_watched(folder):
    import onnx
    import their_onnx

    models = {"mine": {"model_name": "smlpnet_tiny", "onnx": {"source": "mine.onnx", "output": "scores"}}}
    onnx.save(their_onnx.classifier(), "mine.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    before = contents(models).source("mine", "onnx")
    assert before == [files.digest("mine.onnx"), files.digest("w.data")]
    found = contents(models)
    assert found.made_from(Cell("mine", "onnxruntime", "fp32", "", 1))[:3] == ["--sources_sha256", *before]
    found.watch.save()
    older(folder / "w.data")
    assert contents(models).source("mine", "onnx") != before
    (folder / "w.data").unlink()
    with pytest.raises(UserError, match=r"w\.data: not found; mine\.onnx keeps weights there"):
        contents(models).source("mine", "onnx")
