"""What images are made of: more than 8 bits a channel, alpha, odd colours, several frames, names that lie."""

import io
import struct
import warnings

import numpy as np
import pytest
from pictures import encoded, noise
from PIL import Image, TiffImagePlugin

from smlp.core import cli
from smlp.data import decode, sources

RAMP = np.linspace(0, 65535, 300).astype(np.uint16)[None].repeat(8, 0)
HIGH_BYTE = (RAMP >> 8).astype(np.uint8)


def gray(content):
    """The image that bytes decode to, whose channels must be equal: uint8 (H, W)."""
    image = decode.decode(content).image
    assert image.mode == "RGB"
    values = np.asarray(image)
    assert (values == values[..., :1]).all()
    return values[..., 0]


def tiff(values, **tags):
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    for number, value in tags.items():
        ifd[int(number.strip("_"))] = value
    return encoded(Image.fromarray(values), "TIFF", tiffinfo=ifd)


def big_endian_tiff():
    """A TIFF of 16-bit gray whose bytes are in the other order, written by hand: Pillow writes none."""
    entries = [(256, 3, 300), (257, 3, 8), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 3, 8)]
    entries += [(279, 4, RAMP.nbytes)]
    body = RAMP.astype(">u2").tobytes()
    ifd = struct.pack(">H", len(entries))
    for tag, kind, value in entries:
        ifd += struct.pack(">HHI", tag, kind, 1) + (
            struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
        )
    return b"MM\0*" + struct.pack(">I", 8 + len(body)) + body + ifd + bytes(4)


def twelve_bit_tiff():
    """A TIFF that states 12 bits a sample, two samples in three bytes."""
    values = (RAMP >> 4).astype(np.uint32)
    pairs = values[:, 0::2] << 12 | values[:, 1::2]
    body = b"".join(int(pair).to_bytes(3, "big") for pair in pairs.ravel())
    entries = [(256, 3, 300), (257, 3, 8), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 3, 8)]
    entries += [(279, 4, len(body))]
    ifd = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        ifd += struct.pack("<HHII", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + ifd + bytes(4)


def pgm(values, maximum):
    return b"P5 %d %d %d\n" % (values.shape[1], values.shape[0], maximum) + values.astype(">u2").tobytes()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(Image.fromarray(RAMP)), HIGH_BYTE),
        (encoded(Image.fromarray(RAMP), "TIFF"), HIGH_BYTE),
        (encoded(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"), HIGH_BYTE),
        (big_endian_tiff(), HIGH_BYTE),
        (tiff(RAMP, _262=0), 255 - HIGH_BYTE),
        (twelve_bit_tiff(), HIGH_BYTE),
        (encoded(Image.fromarray(RAMP), "JPEG2000"), HIGH_BYTE),
        (pgm(RAMP, 65535), np.rint(RAMP / 257)),
        (pgm(RAMP >> 4, 4095), np.rint((RAMP >> 4) / 4095 * 255)),
        (encoded(Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF"), np.rint(RAMP / 257)),
        (encoded(Image.fromarray((RAMP >> 8).astype(np.int32)), "TIFF"), HIGH_BYTE),
        (encoded(Image.fromarray(np.zeros((8, 8), np.uint16))), np.zeros((8, 8))),
    ],
    ids=[
        "PNG",
        "TIFF",
        "LZW",
        "big-endian",
        "0 is white",
        "12 bits",
        "JPEG 2000",
        "PGM",
        "PGM of 12 bits",
        "float",
        "integers",
        "black",
    ],
)
def test_more_than_8_bits_are_scaled_not_clipped(content, expected):
    got = gray(content)
    # 12 bits from Pillow's 16, and float32's rounding, may differ by the last bit at the edge between two bytes
    assert np.abs(got.astype(int) - expected).max() <= (1 if content[:2] == b"P5" else 0)
    assert len(np.unique(got)) == len(np.unique(expected))


def test_16_bit_gray_becomes_what_16_bit_colour_becomes():
    """Pillow takes the high byte of 16-bit RGB, of which a gray one with three equal channels is a case."""
    import zlib

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    def png(kind, values):
        header = struct.pack(">IIBBBBB", 300, 8, 16, kind, 0, 0, 0)
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

    alpha = np.full_like(RAMP, 65535)
    of = {
        "gray": png(0, RAMP),
        "RGB": png(2, np.dstack([RAMP] * 3)),
        "gray, alpha": png(4, np.dstack([RAMP, alpha])),
        "RGBA": png(6, np.dstack([RAMP] * 3 + [alpha])),
    }
    assert {name: gray(content).tobytes() for name, content in of.items()} == dict.fromkeys(of, HIGH_BYTE.tobytes())


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (encoded(Image.fromarray(RAMP >> 4)), "values from 0 to 4095 in 16-bit gray"),
        (encoded(Image.fromarray(RAMP >> 8), "TIFF"), "values from 0 to 255 in 16-bit gray"),
        (encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), "values from 0 to 65535 in gray of 32-bit"),
        (encoded(Image.fromarray(RAMP.astype(np.int32) - 5), "TIFF"), "values from -5 to"),
        (encoded(Image.fromarray(HIGH_BYTE.astype(np.float32)), "TIFF"), "values from 0 to 255 in float gray, [0, 1]"),
        (encoded(Image.fromarray(np.float32([[-0.5, 1]])), "TIFF"), "values from -0.5 to 1 in float gray"),
        (encoded(Image.fromarray(np.float32([[np.nan, 1]])), "TIFF"), "values from nan to nan"),
        (tiff(np.float32([[0, 1]]), _262=0), "0 is white"),
    ],
    ids=["12 in 16 bits", "8 in 16 bits", "integers", "negative", "floats to 255", "below 0", "NaN", "0 is white"],
)
def test_a_range_that_nobody_states_is_refused(content, named):
    with pytest.raises(cli.UserError) as caught:
        decode.decode(content)
    assert named in str(caught.value) and "save it with 8 bits" in str(caught.value) or "0 is white" in named


def rgba(mode):
    return Image.merge(
        mode, (*noise(30, 20).convert("L" if mode == "LA" else "RGB").split(), noise(30, 20, 1).split()[0])
    )


COLOURS = {
    "L": lambda: encoded(noise(30, 20).convert("L")),
    "one bit": lambda: encoded(noise(30, 20).convert("1")),
    "one bit TIFF": lambda: encoded(noise(30, 20).convert("1"), "TIFF", compression="group4"),
    "LA": lambda: encoded(rgba("LA")),
    "RGBA": lambda: encoded(rgba("RGBA")),
    "palette": lambda: encoded(noise(30, 20).quantize(16)),
    "palette, transparent": lambda: encoded(noise(30, 20).quantize(16), transparency=0),
    "palette, alpha": lambda: encoded(noise(30, 20).convert("P"), transparency=bytes(range(256))),
    "CMYK JPEG": lambda: encoded(noise(30, 20).convert("CMYK"), "JPEG"),
    "CMYK TIFF": lambda: encoded(noise(30, 20).convert("CMYK"), "TIFF"),
    "YCbCr TIFF": lambda: encoded(noise(30, 20).convert("YCbCr"), "TIFF"),
    "AVIF": lambda: encoded(noise(30, 20), "AVIF"),
    "AVIF with alpha": lambda: encoded(rgba("RGBA"), "AVIF"),
    "JPEG 2000": lambda: encoded(noise(30, 20), "JPEG2000"),
    "QOI": lambda: encoded(noise(30, 20), "QOI"),
    "LAB TIFF": lambda: encoded(Image.frombytes("LAB", (30, 20), noise(30, 20).tobytes()), "TIFF"),
    "PBM": lambda: encoded(noise(30, 20).convert("1"), "PPM"),
    "MPO": lambda: encoded(noise(30, 20), "MPO", save_all=True, append_images=[noise(30, 20, 1)]),
    "turned by EXIF": lambda: encoded(
        noise(30, 20), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    ),
}


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("kind", COLOURS)
def test_eight_bits_are_what_torchvisions_loader_gives(kind, pil_loader, tmp_path):
    path = tmp_path / "name that lies.JPEG"
    path.write_bytes(COLOURS[kind]())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pil_loader(path)
    image, notes = decode.decode(path.read_bytes())
    assert (image.mode, image.size, image.tobytes(), notes) == ("RGB", expected.size, expected.tobytes(), ())


def test_gray_that_is_multiplied_by_alpha_is_read():
    """pil_loader stops at it: Pillow converts it to LA alone."""
    values = np.dstack([np.full((20, 30), 60, np.uint8), np.full((20, 30), 120, np.uint8)])
    content = encoded(Image.fromarray(values, "LA"), "TIFF")
    extra_samples = [struct.pack("<HHIH", 338, 3, 1, kind) for kind in (2, 1)]
    content = content.replace(*extra_samples)
    assert Image.open(io.BytesIO(content)).mode == "La"
    assert (gray(content) == 127).all()  # 60 / 120 of white


FRAMES = [noise(30, 20, seed) for seed in range(3)]


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP", "AVIF"])
def test_of_several_frames_the_first_is_taken_and_said(kind):
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(kind, {})
    one, several = (
        decode.decode(encoded(FRAMES[0], kind, save_all=True, append_images=more, **options))
        for more in ([], FRAMES[1:])
    )
    assert several.notes == ("several frames or pages, the first of which is taken",) and not one.notes
    assert np.abs(np.asarray(several.image).astype(int) - np.asarray(one.image)).max() <= (8 if kind == "AVIF" else 0)


def test_a_damaged_second_frame_harms_nobody():
    content = encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:])
    first = len(encoded(FRAMES[0], "GIF"))
    assert decode.decode(content[: first + 20]).image.size == (30, 20)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "is HEIC, .*; install .*pillow-heif, or convert it"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100), "is JPEG XL"),
        (bytes(18) + bytes(100), "is not an image of a known format"),
    ],
)
def test_what_pillow_does_not_read_is_named(content, named, without_heif):
    with pytest.raises(cli.UserError, match=named):
        decode.decode(content)


def test_heic_is_read_if_pillow_heif_is_there(jpeg):
    """What is skipped without it; the message about it is tested above."""
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed, so that no HEIC is read or written")
    stream = io.BytesIO()
    picture = Image.open(io.BytesIO(jpeg(1)))
    heif.from_pillow(picture).save(stream, quality=-1, chroma=444)
    found = decode.decode(stream.getvalue()).image
    assert (found.mode, found.size) == ("RGB", picture.size)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(picture)).mean() < 3
    with pytest.raises(cli.UserError, match="cannot be decoded|is HEIC"):
        decode.decode(stream.getvalue()[:400])


def test_every_suffix_of_a_format_that_is_read_is_an_image():
    Image.init()
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in decode.FORMATS}
    assert suffixes <= set(sources.IMAGE_EXTENSIONS)
    assert {".heic", ".heif", ".jxl"} <= set(sources.IMAGE_EXTENSIONS)  # named one by one, not left out in silence
