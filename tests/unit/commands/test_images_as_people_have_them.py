"""preprocess.py on the files that people have: odd colours and suffixes, more than 8 bits, what nobody can read."""

import json

import numpy as np
import pytest
from pictures import encoded, noise
from PIL import Image

from smlp.core import cli
from smlp.data import decode

RAMP = np.linspace(0, 65535, 300).astype(np.uint16)[None].repeat(280, 0)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.fixture(scope="module")
def preprocess(load_command):
    return load_command("preprocess")


@pytest.fixture
def run(preprocess, tmp_path, capsys):
    """run({name: content}, *flags): bins of these images, as uint8; the sidecar, and what the command said."""

    def run(images, *flags):
        folder = tmp_path / "data" / "val" / "ñ 猫 a"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in images.items():
            (folder / name).write_bytes(content)
        places = ["--data_root", str(tmp_path / "data"), "--save_dir", str(tmp_path / "bins")]
        assert preprocess.main([*places, "--workers", "1", "--pixels", "uint8", *flags]) == 0
        sidecar = json.loads((tmp_path / "bins.json").read_text())
        bins = [np.fromfile(path, np.uint8).reshape(224, 224, 3) for path in sorted((tmp_path / "bins").glob("*.bin"))]
        return bins, sidecar, capsys.readouterr().err

    return run


def test_a_full_ramp_of_16_bits_or_floats_stays_one(run):
    images = {
        "a.png": encoded(Image.fromarray(RAMP)),
        "b.tif": encoded(Image.fromarray(RAMP), "TIFF"),
        "c.pgm": encoded(Image.fromarray(RAMP), "PPM"),
        "d.tif": encoded(Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF"),
    }
    bins, sidecar, said = run(images)
    assert [len(np.unique(image)) > 150 for image in bins] == [True] * 4
    assert all(np.abs(image.astype(int) - bins[0]).max() <= 2 for image in bins)
    assert sidecar["decoding"] == {"16-bit gray, scaled to 8 bits": 3, "float gray in [0, 1], scaled to 8 bits": 1}
    assert "3 of 4 images: 16-bit gray, scaled to 8 bits\n" in said


def test_integers_whose_white_nobody_states_end_the_run(run, tmp_path):
    with pytest.raises(cli.UserError) as caught:
        run({"b.tif": encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF")})
    assert str(caught.value).startswith(f"{tmp_path}/data/val/ñ 猫 a/b.tif: has values from 0 to 65535 in gray of 32")
    assert not (tmp_path / "bins").exists()


def test_every_suffix_is_read_by_content_and_the_rest_is_named_and_counted(run, tmp_path, without_heif):
    picture = noise(300, 280)
    images = {
        "cmyk.JPEG": encoded(picture.convert("CMYK"), "JPEG"),
        "gif.gif": encoded(picture, "GIF", save_all=True, append_images=[noise(300, 280, 1)]),
        "gif.jpeg": encoded(picture, "GIF"),
        "jpe.jpe": encoded(picture, "JPEG"),
        "jpeg.heic": encoded(picture, "JPEG"),  # as some services hand them out
        "jpeg.jfif": encoded(picture, "JPEG"),
        "la.png": encoded(picture.convert("LA")),
        "modern.avif": encoded(picture, "AVIF", quality=100),
        "mpo.JPG": encoded(picture, "MPO", save_all=True, append_images=[picture]),
        "palette.png": encoded(picture.quantize(16), transparency=0),
        "png.JPEG": encoded(picture),
    }
    bins, sidecar, said = run(images)
    assert len(bins) == len(images) and sidecar["skipped"] == []
    assert sidecar["decoding"] == {"several frames or pages, the first of which is taken": 1}

    bad = {
        "bomb.png": encoded(Image.new("1", (20000, 10000))),
        "cut.jpg": images["jpe.jpe"][:5000],
        "heic.heic": HEIC,
        "heic.jpg": HEIC,
    }
    with pytest.raises(cli.UserError, match=r"bomb\.png: cannot be decoded .*200000000 pixels"):
        run(bad)
    _, sidecar, said = run({}, "--on_bad_image", "skip")
    assert "4 skipped" in said
    reasons = {one["image"].split("/")[-1]: one["reason"] for one in sidecar["skipped"]}
    assert reasons.keys() == bad.keys()
    unread = "is HEIC, which Pillow does not read; install the package pillow-heif, or convert it to JPEG or PNG"
    assert reasons["heic.heic"] == reasons["heic.jpg"] == unread


def test_bytes_that_are_no_image_are_named_with_what_would_be_one(run):
    with pytest.raises(cli.UserError, match=f"is not an image of a known format .{', '.join(decode.FORMATS)}"):
        run({"text.jpg": b"not an image at all"})
