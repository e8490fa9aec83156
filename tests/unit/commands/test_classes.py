"""How many classes the data set, the model and the scores have: all of them must mean the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from smlp.core.cli import UserError
from smlp.data import dataset


def write_sidecar(bins, classes):
    dataset.sidecar_path(bins).write_text(json.dumps({"classes": classes, "skipped": []}))


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["val/ants/1.JPEG", "val/bees/1.JPEG", "val/cats/a/1.JPEG", "val/cats/2.JPEG"], 3),
        (["val/1.JPEG", "val/2.JPEG"], None),
    ],
)
@pytest.mark.parametrize("more", [[], ["--shard", "1/2"]])
def test_the_sidecar_of_bins_states_the_class_folders_of_the_whole_split(
    tmp_path, load_command, jpeg, names, classes, more
):
    for number, name in enumerate(names):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
    if classes is None:
        (tmp_path / "data" / "val_label.txt").write_text("1.JPEG 65\n2.JPEG 970\n")
    where = ["--data_root", tmp_path / "data", "--save_dir", tmp_path / "bins", "--workers", 1]
    assert load_command("preprocess").main([*map(str, where), *more]) == 0
    assert json.loads((tmp_path / "bins.json").read_text())["classes"] == classes


def test_what_is_drawn_to_calibrate_needs_no_labels(tmp_path, load_command, jpeg):
    """Folders that torchvision and timm sort differently, and one that holds everything."""
    for number, name in enumerate(["train/all/Zebra/1.JPEG", "train/all/ant/2.JPEG"]):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
    where = ["--data_root", tmp_path / "data", "--save_dir", tmp_path / "bins", "--workers", 1]
    drawn = ["--split", "train", "--draw", 2]
    assert load_command("preprocess").main(list(map(str, where + drawn))) == 0
    facts = json.loads((tmp_path / "bins.json").read_text())
    assert (facts["classes"], facts["labels"], facts["images"]) == (None, None, 2)


def test_an_engine_of_another_number_of_classes_runs_no_image(infer, place, monkeypatch):
    place.add("a.bin")
    write_sidecar(place.bins, 3)
    monkeypatch.setattr(infer, "_run", None)
    with pytest.raises(UserError) as error:
        infer.main(place.flags())
    assert str(error.value) == (
        f"{place.bins}.json: the data set has 3 class folders, but the engine {place.engine} gives 5 classes, so that "
        "labels mean other classes; name the model's 5 classes in its order in dataset.classes (a file with one name "
        "per line, class_to_idx.json, or a shipped list such as imagenet-1k), so that labels are found by name, or "
        "remove what is no class"
    )
    assert not place.out.exists()


@pytest.mark.parametrize("classes", [5, None])
def test_an_engine_runs_on_its_classes_and_on_a_flat_data_set(infer, place, classes):
    place.add("a.bin")
    write_sidecar(place.bins, classes)
    assert infer.main(place.flags()) == 0


def test_imported_results_of_another_number_of_classes_are_refused(run, assert_refused, evaluated):
    """Ten of a thousand class folders: their labels are 0 to 9, whatever classes they are."""
    sidecar = Path(f"{run.manifest.parent}.json")
    write_sidecar(run.manifest.parent, 7)
    assert_refused(
        run.flags(), "batch-00000_0.npy: holds 1 images of 10 classes", f"of 7 classes were expected by {sidecar}"
    )
    run.write_summary(outputs=[{"name": "output", "dtype": "float32", "shape": [8, 10]}])
    summary = run.results.with_name("bs1_summary.json")
    assert_refused(run.flags(), f"{sidecar}: the data set has 7 class folders, but {summary} gives 10 classes")
    write_sidecar(run.manifest.parent, 10)
    assert evaluated(run)["num_classes"] == 10


@pytest.fixture
def halves(tmp_path, make_run, write_result):
    """Twelve .bin files of ten float16 scores, which have the size of five float32 ones."""
    run = make_run(tmp_path, suffix=".bin")
    run.labels = [label % 5 for label in run.labels]
    lines = run.manifest.read_text().splitlines()
    rows = [line.rsplit(",", 2) for line in lines[1:]]
    run.manifest.write_text(
        "\n".join([lines[0], *(f"{head},{int(label) % 5},{end}" for head, label, end in rows)]) + "\n"
    )
    run.logits = run.logits.astype(np.float16)
    for index in range(12):
        write_result(run.result(index, ".bin"), run.logits[index : index + 1])
    return run


def test_a_bin_of_which_nothing_tells_what_it_holds_is_refused(halves, assert_refused):
    assert_refused(halves.flags(), "batch-00000_0.bin: a .bin says neither", "--outputs_dtype")
    # five float32 scores fit too
    assert_refused(halves.flags("--num_classes", 5), "batch-00000_0.bin: a .bin says neither", "--outputs_dtype")


def test_a_flag_says_of_which_type_a_bin_is(halves, evaluated, assert_refused, capsys):
    assert evaluated(halves, "--outputs_dtype", "float16")["num_classes"] == 10
    capsys.readouterr()
    wrong = halves.flags("--outputs_dtype", "float16", "--num_classes", 5)
    assert_refused(wrong, "batch-00000_0.bin: has 20 bytes", "1 images of 5 classes are 10 as float16")


def test_the_summary_says_what_a_bin_holds(halves, evaluated, assert_refused, capsys):
    summary = halves.write_summary(outputs=[{"name": "o", "dtype": "float16", "shape": [8, 10]}])
    assert evaluated(halves)["top1"] == pytest.approx(100 * halves.top(1))
    capsys.readouterr()
    assert_refused(halves.flags("--num_classes", 5), f"{summary}: the number of classes of the scores is 10", "says 5")
    assert_refused(halves.flags("--outputs_dtype", "float32"), f"{summary}: the type of the scores is float16")
    halves.write_summary(outputs=[{"name": "o", "dtype": "float32", "shape": [8, 10]}])
    assert_refused(halves.flags(), "batch-00000_0.bin: has 20 bytes", "are 40 as float32")


@pytest.mark.parametrize(
    "outputs", [[{}], [3], 3, [{"shape": [1, 2], "dtype": "cat"}], [{"shape": [], "dtype": "int8"}]]
)
def test_a_damaged_summary_of_outputs_is_refused(run, assert_refused, outputs):
    assert_refused(run.flags(), run.write_summary(outputs=outputs), "its 'outputs' are not what infer.py writes")


def test_the_type_of_an_array_must_be_the_stated_one(run, assert_refused):
    run.write_summary(outputs=[{"name": "o", "dtype": "float16", "shape": [8, 10]}])
    assert_refused(run.flags(), "batch-00000_0.npy: holds float32 where float16 was expected")


def test_the_reference_says_how_many_classes_a_bin_holds(halves, evaluated, assert_refused, evaluate, capsys):
    table, figures = halves.root / "reference.csv", halves.root / "reference.json"
    evaluate.main(halves.flags("--outputs_dtype", "float16", "--predictions", table, "--json", figures))
    report = evaluated(halves, "--reference", table)
    assert (report["num_classes"], report["agreement"]) == (10, 100)
    assert report["inputs"]["reference_figures"]["path"] == str(figures)
    capsys.readouterr()
    assert_refused(halves.flags("--reference", table, "--num_classes", 5), figures, "is 10", "the flag says 5")
    figures.unlink()
    assert_refused(halves.flags("--reference", table), "a .bin says neither")


def test_the_data_set_says_how_many_classes_a_bin_holds(halves, evaluated):
    write_sidecar(halves.manifest.parent, 10)
    assert evaluated(halves)["top1"] == pytest.approx(100 * halves.top(1))


@pytest.mark.parametrize(
    ("scores", "named"),
    [
        ([0.5, 0.5, 0, 0, 0, 0, 0, 0, 0, 0], "line 2"),  # two at the best place
        ([1, 3e-7, 2e-7, 1e-7, 0, 4e-7, 0, 0, 0, 0], "line 2"),  # the label, 4, is the sixth or not
        ([0.4, 0.3, 1e-7, 2e-7, 0.3, 3e-7, 0, 0, 0, 0], None),  # ties of others decide nothing
    ],
)
def test_a_text_whose_decisive_scores_were_rounded_until_they_are_equal_is_refused(
    tmp_path, write_manifest, write_result, evaluate, scores, named
):
    manifest = write_manifest(tmp_path / "manifest.csv", {"b-0.bin": [9, 4]})
    rows = np.array([np.arange(10) / 10, scores])
    write_result(tmp_path / "out/b-0_0.txt", rows)
    flags = ["--infer_result_dir", str(tmp_path / "out"), "--labels", str(manifest)]
    if named is None:
        assert evaluate.main(flags) == 0
        return
    with pytest.raises(UserError) as error:
        evaluate.main(flags)
    assert str(error.value) == (
        f"{tmp_path}/out/b-0_0.txt: the decisive scores of {named} are equal, as its six decimals have rounded them; "
        "run the inference again with --outfmt NPY or BIN"
    )
    # with all their digits equal scores are equal scores
    (tmp_path / "out/b-0_0.txt").write_text("".join("".join(f"{value:.9g} " for value in row) + "\n" for row in rows))
    assert evaluate.main(flags) == 0
