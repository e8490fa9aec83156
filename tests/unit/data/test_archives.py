"""Archives and tables are read in place, and nothing else: what leads out, is damaged or is unclear is refused."""

import io
import json
import os
import tarfile
import tracemalloc
from pathlib import Path

import data_layouts
import pyarrow
import pytest
from pyarrow import parquet

from smlp.core.cli import UserError
from smlp.data import archives, dataset, packed, rows, sources

SAMPLES = data_layouts.samples_of((label, b"image %d" % number) for number, label in enumerate((0, 0, 1, 1, 2)))


def add(path, name, content=b"x", **header):
    """Append a member with any header to a tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        for key, value in header.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(content))


LEADING_OUT = {
    "symbolic link": ({"name": "a/link.png", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link"),
    "link to a member": ({"name": "a/link.png", "type": tarfile.LNKTYPE, "linkname": "a/1.png"}, "is a link"),
    "link as a folder": ({"name": "b", "type": tarfile.SYMTYPE, "linkname": "/etc"}, "is a link"),
    "pipe": ({"name": "a/pipe.png", "type": tarfile.FIFOTYPE}, "is not a plain file"),
    "device": ({"name": "a/zero.png", "type": tarfile.CHRTYPE}, "is not a plain file"),
    "absolute": ({"name": "/etc/1.png"}, "leads out of the archive"),
    "above": ({"name": "a/../../1.png"}, "leads out of the archive"),
    "no name": ({"name": "./"}, "is no name|is not a plain file"),
    "twice": ({"name": "a/1.png"}, "occurs a second time"),
}


@pytest.mark.parametrize("case", LEADING_OUT)
def test_what_leads_out_of_an_archive_is_refused(tmp_path, case):
    header, named = LEADING_OUT[case]
    path = tmp_path / "val.tar"
    add(path, "a/1.png")
    add(path, content=b"" if "type" in header else b"x", **header)
    with pytest.raises(UserError, match=rf"val\.tar: .*({named})"):
        dataset.list_images(tmp_path)


def whole(tmp_path):
    data_layouts.tar_of_folders(tmp_path, SAMPLES)
    return tmp_path / "val.tar"


DAMAGED = {
    "cut within an image": lambda content: content[: 512 + 3],
    "cut behind an image": lambda content: content[:2048],
    "no end mark": lambda content: content.rstrip(b"\0") + bytes(-len(content.rstrip(b"\0")) % 512),
    "joined from two": lambda content: content + content,
    "a damaged header": lambda content: content[:2048] + b"\xff" * 512 + content[2560:],
    "gzip": lambda content: b"\x1f\x8b" + content,
    "empty": lambda content: b"",
    "text": lambda content: b"<html>404 not found</html>" * 100,
}


@pytest.mark.parametrize("case", DAMAGED)
def test_an_archive_that_is_not_whole_is_named(tmp_path, case):
    path = whole(tmp_path)
    path.write_bytes(DAMAGED[case](path.read_bytes()))
    with pytest.raises(UserError, match=r"val\.tar: "):
        dataset.list_images(tmp_path)


def test_a_header_of_any_length_is_not_read(tmp_path):
    add(tmp_path / "val.tar", "a/1.png", pax_headers={"comment": "x" * (1 << 17)})
    with pytest.raises(UserError, match="is not a whole tar archive .a header of 131"):
        dataset.list_images(tmp_path)


def test_an_archive_that_changes_is_read_anew_and_never_with_old_places(tmp_path):
    path = whole(tmp_path)
    image = dataset.list_images(tmp_path)[0].image
    assert sources.read(tmp_path, image) == SAMPLES[0].content
    remembered = json.loads(json.dumps(archives.known()))
    members = [(f"n00001000/{SAMPLES[0].name}", b"another"), (f"n00001001/{SAMPLES[1].name}", b"content")]
    data_layouts.tar(path, [("first.txt", b"moves the others"), *members])
    archives.know(remembered)
    with pytest.raises(UserError, match="holds no image val/n00001000/.*; was the archive changed"):
        sources.read(tmp_path, image)
    assert [sources.read(tmp_path, entry.image) for entry in dataset.list_images(tmp_path)] == [b"another", b"content"]


@pytest.mark.parametrize("damaged", [None, [], {"x": 1}, {"x": []}, {"x": [1, 2, 3, 4]}])
def test_what_another_process_says_is_believed_only_in_form(tmp_path, damaged):
    archives.know(damaged)
    whole(tmp_path)
    assert len(dataset.list_images(tmp_path)) == 5


def test_other_files_in_an_archive_are_counted(tmp_path):
    data_layouts.tar(
        tmp_path / "val.tar",
        [("a/1.png", b"1"), ("b/2.png", b"2"), ("b/._2.png", b"mac"), ("b/x.raw", b""), ("@eaDir/b/2.png", b"small")],
    )
    listed = dataset.listed(tmp_path)
    assert [entry.label for entry in listed.entries] == [0, 1]
    assert listed.left_out == {"files .png": 1, "files .raw": 1, "folders @eaDir": 1}


UNCLEAR = {
    "two archives": (
        [("val.tar", "a/1.png"), ("my_val.tar", "a/1.png")],
        "which of my_val.tar, val.tar holds the split",
    ),
    "a part is missing": ([("val-000-of-003.tar", "a/1.png"), ("val-001-of-003.tar", "a/2.png")], "holds 2 of 3 parts"),
    "no labels": ([("val.tar", "1.png")], "there is no label file"),
    "parts without labels": ([("val/s-000.tar", "1.png"), ("val/s-001.tar", "2.png")], "there is no label file"),
    "beside folders": ([("val.tar", "a/1.png"), ("val.tar", "2.png")], r"class folders and images beside them \(2.png"),
    "an empty class": ([("val/cat.tar", "1.png"), ("val/dog.tar", "1.txt")], "dog.tar: archive of a class without"),
    "no images": ([("val.tar", "a/1.txt")], "contains no images"),
    "compressed": ([("val.tar.gz", "a/1.png")], "val.tar.gz: is compressed"),
    "a sample without a class": ([("val.tar", "1.png"), ("val.tar", "2.cls"), ("val.tar", "2.png")], "1.png has no cl"),
    "two images": ([("val.tar", "1.a.png"), ("val.tar", "1.b.png"), ("val.tar", "1.cls")], "1 has several images"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_an_unclear_set_of_archives_is_no_guess(tmp_path, case):
    members, named = UNCLEAR[case]
    for path, name in members:
        add(tmp_path / path, name, b"7" if name.endswith(".cls") else b"x")
    with pytest.raises(UserError, match=named):
        dataset.list_images(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("1.cls", b"", "1.cls: has 0 bytes"),
        ("1.cls", b"7" * 2000, "1.cls: has 2000 bytes"),
        ("1.cls", b"-1", "1.cls: '-1' is neither a whole number of at least 0 nor"),
        ("1.json", b'{"label": "-1"}', "1.png has no class"),
        ("1.json", b"{", "1.png has no class"),
        ("1.json", b"[" * 100_000, "1.png has no class"),
        ("1.json", b'{"label": -1}', "1.png has no class"),
        ("1.json", b'{"label": [1]}', "1.png has no class"),
        ("1.cls", b"dog", "2.png is of class 7, others are 'dog'|2.png is of class '7'"),
    ],
)
def test_what_is_wrong_with_a_sample_is_named(tmp_path, name, content, named):
    members = [("1.png", b"1"), (name, content), ("2.png", b"2"), ("2.cls", b"7")]
    data_layouts.tar(tmp_path / "val-000000.tar", members)
    with pytest.raises(UserError, match=named):
        dataset.list_images(tmp_path)


def test_a_folder_may_be_called_as_an_archive(tmp_path):
    data_layouts.put(tmp_path / "val" / "cats.tar" / "1.png", b"a cat")
    assert packed.locate(tmp_path, "val/cats.tar/1.png") is None
    assert sources.read(tmp_path, dataset.list_images(tmp_path)[0].image) == b"a cat"


def test_an_archive_is_never_held_as_a_whole(tmp_path):
    """64 MB in one archive; listing it and reading every image takes the memory of a few images."""
    data_layouts.tar(tmp_path / "val.tar", [(f"a/{number}.png", bytes(1 << 20)) for number in range(64)])
    tracemalloc.start()
    try:
        entries = dataset.list_images(tmp_path)
        assert {len(sources.read(tmp_path, entry.image)) for entry in entries} == {1 << 20}
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# tables


def test_rows_are_read_in_any_order_and_their_classes_are_named(tmp_path):
    data_layouts.hub_parquet(tmp_path, SAMPLES)
    found = sources.find(tmp_path, "val")
    assert found.names == ("n00001000", "n00001001", "n00001002")
    assert [picture.group for picture in found.pictures] == [sample.synset for sample in SAMPLES]
    assert found.pictures[4].image == "data/validation-00001-of-00002.parquet/1"
    for place in (4, 0, 3, 1, 2, 2, 0):
        assert sources.read(tmp_path, found.pictures[place].image) == SAMPLES[place].content


def test_images_to_calibrate_with_are_found_in_a_column_of_any_name(tmp_path):
    """Their class does not matter, so that nobody names columns for them."""
    images = [{"bytes": bytes([number]), "path": "x"} for number in range(3)]
    parquet.write_table(pyarrow.table({"kind": ["a", "b", "c"], "img": images}), tmp_path / "train.parquet")
    entries = dataset.list_images(tmp_path, "train", labelled=False)
    assert [sources.read(tmp_path, entry.image) for entry in entries] == [b"\0", b"\1", b"\2"]


TABLES = {
    "no labels": ({"image": [{"bytes": b"1", "path": "x"}], "label": [-1]}, "row 0: label is '-1'"),
    "no labels, as text": ({"image": [{"bytes": b"1", "path": "x"}], "label": ["-1"]}, "row 0: label is '-1'"),
    "null": (
        {"image": [{"bytes": b"1", "path": "x"}], "label": pyarrow.array([None], "int64")},
        "row 0: label is 'None",
    ),
    "other columns": (
        {"image": [{"bytes": b"1", "path": "x"}], "fine": [1]},
        "has no column 'label', its columns are im",
    ),
    "a link": ({"image": [{"bytes": None, "path": "/etc/passwd"}], "label": [0]}, "row 0: holds no bytes of an image"),
    "paths": ({"image": ["/etc/passwd"], "label": [0]}, "column 'image' is string, the bytes of image files were exp"),
}


@pytest.mark.parametrize("case", TABLES)
def test_what_is_wrong_with_a_table_is_named(tmp_path, case):
    columns, named = TABLES[case]
    parquet.write_table(pyarrow.table(columns), tmp_path / "val.parquet")
    with pytest.raises(UserError, match=named):
        [sources.read(tmp_path, entry.image) for entry in dataset.list_images(tmp_path)]


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: b"", lambda content: b"PAR1" * 9])
def test_a_table_that_is_not_whole_is_named(tmp_path, damage):
    data_layouts.hub_parquet(tmp_path, SAMPLES)
    path = tmp_path / "data" / "validation-00000-of-00002.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="validation-00000-of-00002.parquet: is not a whole Parquet file"):
        dataset.list_images(tmp_path)


def test_a_row_group_is_never_held_as_a_whole(tmp_path):
    """64 MB in one row group, in pages of 1 MB; what pyarrow holds at a time is a small part of them."""
    images = [os.urandom(1 << 18) for _ in range(256)]
    table = pyarrow.table({"image": [{"bytes": one, "path": ""} for one in images], "label": [0] * 256})
    parquet.write_table(table, tmp_path / "val.parquet", write_batch_size=1, compression="none", use_dictionary=False)
    del table
    before = pyarrow.total_allocated_bytes()
    held = 0
    for row in range(0, 256, 3):
        assert rows.read(tmp_path / "val.parquet", str(row)) == images[row]
        held = max(held, pyarrow.total_allocated_bytes() - before)
    assert held < 16 << 20


def test_a_file_of_rows_can_be_closed_before_the_interpreter_ends(tmp_path):
    data_layouts.hub_parquet(tmp_path, SAMPLES)
    image = sources.find(tmp_path, "val").pictures[0].image

    def is_open():
        return any(os.path.realpath(link).startswith(str(tmp_path)) for link in Path("/proc/self/fd").iterdir())

    sources.read(tmp_path, image)
    assert is_open()
    rows._close()
    assert not is_open()
