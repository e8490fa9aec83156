"""Near-copies of scored images among those to calibrate with are found, whatever was done to them; others are not."""

import io
import json

import preprocess
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from smlp.data import near_copies, sources


def jpeg(image, quality=75):
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def photographs():
    """26 photographs: two, and twelve parts of each that do not overlap."""
    found = []
    for pixels in load_sample_images().images:
        whole = Image.fromarray(pixels)
        width, height = whole.width // 4, whole.height // 3
        places = [(column * width, row * height) for column in range(4) for row in range(3)]
        found += [whole, *(whole.crop((left, top, left + width, top + height)) for left, top in places)]
    return found


def cropped(image, cut):
    box = (cut * image.width, cut * image.height, (1 - cut) * image.width, (1 - cut) * image.height)
    return image.crop(tuple(map(round, box)))


EDITS = {
    "compressed again": lambda image: jpeg(image, 60),
    "half the size": lambda image: jpeg(image.resize((image.width // 2, image.height // 2))),
    "flipped": lambda image: jpeg(ImageOps.mirror(image)),
    "gray": lambda image: jpeg(image.convert("L")),
    "the middle": lambda image: jpeg(cropped(image, 0.125)),
    "the middle, flipped": lambda image: jpeg(ImageOps.mirror(cropped(image, 0.125))),
    "a corner": lambda image: jpeg(image.crop((0, 0, image.width * 9 // 10, image.height * 9 // 10))),
}


@pytest.fixture
def store(monkeypatch):
    """{name: content}, in place of files."""
    contents = {f"train/{number}.jpg": jpeg(image) for number, image in enumerate(photographs())}
    monkeypatch.setattr(sources, "read", lambda root, image: contents[image])
    return contents


@pytest.mark.parametrize("edit", EDITS)
def test_copies_are_found(store, edit):
    originals = list(store)
    images = photographs()
    store |= {f"val/{number}.jpg": EDITS[edit](image) for number, image in enumerate(images)}
    copies = [name.replace("train", "val") for name in originals]
    for drawn, scored in ((originals, copies), (copies, originals)):
        if edit == "a corner" and drawn is copies:
            continue  # of many scored images only the middle is looked at
        found = near_copies.of_images(scored, "", list(near_copies.known(drawn, "")))
        assert all(one.split("/")[1] == other.split("/")[1] for one, other in found)
        assert len(found) >= 23  # of 26; what is nearly the same everywhere tells little


def test_other_images_are_none(store):
    names = list(store)
    known = list(near_copies.known(names[1:13], ""))
    assert near_copies.of_images(names[14:], "", known) == []


def test_what_shows_nothing_or_is_none_is_no_copy(store):
    store |= {"black": jpeg(Image.new("RGB", (64, 64))), "text": b"<html>", "empty": b""}
    assert list(near_copies.known(["black", "text", "empty"], "")) == []
    known = list(near_copies.known(["train/0.jpg"], ""))
    assert near_copies.of_images(["black", "text", "empty"], "", known) == []


def test_the_command_names_them(tmp_path, capsys):
    images = photographs()[1:9]
    for number, image in enumerate(images):
        for split, content in (("val", jpeg(image)), ("train", jpeg(ImageOps.mirror(image)))):
            if split == "train" and number > 1:
                content = jpeg(ImageOps.flip(photographs()[13 + number]))
            path = tmp_path / "data" / split / "ab"[number % 2] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    flags = ["--data_root", str(tmp_path / "data"), "--workers", "1", "--pixels", "uint8"]
    assert preprocess.main([*flags, "--save_dir", str(tmp_path / "bins")]) == 0
    drawn = [*flags, "--split", "train", "--draw", "8", "--not_in", str(tmp_path / "bins")]
    capsys.readouterr()
    assert preprocess.main([*drawn, "--save_dir", str(tmp_path / "calibration")]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert line.startswith("warning: 2 images to calibrate with are near-copies of scored ones: train/")
    pairs = json.loads((tmp_path / "calibration.json").read_text())["drawn"]["near_copies"]
    assert sorted(pairs) == [["train/a/0.jpg", "val/a/0.jpg"], ["train/b/1.jpg", "val/b/1.jpg"]]
