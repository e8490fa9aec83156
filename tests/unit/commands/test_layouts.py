"""One array a shard, and bytes in place of floats: the same images, the same outputs, in bounded memory."""

import io
import json
import subprocess
import sys
import types

import numpy as np
import preprocess
import pytest
from PIL import Image

from smlp.core import cli
from smlp.core.cli import UserError
from smlp.core.tensor import TensorInfo
from smlp.data import arrays, bins, dataset, pixels
from smlp.data.transform import Transform
from smlp.results import outputs as results_outputs

SMALL = Transform(16, "bicubic", (12, 12), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "center")
FLOATS = TensorInfo("input", np.dtype(np.float32), (4, 3, 12, 12))
BYTES = TensorInfo("input", np.dtype(np.uint8), (4, 12, 12, 3))
WAYS = [(layout, kind) for layout in preprocess.LAYOUTS for kind in pixels.KINDS]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eleven images in two classes, two of which cannot be read."""
    root = tmp_path_factory.mktemp("a data set")
    for index in range(11):
        path = root / "val" / ("cats" if index < 4 else "dogs") / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index in (0, 5):
            path.write_bytes(b"no image")
        else:
            Image.fromarray(np.random.default_rng(index).integers(0, 256, (20, 24, 3), np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """The folder of every layout and kind of pixels, without the two bad images; and the facts."""
    found = {}
    for layout, kind in WAYS:
        folder = tmp_path_factory.mktemp("bins") / f"{layout} {kind}"
        entries = dataset.list_images(data)
        facts = preprocess.preprocess(entries, data, folder, SMALL, skip_bad=True, layout=layout, kind=kind)
        found[layout, kind] = (folder, facts)
    return found


def images_of(folder, info, batch_size=4):
    batches = list(bins.batches(bins.find(str(folder)), info, batch_size))
    kept = [batch.images[: sum(count for _, count in batch.parts)] for batch in batches]
    for batch in batches:
        assert batch.images.shape[0] == batch_size
        for padding in batch.images[sum(count for _, count in batch.parts) :]:
            np.testing.assert_array_equal(padding, batch.images[0])
    return np.concatenate(kept)


# preprocess


def test_a_packed_shard_is_one_plain_array_in_the_manifests_order(data, made):
    folder, facts = made["packed", "float32"]
    rows = dataset.read_manifest(folder / "manifest.csv")
    assert {path.name for path in folder.iterdir()} == {"images-00000.npy", "manifest.csv"}
    assert {row.bin for row in rows} == {"images-00000.npy"}
    assert [row.index for row in rows] == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert facts["bytes"] == 9 * 4 * 3 * 12 * 12 and facts["bins"] == 1 and facts["layout"] == "packed"
    assert [bad["index"] for bad in facts["skipped"]] == [0, 5]
    array = np.load(folder / "images-00000.npy", allow_pickle=False)
    assert array.dtype == np.float32 and array.flags.c_contiguous
    np.testing.assert_array_equal(array, np.stack([SMALL((data / row.image).read_bytes()) for row in rows]))
    stream = io.BytesIO()
    np.save(stream, array)
    assert (folder / "images-00000.npy").read_bytes() == stream.getvalue()


def test_bytes_are_the_resized_and_cropped_image(data, made):
    folder, facts = made["packed", "uint8"]
    rows = dataset.read_manifest(folder / "manifest.csv")
    array = np.load(folder / "images-00000.npy", allow_pickle=False)
    assert array.shape == (9, 12, 12, 3) and array.dtype == np.uint8 and facts["bytes"] == array.nbytes
    for row, image in zip(rows, array):
        picture = Image.open(data / row.image).resize((19, 16), Image.Resampling.BICUBIC).crop((4, 2, 16, 14))
        np.testing.assert_array_equal(image, np.asarray(picture))
    assert json.loads((folder / "pixels.json").read_text()) == {
        **{"dtype": "uint8", "shape": [12, 12, 3]},
        **{"mean": list(SMALL.mean), "std": list(SMALL.std)},
    }


def test_manifests_differ_in_the_bins_name_only(made):
    manifests = [dataset.read_manifest(folder / "manifest.csv") for folder, _ in made.values()]
    assert len({tuple(row._replace(bin="") for row in rows) for rows in manifests}) == 1
    assert [row.bin for row in manifests[0]] == [f"batch-{row.index:05d}.bin" for row in manifests[0]]


@pytest.mark.parametrize("kind", pixels.KINDS)
def test_workers_and_shards_change_no_byte(data, tmp_path, made, kind):
    whole, _ = made["packed", kind]
    entries = dataset.list_images(data)
    preprocess.preprocess(entries, data, tmp_path / "3", SMALL, workers=3, skip_bad=True, layout="packed", kind=kind)
    assert (tmp_path / "3" / "images-00000.npy").read_bytes() == (whole / "images-00000.npy").read_bytes()
    parts = []
    for number in range(3):
        folder = tmp_path / f"shard-{number}"
        part = dataset.shard(entries, number, 3)
        preprocess.preprocess(part, data, folder, SMALL, skip_bad=True, layout="packed", kind=kind)
        parts.append(np.load(folder / dataset.packed_name(part[0].index)))
    np.testing.assert_array_equal(np.concatenate(parts), np.load(whole / "images-00000.npy"))


def test_another_layout_replaces_the_folder_whole(data, tmp_path):
    entries = dataset.list_images(data)[1:4]
    for layout, kind in (*WAYS, WAYS[0]):
        preprocess.preprocess(entries, data, tmp_path / "bins", SMALL, layout=layout, kind=kind)
        names = {path.name for path in (tmp_path / "bins").iterdir()} - {"manifest.csv"}
        wanted = {"images-00001.npy"} if layout == "packed" else {f"batch-0000{n}.bin" for n in (1, 2, 3)}
        assert names == wanted | ({"pixels.json"} if kind == "uint8" else set())


def test_a_bad_image_leaves_nothing_behind(data, tmp_path):
    with pytest.raises(UserError, match="00.png: is not an image"):
        preprocess.preprocess(dataset.list_images(data), data, tmp_path / "bins", SMALL, layout="packed")
    assert list(tmp_path.iterdir()) == []


def test_a_batch_size_has_no_meaning_for_a_packed_shard(data, tmp_path, command):
    flags = ["--data_root", data, "--save_dir", tmp_path / "bins", "--layout", "packed", "--batch_size", 2]
    done = command("preprocess", *flags)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and done.stderr.startswith("error: --batch_size 2: ")
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_a_packed_shard(tmp_path):
    """40 images of 6 MB each: their array has 240 MB, the process far less than that more than it began with."""
    root = tmp_path / "val"
    root.mkdir(parents=True)
    Image.new("RGB", (720, 720)).save(root / "00.png")
    for index in range(1, 40):
        (root / f"{index:02d}.png").hardlink_to(root / "00.png")
    (tmp_path / "val_label.txt").write_text("".join(f"{index:02d}.png 0\n" for index in range(40)))
    code = f"""
import sys; sys.path.insert(0, "scripts")
from pathlib import Path
import preprocess
from smlp.core.disturbance import peak_memory_mb as peak_mb
from smlp.data import dataset
from smlp.data.transform import Transform
large = Transform(720, "bicubic", (720, 720), (0.5,) * 3, (0.5,) * 3, "center")
entries, root = dataset.list_images({str(tmp_path)!r}), Path({str(tmp_path)!r})
preprocess.preprocess(entries[:2], root, root / "two", large, layout="packed")
before = peak_mb()
preprocess.preprocess(entries, root, root / "all", large, layout="packed")
print(peak_mb() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (tmp_path / "all" / "images-00000.npy").stat().st_size == 128 + 40 * 4 * 3 * 720 * 720
    assert float(done.stdout) < 60


# reading


@pytest.mark.parametrize("layout", preprocess.LAYOUTS)
@pytest.mark.parametrize("batch_size", [1, 4, 9, 16])
def test_every_layout_gives_an_engine_the_same_images(made, layout, batch_size):
    wanted = images_of(made["files", "float32"][0], FLOATS, batch_size)
    assert wanted.shape == (9, 3, 12, 12)
    for kind in pixels.KINDS:
        np.testing.assert_array_equal(images_of(made[layout, kind][0], FLOATS, batch_size), wanted)
    as_bytes = images_of(made[layout, "uint8"][0], BYTES, batch_size)
    assert as_bytes.dtype == np.uint8
    np.testing.assert_array_equal(pixels.normalise(as_bytes, SMALL.mean, SMALL.std), wanted)


def test_normalising_is_torchvisions(made):
    import torch

    as_bytes = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    unit = torch.from_numpy(as_bytes.transpose(2, 0, 1).copy()).to(torch.float32).div(255)
    mean, std = (torch.tensor(values)[:, None, None] for values in (SMALL.mean, SMALL.std))
    np.testing.assert_array_equal(pixels.normalise(as_bytes, SMALL.mean, SMALL.std), unit.sub(mean).div(std).numpy())


@pytest.mark.parametrize("layout", preprocess.LAYOUTS)
@pytest.mark.parametrize(
    ("kind", "info", "message"),
    [
        ("float32", BYTES, "it was preprocessed for another input|whole images of uint8 12x12x3 were expected"),
        (
            "uint8",
            FLOATS._replace(shape=(4, 3, 14, 14)),
            "holds uint8 images of 12x12x3, the engine takes float32 3x14x14",
        ),
        ("uint8", FLOATS._replace(dtype=np.dtype(np.float16)), "the engine takes float16 3x12x12; preprocess for"),
        ("uint8", BYTES._replace(shape=(4, 14, 14, 3)), "the engine takes uint8 14x14x3"),
    ],
)
def test_images_of_another_kind_than_the_engines_are_refused(made, layout, kind, info, message):
    with pytest.raises(UserError, match=message):
        list(bins.batches(bins.find(str(made[layout, kind][0])), info, 4))


@pytest.mark.parametrize(
    "facts",
    ["", "[]", "{}", '{"dtype": "uint8", "shape": [12, 12, 3], "mean": [0, 0, 0], "std": [1, 0, 1]}'],
)
def test_a_damaged_description_of_bytes_is_refused(tmp_path, facts):
    (tmp_path / "a.bin").write_bytes(bytes(12 * 12 * 3))
    (tmp_path / "pixels.json").write_text(facts)
    with pytest.raises(UserError, match="pixels.json: is not"):
        bins.count(tmp_path / "a.bin", FLOATS)


def test_a_packed_shard_that_is_cut_off_or_contradicts_its_manifest_is_refused(made, tmp_path):
    folder, _ = made["packed", "float32"]
    array = np.load(folder / "images-00000.npy")
    whole = (folder / "images-00000.npy").read_bytes()
    path = tmp_path / "images-00000.npy"
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="images-00000.npy: is not a plain .npy file .cut off: 15551 of 15552 bytes"):
        bins.count(path, FLOATS)
    (tmp_path / "manifest.csv").write_bytes((folder / "manifest.csv").read_bytes())
    np.save(path, array[:8])
    with pytest.raises(UserError, match="holds 9 images by manifest.csv, but by its size 8"):
        list(bins.batches([path], FLOATS, 4))


@pytest.mark.parametrize("shape", [(0, 5), (7, 5), (3, 2, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float16])
def test_rows_of_an_array_file_are_numpys(tmp_path, shape, dtype):
    array = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    for order in (array, np.asfortranarray(array)):
        np.save(tmp_path / "a.npy", order)
        with open(tmp_path / "a.npy", "rb") as stream:
            header = arrays.read_header(stream)
            assert (header.dtype, header.shape) == (array.dtype, shape)
            blocks = list(arrays.read_rows(stream, header, 2))
        assert all(len(block) <= 2 for block in blocks)
        np.testing.assert_array_equal(np.concatenate([array[:0], *blocks]), array)
    np.save(tmp_path / "a.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == arrays.header_bytes(array.dtype, shape) + array.tobytes()


# infer, evaluate, measure


@pytest.fixture
def engine(tmp_path, mixer_onnx):
    mixer_onnx(tmp_path / "bs4.onnx", 4, size=(3, 12, 12))
    return tmp_path / "bs4.onnx"


def outputs(load_command, engine, folder, out, outfmt="NPY"):
    flags = ["--model", engine, "--input", folder, "--output", out, "--output_dirname", "run", "--outfmt", outfmt]
    assert load_command("infer").main(list(map(str, flags))) == 0
    return out / "run"


@pytest.mark.parametrize("kind", pixels.KINDS)
@pytest.mark.parametrize("outfmt", ["NPY", "BIN", "TXT"])
def test_outputs_of_a_packed_shard_are_those_of_its_images_in_one_file(
    load_command, engine, made, tmp_path, kind, outfmt
):
    single = outputs(load_command, engine, made["files", "float32"][0], tmp_path / "files", outfmt)
    packed = outputs(load_command, engine, made["packed", kind][0], tmp_path / "packed", outfmt)
    suffix = outfmt.lower()
    assert [path.name for path in packed.iterdir()] == [f"images-00000_0.{suffix}"]
    one_by_one = sorted(single.iterdir())
    assert len(one_by_one) == 9
    if outfmt == "NPY":
        scores = np.load(packed / "images-00000_0.npy", allow_pickle=False)
        np.testing.assert_array_equal(scores, np.concatenate([np.load(path) for path in one_by_one]))
    else:
        everything = b"".join(path.read_bytes() for path in one_by_one)
        assert (packed / f"images-00000_0.{suffix}").read_bytes() == everything
    summary = json.loads((tmp_path / "packed" / "run_summary.json").read_text())
    assert len(summary["filesinfo"]) == 1 and summary["smlp"]["images"] == 9
    assert summary["filesinfo"]["0"]["outfiles"] == [str(packed / f"images-00000_0.{suffix}")]


def test_figures_and_predictions_are_the_same(load_command, engine, made, tmp_path, monkeypatch):
    evaluate = load_command("evaluate")
    monkeypatch.setattr(results_outputs, "_BLOCK_ROWS", 2)
    found = []
    for way in WAYS:
        folder = outputs(load_command, engine, made[way][0], tmp_path / " ".join(way))
        files = [tmp_path / f"{'-'.join(way)}.{kind}" for kind in ("json", "csv")]
        flags = ["--infer_result_dir", folder, "--labels", made[way][0], "--json", files[0], "--predictions", files[1]]
        assert evaluate.main(list(map(str, flags))) == 0
        report = json.loads(files[0].read_text())
        found.append((report["images"], report["top1"], report["top5"], files[1].read_bytes()))
    assert found[0][0] == 9 and len(set(found)) == 1


def test_a_value_that_is_not_finite_is_named_by_its_row_in_the_whole_array(tmp_path, monkeypatch):
    monkeypatch.setattr(results_outputs, "_BLOCK_ROWS", 2)
    scores = np.zeros((7, 3), np.float32)
    scores[5, 1] = np.nan
    np.save(tmp_path / "a_0.npy", scores)
    with pytest.raises(UserError, match="a_0.npy: row 5 is not finite"):
        list(results_outputs.read_logits(tmp_path / "a_0.npy", 7, results_outputs.Form()))


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_measuring_takes_the_same_images(load_command, made, way):
    engine = types.SimpleNamespace(inputs=[FLOATS])
    wanted = load_command("measure").load_images(str(made["files", "float32"][0]), engine, 4)[0]
    found = load_command("measure").load_images(str(made[way][0]), engine, 4)[0]
    assert len(found) == len(wanted) == 2
    np.testing.assert_array_equal(np.stack(found), np.stack(wanted))


def test_help_names_the_layouts(capsys):
    with pytest.raises(SystemExit):
        cli.run(lambda _: preprocess.main(["--help"]))
    assert "{files,packed}" in capsys.readouterr().out
