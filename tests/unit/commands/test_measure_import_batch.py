"""The batch size of imported throughput: what ais_bench's summary tells of it, and what it does not."""

import json

import numpy as np
import pytest
from result_files import Sweep, judged, throughput

from smlp.core.cli import UserError


def summary(batch, files=40, loop=1, words=(), inputs=1, new=True, told=None, made_up=False, mean_ms=2.0):
    """As ais_bench writes it: files in runs of a batch, the last one padded, no warm-up; told: by --batchsize."""
    runs = 1 if made_up else -(-files // batch)
    names = ["pure_infer_data"] if made_up else [f"batch-{index:05d}.bin" for index in range(files)]
    times = {"min": 1.0, "max": 3.0, "mean": mean_ms, "median": 1.5, "percentile(99%)": 3.0}
    asked = ["--batchsize", str(told)] if told else []
    record = {
        "filesinfo": {
            str(index): {
                "infiles": [f"in{place}/{name}" for place in range(inputs)],
                "outfiles": [f"out/{index}_0.bin"],
            }
            for index, name in enumerate(names)
        },
        "args": ["ais_bench", "--model", "m.om", *asked, *(["--loop", str(loop)] if loop > 1 else []), *words],
        "NPU_compute_time": times,
        # 0.0.1 takes 1 unless told
        "throughput": 1000 * (told or (batch if new else 1)) / mean_ms,
    }
    if new:
        times["count"] = runs * loop
        record |= {"npu_compute_time_list": [mean_ms] * runs * loop, "pid": 1}
    return record


@pytest.fixture
def imported(tmp_path, load_command):
    """imported(summary, batch, *flags): what measure_import.py makes of it, filed under this batch size."""

    def run(record, batch, *more):
        (tmp_path / "in.json").write_text(json.dumps(record))
        flags = ["--summary", tmp_path / "in.json", "--output", tmp_path / "out.json", "--model_label", "m"]
        flags += ["--precision", "high", "--batchsize", batch, *more]
        assert load_command("measure_import").main(list(map(str, flags))) == 0
        return json.loads((tmp_path / "out.json").read_text())["smlp"]

    return run


def test_results_of_batch_4_are_not_taken_for_batch_8(tmp_path, imported):
    with pytest.raises(UserError) as error:
        imported(summary(4, words=["--batchsize", "8"]), 8)
    assert str(error.value) == (
        f"{tmp_path}/in.json: was measured with batch size 4 by its runs and files, but --batchsize is 8; put the "
        "results into the folder of their batch size (or say --images_per_file, if a file holds several)"
    )
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("told", [None, 8])
def test_any_other_batch_size_is_found_out_or_the_row_is_not_checked(imported, told):
    """Batch sizes 1 to 8 under every other one, whatever files, loops and inputs there are, and padded or not."""
    random = np.random.default_rng(0)
    checked = refused = 0
    for _ in range(400):
        batch, claimed = (int(value) for value in random.integers(1, 9, 2))
        files, loop = int(random.integers(1, 200)), int(random.choice([1, 1, 5]))
        record = summary(batch, files, loop, inputs=int(random.integers(1, 3)), told=told)
        try:
            found = imported(record, claimed)["batch_checked"]
        except UserError:
            assert claimed != batch, (batch, files, loop)
            refused += 1
        else:
            assert found is False or claimed == batch, (batch, claimed, files, loop)
            checked += found
    assert checked > 30 and refused > 200


def test_the_summary_of_real_sizes_tells_the_batch_size(imported):
    for batch in (1, 4, 8, 16, 32, 64):
        assert imported(summary(batch, 1000, told=batch), batch)["batch_checked"] is True


def test_without_files_the_throughput_tells_it_unless_it_was_told(imported):
    assert imported(summary(8, made_up=True, loop=100), 8)["batch_checked"] is True
    with pytest.raises(UserError, match="in.json: was measured with batch size 4 by its throughput"):
        imported(summary(4, made_up=True, loop=100), 8)
    assert imported(summary(4, made_up=True, loop=100, told=8), 8)["batch_checked"] is False


def test_the_first_version_tells_nothing(imported):
    assert imported(summary(8, new=False), 8)["batch_checked"] is False
    assert imported({"NPU_compute_time": {"mean": 2.0}}, 8)["batch_checked"] is False


def test_files_of_several_images_make_larger_batches(imported):
    record = summary(2, 40, told=8)
    with pytest.raises(UserError, match="batch size 2 by its runs and files"):
        imported(record, 8)
    assert imported(record, 8, "--images_per_file", 4)["batch_checked"] is True


@pytest.mark.parametrize(
    "change",
    [
        {"args": None},
        {"args": ["ais_bench", "--loop", "many"]},
        {"args": ["ais_bench", "--loop", "0"], "throughput": None},
        {"filesinfo": [3], "throughput": "fast"},
        {"filesinfo": {"0": 3, "1": {"infiles": 3}}, "throughput": None},
        {"NPU_compute_time": 3, "filesinfo": None},
        {"args": ["ais_bench", "--threads", "4"], "filesinfo": {}},
    ],
)
def test_what_the_summary_does_not_say_as_usual_tells_nothing(imported, change):
    assert imported({**summary(4), **change}, 8)["batch_checked"] is False


def test_a_row_of_an_unchecked_batch_size_says_so_and_is_in_no_ratio_and_no_best_row(tmp_path):
    rows = [throughput("onnxruntime", "fp32", batch, rate) for batch, rate in ((1, 10.0), (8, 20.0))]
    rows += [throughput("openvino", "fp32", batch, 40.0, batch_checked=batch == 1) for batch in (1, 8)]
    accuracies = [judged(backend, "fp32", batch) for backend in ("onnxruntime", "openvino") for batch in (1, 8)]
    made = Sweep(tmp_path, accuracies, rows).make("--published_name", "smlpnet_tiny=none")
    rates = made.table("throughput.md", "Throughput: smlpnet_tiny, images/s")
    assert rates["1"] == ["10.0", "40.0"] and rates["8"] == ["20.0", "40.0 [1]"]
    assert (
        "- [1] openvino fp32, batch size 8: the batch size is as the folder says, not checked; the row enters no ratio "
        "and is no best row.\n"
    ) in made.text("throughput.md")
    ratios = made.table("throughput.md", "Throughput ratios: smlpnet_tiny")
    assert ratios["openvino fp32 / onnxruntime fp32"] == ["4.00", "–", "2.00"]
    (best,) = made.rows("decision.csv")
    assert (best["backend"], best["batch"]) == ("openvino", "1")
    assert [row["batch_checked"] for row in made.rows("throughput.csv")] == ["", "", "true", "false"]
