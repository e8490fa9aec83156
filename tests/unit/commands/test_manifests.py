"""What preprocess.py writes, the commands after it read: odd file names, and manifests that users edit."""

import json
import os

import numpy as np
import pytest

from smlp.data import dataset

LATIN_1 = os.fsdecode(b"caf\xe9.JPEG")


@pytest.fixture
def shard(tmp_path, command, jpeg, mixer_onnx):
    """A folder with an engine bs2.onnx and the preprocessed shard `bins` of three images, one with an odd name."""
    names = ("a.JPEG", LATIN_1, "z, z.JPEG")
    (tmp_path / "data" / "val").mkdir(parents=True)
    for name in names:
        (tmp_path / "data" / "val" / name).write_bytes(jpeg(len(name)))
    labels = "".join(f"{name} 0\n" for name in names)
    (tmp_path / "data" / "val_label.txt").write_text(labels, errors="surrogateescape")
    mixer_onnx(tmp_path / "bs2.onnx", 2, size=(3, 224, 224))
    done = command("preprocess", "--data_root", tmp_path / "data", "--save_dir", tmp_path / "bins", "--workers", 1)
    assert done.returncode == 0, done.stderr
    return tmp_path


def infer(command, shard):
    flags = ["--input", shard / "bins", "--output", shard, "--output_dirname", "out", "--outfmt", "NPY"]
    return command("infer", "--model", shard / "bs2.onnx", *flags)


def measure(command, shard):
    times = ["--retry_max_s=0", "--min_time_s=0.05", "--min_runs=3", "--warmup_window_s=0.05", "--warmup_max_s=0.2"]
    flags = ["--input", shard / "bins", *times, "--output", shard / "measured.json"]
    return command("measure", "--model", shard / "bs2.onnx", *flags)


def test_an_image_whose_name_is_no_utf_8_is_inferred_and_measured(shard, command):
    assert [row.image for row in dataset.read_manifest(shard / "bins" / "manifest.csv")][1] == f"val/{LATIN_1}"
    done = infer(command, shard)
    assert done.returncode == 0, done.stderr
    assert [np.load(shard / "out" / f"batch-0000{index}_0.npy").shape for index in range(3)] == [(1, 5)] * 3
    done = measure(command, shard)
    assert done.returncode == 0, done.stderr
    assert json.loads((shard / "measured.json").read_text())


def edited(shard, edit):
    (shard / "bins.json").unlink()  # it would say that this is not the manifest that it describes
    path = shard / "bins" / "manifest.csv"
    path.write_bytes(edit(path.read_bytes()))


@pytest.mark.parametrize("run", [infer, measure])
@pytest.mark.parametrize(
    "edit",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: b"filename,url\nx.zip,https://host/x.zip\n",
        lambda content: b"index,bin,image,class,label,sha256\n",
        lambda content: b"not a table",
        lambda content: b"",
    ],
    ids=["byte-order mark", "another table", "no rows", "no table", "empty"],
)
def test_bins_are_read_beside_a_manifest_that_says_nothing_about_them(shard, command, run, edit):
    edited(shard, edit)
    done = run(command, shard)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("run", [infer, measure])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order mark"])
def test_another_number_of_images_than_the_manifest_lists_is_refused(shard, command, run, before):
    # the column that the check needs comes first: a byte-order mark must not become a part of its name
    lines = b"bin,index,image,label\n" + b"".join(b"batch-00000.bin,%d,%d.JPEG,0\n" % (n, n) for n in range(4))
    edited(shard, lambda _: before + lines)
    done = run(command, shard)
    assert done.returncode == 1
    assert "batch-00000.bin: holds 4 images by manifest.csv, but by its size 1" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("run", [infer, measure])
def test_a_damaged_manifest_is_refused_with_its_line(shard, command, run):
    edited(shard, lambda content: content + b"3,batch-00003.bin,new.JPEG,cats,cat,0\n")
    done = run(command, shard)
    assert done.returncode == 1
    assert "manifest.csv, line 5: label 'cat' is not a whole number" in done.stderr and done.stderr.count("\n") == 1
