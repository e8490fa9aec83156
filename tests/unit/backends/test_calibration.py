"""Which images int8 engines are calibrated on: fixed by the seed, and never one that is scored."""

import hashlib
import json

import numpy as np
import preprocess
import pytest
from PIL import Image

from smlp.backends import _calibration
from smlp.core import cli, files
from smlp.core.cli import UserError
from smlp.core.tensor import TensorInfo
from smlp.data import dataset


@pytest.fixture
def data(tmp_path):
    """24 training images, of which 0 and 1 are alike, 2 and 3 also among the 4 of the validation split."""
    root = tmp_path / "a data set"
    for split, seeds in {"train": [0, *range(23)], "val": [1, 2, 100, 101]}.items():
        for number, seed in enumerate(seeds):
            path = root / split / ("cats" if number % 2 else "dogs") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    return root


def digests(root, entries):
    return [files.digest(root / entry.image) for entry in entries]


def test_drawn_by_the_seed_and_never_a_scored_one(data):
    entries = dataset.list_images(data, "train")
    scored = digests(data, dataset.list_images(data, "val"))
    assert len(entries) == 24 and len(set(digests(data, entries))) == 23
    drawn = dataset.draw(entries, data, 20, 0, scored)
    assert [entry.index for entry in drawn] == list(range(20))
    assert len(set(digests(data, drawn))) == 20 and not set(digests(data, drawn)) & set(scored)
    assert all(entry._replace(index=0) in [other._replace(index=0) for other in entries] for entry in drawn)
    assert dataset.draw(entries, data, 20, 0, scored) == drawn
    assert dataset.draw(list(reversed(entries)), data, 20, 0, scored) == drawn
    assert dataset.draw(entries, data, 20, 1, scored) != drawn
    assert dataset.draw(entries, data, 5, 0, scored) == drawn[:5]


def test_the_draw_is_the_same_on_every_machine():
    """The rank is this digest, not Python's own hash or random numbers."""
    assert dataset._rank(7, "train/a.png") == hashlib.sha256(b"7\0train/a.png").digest()


def test_too_few_images(data):
    entries = dataset.list_images(data, "train")
    with pytest.raises(UserError, match="has only 23 different images to calibrate with .*, 24 were asked for"):
        dataset.draw(entries, data, 24, 0, ())


def run(data, save_dir, *more):
    with pytest.raises(SystemExit) as left:
        argv = ["--data_root", str(data), "--save_dir", str(save_dir), "--workers", "1", *map(str, more)]
        cli.run(lambda _: preprocess.main(argv))
    return left.value.code


def test_bins_to_calibrate_with(data, tmp_path, capfd):
    scored, drawn = tmp_path / "bins", tmp_path / "calibration"
    assert run(data, scored) == 0
    flags = ["--split", "train", "--draw", 6, "--seed", 3, "--not_in", scored]
    assert run(data, drawn, *flags) == 0
    rows = dataset.read_manifest(drawn / "manifest.csv")
    assert [row.index for row in rows] == list(range(6))
    assert {row.sha256 for row in rows}.isdisjoint(dataset.checksums([scored / "manifest.csv"]))
    sidecar = json.loads((tmp_path / "calibration.json").read_text())
    assert sidecar["drawn"] == {"images": 6, "seed": 3, "not_in": [str(scored)], "near_copies": []}
    assert sidecar["split"] == "train"

    info = TensorInfo("input", np.dtype(np.float32), (None, 3, 224, 224))
    images = list(_calibration.images(drawn, info))
    assert [image.shape for image in images] == [(1, 3, 224, 224)] * 6
    assert images[5].tobytes() == (drawn / rows[5].bin).read_bytes()
    assert _calibration.facts(drawn) == {"images": 6, "manifest_sha256": files.digest(drawn / "manifest.csv")}

    (drawn / rows[2].bin).unlink()
    with pytest.raises(UserError, match="calibration: holds 5 images and its manifest.csv lists 6"):
        list(_calibration.images(drawn, info))
    capfd.readouterr()
    assert run(data, tmp_path / "more", *flags[:3], 24, *flags[4:]) == 1
    assert "ask for fewer (calibration.images)" in capfd.readouterr().err
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize(
    ("options", "precision", "folder"), [({"calibration": "x"}, "int8", "x"), ({"a": "b"}, "fp32", None)]
)
def test_the_option(options, precision, folder):
    found = _calibration.folder_option(options, precision)
    assert (found and str(found)) == folder


@pytest.mark.parametrize(
    ("options", "precision", "message"),
    [({}, "int8", "add --option calibration="), ({"calibration": "x"}, "bf16", "precision bf16 needs none")],
)
def test_a_wrong_option(options, precision, message):
    with pytest.raises(UserError, match=message):
        _calibration.folder_option(options, precision)
