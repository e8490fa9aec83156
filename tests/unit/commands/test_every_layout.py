"""The demo's images in every layout: the same bins, the same labels, the same figures."""

import hashlib
import json

import data_layouts
import numpy as np
import preprocess
import pytest

from smlp.data import dataset, listing


@pytest.fixture(scope="module")
def samples(tmp_path_factory, load_command):
    """The 50 images of a demo, in the order of their classes."""
    demo = tmp_path_factory.mktemp("demo") / "digits"
    load_command("retrieve_demo").make_dataset(demo, 10, 50, 0)
    entries = dataset.list_images(demo)
    assert len(entries) == 50
    return data_layouts.samples_of((entry.label, (demo / entry.image).read_bytes()) for entry in entries)


def bins_of(folder, layout, samples, *flags):
    """The bins of a layout: their bytes by their names, the manifest's rows, the sidecar."""
    data_layouts.LAYOUTS[layout](folder / "data set", samples)
    argv = ["--data_root", folder / "data set", "--save_dir", folder / "bins", "--workers", "1", "--pixels", "uint8"]
    argv += [*data_layouts.FLAGS.get(layout, []), *flags]
    assert preprocess.main(list(map(str, argv))) == 0
    rows = dataset.read_manifest(folder / "bins" / "manifest.csv")
    bins = {row.bin: (folder / "bins" / row.bin).read_bytes() for row in rows}
    return bins, rows, json.loads((folder / "bins.json").read_text())


@pytest.fixture(scope="module")
def expected(tmp_path_factory, load_command, samples):
    """The bins of class folders, outputs of a model for them, and the figures that evaluate.py makes of both."""
    folder = tmp_path_factory.mktemp("expected")
    bins, rows, _ = bins_of(folder, "class_folders", samples)
    scores = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
    scores[np.arange(50), [sample.label for sample in samples]] += 2
    (folder / "outputs").mkdir()
    for row, score in zip(rows, scores):
        np.save(folder / "outputs" / f"{row.bin[:-4]}_0.npy", score[None])
    return bins, rows, folder / "outputs", figures(load_command, folder / "outputs", folder)


def figures(load_command, outputs, folder):
    flags = ["--infer_result_dir", outputs, "--labels", folder / "bins", "--json", folder / "figures.json"]
    assert load_command("evaluate").main(list(map(str, [*flags, "--predictions", folder / "predictions.csv"]))) == 0
    found = json.loads((folder / "figures.json").read_text())
    return {name: found[name] for name in ("images", "top1", "top5", "top1_wilson_low", "images_of", "skipped")}


@pytest.mark.parametrize("layout", [name for name in data_layouts.LAYOUTS if name != "class_folders"])
def test_every_layout_gives_the_same_bins_labels_and_figures(tmp_path, load_command, samples, expected, layout):
    bins, rows, outputs, wanted = expected
    found_bins, found_rows, facts = bins_of(tmp_path, layout, samples)
    assert found_bins == bins
    assert [(row.index, row.bin, row.label, row.sha256) for row in found_rows] == [
        (row.index, row.bin, row.label, row.sha256) for row in rows
    ]
    assert set(facts["left_out"]) <= {"files .json"}
    assert figures(load_command, outputs, tmp_path) == wanted
    # what shares and plans compare says the same of every image
    words = ["--data_root", str(tmp_path / "data set"), *data_layouts.FLAGS.get(layout, []), "--shard", "1/3"]
    assert [one[3] for one in listing.contents_of(words)] == [row.sha256 for row in rows[17:34]]


@pytest.mark.parametrize("layout", ["tar_of_tars", "webdataset", "hub_parquet"])
def test_workers_and_shards_change_no_byte_of_an_archive(tmp_path, samples, expected, layout):
    _, rows, _ = bins_of(tmp_path, layout, samples, "--workers", "2", "--shard", "1/2")
    assert [row.sha256 for row in rows] == [row.sha256 for row in expected[1][25:]]
    assert all((tmp_path / "bins" / row.bin).read_bytes() == expected[0][row.bin] for row in rows)


def test_calibration_is_drawn_from_a_column_of_a_training_table(tmp_path, samples, expected, jpeg):
    data_layouts.two_images_a_row(
        tmp_path / "train.parquet", 4, lambda column, row: jpeg(row + 10 * (column == "right"))
    )
    argv = ["--data_root", tmp_path, "--split", "train", "--draw", "3", "--columns", "right", "no such column"]
    assert preprocess.main(list(map(str, [*argv, "--save_dir", tmp_path / "bins"]))) == 0
    rows = dataset.read_manifest(tmp_path / "bins" / "manifest.csv")
    assert len(rows) == 3
    for row in rows:
        assert row.image.endswith("@right")
        assert row.sha256 == hashlib.sha256(jpeg(int(row.image.split("/")[1].split("@")[0]) + 10)).hexdigest()


@pytest.mark.parametrize("layout", ["tars_per_class", "hub_parquet", "webdataset", "ilsvrc_tar"])
def test_calibration_is_drawn_from_archives_too(tmp_path, samples, layout):
    data_layouts.LAYOUTS[layout](tmp_path / "data", samples)
    entries = dataset.list_images(tmp_path / "data", labelled=False)
    scored = {dataset.sources.digest(tmp_path / "data", entry.image) for entry in entries[:40]}
    drawn = dataset.draw(entries, tmp_path / "data", 10, 0, scored)
    assert {entry.image for entry in drawn} == {entry.image for entry in entries[40:]}
