"""transform.py against torchvision and timm themselves, bit for bit, on every kind of image."""

import contextlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import KINDS, assert_same, encoded, noise
from PIL import Image

from smlp.core import cli
from smlp.data import transform
from smlp.models import preprocessing

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
SIZES = [
    (500, 375),
    (375, 500),
    (1, 1),
    (10, 300),
    (300, 10),
    (224, 224),
    (256, 256),
    (255, 257),
    (223, 640),
    (333, 97),
]
SIZES += [(640, 256), (256, 641), (1200, 901), (290, 645)]  # Pillow 13 resizes the last one's columns first


@pytest.fixture(scope="module")
def torchvision_transform(pil_loader):
    """What smlpnet.md and the model-zoo guide state."""
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "16 bit"])  # which pil_loader makes white
def test_every_kind_of_image_gives_torchvisions_bits(kind, pil_loader, torchvision_transform, tmp_path):
    assert_same(KINDS[kind](), preprocessing.SMLPNET, pil_loader, torchvision_transform, tmp_path)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_every_size_gives_torchvisions_bits(size, pil_loader, torchvision_transform, tmp_path):
    assert_same(encoded(noise(*size)), preprocessing.SMLPNET, pil_loader, torchvision_transform, tmp_path)


def test_many_small_sizes_resize_and_crop_as_torchvision(pil_loader):
    from torchvision import transforms

    theirs = transforms.Compose([transforms.Resize(16), transforms.CenterCrop((13, 14)), transforms.ToTensor()])
    ours = transform.Transform(16, "bilinear", (13, 14), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "center")
    for width in range(1, 40, 3):
        for height in range(1, 40):
            image = noise(width, height)
            assert ours(encoded(image)).tobytes() == theirs(image).numpy().tobytes(), (width, height)


@pytest.mark.parametrize("crop_px", [(30, 30), (31, 20), (20, 31), (27, 33)])
def test_a_crop_larger_than_the_image_is_padded_as_torchvision_pads(crop_px, pil_loader):
    from torchvision import transforms

    for side in (24, 25):
        theirs = transforms.Compose([transforms.Resize(side), transforms.CenterCrop(crop_px), transforms.ToTensor()])
        ours = transform.Transform(side, "bilinear", crop_px, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "center")
        for image in (noise(50, 49), noise(49, 51), noise(48, 60)):
            assert ours(encoded(image)).tobytes() == theirs(image).numpy().tobytes()


def test_every_byte_is_normalised_as_torch_does(torchvision_transform):
    ramp = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 256, 3))
    ours = transform.Transform(256, "bicubic", (256, 256), *[(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)], "center")
    to_tensor, normalise = torchvision_transform.transforms[2:]
    assert ours(encoded(Image.fromarray(ramp))).tobytes() == normalise(to_tensor(ramp)).numpy().tobytes()


def test_a_result_can_be_written_into_a_batch():
    content = encoded(noise(300, 280))
    batch = np.full((3, 3, 224, 224), np.nan, np.float32)
    preprocessing.SMLPNET(content, out=batch[1])
    assert batch[1].tobytes() == preprocessing.SMLPNET(content).tobytes()
    assert np.isnan(batch[[0, 2]]).all()


def test_the_settings_go_into_json():
    settings = json.loads(json.dumps(preprocessing.SMLPNET.to_dict()))
    assert settings["resize_px"] == 256 and settings["crop_px"] == [224, 224] and settings["crop_mode"] == "center"


def huge_png():
    """A PNG that claims 30,000 x 30,000 px, 2.7 GB once decoded, in a few bytes."""
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100)))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"not an image at all", "not an image"),
        (b"\xff\xd8\xff", "image"),
        (huge_png(), "900000000 pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n", "not an image"),
        (encoded(Image.new("RGB", (1, 60000))), "60000"),
    ],
    ids=["empty", "text", "first bytes", "decompression bomb", "EPS", "line"],
)
def test_what_is_no_usable_image_is_an_error(content, reason):
    with pytest.raises(cli.UserError, match=reason):
        preprocessing.SMLPNET(content)


@pytest.mark.parametrize("kind", ["RGB JPEG", "progressive JPEG", "RGB PNG", "TIFF", "WebP", "BMP", "PPM"])
def test_a_truncated_image_is_an_error_wherever_it_ends(kind):
    content = KINDS[kind]()
    for part in (0.02, 0.3, 0.6, 0.99):
        with pytest.raises(cli.UserError, match="decoded|image"):
            preprocessing.SMLPNET(content[: int(part * len(content))])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_are_an_image_or_an_error():
    rng = np.random.default_rng(0)
    for kind in ("RGB JPEG", "palette, transparent", "TIFF", "WebP", "GIF", "16 bit"):
        content = KINDS[kind]()
        for _ in range(15):
            damaged = bytearray(content)
            for position in rng.integers(0, min(len(content), 600), 4):
                damaged[position] = rng.integers(256)
            with contextlib.suppress(cli.UserError):
                assert np.isfinite(preprocessing.SMLPNET(bytes(damaged))).all()
