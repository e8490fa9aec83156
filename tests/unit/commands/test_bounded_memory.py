"""Images in archives and tables are read one by one: ten times as many need no more memory.

The peak is that of a fresh process as the kernel counts it (VmHWM). getrusage would not do: what a process starts with
there is the peak of the one that started it.
"""

import io
import subprocess
import sys

import data_layouts
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

MANY, FEW = 1000, 100
# What may be between them; kept images of 15 KiB each would be more than that.
MARGIN = 1.1
PREPROCESS = """
import sys
sys.path.insert(0, "scripts")
import preprocess
from smlp.core import disturbance

kept, read = [], preprocess.sources.read
if sys.argv[1] == "keep":
    preprocess.sources.read = lambda *about: kept.append(read(*about)) or kept[-1]
preprocess.main(sys.argv[2:])
print(disturbance.peak_memory_mb())
"""


def png(seed):
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (72, 72, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


@pytest.fixture(scope="module")
def many():
    return data_layouts.samples_of((number % 3, png(number)) for number in range(MANY))


def hub_row_groups(root, samples):
    """Parquet in one file, with the hub's row groups: of a larger one pyarrow holds a page, which has 1,024 rows."""
    root.mkdir(parents=True)
    path = root / "validation-00000-of-00001.parquet"
    parquet.write_table(data_layouts.hub_table(samples), path, row_group_size=100)


LAYOUTS = [data_layouts.tar_of_folders, data_layouts.zip_of_folders, data_layouts.webdataset, hub_row_groups]


def peak_mb(folder, layout, samples, how="stream"):
    """The peak of preprocessing these images."""
    layout(folder / how / str(len(samples)), samples)
    argv = ["--data_root", folder / how / str(len(samples)), "--save_dir", folder / f"{how} bins {len(samples)}"]
    argv += ["--workers", "1", "--image_size", "32", "--pixels", "uint8", "--layout", "packed"]
    done = subprocess.run([sys.executable, "-c", PREPROCESS, how, *map(str, argv)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_reading_in_place_needs_no_more_memory_for_more_images(tmp_path, many, layout):
    few = peak_mb(tmp_path, layout, many[:FEW])
    assert peak_mb(tmp_path, layout, many) < MARGIN * few


def test_images_that_are_kept_would_be_seen(tmp_path, many):
    few = peak_mb(tmp_path, data_layouts.webdataset, many[:FEW], "keep")
    assert peak_mb(tmp_path, data_layouts.webdataset, many, "keep") > MARGIN * few
