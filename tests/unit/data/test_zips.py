"""Zip archives are read in place; what is not a plain file inside them is refused, as in tars."""

import io
import stat
import zipfile

import pytest
from data_layouts import put

from smlp.core.cli import UserError
from smlp.data import archives, dataset, zips


def pack(path, members, method=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_of_class_folders_is_one_of_the_layouts(tmp_path, method):
    content = {f"val/{name}/{number}.png": name.encode() * (number + 1) for name in "ba" for number in range(2)}
    pack(tmp_path / "val.zip", [("val/", b""), *content.items(), ("val/a/notes.txt", b"x")], method)
    found = dataset.listed(tmp_path)
    assert [(one.image, one.label) for one in found.entries] == [
        *((f"val.zip/val/a/{number}.png", 0) for number in range(2)),
        *((f"val.zip/val/b/{number}.png", 1) for number in range(2)),
    ]
    assert found.left_out == {"files .txt": 1}
    for one in found.entries:
        assert dataset.sources.read(tmp_path, one.image) == content[one.image.removeprefix("val.zip/")]


def test_a_flat_zip_has_its_label_file_beside_it(tmp_path):
    pack(tmp_path / "val.zip", [("1.png", b"1"), ("0.png", b"0")])
    put(tmp_path / "val.txt", "1.png 3\n0.png 2\n")
    assert [(one.image, one.label) for one in dataset.list_images(tmp_path)] == [
        ("val.zip/0.png", 2),
        ("val.zip/1.png", 3),
    ]


def test_a_zip_for_each_class(tmp_path):
    for name in "ab":
        pack(tmp_path / "val" / f"{name}.zip", [(f"{name}.png", b"x")])
    assert [(one.image, one.label) for one in dataset.list_images(tmp_path)] == [
        ("val/a.zip/a.png", 0),
        ("val/b.zip/b.png", 1),
    ]


def link(name="a/x.png", kind=stat.S_IFLNK):
    member = zipfile.ZipInfo(name)
    member.external_attr = (kind | 0o777) << 16
    return member


REFUSED = {
    "a link": ([(link(), b"/etc/passwd")], "a/x.png is a link"),
    "a device": ([(link(kind=stat.S_IFCHR), b"")], "a/x.png is not a plain file"),
    "absolute": ([("/etc/x.png", b"")], "leads out of the archive"),
    "upwards": ([("a/../../x.png", b"")], "leads out of the archive"),
    "of Windows": ([("C:/x.png", b"")], "leads out of the archive"),
    "backslashes": ([("a\\..\\x.png", b"")], "leads out of the archive"),
    "a bomb": ([("a/x.png", bytes((1 << 26) + 1))], r"would become 67,108,865 bytes out of \d\d,\d+"),
    "no name": ([(".", b"x")], "is no name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_plain_is_refused(tmp_path, case):
    members, named = REFUSED[case]
    pack(tmp_path / "val.zip", members)
    with pytest.raises(UserError, match=f"val.zip: .*{named}.*; pack the archive anew, with plain files only$"):
        dataset.list_images(tmp_path)


def test_a_name_that_occurs_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        pack(tmp_path / "val.zip", [("a/x.png", b"1"), ("a/x.png", b"2")])
    with pytest.raises(UserError, match="a/x.png occurs a second time"):
        dataset.list_images(tmp_path)


def test_other_methods_are_named(tmp_path):
    pack(tmp_path / "val.zip", [("a/x.png", b"x" * 100)], zipfile.ZIP_LZMA)
    with pytest.raises(UserError, match="is compressed by method 14, not by deflate"):
        dataset.list_images(tmp_path)


def test_encrypted_files_are_named(tmp_path):
    path = pack(tmp_path / "val.zip", [("a/x.png", b"x" * 100)])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # in the directory at the end
    path.write_bytes(content)
    with pytest.raises(UserError, match="a/x.png is encrypted"):
        dataset.list_images(tmp_path)


def test_a_part_of_a_zip_is_not_one(tmp_path):
    path = pack(tmp_path / "val.zip", [("a/x.png", b"x" * 100)])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="val.zip: is not a whole zip archive"):
        dataset.list_images(tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_changed_byte_of_an_image_is_noticed(tmp_path, method):
    content = b"the bytes of an image, which are the same the second time: the bytes of an image"
    path = pack(tmp_path / "val.zip", [("a/x.png", content)], method)
    (name, about), *_ = zips.members(str(path))
    whole = path.read_bytes()
    begin = 30 + len("a/x.png")
    for place in range(begin, begin + about[2]):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            assert zips.read(str(path), name, *about) == content  # an unused bit of deflate may be any
        except UserError as error:
            assert "a/x.png is damaged" in str(error)
        else:
            assert method == zipfile.ZIP_DEFLATED
    path.write_bytes(b"no header " + whole[10:])
    with pytest.raises(UserError, match="is damaged"):
        zips.read(str(path), name, *about)


def test_what_states_too_small_a_size_takes_no_more(tmp_path):
    path = pack(tmp_path / "val.zip", [("a/x.png", bytes(10_000))])
    (name, about), *_ = zips.members(str(path))
    with pytest.raises(UserError, match="is damaged"):
        zips.read(str(path), name, about[0], 10, *about[2:])


def test_a_zip_that_changed_is_listed_again(tmp_path):
    path = pack(tmp_path / "val.zip", [("a/x.png", b"1")])
    assert list(archives.index(path).images) == ["a/x.png"]
    pack(path, [("a/y.png", b"12")])
    assert list(archives.index(path).images) == ["a/y.png"]


@pytest.mark.parametrize("name", ["val.tar.gz", "val.tgz", "val.tar.xz", "imagenet-val.tar.zst", "val/a.tar.gz"])
def test_compressed_tars_are_told_how_to_unpack(tmp_path, name):
    put(tmp_path / name, b"\x1f\x8b")
    with pytest.raises(UserError) as caught:
        dataset.list_images(tmp_path)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / name}: is compressed as a whole, so that no image in it can be read by itself")
    assert f"tar -xf {tmp_path / name} -C {tmp_path / 'val'}" in said and "\n" not in said


def test_other_archives_are_to_be_unpacked(tmp_path):
    put(tmp_path / "val.7z", io.BytesIO(b"7z").read())
    with pytest.raises(UserError, match=r"val\.7z: .*unpack it into .*val/$"):
        dataset.list_images(tmp_path)
