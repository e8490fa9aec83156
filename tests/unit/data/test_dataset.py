"""dataset.py: both layouts, shards, the token that decides what runs again, the manifest."""

import csv
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smlp.core import cli
from smlp.data import dataset, manifest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


def touch(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def folders(tmp_path):
    """Class folders with every oddity that torchvision accepts."""
    root = tmp_path / "a data set"
    for name in ("b/2.jpeg", "b/10.JPG", "a/x.PNG", "a/notes.txt", "a/deep/er/y.webp", "a/deep/z.TIFF", "C c/,\n.bmp"):
        touch(root / "val" / name)
    touch(root / "val" / "README")
    touch(root / "val" / "b" / ".hidden.jpg")
    (root / "val" / "b" / "linked.ppm").symlink_to(root / "val" / "a" / "x.PNG")
    touch(root / "elsewhere" / "w.pgm")
    (root / "val" / "d").symlink_to(root / "elsewhere")
    return root


@pytest.fixture
def flat(tmp_path):
    root = tmp_path / "flat"
    for name in ("b.JPEG", "a.JPEG", "c d.png"):
        touch(root / "val" / name)
    touch(root / "val_label.txt", b"b.JPEG 7\nc d.png\t0\r\na.JPEG  12\n\n")
    return root


def test_class_folders_are_listed_as_torchvision_lists_them(folders):
    importlib.import_module("smlp.models.architectures")  # makes torchvision importable beside every build of torch
    from torchvision.datasets import ImageFolder

    theirs = ImageFolder(str(folders / "val"))
    ours = dataset.list_images(folders, order="torchvision")
    assert [(str(folders / entry.image), entry.label) for entry in ours] == theirs.samples
    assert [theirs.classes[entry.label] for entry in ours] == [entry.class_name for entry in ours]
    assert [entry.index for entry in ours] == list(range(len(ours)))
    assert ours[0] == (0, "val/C c/,\n.bmp", "C c", 0)


def test_the_flat_layout_takes_labels_from_the_file(flat):
    expected = [(0, "val/a.JPEG", "12", 12), (1, "val/b.JPEG", "7", 7), (2, "val/c d.png", "0", 0)]
    assert dataset.list_images(flat) == expected
    (flat / "val_label.txt").rename(flat / "val" / "val_label.txt")
    assert dataset.list_images(flat) == expected


def test_another_split_can_be_listed(tmp_path):
    touch(tmp_path / "test" / "a" / "1.png")
    touch(tmp_path / "test" / "b" / "1.png")
    assert dataset.list_images(tmp_path, "test") == [(0, "test/a/1.png", "a", 0), (1, "test/b/1.png", "b", 1)]


def test_many_images_are_listed_quickly(tmp_path):
    for label in range(500):
        folder = tmp_path / "val" / f"n{label:08d}"
        folder.mkdir(parents=True)
        for index in range(20):
            (folder / f"ILSVRC2012_val_{index:08d}.JPEG").touch()
    start = time.process_time()  # the processor's, so that a busy machine does not matter
    entries = dataset.list_images(tmp_path)
    assert len(entries) == 10_000
    assert time.process_time() - start < 1  # about 0.1 s for a fifth of ImageNet's validation set


def broken(tmp_path, case):
    """A dataset with one thing wrong; returns data_root and what the error must name."""
    root, val = tmp_path / "data", tmp_path / "data" / "val"
    labels = {
        "line without label": (b"a.png 1\nb.png\n", "val_label.txt, line 2: 'b.png'"),
        "label not a number": (b"a.png cat\nb.png 1\n", "label 'cat' of a.png"),
        "negative label": (b"a.png 1\nb.png -1\n", "label '-1' of b.png"),
        "label with a point": (b"a.png 1.0\nb.png 1\n", "label '1.0' of a.png"),
        "lines of other images": (b"c.png 1\nd.png 2\n", "there is none of its 2 images in"),
        "image without line": (b"a.png 1\n", "no line for b.png"),
        "name twice": (b"a.png 1\nb.png 1\na.png 1\n", "line 3: a.png occurs a second time"),
        "not text": (bytes(range(256)), "val_label.txt, line"),
        "no label file": (None, "val_label.txt"),
    }
    if case in labels:
        touch(val / "a.png"), touch(val / "b.png")
        content, named = labels[case]
        if content is not None:
            touch(root / "val_label.txt", content)
        return root, named
    if case == "no root":
        return root, f"{root}: no such dataset folder"
    if case == "root is a file":
        return touch(root), f"{root}: no such dataset folder"
    if case == "no val":
        touch(root / "train" / "a" / "1.png")
        return root, f"{root}: contains no folder val/"
    if case == "empty":
        val.mkdir(parents=True)
        return root, f"{val}: contains no images"
    touch(val / "a" / "1.png")
    if case == "class without images":
        touch(val / "b" / "notes.txt")
        return root, f"{val / 'b'}: class folder without images"
    if case == "images beside classes":
        touch(val / "stray.png")
        return root, "stray.png"
    if case == "loop":
        (val / "a" / "again").symlink_to(val)
        return root, "a/again: is a link to a folder around it"
    raise AssertionError(case)


CASES = ["line without label", "label not a number", "negative label", "label with a point", "lines of other images"]
CASES += [
    "image without line",
    "name twice",
    "not text",
    "no label file",
    "no root",
    "root is a file",
    "no val",
    "empty",
]
CASES += ["class without images", "images beside classes", "loop"]


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_with_a_dataset_is_named(tmp_path, case):
    root, named = broken(tmp_path, case)
    with pytest.raises(cli.UserError) as caught:
        dataset.list_images(root)
    assert named in str(caught.value)


@pytest.mark.parametrize("split", ["", ".", "..", "../elsewhere", "/etc", "a/b"])
def test_a_split_is_a_folder_right_below_the_root(folders, split):
    with pytest.raises(cli.UserError, match="split"):
        dataset.list_images(folders, split)


def entries_of(count):
    return [dataset.Entry(index, f"val/a/{index}.png", "a", 0) for index in range(count)]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 30])
def test_shards_cover_everything_once_and_split_no_batch(count, batch_size):
    for total in (1, 2, 20, 29):
        entries = entries_of(total)
        shards = [dataset.shard(entries, index, count, batch_size) for index in range(count)]
        assert [entry for part in shards for entry in part] == entries
        batches = [{entry.index // batch_size for entry in part} for part in shards]
        assert max(map(len, batches)) - min(map(len, batches)) <= 1
        assert sum(map(len, batches)) == -(-total // batch_size)


def test_a_folder_with_a_dot_in_its_name_has_a_sidecar_of_its_own():
    assert dataset.sidecar_path("results/set.v1").name == "set.v1.json"
    assert dataset.sidecar_path("results/shard-0/") == Path(os.path.abspath("results/shard-0.json"))


def rows_of(count, per_bin=1):
    return [
        dataset.Row(index, dataset.bin_name(index // per_bin), f"val/a/{index}.png", "a", 3, "0" * 64)
        for index in range(count)
    ]


def test_names_with_odd_characters_survive_the_manifest(tmp_path):
    odd = [
        'a,b"c.png',
        "line\nbreak.png",
        "carriage\rreturn.png",
        "ünïcödé 🐈.png",
        os.fsdecode(b"latin-\xe9.png"),
        " .png",
    ]
    rows = [row._replace(image=f"val/{name}", class_name=name) for row, name in zip(rows_of(len(odd)), odd)]
    dataset.write_manifest(tmp_path / "a manifest.csv", rows)
    assert dataset.read_manifest(tmp_path / "a manifest.csv") == rows
    assert os.fsencode(odd[4]) in (tmp_path / "a manifest.csv").read_bytes()


def test_a_manifest_may_have_more_columns_in_another_order_and_several_images_a_bin(tmp_path):
    path = tmp_path / "manifest.csv"
    rows = rows_of(5, per_bin=2)
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["note", "sha256", "label", "class", "image", "bin", "index"])
        writer.writerows(["", *reversed(row)] for row in rows)
    assert dataset.read_manifest(path) == rows


def test_a_manifest_by_hand_needs_four_columns(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("label,image,bin,index\n7,x.png,a.bin,0\n")
    assert dataset.read_manifest(path) == [dataset.Row(0, "a.bin", "x.png", "", 7, "")]
    with pytest.raises(cli.UserError, match="manifest.csv: has no sha256 of x.png"):
        dataset.checksums([path])


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    dataset.write_manifest(tmp_path / "manifest.csv", rows_of(3))
    marked = tmp_path / "marked.csv"
    marked.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "manifest.csv").read_bytes())
    assert dataset.read_manifest(marked) == rows_of(3)


def test_images_are_counted_for_each_bin(tmp_path):
    path = tmp_path / "manifest.csv"
    dataset.write_manifest(path, rows_of(5, per_bin=2))
    assert manifest.images_per_bin(path) == {"batch-00000.bin": 2, "batch-00001.bin": 2, "batch-00002.bin": 1}
    for other in ("", "name,url\na,b\n", "index,bin,image,class,label,sha256\n", "\0"):
        path.write_text(other)
        assert manifest.images_per_bin(path) == {}
    path.write_text("index,bin,image,label\n0,a.bin,x.png,cat\n")
    with pytest.raises(cli.UserError, match="manifest.csv, line 2: label 'cat'"):
        manifest.images_per_bin(path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "no column index, bin, image, class, label, sha256"),
        ("index,bin,image,class,sha256\n0,b.bin,i,c,s\n", "no column label"),
        ("index,bin,image,class,label,sha256\n", "lists no images"),
        ("index,bin,image,class,label,sha256\n0,b.bin,i,c,1\n", "line 2"),
        ("index,bin,image,class,label,sha256\n0,b.bin,i,c,1,s,extra\n", "line 2"),
        ("index,bin,image,class,label,sha256\n0,b.bin,i,c,cat,s\n", "label 'cat'"),
        ("index,bin,image,class,label,sha256\n0,b.bin,i,c,-1,s\n", "label '-1'"),
        ("index,bin,image,class,label,sha256\n1.5,b.bin,i,c,1,s\n", "index '1.5'"),
        ("index,bin,image,class,label,sha256\n" + "9" * 5000 + ",b.bin,i,c,1,s\n", "index '999"),
        ("index,bin,image,class,label,sha256\n0,/etc/passwd,i,c,1,s\n", "/etc/passwd"),
        ("index,bin,image,class,label,sha256\n0,../b.bin,i,c,1,s\n", "../b.bin"),
        ("index,bin,image,class,label,sha256\n0,,i,c,1,s\n", "bin ''"),
        ("index,bin,image,class,label,sha256\n0,a,i,c,1,s\n0,b,i,c,1,s\n", "line 3: index 0 occurs a second time"),
        ("index,bin,image,class,label,sha256\n0,a,i,c,1,s\n1,b,i,c,1,s\n2,a,i,c,1,s\n", "line 4: bin a occurs again"),
        ('index,bin,image,class,label,sha256\n0,"a"b,i,c,1,s\n', "CSV"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_named(tmp_path, content, named):
    path = tmp_path / "manifest.csv"
    path.write_text(content)
    with pytest.raises(cli.UserError) as caught:
        dataset.read_manifest(path)
    assert named in str(caught.value) and str(path) in str(caught.value)


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    with pytest.raises(cli.UserError, match="no manifest.csv: not found"):
        dataset.read_manifest(tmp_path / "no manifest.csv")


def test_nothing_but_the_standard_library_is_imported():
    code = (
        "import sys; from smlp.data import dataset; print([n for n in ('numpy', 'PIL', 'torch') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert json.loads(done.stdout) == []
