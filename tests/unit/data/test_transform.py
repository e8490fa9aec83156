"""transform.py against torchvision and timm themselves, bit for bit, on every kind of image."""

import contextlib
import importlib
import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
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
def pil_loader():
    importlib.import_module("smlp.models.architectures")  # makes torchvision importable beside every build of torch
    from torchvision.datasets.folder import pil_loader

    return pil_loader


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


def noise(width, height, seed=0):
    """An RGB image with all frequencies, so that a wrong sampling point shows."""
    rng = np.random.default_rng([seed, width, height])
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def with_palette_transparency():
    image = noise(300, 260).convert("P")
    return encoded(image, transparency=bytes(range(256)))


def sixteen_bit():
    values = np.random.default_rng(0).integers(0, 1 << 16, (270, 260), np.uint16)
    return encoded(Image.fromarray(values))


def rotated_by_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noise(300, 200), "JPEG", exif=exif)


KINDS = {
    "RGB JPEG": lambda: encoded(noise(500, 375), "JPEG", quality=90),
    "progressive JPEG": lambda: encoded(noise(333, 500), "JPEG", progressive=True),
    "JPEG 4:4:4": lambda: encoded(noise(301, 299), "JPEG", subsampling=0),
    "grey JPEG": lambda: encoded(noise(500, 334).convert("L"), "JPEG"),
    "CMYK JPEG": lambda: encoded(noise(400, 300).convert("CMYK"), "JPEG"),
    "rotated by EXIF": rotated_by_exif,
    "RGB PNG": lambda: encoded(noise(280, 300)),
    "RGBA": lambda: encoded(Image.merge("RGBA", (*noise(300, 280).split(), noise(300, 280, 1).getchannel(0)))),
    "LA": lambda: encoded(Image.merge("LA", noise(300, 280).split()[:2])),
    "grey PNG": lambda: encoded(noise(300, 280).convert("L")),
    "palette": lambda: encoded(noise(300, 280).convert("P")),
    "palette, transparent": with_palette_transparency,
    "one bit": lambda: encoded(noise(300, 280).convert("1")),
    "16 bit": sixteen_bit,
    "RGB PNG, transparent colour": lambda: encoded(noise(260, 280), transparency=(1, 2, 3)),
    "GIF": lambda: encoded(noise(260, 280).convert("P"), "GIF"),
    "BMP": lambda: encoded(noise(260, 280), "BMP"),
    "PPM": lambda: encoded(noise(260, 280), "PPM"),
    "TIFF": lambda: encoded(noise(260, 280), "TIFF"),
    "WebP": lambda: encoded(noise(260, 280), "WEBP", lossless=True),
}


def assert_same(content, ours, loader, theirs, tmp_path):
    path = tmp_path / "image.JPEG"  # the suffix does not matter, as in ImageNet, which holds a PNG named .JPEG
    path.write_bytes(content)
    expected = theirs(loader(path)).numpy()
    got = ours(content)
    assert got.dtype == np.float32 and got.shape == ours.shape and got.flags.c_contiguous
    assert got.tobytes() == expected.tobytes()


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize(
    "model_name",
    [
        "smlpnet_tiny",
        "smlpnet_small.ms_in1k",
        "resnet18",
        "gmlp_s16_224",
        "crossvit_9_240",  # 240 / 0.875 is no whole number
        "fbnetv3_b",  # bilinear, 0.95
        "vit_large_patch14_clip_336",  # squash
        "vit_base_patch16_sapiens2",  # squash, bilinear, not square
    ],
)
def test_other_models_are_preprocessed_as_timm_does(model_name, pil_loader, tmp_path):
    import timm
    from timm.data import create_transform, resolve_data_config

    cfg = timm.get_pretrained_cfg(model_name).to_dict()
    theirs = create_transform(**resolve_data_config(pretrained_cfg=cfg), is_training=False)
    ours = preprocessing.resolve(model_name)
    for kind in ("RGB JPEG", "progressive JPEG", "grey PNG"):
        assert_same(KINDS[kind](), ours, pil_loader, theirs, tmp_path)


def data_config(**changes):
    return {
        "input_size": (3, 96, 96),
        "interpolation": "bicubic",
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
        "crop_pct": 0.9,
        "crop_mode": "center",
        **changes,
    }


@pytest.mark.parametrize(
    "config",
    [
        data_config(crop_mode="squash", input_size=(3, 64, 97)),
        data_config(crop_pct=1.0),
        data_config(interpolation="lanczos"),
        data_config(interpolation="nearest"),
        data_config(interpolation="box"),
        data_config(interpolation="hamming"),
    ],
    ids=str,
)
def test_every_supported_setting_agrees_with_timm(config, pil_loader, tmp_path):
    from timm.data import create_transform

    ours = preprocessing._from_data_config("some model", config)
    assert_same(encoded(noise(211, 150)), ours, pil_loader, create_transform(**config, is_training=False), tmp_path)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (data_config(crop_mode="border"), "border"),
        (data_config(input_size=(1, 96, 96)), "1 input channels"),
        (data_config(input_size=(3, 96, 64)), "96x64"),
        (data_config(interpolation="random"), "random"),
    ],
    ids=["border", "one channel", "not square", "random"],
)
def test_settings_that_are_not_supported_are_refused(config, named):
    with pytest.raises(cli.UserError, match=named) as caught:
        preprocessing._from_data_config("odd_model", config)
    assert "odd_model" in str(caught.value)


@pytest.mark.parametrize("model_name", ["smlpnet_tiyn", "resnet18.no_such_tag", "deepseek_vit_412m", "../x", ""])
def test_a_model_without_usable_preprocessing_is_named(model_name):
    with pytest.raises(cli.UserError) as caught:
        preprocessing.resolve(model_name)
    assert model_name in str(caught.value)


def test_our_models_state_the_same_settings_in_timm():
    import timm
    from timm.data import resolve_data_config

    importlib.import_module("smlp.models.architectures")
    for model_name in ("smlpnet_tiny", "smlpnet_small", "smlpnet_base"):
        config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(model_name).to_dict())
        assert (
            preprocessing.resolve(model_name)
            == preprocessing._from_data_config(model_name, config)
            == preprocessing.SMLPNET
        )


def test_our_models_need_no_torch():
    code = (
        "import sys; from smlp.models import preprocessing; preprocessing.resolve('smlpnet_base'); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchvision', 'timm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS).returncode == 0


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
