"""The demo's dataset looks like ImageNet and is always the same; its checkpoint solves the task, not perfectly."""

import hashlib
import io

import numpy as np
import pytest
import retrieve_demo
import torch
from PIL import Image

from smlp.core.cli import UserError
from smlp.data import dataset
from smlp.models import checkpoint, preprocessing

TRAIN, VAL = 120, 60


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("a folder") / "demo"
    retrieve_demo.make_dataset(root, TRAIN, VAL, seed=0)
    return root


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    root = tmp_path_factory.mktemp("few") / "demo"
    retrieve_demo.make_dataset(root, 32, 10, seed=0)
    return root


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def error_of(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    return str(error.value)


# the dataset


@pytest.mark.parametrize(("split", "count"), [("train", TRAIN), ("val", VAL)])
def test_labels_are_the_digits_in_equal_numbers(digits, split, count):
    entries = dataset.list_images(digits, split)
    assert np.bincount([entry.label for entry in entries]).tolist() == [count // 10] * 10
    assert {(entry.label, entry.class_name) for entry in entries} == set(enumerate(retrieve_demo.CLASSES))
    assert sorted(int(entry.image[-13:-5]) for entry in entries) == list(range(count))
    assert all(int(entry.image[-13:-5]) % 10 == entry.label for entry in entries)


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_are_of_every_size_and_kind(digits, split):
    images = [Image.open(path) for path in (digits / split).glob("*/*.JPEG")]
    kinds = {(image.format, image.mode) for image in images}
    assert kinds == {("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB")}
    assert sum((image.format, image.mode) == ("JPEG", "RGB") for image in images) > 0.75 * len(images)
    sides = np.array([image.size for image in images])
    assert 200 <= sides.min() < 230
    assert 400 < sides.max() <= 600
    ratios = sides[:, 0] / sides[:, 1]
    assert ratios.min() < 0.7
    assert ratios.max() > 1.4
    assert len(set(map(tuple, sides.tolist()))) > 0.9 * len(images)


def test_images_differ_and_survive_the_evaluation_transform(digits):
    read = preprocessing.resolve("smlpnet_tiny")
    seen = set()
    for entry in dataset.list_images(digits)[:40]:
        image = read((digits / entry.image).read_bytes())
        assert image.shape == (3, 224, 224)
        assert image.std() > 0.3
        seen.add(hashlib.sha256(image.tobytes()).hexdigest())
    assert len(seen) == 40


def test_no_digit_is_in_both_splits(tmp_path, monkeypatch):
    drawn = []
    draw = retrieve_demo._photograph

    def noted(digit, rng):
        drawn.append(digit.tobytes())
        return draw(digit, rng)

    monkeypatch.setattr(retrieve_demo, "_photograph", noted)
    retrieve_demo.make_dataset(tmp_path / "demo", 30, 20, seed=3)
    assert len(drawn) == len(set(drawn)) == 50


def test_same_arguments_same_bytes(few, tmp_path):
    retrieve_demo.make_dataset(tmp_path / "again", 32, 10, seed=0)
    assert contents(tmp_path / "again") == contents(few)
    retrieve_demo.make_dataset(tmp_path / "other", 20, 10, seed=1)
    assert not set(contents(tmp_path / "other").values()) & set(contents(few).values())


def test_an_older_demo_is_replaced(tmp_path):
    retrieve_demo.make_dataset(tmp_path / "demo", 12, 10, seed=0)
    retrieve_demo.make_dataset(tmp_path / "demo", 10, 10, seed=1)
    assert len(contents(tmp_path / "demo")) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("foreign", ["train/n01440764/x.JPEG", "val/x.JPEG", "notes.txt", ""])
def test_what_is_no_demo_stays(tmp_path, foreign):
    root = tmp_path / "data"
    path = root / foreign
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    assert str(root) in error_of(retrieve_demo.make_dataset, root, 10, 10, 0)
    assert path.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("counts", "named"), [((9, 10), "--train_images 9"), ((10, 9), "--val_images 9"), ((1700, 100), "at most 1740")]
)
def test_impossible_counts_write_nothing(tmp_path, monkeypatch, counts, named):
    monkeypatch.setattr(retrieve_demo, "_photograph", lambda digit, rng: Image.new("RGB", (1, 1)))
    assert named in error_of(retrieve_demo.make_dataset, tmp_path / "demo", *counts, 0)
    assert list(tmp_path.iterdir()) == []


def test_as_many_as_promised_can_be_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieve_demo, "_photograph", lambda digit, rng: Image.new("RGB", (1, 1)))
    retrieve_demo.make_dataset(tmp_path / "demo", 1500, 240, 0)
    assert len(contents(tmp_path / "demo")) == 1740


# the checkpoint


def logits(model_name, path, root, split):
    """What the loaded model makes of a split: float32 (N, classes), and the labels."""
    model, _ = checkpoint.load_model(model_name, path)
    read = preprocessing.resolve(model_name)
    entries = dataset.list_images(root, split)
    images = np.stack([read((root / entry.image).read_bytes()) for entry in entries])
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy(), np.array([entry.label for entry in entries])


def test_checkpoint_knows_digits_that_it_has_not_seen(digits, tmp_path):
    path = tmp_path / "check point.pth"
    retrieve_demo.make_checkpoint("test_vit", digits, path, seed=0)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    found, labels = logits("test_vit", path, digits, "val")
    assert found.shape == (VAL, 10)
    assert np.isfinite(found).all()
    assert 0.2 < (found.argmax(1) == labels).mean() < 1


def test_checkpoint_is_a_training_checkpoint_of_the_same_bytes(few, tmp_path):
    paths = [tmp_path / name / "x.pth" for name in ("one", "two", "three")]
    for path, seed in zip(paths, (0, 0, 1)):
        retrieve_demo.make_checkpoint("test_resnet", few, path, seed)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes() != paths[2].read_bytes()
    content = torch.load(io.BytesIO(paths[0].read_bytes()), weights_only=False)
    assert vars(content["args"]) == {"model": "test_resnet", "seed": 0}
    assert content["epoch"] == 0
    assert checkpoint.load_model("test_resnet", paths[0])[1]["taken"] == "model"


def test_batch_norms_carry_the_statistics_of_the_images(few, tmp_path):
    retrieve_demo.make_checkpoint("test_resnet", few, tmp_path / "x.pth", seed=0)
    model, _ = checkpoint.load_model("test_resnet", tmp_path / "x.pth")
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    read = preprocessing.resolve("test_resnet")
    paths = sorted((few / "train").glob("*/*"), key=lambda path: path.name)
    outputs = []
    norms[0].register_forward_hook(lambda module, inputs, output: outputs.append(inputs[0]))
    with torch.inference_mode():
        model(torch.from_numpy(np.stack([read(path.read_bytes()) for path in paths])))
    mean = outputs[0].mean((0, 2, 3))
    torch.testing.assert_close(norms[0].running_mean, mean, rtol=1e-3, atol=1e-4)
    assert all(norm.momentum == 0.1 and norm.running_var.min() > 0 for norm in norms)


def test_nothing_is_dropped_at_random_while_batch_norms_are_fitted():
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm2d(2)).eval()
    images = torch.arange(64, dtype=torch.float32).reshape(4, 2, 2, 4)
    with torch.no_grad():
        retrieve_demo._fit_batch_norms(model, iter(images.split(2)))
    torch.testing.assert_close(model[1].running_mean, images.mean((0, 2, 3)))
    assert not any(module.training for module in model.modules()) and model[1].momentum == 0.1


def test_models_without_one_linear_head_are_refused(few, tmp_path):
    message = error_of(retrieve_demo.make_checkpoint, "deit_tiny_distilled_patch16_224", few, tmp_path / "x.pth", 0)
    assert message.startswith("deit_tiny_distilled_patch16_224: has no single linear head")
    assert "'resnet81' is not known" in error_of(retrieve_demo.make_checkpoint, "resnet81", few, tmp_path / "x.pth", 0)
    assert list(tmp_path.iterdir()) == []


def test_dataset_that_cannot_be_used_is_named(digits, tmp_path):
    path = tmp_path / "out" / "x.pth"
    assert str(tmp_path / "none") in error_of(retrieve_demo.make_checkpoint, "test_resnet", tmp_path / "none", path, 0)
    broken = tmp_path / "demo"
    retrieve_demo.make_dataset(broken, 10, 10, 0)
    image = broken / "train" / "4_four" / "train_00000004.JPEG"
    image.write_bytes(b"no image")
    assert error_of(retrieve_demo.make_checkpoint, "test_resnet", broken, path, 0).startswith(f"{image}: ")
    assert not path.parent.exists()
