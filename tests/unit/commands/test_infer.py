"""ais_bench's contract: names, shapes, order, padding, formats and the summary; and no image lost or mixed up."""

import io
import json
import os
import re
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from smlp.backends.base import Engine
from smlp.core import files
from smlp.core.cli import UserError
from smlp.core.tensor import TensorInfo
from smlp.data import bins

SIZE = (3, 4, 4)
KEYS = [
    "filesinfo",
    "args",
    "NPU_compute_time",
    "H2D_latency",
    "D2H_latency",
    "throughput",
    "npu_compute_time_list",
    "pid",
    "smlp",
]
STATISTICS = ["min", "max", "mean", "median", "percentile(99%)", "count"]


@pytest.fixture(scope="module")
def infer(load_command):
    return load_command("infer")


@pytest.fixture
def place(tmp_path, mixer_onnx):
    """A folder with engines bs1.onnx and bs4.onnx, and functions to fill bins and run."""
    return Place(tmp_path / "a place", mixer_onnx)


class Place:
    def __init__(self, root, mixer_onnx):
        root.mkdir()
        self.root, self.mixer_onnx = root, mixer_onnx
        self.engine, self.weights = root / "bs4.onnx", mixer_onnx(root / "bs4.onnx", 4)
        self.bins, self.out = root / "the bins", root / "the output"
        self.bins.mkdir()
        self.images = {}

    def add(self, *names, count=1):
        """Bins of `count` images each; a name ending in .npy makes that."""
        for name in names:
            images = np.random.default_rng(len(self.images)).normal(size=(count, *SIZE)).astype(np.float32)
            self.images[name] = images
            if name.endswith(".npy"):
                np.save(self.bins / name, images)
            else:
                images.tofile(self.bins / name)
        return [self.bins / name for name in names]

    def own(self, name):
        """What an image scores without its batch."""
        return self.images[name].reshape(len(self.images[name]), -1) @ self.weights

    def flags(self, *more, engine=None):
        where = ["--input", self.bins, "--output", self.out, "--output_dirname", "run"]
        return ["--model", str(engine or self.engine), *map(str, where), *map(str, more)]

    def load(self, name):
        return np.load(self.out / "run" / name)

    def summary(self):
        return json.loads((self.out / "run_summary.json").read_text())

    def written(self):
        return sorted(str(path.relative_to(self.out)) for path in self.out.rglob("*"))


def expected(place, *names):
    """Scores of a batch of these images: the mixer adds the sum over the batch."""
    own = np.concatenate([place.own(name) for name in names])
    return own + own.sum(axis=0)


def close(actual, wanted):
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)


# names, order, batches


def test_a_file_a_sample_named_up_to_the_first_dot(infer, place):
    place.add("n01.JPEG.bin", "n02.bin", "n03.v2.BIN", "n04.npy")
    assert infer.main(place.flags("--outfmt", "NPY")) == 0
    assert place.written() == [
        "run",
        "run/n01_0.npy",
        "run/n02_0.npy",
        "run/n03_0.npy",
        "run/n04_0.npy",
        "run_summary.json",
    ]
    scores = expected(place, *place.images)
    for row, stem in zip(scores, ("n01", "n02", "n03", "n04")):
        output = place.load(f"{stem}_0.npy")
        assert (output.shape, output.dtype) == ((1, 5), np.float32)
        close(output, row[None])


def test_batch_1(infer, place):
    place.weights = place.mixer_onnx(place.root / "bs1.onnx", 1)
    place.add("a.bin", "b.bin")
    assert infer.main(place.flags("--outfmt", "NPY", engine=place.root / "bs1.onnx")) == 0
    for name in ("a", "b"):
        close(place.load(f"{name}_0.npy"), 2 * place.own(f"{name}.bin"))


def test_files_of_a_folder_come_in_natural_order(infer, place):
    place.mixer_onnx(place.root / "bs2.onnx", 2)
    place.add("img_10.bin", "img_2.bin", "IMG_3.bin", "img_1.bin")
    assert infer.main(place.flags("--outfmt", "NPY", engine=place.root / "bs2.onnx")) == 0
    order = [entry["infiles"] for entry in place.summary()["filesinfo"].values()]
    assert order == [[str(place.bins / name)] for name in ("img_1.bin", "img_2.bin", "IMG_3.bin", "img_10.bin")]
    close(place.load("img_2_0.npy"), expected(place, "img_1.bin", "img_2.bin")[1:])
    close(place.load("img_10_0.npy"), expected(place, "IMG_3.bin", "img_10.bin")[1:])


def test_natural_order_of_a_whole_path_is_total():
    names = ["b/1", "a/10", "a/9", "a/1²", "a/01", "a/1", "A/2"]
    key = bins._natural
    ordered = sorted(map(bins.Path, names), key=key)
    assert [str(path) for path in ordered] == ["a/01", "a/1", "a/1²", "A/2", "a/9", "a/10", "b/1"]
    assert sorted(reversed(ordered), key=key) == ordered


def test_a_comma_list_keeps_its_order(infer, place):
    place.add("c.bin", "a.bin", "b.bin", "d.bin")
    given = ",".join(str(place.bins / name) for name in ("d.bin", "b.bin", "c.bin", "a.bin"))
    assert infer.main(["--model", str(place.engine), "--input", given, "--output", str(place.out)]) == 0
    (folder,) = (path for path in place.out.iterdir() if path.is_dir())
    summary = json.loads((place.out / f"{folder.name}_summary.json").read_text())
    assert [entry["infiles"] for entry in summary["filesinfo"].values()] == [[path] for path in given.split(",")]


def test_without_a_name_the_folder_is_called_after_the_time(infer, place):
    place.add("a.bin")
    assert infer.main(["--model", str(place.engine), "--input", str(place.bins), "--output", str(place.out)]) == 0
    (folder,) = (path.name for path in place.out.iterdir() if path.is_dir())
    assert re.fullmatch(r"\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d", folder)
    assert (place.out / f"{folder}_summary.json").is_file()


@pytest.mark.parametrize("rest", [1, 2, 3])
def test_a_short_last_batch_is_padded_with_its_first_sample(infer, place, rest):
    """Scores of the mixer hold the sum over the batch, and so the padding: the last batch's first image, repeated."""
    names = [f"{index}.bin" for index in range(4 + rest)]
    place.add(*names)
    assert infer.main(place.flags("--outfmt", "NPY")) == 0
    last = [*names[4:], *[names[4]] * (4 - rest)]
    scores = np.concatenate([expected(place, *names[:4]), expected(place, *last)[:rest]])
    for name, row in zip(names, scores):
        close(place.load(name.replace(".bin", "_0.npy")), row[None])
    summary = place.summary()
    assert len(summary["filesinfo"]) == 4 + rest
    assert summary["smlp"]["images"] == 4 + rest
    assert len([path for path in place.written() if path.endswith(".npy")]) == 4 + rest


def test_several_images_a_file(infer, place):
    place.add("0.bin", "1.bin", "2.bin", count=2)
    place.add("3.bin")
    assert infer.main(place.flags("--outfmt", "NPY")) == 0
    first, second = expected(place, "0.bin", "1.bin"), expected(place, "2.bin", "3.bin", "2.bin")
    own = [place.own(name) for name in ("2.bin", "3.bin")]
    own = np.concatenate([*own, own[0][:1]])
    second = own + own.sum(axis=0)
    for name, rows in {"0": first[:2], "1": first[2:], "2": second[:2], "3": second[2:3]}.items():
        close(place.load(f"{name}_0.npy"), rows)
    assert place.summary()["smlp"]["images"] == 7


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_single_file_of_any_number_of_images(infer, place, count):
    place.add("only.bin", count=count)
    assert infer.main(place.flags("--outfmt", "NPY")) == 0
    own = place.own("only.bin")
    own = np.concatenate([own, np.repeat(own[:1], 4 - count, axis=0)])
    close(place.load("only_0.npy"), (own + own.sum(axis=0))[:count])


def test_npy_files_may_hold_one_image_or_several(infer, place):
    image = np.random.default_rng(5).normal(size=SIZE).astype(np.float32)
    np.save(place.bins / "a.npy", image)
    np.save(place.bins / "b.npy", np.asfortranarray(image[None]))
    assert infer.main(place.flags("--outfmt", "NPY")) == 0
    close(place.load("a_0.npy"), place.load("b_0.npy"))
    close(place.load("a_0.npy"), 5 * (image.reshape(1, -1) @ place.weights))


def test_every_output_of_an_engine(infer, place):
    model = onnx.load(place.engine)
    model.graph.output.append(helper.make_tensor_value_info("own", TensorProto.FLOAT, [4, 5]))
    onnx.save(model, place.engine)
    place.add("a.bin")
    assert infer.main(place.flags("--outfmt", "NPY")) == 0
    close(place.load("a_1.npy"), place.own("a.bin"))
    assert place.summary()["filesinfo"]["0"]["outfiles"] == [str(place.out / "run" / f"a_{i}.npy") for i in range(2)]


# formats


def test_bin_is_the_default(infer, place):
    place.add("a.bin", "b.bin")
    assert infer.main(place.flags()) == 0
    assert place.written() == ["run", "run/a_0.bin", "run/b_0.bin", "run_summary.json"]
    output = np.fromfile(place.out / "run" / "b_0.bin", np.float32)
    assert output.shape == (5,)
    close(output, expected(place, "a.bin", "b.bin", "a.bin", "a.bin")[1])


def test_txt(infer, place):
    place.add("a.bin", count=4)
    assert infer.main(place.flags("--outfmt", "txt")) == 0
    text = (place.out / "run" / "a_0.txt").read_text()
    assert re.fullmatch(r"((-?\d+\.\d{6} ){5}\n){4}", text)
    np.testing.assert_allclose(np.loadtxt(io.StringIO(text)), expected(place, "a.bin"), atol=1e-4)


def test_txt_of_whole_numbers(infer, tmp_path):
    infer._append(tmp_path / "a.txt", np.array([[1, -2]], np.int64), 1)
    assert (tmp_path / "a.txt").read_text() == "1 -2 \n"


# summary


def test_summary(infer, place, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["scripts/infer.py", "--model", "as it was called"])
    place.add("a.bin", "b.bin", "c.bin", "d.bin", "e.bin")
    assert infer.main(place.flags()) == 0
    summary = place.summary()
    assert list(summary) == KEYS
    assert summary["filesinfo"] == {
        str(index): {
            "infiles": [str(place.bins / f"{name}.bin")],
            "outfiles": [str(place.out / "run" / f"{name}_0.bin")],
        }
        for index, name in enumerate("abcde")
    }
    assert summary["args"] == ["scripts/infer.py", "--model", "as it was called"]
    assert summary["pid"] == os.getpid()
    times = summary["npu_compute_time_list"]
    compute = summary["NPU_compute_time"]
    assert list(compute) == STATISTICS == list(summary["H2D_latency"]) == list(summary["D2H_latency"])
    assert compute["count"] == len(times) == 2
    assert compute["min"] <= compute["median"] <= compute["percentile(99%)"] <= compute["max"] == max(times)
    assert compute["mean"] == pytest.approx(sum(times) / 2)
    assert summary["throughput"] == pytest.approx(1000 * 4 / compute["mean"])  # padding counted, as there
    assert summary["H2D_latency"] == dict.fromkeys(STATISTICS, 0)  # this runtime does not tell

    ours = summary["smlp"]
    assert (ours["model"], ours["backend"], ours["precision"], ours["batch"]) == ("bs4", "onnxruntime", "unknown", 4)
    assert (ours["device"], ours["threads"], ours["images"], ours["emulated"]) == ("cpu", None, 5, False)
    assert ours["engine"] == {"path": str(place.engine), "sha256": files.digest(place.engine)}
    assert {"python", "onnxruntime", "numpy"} <= set(ours["versions"])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[INFO] -----------------Performance Summary------------------"
    assert lines[1].startswith(f"[INFO] NPU_compute_time (ms): min = {compute['min']}, max = {compute['max']}, mean = ")
    assert lines[1].endswith(f"percentile(99%) = {compute['percentile(99%)']}")
    last = [line for line in lines if "throughput" in line][-1]  # the recipe of people's scripts
    assert last == (
        f"[INFO] throughput 1000*batchsize.mean(4)/NPU_compute_time.mean({compute['mean']}): {summary['throughput']}"
    )
    assert float(last.split()[-1]) == summary["throughput"]
    assert not any("H2D" in line for line in lines)


def test_display_all_summary(infer, place, capsys):
    place.add("a.bin")
    assert infer.main(place.flags("--display_all_summary")) == 0
    out = capsys.readouterr().out
    assert "[INFO] H2D_latency (ms): min = " in out and "[INFO] D2H_latency (ms): min = " in out


def test_the_sidecar_says_what_the_engine_is(infer, place, load_command, tiny):
    engine = place.root / "tiny.onnx"
    load_command("compile").compile_engine("onnxruntime", "fp32", 1, tiny.onnx, engine, {})
    np.zeros((1, 3, 160, 160), np.float32).tofile(place.bins / "a.bin")
    assert infer.main(place.flags("--model_label", "the tiny one", "--threads", 1, engine=engine)) == 0
    ours = place.summary()["smlp"]
    assert (ours["model"], ours["precision"], ours["batch"], ours["threads"]) == ("the tiny one", "fp32", 1, 1)


def test_loop_repeats_every_batch_and_writes_once(infer, place, monkeypatch):
    place.add("a.bin", "b.bin", "c.bin", "d.bin", "e.bin")
    runs = []
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda self, images: runs.append(images.copy()) or run(self, images))
    assert infer.main(place.flags("--loop", 3, "--warmup_count", 2)) == 0
    assert len(runs) == 2 + 3 + 3  # warm-up on the first batch only
    assert all(np.array_equal(images, runs[0]) for images in runs[:5])
    assert all(np.array_equal(images, runs[5]) for images in runs[5:])
    summary = place.summary()
    assert summary["NPU_compute_time"]["count"] == len(summary["npu_compute_time_list"]) == 6
    assert len(summary["filesinfo"]) == summary["smlp"]["images"] == 5
    close(
        np.fromfile(place.out / "run" / "a_0.bin", np.float32), expected(place, "a.bin", "b.bin", "c.bin", "d.bin")[0]
    )


def test_no_warm_up(infer, place, monkeypatch):
    place.add("a.bin")
    runs = []
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda self, images: runs.append(1) or run(self, images))
    assert infer.main(place.flags("--warmup_count", 0)) == 0
    assert len(runs) == 1


# pure inference


def test_pure_inference(infer, place, capsys):
    assert infer.main(["--model", str(place.engine), "--loop", "5"]) == 0
    assert "throughput 1000*batchsize.mean(4)" in capsys.readouterr().out
    assert not place.out.exists()


def test_pure_inference_with_output(infer, place):
    flags = ["--model", str(place.engine), "--output", str(place.out), "--output_dirname", "run"]
    assert infer.main(flags) == 0
    assert place.written() == ["run", "run/pure_infer_data_0.bin", "run_summary.json"]
    assert np.array_equal(np.fromfile(place.out / "run" / "pure_infer_data_0.bin", np.float32), np.zeros(20))
    assert place.summary()["filesinfo"]["0"]["infiles"] == []
    assert infer.main([*flags, "--pure_data_type", "random"]) == 0
    scores = np.fromfile(place.out / "run" / "pure_infer_data_0.bin", np.float32)
    assert scores.shape == (20,) and np.isfinite(scores).all() and (scores != 0).all()


def test_made_up_data_of_other_kinds(infer):
    integers = infer._made_up(TensorInfo("x", np.dtype(np.uint8), (2, 3)), 2, "random")
    assert (integers.dtype, integers.shape) == (np.uint8, (2, 3))
    assert integers.max() > 1
    assert not infer._made_up(TensorInfo("x", np.dtype(np.float16), (None, 3)), 4, "zero").any()


def test_nothing_is_written_without_output(infer, place):
    place.add("a.bin")
    before = sorted(place.root.rglob("*"))
    assert infer.main(["--model", str(place.engine), "--input", str(place.bins)]) == 0
    assert sorted(place.root.rglob("*")) == before


def test_an_engine_of_any_batch_takes_the_requested_one(infer, place):
    place.mixer_onnx(place.root / "any.onnx", None)
    place.add("a.bin", "b.bin", "c.bin")
    assert infer.main(place.flags("--batchsize", 3, "--outfmt", "NPY", engine=place.root / "any.onnx")) == 0
    assert place.summary()["smlp"]["batch"] == 3
    close(place.load("b_0.npy"), expected(place, "a.bin", "b.bin", "c.bin")[1:2])


# again


def test_a_second_run_gives_the_same_bytes(infer, place):
    place.add("a.bin", "b.bin", "c.bin", "d.bin", "e.bin")
    results = []
    for _ in range(2):
        assert infer.main(place.flags("--outfmt", "NPY")) == 0
        results.append({path.name: path.read_bytes() for path in (place.out / "run").iterdir()})
    assert len(results[0]) == 5
    assert results[0] == results[1]


def test_a_second_run_leaves_nothing_of_a_larger_first_one(infer, place):
    place.add("a.bin", "b.bin")
    assert infer.main(place.flags()) == 0
    (place.bins / "b.bin").unlink()
    assert infer.main(place.flags("--outfmt", "NPY")) == 0
    assert place.written() == ["run", "run/a_0.npy", "run_summary.json"]


# what is refused


def refusal(infer, place, *more, **engine):
    """The message that refuses a run; nothing was written."""
    before = sorted(place.root.rglob("*"))
    with pytest.raises(UserError) as error:
        infer.main(place.flags(*more, **engine))
    # an empty --output may have been made
    assert [path for path in sorted(place.root.rglob("*")) if path != place.out] == [
        p for p in before if p != place.out
    ]
    message = str(error.value)
    assert "\n" not in message
    return message


def test_output_dirname_without_output(infer, place):
    with pytest.raises(UserError, match="--output_dirname needs --output"):
        infer.main(["--model", str(place.engine), "--output_dirname", "run"])


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz():
    stream = io.BytesIO()
    np.savez(stream, np.zeros(SIZE, np.float32))
    return stream.getvalue()


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x", "y")
    return stream.getvalue()[:-5]


ONE = np.zeros((1, *SIZE), np.float32)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.bin", ONE.tobytes()[:-4], "has 188 bytes, whole images of float32 3x4x4 (192 bytes each) were expected"),
        ("b.bin", ONE.tobytes() + b"x", "has 193 bytes"),
        ("b.bin", b"", "has 0 bytes"),
        ("b.bin", ONE.astype(np.float16).tobytes(), "has 96 bytes"),
        ("b.npy", npy(ONE.astype(np.float64)), "holds float64 1x3x4x4, whole images of float32 3x4x4 were expected"),
        ("b.npy", npy(ONE.astype(">f4")), "holds >f4 1x3x4x4"),
        ("b.npy", npy(ONE.astype(np.int32)), "holds int32 1x3x4x4"),
        ("b.npy", npy(ONE.transpose(0, 2, 3, 1)), "holds float32 1x4x4x3"),
        ("b.npy", npy(ONE.ravel()), "holds float32 48"),
        ("b.npy", npy(ONE[:0]), "holds float32 0x3x4x4"),
        ("b.npy", npy(ONE)[:-10], "is not a plain .npy file"),
        ("b.npy", npy(ONE)[:20], "is not a plain .npy file"),
        ("b.npy", b"", "is not a plain .npy file"),
        ("b.npy", b"not numpy at all", "is not a plain .npy file"),
        ("b.npy", npy(np.array([{"code": print}], object)), "is not a plain .npy file"),
        ("b.npy", npz(), "is not a plain .npy file"),
        ("b.npy", zipped(), "is not a plain .npy file"),
        ("b.npy", npy(ONE).replace(b"{", b"(", 1), "is not a plain .npy file"),
        ("b.npy", npy(ONE).replace(b"(1, 3, 4, 4)", b"(1, 3, 4,-4)"), "is not a plain .npy file"),
        ("b.bin", ONE.tobytes() * 2, "holds 2 images where others hold 1"),
    ],
)
def test_a_file_that_is_no_image_of_this_engine(infer, place, name, content, message):
    place.add("a.bin", "c.bin")
    (place.bins / name).write_bytes(content)
    assert refusal(infer, place).startswith(f"{place.bins / name}: {message}")


@pytest.mark.parametrize("last", [2, 4, 5])
def test_a_last_file_with_more_images_than_the_others(infer, place, last):
    place.add("a.bin", "b.bin")
    place.add("c.bin", count=last)
    message = refusal(infer, place)
    assert message.startswith(f"{place.bins / 'c.bin'}: holds {last} images where others hold 1")


def test_a_short_file_in_the_middle(infer, place):
    place.add("a.bin", count=2)
    place.add("b.bin")
    place.add("c.bin", count=2)
    assert refusal(infer, place).startswith(f"{place.bins / 'b.bin'}: holds 1 images where others hold 2")


@pytest.mark.parametrize("count", [3, 8])
def test_files_that_do_not_divide_the_batch(infer, place, count):
    place.add("a.bin", "b.bin", count=count)
    message = refusal(infer, place)
    assert message.startswith(f"{place.bins / 'a.bin'}: holds {count} images, which does not divide the batch size 4")


def test_names_that_are_the_same_up_to_the_first_dot(infer, place):
    place.add("a.1.bin", "a.2.bin")
    message = refusal(infer, place)
    assert message.startswith(f"{place.bins / 'a.2.bin'}: its output would overwrite that of a.1.bin")


def test_a_file_that_is_listed_twice(infer, place):
    (path,) = place.add("a.bin")
    message = refusal(infer, place, "--input", f"{path},{path}")
    assert message.startswith(f"{path}: its output would overwrite that of a.bin")


def test_a_folder_without_images(infer, place):
    (place.bins / "manifest.csv").write_text("x")
    assert refusal(infer, place).startswith(f"{place.bins}: holds no .bin or .npy file")


@pytest.mark.parametrize(
    "spec", ["{root}/none", "{bins}/a.bin,{root}/none", "{bins}/a.bin,{bins}", "{bins},{bins}", ""]
)
def test_an_input_that_is_not_there(infer, place, spec):
    place.add("a.bin")
    message = refusal(infer, place, "--input", spec.format(root=place.root, bins=place.bins))
    assert "is no file; --input takes one folder" in message or "holds no .bin or .npy file" in message


def test_a_missing_engine(infer, place):
    place.add("a.bin")
    message = refusal(infer, place, engine=place.root / "bs8.onnx")
    assert message.startswith(f"{place.root / 'bs8.onnx'}: no such engine")


def test_another_batch_than_the_engines(infer, place):
    place.add("a.bin")
    message = refusal(infer, place, "--batchsize", 8)
    assert message == "--batchsize 8: the engine was compiled for batch 4; leave the flag out"


def test_a_result_folder_with_foreign_files(infer, place):
    place.add("a.bin")
    (place.out / "run").mkdir(parents=True)
    (place.out / "run" / "a_0.bin").write_text("older")
    (place.out / "run" / "notes.md").write_text("mine")
    message = refusal(infer, place)
    assert message.startswith(f"{place.out / 'run'}: holds 'notes.md', which this command did not write")
    assert (place.out / "run" / "a_0.bin").read_text() == "older"


def test_an_older_result_survives_a_failed_run(infer, place):
    place.add("a.bin")
    assert infer.main(place.flags()) == 0
    before = (place.out / "run" / "a_0.bin").read_bytes()
    (place.bins / "b.bin").write_bytes(b"short")
    refusal(infer, place)
    assert place.written() == ["run", "run/a_0.bin", "run_summary.json"]
    assert (place.out / "run" / "a_0.bin").read_bytes() == before


def test_an_engine_with_free_pixels(infer, place):
    place.mixer_onnx(place.engine, 4)
    model = onnx.load(place.engine)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, place.engine)
    place.add("a.bin")
    assert "takes 'input' 4x3x?x4; one image input with only the batch free was expected" in refusal(infer, place)


def test_an_engine_with_two_inputs(infer, place):
    model = onnx.load(place.engine)
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [4]))
    onnx.save(model, place.engine)
    place.add("a.bin")
    assert "takes 'input' 4x3x4x4, 'mask' 4; one image input" in refusal(infer, place)


def test_a_sidecar_that_is_none(infer, place):
    place.add("a.bin")
    (place.root / "bs4.json").write_text("[1, 2]")
    assert refusal(infer, place).startswith(f"{place.root / 'bs4.json'}: is not the sidecar of an engine")
    (place.root / "bs4.json").write_text('{"backend": "tensorflow"}')
    assert "backend 'tensorflow' is not known; choose one of" in refusal(infer, place)


def test_a_suffix_that_means_nothing(infer, place):
    place.add("a.bin")
    place.engine.rename(place.root / "bs4.engine")
    message = refusal(infer, place, engine=place.root / "bs4.engine")
    assert message.startswith(f"{place.root / 'bs4.engine'}: no sidecar bs4.json, and its suffix names no backend")


# as a command


def test_command(command, place):
    place.add("a.bin", "b.bin")
    finished = command("infer", *place.flags("--outfmt", "NPY"))
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "[INFO] throughput" in finished.stdout
    close(place.load("a_0.npy"), expected(place, "a.bin", "b.bin", "a.bin", "a.bin")[:1])
    assert place.summary()["args"][0].endswith("infer.py")


def test_command_errors_are_one_line(command, place):
    place.add("a.bin")
    (place.bins / "b.bin").write_bytes(b"short")
    finished = command("infer", *place.flags())
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"error: {place.bins / 'b.bin'}: has 5 bytes")
    assert finished.stderr.count("\n") == 1
    assert finished.stdout == ""
    assert not (place.out / "run").exists()
