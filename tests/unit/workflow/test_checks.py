"""What a sweep needs of its data is said while it is planned."""

import shutil

import pytest

from smlp.core import files
from smlp.core.cli import UserError
from smlp.workflow import checks, outside, settings, watch
from smlp.workflow.plan import Sweep

MODELS = {"mine": {"model_name": "smlpnet_tiny", "checkpoint": "mine.pth"}}
BIN_BYTES = 4 * 3 * 224 * 224


def needed(is_asked=True, **more):
    """The checks of a new plan, and its contents."""
    config = {"models": MODELS, "dataset": {"name": "photos", "root": "data", "shards": 2}}
    config["targets"] = [{"backend": "onnxruntime", "precision": "int8"}]
    complete = settings.complete({"batch_sizes": [1], **config, "calibration": {"images": 3}, **more}, "sweep.yaml")
    sweep = Sweep(complete)
    contents = outside.Contents(sweep, complete)
    return checks.Checks(sweep, complete, contents, is_asked), contents


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch, "SETTLED_NS", -(10**18))
    for split, count in (("val", 4), ("train", 5)):
        for index in range(count):
            path = tmp_path / "data" / split / "ab"[index % 2] / f"{index}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{split} {index}")
    return tmp_path


def test_what_is_there_is_enough(folder):
    found, _ = needed()
    assert found.images() == found.calibration() == []


def test_a_stated_number_of_classes_is_that_of_the_images(folder):
    def asked(num_classes, **dataset):
        models = {"mine": {**MODELS["mine"], "num_classes": num_classes}}
        about = {"name": "photos", "root": "data", "shards": 2, **dataset}
        return needed(models=models, dataset=about)[0].images()

    assert asked(2) == asked(3, background_class=0) == []
    wrong = "^data: the data set has 2 class folders, but models.mine.num_classes gives 10 classes.* dataset.classes"
    with pytest.raises(UserError, match=wrong):
        asked(10)


@pytest.mark.parametrize(
    ("calibration", "named"),
    [
        ({"images": 6}, "data: has only 5 images in train, calibration.images asks for 6"),
        ({"split": "training"}, "data: contains no folder training/"),
        ({"root": "elsewhere"}, "elsewhere: no such dataset folder"),
    ],
)
def test_images_to_calibrate_with_are_missed_in_the_plan(folder, calibration, named):
    found, _ = needed(calibration={"images": 3, **calibration})
    with pytest.raises(UserError, match=f"^{named}.*; int8 engines are calibrated on these .*: set calibration.root"):
        found.calibration()


def test_training_images_need_no_labels_and_are_not_listed_again(folder, monkeypatch):
    for path in (folder / "data/train").glob("*/*"):
        path.rename(folder / "data/train" / path.name)
    shutil.rmtree(folder / "data/train/a"), shutil.rmtree(folder / "data/train/b")
    found, contents = needed()
    assert found.calibration() == []
    contents.calibration()
    contents.watch.save()
    found, contents = needed()
    monkeypatch.setattr(checks.dataset, "list_images", None)
    assert found.calibration() == []
    (folder / "data/train/another.png").touch()
    with pytest.raises(TypeError):
        needed()[0].calibration()


def test_labels_are_missed_in_the_plan(folder):
    (folder / "data/val/a/0.JPEG").rename(folder / "data/val/0.JPEG")
    with pytest.raises(UserError, match="class folders .* and images beside them"):
        needed()[0].images()


def test_a_disk_that_is_too_small_is_said_in_the_plan(folder, monkeypatch):
    free = files.shutil.disk_usage(folder)._replace(free=4 * BIN_BYTES - 1)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda place: free)
    with pytest.raises(UserError, match="preprocessing 4 images needs 0.002 GB"):
        needed()[0].images()
    (folder / "results/preprocess/photos/smlpnet_tiny/shard-0").mkdir(parents=True)  # is there already
    needed()[0].images()
    shutil.rmtree(folder / "results")
    needed(dataset={"name": "photos", "root": "data", "pixels": "uint8"})[0].images()
    needed(dataset={"name": "photos", "root": "data", "images": 3})[0].images()


def test_what_is_left_out_is_said_in_the_plan(folder, capsys):
    (folder / "data/val/a/x.raw").touch()
    needed()[0].images()
    assert capsys.readouterr().err == "data: left out: 1 files .raw\n"


def test_a_plan_without_the_images_says_that_it_checks_nothing(folder, capsys):
    shutil.rmtree(folder / "data")
    found, _ = needed()
    assert found.images() == found.calibration() == []
    assert capsys.readouterr().err == "dataset.root: data: is not here, so nothing about its images is checked\n"


def test_jobs_check_nothing_again_and_the_demo_makes_its_own(folder):
    shutil.rmtree(folder / "data/train")
    assert needed(is_asked=False)[0].calibration() == []
    demo = {"dataset": {"name": "digits", "demo": {}}, "models": {"m": {**MODELS["mine"], "checkpoint": "demo"}}}
    found, _ = needed(**demo)
    assert found.images() == found.calibration() == []
