"""class_lists.py: the shipped lists, timm's own, and every form of file that names classes."""

import importlib
import json

import pytest

from smlp.core.cli import UserError
from smlp.data import class_lists


def test_the_shipped_lists_are_those_that_models_have():
    """ImageNet's classes are timm's, in the order of their synsets; CIFAR-100's are sorted too."""
    importlib.import_module("smlp.models.architectures")  # makes torchvision importable beside every build of torch
    from timm.data import ImageNetInfo

    assert list(class_lists.read("imagenet-1k").names) == ImageNetInfo("imagenet-1k").label_names()
    assert class_lists.read("imagenet-1k").find("n02979186") == 482
    hundred = class_lists.read("cifar100").names
    assert len(hundred) == 100 and list(hundred) == sorted(hundred)
    assert class_lists.read("cifar10").names[::9] == ("airplane", "truck")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("imagenet-12k", 11821),
        ("imagenet-21k-miil", 11221),
        ("imagenet-21k-goog", 21843),
        ("imagenet-22k", 21841),
        ("imagenet-22k-ms", 21842),
    ],
)
def test_timms_own_lists_are_those_of_the_installed_timm(name, count):
    importlib.import_module("smlp.models.architectures")  # makes torchvision importable beside every build of torch
    from timm.data import ImageNetInfo

    found = class_lists.read(name)
    assert list(found.names) == ImageNetInfo(name).label_names() and len(found.names) == count
    assert name in class_lists.shipped()


FORMS = {
    "one per line.txt": "cat\ngreat dog\nowl\n",
    "windows.txt": "\ufeffcat\r\ngreat dog\r\nowl",
    "numbered.txt": "0 cat\n1 great dog\n2 owl\n",
    "numbered from 1.txt": "1: cat\n2: great dog\n3: owl\n",
    "numbered behind, in any order.csv": "owl,2\ncat,0\ngreat dog,1\n",
    "class_to_idx.json": '{"great dog": 1, "cat": 0, "owl": 2}',
    "indices.json": '{"0": "cat", "1": "great dog", "2": "owl"}',
    "keras.json": '{"0": ["cat", "Felis"], "1": ["great dog", "x"], "2": ["owl", "x"]}',
    "config.json": '{"architecture": "x", "id2label": {"0": "cat", "1": "great dog", "2": "owl"}}',
    "label2id.json": '{"label2id": {"cat": 0, "great dog": 1, "owl": 2}}',
    "list.json": '["cat", "great dog", "owl"]',
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_file_gives_the_same_classes(tmp_path, name):
    (tmp_path / name).write_text(FORMS[name])
    found = class_lists.read(str(tmp_path / name))
    assert found.names == ("cat", "great dog", "owl") and found.find("great dog") == 1 and found.find("dog") is None
    (tmp_path / "plain.txt").write_text(FORMS["one per line.txt"])
    assert found.digest == class_lists.read(str(tmp_path / "plain.txt")).digest


def test_a_line_with_a_synset_and_its_words_names_the_synset(tmp_path):
    path = tmp_path / "LOC_synset_mapping.txt"
    path.write_text("n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n")
    assert class_lists.read(str(path)).names == ("n01440764", "n02012849", "n03126707")


def test_numbers_that_are_parts_of_names_stay(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("class 0\nclass 1\n")
    assert class_lists.read(str(path)).names == ("class 0", "class 1")
    path.write_text("boeing 737\nairbus 320\n")
    assert class_lists.read(str(path)).names == ("boeing 737", "airbus 320")
    path.write_text("0\n1\n10\n")
    assert class_lists.read(str(path)).names == ("0", "1", "10")


def test_another_content_of_a_file_is_another_list(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("a\nb\n")
    before = class_lists.read(str(path)).digest
    path.write_text("b\na\nc\n")
    assert class_lists.read(str(path)).digest != before


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("x.txt", "a\n\nb\n", "x.txt, line 2: is empty"),
        ("x.txt", "a\nb\na\n", "'a' is class 0 and class 2"),
        ("x.txt", "\n\n", "names no class"),
        ("x.txt", "a\0b\n", "line 1: is no text"),
        ("x.json", "{", "is no list of classes in JSON"),
        ("x.json", '{"a": 0, "a": 1}', "'a' occurs twice"),
        ("x.json", '{"a": 0, "b": 0}', "'a' and 'b' are both class 0"),
        ("x.json", '{"a": 0, "b": 2}', "names 2 classes but none is class 1"),
        ("x.json", '{"a": 1, "b": 2}', "none is class 0"),
        ("x.json", '{"a": true}', "holds neither names nor their indices"),
        ("x.json", '{"0": [], "1": "b"}', "class 0 is not one name"),
        ("x.json", '{"0": "a", "00": "b"}', "class 00 is not one name"),
        ("x.json", "[1, 2]", "holds neither names nor their indices"),
        ("x.json", "3", "holds neither names nor their indices"),
        ("x.json", "[" * 100_000, "is no list of classes in JSON"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(tmp_path, name, content, named):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        class_lists.read(str(tmp_path / name))
    assert named in str(error.value) and str(tmp_path / name) in str(error.value)


def test_a_list_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(UserError, match="dataset.classes: imagnet-1k: no such file; .*cifar10.*imagenet-1k"):
        class_lists.read("imagnet-1k")


def test_names_that_are_not_utf_8_fit_folders_that_are_not(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"a\nlatin-\xe9\n")
    assert class_lists.read(str(tmp_path / "names.txt")).find("latin-\udce9") == 1


def test_digests_know_what_decides_labels():
    one, two = class_lists.of("x", ["a", "b"]), class_lists.of("y", ["b", "a"])
    assert one.digest != two.digest and json.dumps(one.names)
