"""label_files.py: every kind of label file gives the same labels, and what is wrong with one is named by its line."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from smlp.core.cli import UserError
from smlp.data import dataset, sources

SYNSETS = ["n01440764", "n01443537", "n01484850"]
# the usual index of the class of each image; the order of names is that of the images
TRUTH = [2, 0, 1, 0, 2]
NAMES = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 6)]


@pytest.fixture
def root(tmp_path):
    """Five images in one folder, without labels."""
    (tmp_path / "data" / "val").mkdir(parents=True)
    for name in NAMES:
        (tmp_path / "data" / "val" / name).touch()
    return tmp_path / "data"


def write(path, text, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, **{"encoding": "utf-8", **how})
    return path


def numbered(root, name="val.txt"):
    write(root / name, "".join(f"{image} {label}\n" for image, label in zip(NAMES, TRUTH)))


def devkit(folder, numbers=(2, 3, 1)):
    """meta.mat as the devkit has it: ILSVRC numbers that follow another order, and parents with numbers after them."""
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    leaves = [(number, synset, "a", "b", 0) for number, synset in zip(numbers, SYNSETS)]
    synsets = np.array([*leaves, (4, "n00001740", "entity", "all", 3)], dtype=kinds)
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "meta.mat", {"synsets": synsets})
    of_index = [numbers[label] for label in TRUTH]
    write(folder / "ILSVRC2012_validation_ground_truth.txt", "".join(f"{number}\n" for number in of_index))


def kaggle(root, mapping=True):
    rows = [f"{image[:-5]},{SYNSETS[label]} 1 2 3 4 {SYNSETS[label]} 5 6 7 8 \n" for image, label in zip(NAMES, TRUTH)]
    write(root / "LOC_val_solution.csv", "ImageId,PredictionString\n" + "".join(reversed(rows)))
    if mapping:
        write(root / "LOC_synset_mapping.txt", "".join(f"{synset} some, thing\n" for synset in SYNSETS))


def tiny_imagenet(root):
    (root / "val" / "images").mkdir()
    for name in NAMES:
        (root / "val" / name).rename(root / "val" / "images" / name)
    lines = [f"{image}\t{SYNSETS[label]}\t0\t32\t44\t62\n" for image, label in zip(NAMES, TRUTH)]
    write(root / "val" / "val_annotations.txt", "".join(lines))


def hub_csv(root):
    rows = [f"{image},{label}\n" for image, label in zip(NAMES, TRUTH)]
    write(root / "val" / "metadata.csv", "file_name,label\n" + "".join(rows))


def json_lines(root, split="val"):
    records = [{"label": SYNSETS[label], "file_name": image, "more": [1]} for image, label in zip(NAMES, TRUTH)]
    write(root / f"{split}.jsonl", "".join(json.dumps(record) + "\n" for record in records))


LAYOUTS = {
    "val_label.txt": lambda root: numbered(root, "val/val_label.txt"),
    "val.txt": numbered,
    "val_map.txt": lambda root: numbered(root, "val_map.txt"),
    "devkit": lambda root: devkit(root / "ILSVRC2012_devkit_t12" / "data"),
    "kaggle": kaggle,
    "kaggle without its list": lambda root: kaggle(root, mapping=False),
    "tiny imagenet": tiny_imagenet,
    "csv": hub_csv,
    "json lines": json_lines,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_label_file_gives_the_same_labels(root, layout):
    LAYOUTS[layout](root)
    found = dataset.listed(root)
    assert [entry.label for entry in found.entries] == TRUTH
    assert [entry.image.rpartition("/")[2] for entry in found.entries] == NAMES
    assert found.left_out == {} and found.of == 5


def test_the_order_of_classes_is_stated_by_the_files_that_list_them(root):
    kaggle(root)
    write(root / "LOC_synset_mapping.txt", "".join(f"{synset} thing\n" for synset in [*reversed(SYNSETS), "n99999999"]))
    assert sources.find(root, "val").names == (*reversed(SYNSETS), "n99999999")
    (root / "LOC_val_solution.csv").unlink()
    devkit(root)
    assert sources.find(root, "val").names == tuple(SYNSETS)


@pytest.mark.parametrize(
    "table",
    [
        ("val.csv", "file_name,label\n", "{image},{label}.0\n"),
        ("val.tsv", "label\tfile_name\n", "{label}.000\t{image}\n"),
        ("val.jsonl", "", '{{"file_name": "{image}", "label": "{label}"}}\n'),
    ],
)
def test_numbers_as_pandas_and_spreadsheets_write_them_are_numbers(root, table):
    """As names they would count by their positions: 7.0, 2.0, … would be classes 2, 0, …"""
    name, head, row = table
    labels = [7, 2, 10, 2, 7]
    lines = [row.format(image=image, label=label) for image, label in zip(NAMES, labels)]
    write(root / name, head + "".join(lines))
    assert [entry.label for entry in dataset.listed(root).entries] == labels


def test_a_table_is_named_with_its_columns(root, tmp_path):
    header, rows = "id;the class;file\n", [f"1;{label};./val/{name}\n" for name, label in zip(NAMES, TRUTH)]
    table = write(tmp_path / "labels of mine.CSV", header + "".join(rows), encoding="utf-8-sig", newline="\r\n")
    found = dataset.list_images(root, labels=table, columns=["file", "the class"])
    assert [entry.label for entry in found] == TRUTH
    with pytest.raises(UserError, match="has no column 'label', its columns are id, the class, file; name those of"):
        dataset.list_images(root, labels=table, columns=["file", "label"])
    with pytest.raises(UserError, match=r"val\.txt: is not a table"):
        numbered(root)
        dataset.list_images(root, labels=root / "val.txt", columns=["file", "the class"])


def test_a_named_label_file_wins_over_folders_and_other_files(root, tmp_path):
    hub_csv(root)
    numbered(root)
    with pytest.raises(UserError, match=r"several label files \(val.txt, val/metadata.csv\); name the one"):
        dataset.list_images(root)
    assert [entry.label for entry in dataset.list_images(root, labels=root / "val.txt")] == TRUTH
    numbered(root, "val_label.txt")  # ours, as ever
    assert [entry.label for entry in dataset.list_images(root)] == TRUTH
    (root / "val" / "one").mkdir()
    for name in NAMES[:2]:
        (root / "val" / name).rename(root / "val" / "one" / name)
    inside = write(
        tmp_path / "mine.txt", f"one/{NAMES[0]} 7\n{NAMES[1]} 6\nval/{NAMES[2]} 5\n./{NAMES[3]} 4\n{NAMES[4]} 3\n"
    )
    found = {entry.image: entry.label for entry in dataset.list_images(root, labels=inside)}
    assert found[f"val/one/{NAMES[0]}"] == 7 and sorted(found.values()) == [3, 4, 5, 6, 7]
    with pytest.raises(UserError, match="nowhere.txt: no such label file"):
        dataset.list_images(root, labels=tmp_path / "nowhere.txt")


def test_lines_without_an_image_are_counted_as_are_other_files(root):
    (root / "val" / NAMES[3]).rename(root / "val" / "photo.DNG")
    (root / "val" / ".DS_Store").touch()
    kaggle(root)
    found = dataset.listed(root)
    assert [entry.label for entry in found.entries] == [2, 0, 1, 2]
    lines = "lines of LOC_val_solution.csv whose image is not there"
    assert found.left_out == {lines: 1, "files .dng": 1, "files without a suffix": 1}
    assert dataset.in_words(found.left_out) == f"1 files .dng, 1 files without a suffix, 1 {lines}"


def test_other_files_in_class_folders_are_counted(tmp_path):
    for name in ("a/1.png", "a/2.dng", "a/below/3.dng", "b/4.PNG", "b/README", "notes.txt"):
        write(tmp_path / "val" / name, "")
    assert dataset.listed(tmp_path).left_out == {"files .dng": 2, "files without a suffix": 1, "files .txt": 1}


def solution(text):
    return ("LOC_val_solution.csv", "ImageId,PredictionString\n" + text)


WRONG = {
    "two classes": (*solution("ILSVRC2012_val_00000001,n01440764 1 2 3 4 n01443537 1 2 3 4\n"), "line 2: .* 2 classes"),
    "no class": (*solution("ILSVRC2012_val_00000001,\n"), "line 2: .* has 0 classes"),
    "no synset": (*solution("ILSVRC2012_val_00000001,cat 1 2 3 4\n"), "line 2: 'cat' of .* not a synset"),
    "too many values": (*solution("a,b,c\n"), "line 2: has 3 values, 2 were expected"),
    "no such column": ("LOC_val_solution.csv", "Id,Boxes\n", "has no column 'ImageId', its columns are Id, Boxes"),
    "twice": ("val.txt", f"{NAMES[0]} 1\n{NAMES[0]} 1\n", f"line 2: {NAMES[0]} occurs a second time"),
    "twice in two ways": ("val.txt", f"{NAMES[0]} 1\n./{NAMES[0]} 1\n", f"several lines for {NAMES[0]}"),
    "a name for a number": ("val.txt", f"{NAMES[0]} cat\n", "line 1: label 'cat' .* names of classes are read from a"),
    "no image's line": ("val.txt", f"{NAMES[0]} 1\n", f"has no line for {NAMES[1]}"),
    "empty": ("val.txt", "\n", "there is none of its 0 images"),
    "annotations": ("val_annotations.txt", f"{NAMES[0]} n01440764\n", "line 1: .* is not an image and its synset"),
    "no meta.mat": ("ILSVRC2012_validation_ground_truth.txt", "1\n", "put the devkit's meta.mat beside it"),
    "number and name": (
        "metadata.csv",
        "file_name,label\na.png,1\nb.png,cat\n",
        "line 3: .* 'cat', but 1 in line",
    ),
    "no image's class": (
        "metadata.csv",
        "file_name,label\na.png,-1\n",
        "line 2: the class '-1' of a.png is neither a w",
    ),
    "half a class": ("metadata.csv", "file_name,label\na.png,1.5\n", "line 2: the class '1.5' of a.png is neither a"),
    "minus one as text": (
        "val.jsonl",
        '{"file_name": "a", "label": "-1"}\n',
        "line 1: the class '-1' of a is neither",
    ),
    "no class in a row": ("metadata.csv", "file_name,label\na.png,\n", "line 2: a.png has no class"),
    "no image in a row": ("metadata.csv", "file_name,label\n,1\n", "line 2: names no image"),
    "a quote": ("metadata.csv", 'file_name,label\n"a"b,1\n', "line 2: is not CSV"),
    "no object": ("val.jsonl", "[1]\n", r"line 1: '\[1\]' is not an object in JSON"),
    "deep": ("val.jsonl", "[" * 100_000, "line 1: .* is not an object in JSON"),
    "true": ("val.jsonl", '{"file_name": "a", "label": true}\n', "line 1: the class True of a is neither a whole"),
    "no key": ("val.jsonl", '{"file": "a", "label": 1}\n', "line 1: has no column 'file_name', its columns are file"),
    "no name": ("val.jsonl", '{"file_name": 3, "label": 1}\n', "line 1: file_name 3 is not the name of an image"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_label_file_is_named(root, case):
    name, text, named = WRONG[case]
    write(root / name, text)
    with pytest.raises(UserError, match=named) as caught:
        dataset.list_images(root)
    assert len(str(caught.value)) < 600


def test_a_synset_must_be_in_the_list_and_the_list_in_order(root):
    kaggle(root)
    for text, named in (
        ("n01440764 a\nn01443537 b\n", "LOC_val_solution.csv, line 2: 'n01484850' of .* not in LOC_synset_mapping.txt"),
        ("n01440764 a\nn01440764 b\n", "LOC_synset_mapping.txt, line 2: n01440764 occurs a second time"),
        ("tench\n", "LOC_synset_mapping.txt, line 1: 'tench' is not a synset"),
    ):
        write(root / "LOC_synset_mapping.txt", text)
        with pytest.raises(UserError, match=named):
            dataset.list_images(root)


def test_a_devkit_that_is_none_is_named(root):
    devkit(root)
    write(root / "ILSVRC2012_validation_ground_truth.txt", "1\n9\n")
    with pytest.raises(UserError, match="ground_truth.txt, line 2: '9' is not one of the 3 classes"):
        dataset.list_images(root)
    for content in (b"", b"MATLAB 5.0 MAT-file, nonsense", b"x" * 500):
        (root / "meta.mat").write_bytes(content)
        with pytest.raises(UserError, match="meta.mat: is not the meta.mat of the ILSVRC2012 devkit"):
            dataset.list_images(root)


def test_two_images_of_one_name_need_their_paths(root, tmp_path):
    for folder in ("one", "two"):
        write(root / "val" / folder / "x.png", "")
    with pytest.raises(UserError, match="x.png is the name of several images in .*; write its path"):
        dataset.list_images(root, labels=write(tmp_path / "mine.txt", "x.png 1\n"))
