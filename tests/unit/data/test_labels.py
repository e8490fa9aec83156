"""classes.py: which label an image gets, and where none is given because it would be a guess."""

import importlib
import json

import pytest

from smlp.core.cli import UserError
from smlp.data import classes, dataset, manifest
from smlp.data.sources import Found, Picture


@pytest.fixture
def make(tmp_path):
    """make(names, **rules): label by image of empty files with these names below val/."""

    def listed(*names, **rules):
        for name in names:
            path = tmp_path / "val" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return dataset.listed(tmp_path, **rules)

    return listed


def by_image(labelled):
    return {entry.image.removeprefix("val/"): entry.label for entry in labelled.entries}


def in_folders(*folders):
    return [f"{folder}/{number}.png" for folder in folders for number in range(2)]


def labels(labelled):
    """Label by the folder right below val/."""
    return {image.split("/")[0]: label for image, label in by_image(labelled).items()}


# 1 and 3 of the issue: positions


def test_numbered_folders_sort_as_numbers(make):
    found = make(*in_folders(*map(str, range(12))))
    assert labels(found) == {str(number): number for number in range(12)}
    assert found.entries[4].image.startswith("val/10/")  # the order of images is as ever
    assert (found.facts["classes"], found.facts["by"]) == (12, "folders")


def test_folders_numbered_from_one_count_from_zero(make):
    assert labels(make(*in_folders(*map(str, range(1, 13))))) == {str(number): number - 1 for number in range(1, 13)}


@pytest.mark.parametrize("folders", [("0", "217", "482"), ("5", "6", "7"), ("0", "1", "3")])
def test_numbered_folders_with_a_gap_are_no_positions(make, folders):
    with pytest.raises(UserError, match=r"val: has 3 folders numbered \d to \d+, without \d.*dataset.classes.*timm"):
        make(*in_folders(*folders))
    assert set(labels(make(order="timm")).values()) == {0, 1, 2}


def test_numbers_among_names_need_an_order(make):
    with pytest.raises(UserError, match=r"some folders are numbered \('0'\) and others are not \('x'\).*dataset.order"):
        make(*in_folders("0", "1", "x"))
    assert labels(make(order="torchvision")) == {"0": 0, "1": 1, "x": 2}


@pytest.mark.parametrize("order", [None, "torchvision", "timm"])
def test_a_class_folder_in_another_one_is_refused(make, order):
    with pytest.raises(UserError, match="'ant/bee' names two classes, '|'ant/bee' is class 'ant', number 0, for torch"):
        make(*in_folders("ant", "bee", "ant/bee"), order=order)


def test_two_folders_of_the_same_number_are_refused(make):
    with pytest.raises(UserError, match="folders '01' and '1' have the same number"):
        make(*in_folders("0", "01", "1"))


@pytest.mark.parametrize(
    ("folders", "torchvision"), [(("class_10", "class_2"), [0, 1]), (("Zebra", "ant"), [0, 1]), (("10x", "9x"), [0, 1])]
)
def test_folders_that_torchvision_and_timm_sort_differently_need_an_order(make, folders, torchvision):
    with pytest.raises(UserError, match=f"'{folders[0]}' is number 0 of 2 .*number 1 as timm.*dataset.order: torch"):
        make(*in_folders(*folders))
    assert [labels(make(order="torchvision"))[name] for name in folders] == torchvision
    assert [labels(make(order="timm"))[name] for name in folders] == torchvision[::-1]


def test_timms_order_is_that_of_timm(make):
    importlib.import_module("smlp.models.architectures")  # makes torchvision importable beside every build of torch
    from timm.data.readers.reader_image_folder import find_images_and_targets

    folders = ["b10", "B9", "a01", "a1b", "x٣", "x12", "10", "9", "c 007 d", "c 8 d", "_"]
    found = make(*in_folders(*folders), order="timm")
    images, _ = find_images_and_targets(str(found_root(found, make)), types={".png"})
    theirs = {path.split("/val/")[1]: target for path, target in images}
    assert by_image(found) == theirs


def found_root(found, make):
    return make.__closure__[0].cell_contents / "val"


def test_names_that_timm_does_not_tell_apart_have_no_order_of_timm(make):
    with pytest.raises(UserError, match="timm counts the folders 'A' and 'a' as equal.*dataset.order"):
        make(*in_folders("A", "a", "b"))
    with pytest.raises(UserError, match="timm counts the folders 'A' and 'a' as equal.*dataset.classes"):
        make(order="timm")
    assert labels(make(order="torchvision")) == {"A": 0, "a": 1, "b": 2}


# 2: folders that are no classes

HIDDEN = [".thumbnails", "@eaDir", "__MACOSX", "lost+found", ".ipynb_checkpoints", "#recycle", ".Trash-1000"]
HIDDEN += ["$RECYCLE.BIN", "System Volume Information", "@Recycle", ".@__thumb"]


@pytest.mark.parametrize("name", HIDDEN)
def test_folders_of_systems_are_no_classes(make, name):
    before = by_image(make(*in_folders("bees", "cats")))
    (make.__closure__[0].cell_contents / "val" / name).mkdir()
    found = make(f"{name}/x.png", f"cats/{name}/0.png/small.jpg", f"cats/deep/{name}/1.png", "cats/._0.png")
    assert by_image(found) == before and found.facts["classes"] == 2
    assert found.left_out == {f"folders {name}": 3, "files .png": 1}


def test_a_flat_folder_may_have_folders_of_systems(make, tmp_path):
    (tmp_path / "val_label.txt").write_text("a.png 3\n")
    assert by_image(make("a.png", "@eaDir/a.png/small.jpg", ".cache/a.png")) == {"a.png": 3}


def test_one_folder_that_holds_everything_is_none_of_the_classes(make):
    """A tar that was unpacked one level too deep, or two."""
    found = make("ILSVRC/val/ant/1.png", "ILSVRC/val/bee/1.png", "__MACOSX/val/ant/1.png")
    assert by_image(found) == {"ILSVRC/val/ant/1.png": 0, "ILSVRC/val/bee/1.png": 1}
    assert found.facts["classes"] == 2


def test_one_folder_with_all_images_is_one_class_which_fits_no_model(make, tmp_path):
    """As the val/ of Tiny ImageNet, whose labels are in a file."""
    facts = make(*in_folders("images")).facts
    assert "has 1 class folders, but the engine x.onnx gives 200 classes" in refused(tmp_path, facts, 200)
    assert "if that one folder holds the images of all classes, add a label file" in refused(tmp_path, facts, 200)


def test_images_that_lie_deeper_belong_to_the_outermost_folder_unless_timm_counts_as_many_classes(make, tmp_path):
    """Tiny ImageNet's training split, and two kinds of nesting that torchvision and timm label differently."""
    found = make("ant/images/1.png", "bee/images/1.png")
    assert by_image(found) == {"ant/images/1.png": 0, "bee/images/1.png": 1}
    make("ant/zoo/2.png", "bee/arena/2.png")
    for name in ("ant/images/1.png", "bee/images/1.png"):
        (tmp_path / "val" / name).unlink()
    with pytest.raises(UserError, match="'ant/zoo' is class 'ant', number 0, for torchvision.*'zoo', number 1"):
        make()
    assert by_image(make(order="torchvision")) == {"ant/zoo/2.png": 0, "bee/arena/2.png": 1}
    assert by_image(make(order="timm")) == {"ant/zoo/2.png": 1, "bee/arena/2.png": 0}


# names


@pytest.fixture
def names(tmp_path):
    """names(text): the path of a list of classes."""

    def write(text, name="names.txt"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_some_of_the_models_classes_are_labelled_by_name(make, names):
    found = make(*in_folders("Zebra", "ant"), classes=names("mule\nant\nZebra\nowl\n"))
    assert labels(found) == {"Zebra": 2, "ant": 1}
    assert (found.facts["classes"], found.facts["present"], found.facts["by"]) == (4, 2, "list")
    assert classes.said(found.facts).startswith("labels by name: 2 of 4 classes of ")


def test_a_shipped_list_labels_imagenette(make):
    imagenette = ["n01440764", "n02102040", "n02979186", "n03000684", "n03028079", "n03394916", "n03417042"]
    imagenette += ["n03425413", "n03445777", "n03888257"]
    found = make(*in_folders(*imagenette), classes="imagenet-1k")
    assert list(labels(found).values()) == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    assert found.facts["classes"] == 1000
    unnamed = make()
    assert unnamed.facts["knowing"] == {"imagenet-1k": 1000} and unnamed.facts["classes"] == 10


def test_a_folder_that_the_list_does_not_know_is_refused(make, names):
    with pytest.raises(
        UserError, match=r"val: 'zebras' is none of the 2 classes of .*names.txt \(did you mean 'zebra'"
    ):
        make(*in_folders("ant", "zebras"), classes=names("zebra\nant\n"))


def test_a_list_finds_classes_at_any_depth_and_only_one_for_an_image(make, names):
    listed = names("bee\nant\nwasp\n")
    found = make("animals/ant/1.png", "animals/bee/images/1.png", classes=listed)
    assert by_image(found) == {"animals/ant/1.png": 1, "animals/bee/images/1.png": 0}
    assert by_image(make(classes=listed)) == by_image(found)
    with pytest.raises(UserError, match="'animals/bee/ant' names two classes of .*, 'bee' and 'ant'"):
        make("animals/bee/ant/1.png", classes=listed)


def test_one_class_of_a_list_is_enough(make, names):
    assert labels(make(*in_folders("ant"), classes=names("bee\nant\n"))) == {"ant": 1}


def test_a_list_and_an_order_contradict_each_other(make, names):
    with pytest.raises(UserError, match="dataset.order: timm: dataset.classes states the order already"):
        make(*in_folders("a", "b"), classes=names("a\nb\n"), order="timm")


def test_a_name_may_be_spelled_with_separate_accents(make, names):
    assert labels(make(*in_folders("cafe\u0301"), classes=names("bar\ncaf\u00e9\n"))) == {"cafe\u0301": 1}


@pytest.mark.parametrize("place", ["class_to_idx.json", "val/class_to_idx.json"])
def test_a_class_to_idx_file_beside_the_folders_is_the_data_sets_own_list(make, names, place):
    make(*in_folders("Zebra", "ant"), order="timm")
    names('{"ant": 0, "Zebra": 2, "mule": 1}', place)
    found = make()
    assert labels(found) == {"Zebra": 2, "ant": 0}
    assert (found.facts["by"], found.facts["classes"], found.facts["present"]) == ("names", 3, 2)
    assert labels(make(order="torchvision")) == {"Zebra": 0, "ant": 1}


def test_class_folders_and_a_label_file_tell_two_stories(make, names):
    make(*in_folders("a", "b"))
    listed = names("a/0.png 5\na/1.png 5\nb/0.png 7\nb/1.png 7\n", "val_label.txt")
    with pytest.raises(
        UserError, match="val_label.txt: states labels, and so do the class folders in .*dataset.labels"
    ):
        make()
    assert set(by_image(make(labels=listed)).values()) == {5, 7}


def test_a_label_file_states_what_one_folder_with_all_images_does_not(make, names):
    names("0.png 5\n1.png 7\n", "val_label.txt")
    assert by_image(make(*in_folders("images"))) == {"images/0.png": 5, "images/1.png": 7}


# numbers of a label file, and a data set's own list


def flat(*numbers, names=None):
    return Found([Picture(f"val/{place}.png", "", number) for place, number in enumerate(numbers)], names, {})


def label(found, **rules):
    return classes.label(found, dataset.Rules(**rules), "val")


def test_numbers_of_a_label_file_are_indices(names):
    assert [entry[2:] for entry in label(flat(3, 0)).entries] == [("3", 3), ("0", 0)]
    assert label(flat(3, 0)).facts["classes"] is None
    found = label(flat(2, 0), classes=names("a\nb\nc\nd"))
    assert [entry[2:] for entry in found.entries] == [("c", 2), ("a", 0)] and found.facts["classes"] == 4
    with pytest.raises(UserError, match="val: an image has label 4, but .*names.txt has 4 classes, 0 to 3"):
        label(flat(4, 0), classes=names("a\nb\nc\nd"))


def test_numbers_that_mean_names_are_looked_up_in_the_models_list(names):
    own = ("cat", "dog", "owl")
    assert [entry[2:] for entry in label(flat(2, 0, names=own)).entries] == [("owl", 2), ("cat", 0)]
    assert label(flat(2, 0, names=own)).facts["classes"] == 3
    found = label(flat(2, 0, names=own), classes=names("owl\nmule\ncat\nant\n"))
    assert [entry[2:] for entry in found.entries] == [("owl", 0), ("cat", 2)]
    assert (found.facts["classes"], found.facts["present"]) == (4, 2)
    with pytest.raises(UserError, match="val: 'dog' is none of the 2 classes"):
        label(flat(1, names=own), classes=names("owl\ncat\n"))


def test_a_data_sets_own_list_states_the_order_of_its_folders():
    pictures = [Picture("val/Zebra/1.png", "Zebra", None), Picture("val/ant/1.png", "ant", None)]
    found = label(Found(pictures, ("mule", "Zebra", "ant"), {}))
    assert [entry.label for entry in found.entries] == [1, 2] and found.facts["classes"] == 3
    assert [entry.label for entry in label(Found(pictures, ("mule", "Zebra", "ant"), {}), order="timm").entries] == [
        1,
        0,
    ]


def test_images_with_and_without_a_number_are_refused():
    with pytest.raises(UserError, match="some images have a number, 1 for one, others are in a folder 'ant'"):
        label(Found([Picture("val/1.png", "", 1), Picture("val/ant/1.png", "ant", None)], None, {}))
    with pytest.raises(UserError, match="val/1.png: has neither the name nor the number of a class"):
        label(Found([Picture("val/1.png", "", None)], None, {}))


# 4: one class more


@pytest.mark.parametrize("background_class", [None, 0])
def test_a_background_class_moves_every_label(make, names, background_class):
    shift = 0 if background_class is None else 1
    found = make(*in_folders("a", "b"), background_class=background_class)
    assert labels(found) == {"a": shift, "b": 1 + shift} and found.facts["classes"] == 2 + shift
    listed = names("c\nb\na\n")
    found = make(classes=listed, background_class=background_class)
    assert labels(found) == {"a": 2 + shift, "b": 1 + shift} and found.facts["classes"] == 3 + shift
    assert label(flat(5), background_class=background_class).entries[0].label == 5 + shift


def test_a_list_that_has_the_background_itself_needs_no_setting(make, names):
    listed = names("background\na\nb\n")
    assert labels(make(*in_folders("a", "b"), classes=listed)) == {"a": 1, "b": 2}
    with pytest.raises(UserError, match="dataset.background_class: .*has 'background' as class 0 already"):
        make(classes=listed, background_class=0)


# how many classes the model has


def refused(tmp_path, facts, num_classes):
    dataset.sidecar_path(tmp_path / "bins").write_text(json.dumps({**facts, "labels": facts}))
    try:
        manifest.require_classes([tmp_path / "bins"], num_classes, "the engine x.onnx")
    except UserError as error:
        return str(error)
    return None


def test_the_models_classes_must_be_those_of_the_list(tmp_path, make, names):
    facts = make(*in_folders("a", "b"), classes=names("a\nb\nc\n")).facts
    assert refused(tmp_path, facts, 3) is None and refused(tmp_path, facts, None) is None
    assert "labels are indices of the 3 classes of " in refused(tmp_path, facts, 2)
    assert "name a list of the model's 2 classes in dataset.classes" in refused(tmp_path, facts, 2)


def test_an_error_about_counts_shows_both_and_what_mends_it(tmp_path, make):
    found = make(*in_folders("n01440764", "n02102040", "@eaDir"))
    facts = {**found.facts, "left_out": found.left_out}
    said = refused(tmp_path, facts, 1000)
    assert "the data set has 2 class folders, but the engine x.onnx gives 1000 classes" in said
    assert "set dataset.classes: imagenet-1k, which knows all of these folders" in said
    assert "(left out already: folders @eaDir)" in said
    assert "set dataset.classes: imagenet-1k and dataset.background_class: 0" in refused(tmp_path, facts, 1001)
    assert "imagenet-1k, which" not in refused(tmp_path, facts, 900)


def test_one_class_more_than_folders_offers_the_background_class(tmp_path, make):
    facts = make(*in_folders("a", "b")).facts
    assert "set dataset.background_class: 0" in refused(tmp_path, facts, 3)
    assert "background" not in refused(tmp_path, facts, 4)
    facts = make(background_class=0).facts
    assert refused(tmp_path, facts, 3) is None
    said = refused(tmp_path, facts, 2)
    assert "has 2 class folders and a background class, 3 in all" in said and "remove dataset.background_class" in said


def test_nested_folders_whose_counts_differ_offer_the_order_that_fits(tmp_path, make):
    importlib.import_module("smlp.models.architectures")  # makes timm importable
    from timm.data.readers.reader_image_folder import find_images_and_targets

    nested = in_folders("cats/siam", "cats/persian", "dogs/pug", "dogs/boxer", "dogs/husky")
    facts = make(*nested).facts
    assert facts["classes"] == 2
    said = refused(tmp_path, facts, 5)
    assert "has 2 class folders, but the engine x.onnx gives 5 classes" in said
    assert "set dataset.order: timm, which takes the 5 innermost folders for the classes" in said
    assert "dataset.order" not in refused(tmp_path, facts, 4)
    found = make(order="timm")
    assert refused(tmp_path, found.facts, 5) is None
    theirs, class_to_idx = find_images_and_targets(str(tmp_path / "val"), types=(".png",))
    expected = {path[len(str(tmp_path)) + 5 :]: class_to_idx[path.split("/")[-2]] for path, _ in theirs}
    assert by_image(found) == expected
    assert "set dataset.order: torchvision, which takes the 2 outermost folders" in refused(tmp_path, found.facts, 2)
    behind = make(background_class=0).facts
    assert "set dataset.order: timm" in refused(tmp_path, behind, 6)


def test_an_order_that_would_not_do_is_not_offered(tmp_path, make):
    """timm counts Pug and pug as equal, so that it has no order of these three."""
    facts = make(*in_folders("a/Pug", "b/pug", "b/boxer")).facts
    assert "dataset.order" not in refused(tmp_path, facts, 3)


@pytest.mark.parametrize(
    ("numbers", "background_class", "num_classes", "named"),
    [
        ((0, 990), None, 1000, None),
        ((0, 990), None, 1001, "one more than ImageNet has; if class 0 of the model is a background, set dataset.back"),
        ((0, 990), 0, 1001, None),
        ((0, 990), 0, 1000, "as ImageNet has without one; remove dataset.background_class"),
        ((0, 1, 2), None, 3, None),
        ((0, 1, 2), None, 4, "one more than the data set has"),
        ((0, 2), None, 4, None),
        ((1, 2, 3), None, 3, "label 3, but the engine x.onnx gives 3 classes, 0 to 2; labels count from 0, not from 1"),
        ((0, 2), 0, 3, "remove dataset.background_class"),
    ],
)
def test_numbers_are_held_to_the_models_classes(tmp_path, numbers, background_class, num_classes, named):
    said = refused(tmp_path, label(flat(*numbers), background_class=background_class).facts, num_classes)
    assert (said is None) if named is None else (named in said)


def test_a_list_says_that_a_label_file_has_a_thousand_and_one_classes(tmp_path, names):
    listed = names("".join(f"c{number}\n" for number in range(1001)))
    assert refused(tmp_path, label(flat(0, 990), classes=listed).facts, 1001) is None
