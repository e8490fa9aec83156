"""Top-1 and top-5 from result folders, the proof that every image counts once, and the paired comparison."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smlp.results import predictions, statistics

SCRIPT = Path(__file__).parents[3] / "scripts" / "evaluate.py"
CLASSES = 10


def test_scores_agree_with_scikit_learn(run, capsys, evaluated):
    report = evaluated(run)
    assert report["top1"] == pytest.approx(100 * run.top(1))
    assert report["top5"] == pytest.approx(100 * run.top(5))
    assert capsys.readouterr().out == f"acc1:{run.top(1):.4f}, acc5:{run.top(5):.4f}\n"
    low, high = statistics.wilson_interval(round(12 * run.top(1)), 12)
    assert (report["top1_wilson_low"], report["top1_wilson_high"]) == (100 * low, 100 * high)
    assert (report["images"], report["num_classes"]) == (12, CLASSES)


@pytest.mark.parametrize("suffix", [".npy", ".bin", ".txt"])
def test_every_format_scores_the_same(tmp_path, suffix, capsys, evaluate, make_run):
    run = make_run(tmp_path, suffix=suffix)
    assert evaluate.main(run.flags("--outputs_dtype", "float32")) == 0
    assert capsys.readouterr().out == f"acc1:{run.top(1):.4f}, acc5:{run.top(5):.4f}\n"


def test_results_may_be_float16(tmp_path, capsys, evaluate, write_result, make_run):
    run = make_run(tmp_path)
    run.logits = run.logits.astype(np.float16)
    for index in range(12):
        run.result(index).unlink()
        write_result(run.result(index, ".bin"), run.logits[index : index + 1])
    assert evaluate.main(run.flags("--outputs_dtype", "float16")) == 0
    assert capsys.readouterr().out == f"acc1:{run.top(1):.4f}, acc5:{run.top(5):.4f}\n"


def test_bins_of_several_images_are_read_row_by_row(tmp_path, evaluate, write_manifest, write_result):
    labels = [3, 1, 4, 1, 5, 9, 2]
    manifest = write_manifest(tmp_path / "bins/manifest.csv", {"b-0.bin": labels[:4], "b-1.bin": labels[4:]})
    scores = np.eye(CLASSES, dtype=np.float32)[labels]
    scores[5] = np.eye(CLASSES)[0]  # the only wrong one
    write_result(tmp_path / "out/b-0_0.npy", scores[:4])
    write_result(tmp_path / "out/b-1_0.npy", scores[4:])
    table = tmp_path / "predictions.csv"
    evaluate.main(["--infer_result_dir", str(tmp_path / "out"), "--labels", str(manifest), "--predictions", str(table)])
    rows = list(csv.DictReader(table.open()))
    assert [int(row["label"]) for row in rows] == labels
    assert [int(row["predicted"]) for row in rows] == [3, 1, 4, 1, 5, 0, 2]
    assert [int(row["rank"]) for row in rows] == [0, 0, 0, 0, 0, 9, 0]
    assert rows[5]["image"] == "9_class/val, 5.JPEG"


def test_shards_join_whatever_their_order(run, evaluate, evaluated, write_manifest, write_result):
    whole = evaluated(run)
    halves = []
    for number, (first, last) in enumerate([(0, 5), (5, 12)]):
        bins = {f"batch-{index:05d}.bin": [run.labels[index]] for index in range(first, last)}
        manifest = write_manifest(run.root / f"shards/shard-{number}/manifest.csv", bins, first)
        for index in range(first, last):
            write_result(run.root / f"half-{number}/{run.result(index).name}", run.logits[index : index + 1])
        halves.append((run.root / f"half-{number}", manifest.parent))  # a folder stands for its manifest.csv
    tables = []
    for order in (halves, halves[::-1]):
        table = run.root / f"predictions-{len(tables)}.csv"
        flags = ["--infer_result_dir", *(str(half[0]) for half in order), "--labels", *(str(half[1]) for half in order)]
        evaluate.main([*flags, "--json", str(run.root / "halves.json"), "--predictions", str(table)])
        tables.append(table.read_bytes())
        report = json.loads((run.root / "halves.json").read_text())
        assert [report[key] for key in ("images", "top1", "top5")] == [whole[key] for key in ("images", "top1", "top5")]
    assert tables[0] == tables[1]


def test_labels_come_from_the_manifest_never_from_position(run, evaluated):
    rows = run.manifest.read_text().splitlines()
    run.manifest.write_text("\n".join([rows[0], *rows[:0:-1]]) + "\n")
    assert evaluated(run)["top1"] == pytest.approx(100 * run.top(1))


def test_bins_in_subfolders_and_names_with_dots_join_by_their_first_part(
    tmp_path, capsys, evaluate, write_manifest, write_result
):
    # ais_bench cuts names at the first dot
    manifest = write_manifest(tmp_path / "manifest.csv", {"n01/a.b.bin": [1], "n02/c.bin": [2]})
    write_result(tmp_path / "out/a_0.npy", np.eye(3)[[1]])
    write_result(tmp_path / "out/c_0.npy", np.eye(3)[[0]])
    evaluate.main(["--infer_result_dir", str(tmp_path / "out"), "--labels", str(manifest)])
    assert capsys.readouterr().out == "acc1:0.5000, acc5:1.0000\n"


def test_equal_scores_rank_by_class_index():
    logits = np.array([[0, 7, 7, 7, 1, 7], [5, 5, 5, 5, 5, 5]], dtype=np.float32)
    for label, rank in enumerate([5, 0, 1, 2, 4, 3]):
        top, ranks = predictions.rank_labels(logits, np.array([label, label]))
        assert top.tolist() == [1, 0]
        assert ranks.tolist() == [rank, label]


def test_ranks_agree_with_a_stable_sort():
    random = np.random.default_rng(1)
    logits = random.integers(0, 6, size=(200, 17)).astype(np.float16)
    labels = random.integers(0, 17, size=200)
    order = np.argsort(-logits, axis=1, kind="stable")
    top, ranks = predictions.rank_labels(logits, labels)
    assert np.array_equal(top, order[:, 0])
    assert np.array_equal(ranks, (order == labels[:, None]).argmax(axis=1))


def test_top5_of_three_classes_is_everything(tmp_path, capsys, evaluate, write_manifest, write_result):
    manifest = write_manifest(tmp_path / "manifest.csv", {"b-0.bin": [2, 2]})
    write_result(tmp_path / "out/b-0_0.npy", np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]))
    evaluate.main(["--infer_result_dir", str(tmp_path / "out"), "--labels", str(manifest)])
    assert capsys.readouterr().out == "acc1:0.5000, acc5:1.0000\n"


def test_what_ais_bench_and_snakemake_leave_is_no_result(run, evaluated):
    (run.results / ".snakemake_timestamp").touch()
    (run.results / "sumary.json").write_text("{}")
    (run.results / "device0_summary.json").write_text("{}")
    summary = run.results.with_name("bs1_summary.json")
    summary.write_text(json.dumps({"filesinfo": {}, "args": [], "throughput": 3.5, "pid": 1}))
    report = evaluated(run, "--model_label", "smlpnet_tiny", "--backend", "ascend", "--batchsize", 8)
    assert (report["model"], report["backend"], report["batch"]) == ("smlpnet_tiny", "ascend", 8)
    assert report["precision"] is None and report["emulated"] is False


def test_facts_come_from_the_summary_of_infer(run, evaluated):
    summary = run.write_summary()
    report = evaluated(run)
    facts = {key: report[key] for key in ("model", "backend", "precision", "batch", "device", "emulated", "engine_id")}
    assert facts == {
        "model": "smlpnet_tiny",
        "backend": "openvino",
        "precision": "bf16",
        "batch": 8,
        "device": "CPU",
        "emulated": True,
        "engine_id": "ab" * 32,
    }
    assert report["inputs"]["summary_0"]["path"] == str(summary)
    assert report["inputs"]["labels_0"]["path"] == str(run.manifest)
    assert report["versions"]["numpy"] == np.__version__
    assert evaluated(run, "--model_label", "ours")["model"] == "ours"


def test_skipped_images_are_counted_from_the_sidecars(run, evaluated):
    assert evaluated(run)["skipped"] is None
    sidecar = run.manifest.parent.with_name("shard-0.json")
    sidecar.write_text(json.dumps({"skipped": ["a.JPEG", "b.JPEG"]}))
    assert evaluated(run)["skipped"] == 2


def test_without_a_reference_nothing_is_claimed_about_it(run, evaluated):
    report = evaluated(run)
    for key in ("agreement", "flips_right_to_wrong", "mcnemar_p", "drop_points", "verdict", "flips", "margin_points"):
        assert report[key] is None


def test_a_run_agrees_with_itself(run, evaluated):
    table = run.root / "reference.csv"
    evaluated(run, "--predictions", table)
    report = evaluated(run, "--reference", table)
    assert report["agreement"] == 100
    assert (report["flips_right_to_wrong"], report["flips_wrong_to_right"], report["flips"]) == (0, 0, [])
    assert (report["mcnemar_p"], report["drop_points"]) == (1.0, 0.0)
    assert report["verdict"] == "undecided"  # 12 images do not prove a drop below one point
    assert report["inputs"]["reference"]["path"] == str(table)


def test_flips_against_the_reference(tmp_path, capsys, evaluate, write_manifest, write_result):
    labels = [0, 1, 2, 3, 4, 5]
    reference, engine = [0, 1, 2, 9, 9, 9], [0, 8, 2, 3, 8, 9]
    manifest = write_manifest(tmp_path / "manifest.csv", {"b-0.bin": labels})
    flags = ["--labels", str(manifest), "--infer_result_dir"]
    write_result(tmp_path / "reference/b-0_0.npy", np.eye(10)[reference])
    write_result(tmp_path / "engine/b-0_0.npy", np.eye(10)[engine])
    evaluate.main([*flags, str(tmp_path / "reference"), "--predictions", str(tmp_path / "reference.csv")])
    evaluate.main(
        [*flags, str(tmp_path / "engine"), "--reference", str(tmp_path / "reference.csv"), "--margin_points", "5"]
        + ["--json", str(tmp_path / "engine.json")]
    )
    report = json.loads((tmp_path / "engine.json").read_text())
    assert (report["flips_right_to_wrong"], report["flips_wrong_to_right"]) == (1, 1)
    assert report["agreement"] == 50
    assert (report["drop_points"], report["mcnemar_p"], report["margin_points"]) == (0.0, 1.0, 5.0)
    assert report["drop_low_points"] < 0 < report["drop_high_points"]
    assert report["flips"] == [
        {"image": "1_class/val, 1.JPEG", "label": 1, "reference": 1, "predicted": 8, "kind": "right_to_wrong"},
        {"image": "3_class/val, 3.JPEG", "label": 3, "reference": 9, "predicted": 3, "kind": "wrong_to_right"},
        {"image": "4_class/val, 4.JPEG", "label": 4, "reference": 9, "predicted": 8, "kind": "wrong_to_wrong"},
    ]
    assert "undecided: +0.000 points lost" in capsys.readouterr().err


def test_a_drop_is_counted_in_the_right_direction(tmp_path, evaluate, write_manifest, write_result):
    manifest = write_manifest(tmp_path / "manifest.csv", {"b-0.bin": [1] * 40})
    flags = ["--labels", str(manifest), "--infer_result_dir"]
    write_result(tmp_path / "reference/b-0_0.npy", np.eye(3)[[1] * 40])
    write_result(tmp_path / "engine/b-0_0.npy", np.eye(3)[[0] * 30 + [1] * 10])
    evaluate.main([*flags, str(tmp_path / "reference"), "--predictions", str(tmp_path / "reference.csv")])
    out = tmp_path / "engine.json"
    evaluate.main(
        [*flags, str(tmp_path / "engine"), "--reference", str(tmp_path / "reference.csv"), "--json", str(out)]
    )
    report = json.loads(out.read_text())
    assert (report["drop_points"], report["verdict"]) == (75.0, "fail")
    assert report["mcnemar_p"] == 2.0**-29


def test_the_command_prints_accuracies_or_one_error(run):
    target = run.root / "with space" / "report.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, *run.flags("--json", target)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"acc1:{run.top(1):.4f}, acc5:{run.top(5):.4f}\n"
    assert json.loads(target.read_text())["command"][2:4] == ["--infer_result_dir", str(run.results)]
    run.result(3).unlink()
    target.unlink()
    failed = subprocess.run([sys.executable, SCRIPT, *run.flags("--json", target)], capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: batch-00003_0: 1 of 12 results are missing")
    assert failed.stderr.count("\n") == 1 and not target.exists()


@pytest.mark.parametrize("flags", [[], ["--margin_points", "nan"], ["--margin_points", "-1"], ["--num_classes", "0"]])
def test_wrong_usage_ends_with_status_2(run, flags, capsys, evaluate):
    with pytest.raises(SystemExit) as ended:
        evaluate.main(run.flags(*flags) if flags else [])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_numpy_is_all_it_imports():
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import evaluate; "
        "print([name for name in ('torch', 'scipy', 'pandas', 'statsmodels', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
