"""Pictures to preprocess, and what holds a transform to a reference."""

import io

import numpy as np
from PIL import Image


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
