"""ais_bench's contract: names, shapes, order, padding, formats and the summary; and no image lost or mixed up."""

import io
import json
import os
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from smlp.backends.base import Engine
from smlp.core import files, identity
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


def close(actual, wanted):
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)


# names, order, batches


def test_outputs_are_one_file_per_input_named_up_to_its_first_dot(infer, place):
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
    scores = place.expected(*place.images)
    for row, stem in zip(scores, ("n01", "n02", "n03", "n04")):
        output = place.load(f"{stem}_0.npy")
        assert (output.shape, output.dtype) == ((1, 5), np.float32)
        close(output, row[None])


def test_an_engine_of_batch_1_runs_every_image_by_itself(infer, place):
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
    close(place.load("img_2_0.npy"), place.expected("img_1.bin", "img_2.bin")[1:])
    close(place.load("img_10_0.npy"), place.expected("IMG_3.bin", "img_10.bin")[1:])


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
    scores = np.concatenate([place.expected(*names[:4]), place.expected(*last)[:rest]])
    for name, row in zip(names, scores):
        close(place.load(name.replace(".bin", "_0.npy")), row[None])
    summary = place.summary()
    assert len(summary["filesinfo"]) == 4 + rest
    assert summary["smlp"]["images"] == 4 + rest
    assert len([path for path in place.written() if path.endswith(".npy")]) == 4 + rest


def test_a_file_may_hold_several_images(infer, place):
    place.add("0.bin", "1.bin", "2.bin", count=2)
    place.add("3.bin")
    assert infer.main(place.flags("--outfmt", "NPY")) == 0
    first, second = place.expected("0.bin", "1.bin"), place.expected("2.bin", "3.bin", "2.bin")
    own = [place.own(name) for name in ("2.bin", "3.bin")]
    own = np.concatenate([*own, own[0][:1]])
    second = own + own.sum(axis=0)
    for name, rows in {"0": first[:2], "1": first[2:], "2": second[:2], "3": second[2:3]}.items():
        close(place.load(f"{name}_0.npy"), rows)
    assert place.summary()["smlp"]["images"] == 7


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_single_file_may_hold_any_number_of_images(infer, place, count):
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


def test_every_output_of_an_engine_is_written(infer, place):
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
    close(output, place.expected("a.bin", "b.bin", "a.bin", "a.bin")[1])


def test_text_has_one_line_per_image(infer, place):
    place.add("a.bin", count=4)
    assert infer.main(place.flags("--outfmt", "txt")) == 0
    text = (place.out / "run" / "a_0.txt").read_text()
    assert [len(line.split(" ")) for line in text.split("\n")] == [6, 6, 6, 6, 1]
    np.testing.assert_allclose(np.loadtxt(io.StringIO(text)), place.expected("a.bin"), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_text_keeps_every_bit_of_a_score(infer, tmp_path, dtype):
    random = np.random.default_rng(0)
    scores = (random.normal(size=(50, 20)) * 10.0 ** random.integers(-7, 4, (50, 20))).astype(dtype)
    scores[0, :3] = np.nextafter(dtype(0.1), dtype([0, 1, 2]))
    infer._append(tmp_path / "a.txt", scores, 50)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "a.txt").astype(dtype), scores)


def test_the_summary_states_the_outputs(infer, place):
    place.add("a.bin")
    assert infer.main(place.flags("--outfmt", "BIN")) == 0
    (output,) = place.summary()["smlp"]["outputs"]
    assert (output["dtype"], output["shape"]) == ("float32", [4, 5]) and output["name"]


def test_text_keeps_whole_numbers_whole(infer, tmp_path):
    infer._append(tmp_path / "a.txt", np.array([[1, -2]], np.int64), 1)
    assert (tmp_path / "a.txt").read_text() == "1 -2 \n"


# summary


def test_the_summary_has_the_keys_and_lines_of_ais_bench(infer, place, monkeypatch, capsys):
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
    assert ours["engine"] == {"path": str(place.engine), "id": identity.known(place.engine).id}
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


def test_transfer_times_are_printed_if_asked_for(infer, place, capsys):
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


def test_the_summary_names_the_variant_of_the_flag_or_of_the_sidecar(infer, place):
    place.add("a.bin")
    assert infer.main(place.flags()) == 0
    assert "variant" not in place.summary()["smlp"]
    assert infer.main(place.flags("--variant", "opset17")) == 0
    assert place.summary()["smlp"]["variant"] == "opset17"
    files.write_json(files.sidecar_path(place.engine), {"backend": "onnxruntime", "variant": "reference"})
    assert infer.main(place.flags()) == 0
    assert place.summary()["smlp"]["variant"] == "reference"
    with pytest.raises(UserError, match="--variant opset17: the sidecar of .* says 'reference'"):
        infer.main(place.flags("--variant", "opset17"))


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
    close(np.fromfile(place.out / "run" / "a_0.bin", np.float32), place.expected("a.bin", "b.bin", "c.bin", "d.bin")[0])


def test_without_warm_up_an_engine_runs_once_per_batch(infer, place, monkeypatch):
    place.add("a.bin")
    runs = []
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda self, images: runs.append(1) or run(self, images))
    assert infer.main(place.flags("--warmup_count", 0)) == 0
    assert len(runs) == 1


# pure inference


def test_without_input_the_engine_runs_on_made_up_data(infer, place, capsys):
    assert infer.main(["--model", str(place.engine), "--loop", "5"]) == 0
    assert "throughput 1000*batchsize.mean(4)" in capsys.readouterr().out
    assert not place.out.exists()


def test_outputs_of_made_up_data_are_written(infer, place):
    flags = ["--model", str(place.engine), "--output", str(place.out), "--output_dirname", "run"]
    assert infer.main(flags) == 0
    assert place.written() == ["run", "run/pure_infer_data_0.bin", "run_summary.json"]
    assert np.array_equal(np.fromfile(place.out / "run" / "pure_infer_data_0.bin", np.float32), np.zeros(20))
    assert place.summary()["filesinfo"]["0"]["infiles"] == []
    assert infer.main([*flags, "--pure_data_type", "random"]) == 0
    scores = np.fromfile(place.out / "run" / "pure_infer_data_0.bin", np.float32)
    assert scores.shape == (20,) and np.isfinite(scores).all() and (scores != 0).all()


def test_made_up_data_has_the_type_of_the_input(infer):
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
    close(place.load("b_0.npy"), place.expected("a.bin", "b.bin", "c.bin")[1:2])


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


# as a command


def test_the_command_writes_results_and_a_summary(command, place):
    place.add("a.bin", "b.bin")
    finished = command("infer", *place.flags("--outfmt", "NPY"))
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "[INFO] throughput" in finished.stdout
    close(place.load("a_0.npy"), place.expected("a.bin", "b.bin", "a.bin", "a.bin")[:1])
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
