"""Top-1 and top-5 from result folders, the proof that every image counts once, and the paired comparison."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from smlp.core import cli
from smlp.results import statistics

SCRIPT = Path(__file__).parents[3] / "scripts" / "evaluate.py"
# by its path: a package of the same name may be installed
_SPEC = importlib.util.spec_from_file_location("command_evaluate", SCRIPT)
evaluate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(evaluate)
CLASSES = 10


def write_manifest(path, bins, first=0):
    """bins: {bin name: [label, ...]}. Image names and indices count through from `first`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    index = first
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["index", "bin", "image", "class", "label", "sha256"])
        for name, labels in bins.items():
            for label in labels:
                writer.writerow([index, name, f"{label}_class/val, {index}.JPEG", f"{label}_class", label, "0" * 64])
                index += 1
    return path


def write_result(path, logits):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, logits)
    elif path.suffix == ".bin":
        logits.tofile(path)
    else:
        path.write_text("".join("".join(f"{value:f} " for value in row) + "\n" for row in logits))


class Run:
    """Twelve images, one a bin, scores that are right for some of them."""

    def __init__(self, root, images=12, suffix=".npy", seed=0):
        random = np.random.default_rng(seed)
        self.root = root
        self.labels = [int(label) for label in random.integers(0, CLASSES, images)]
        self.logits = random.normal(size=(images, CLASSES)).astype(np.float32)
        self.logits[np.arange(images), self.labels] += 1
        self.manifest = write_manifest(
            root / "bins" / "shard-0" / "manifest.csv",
            {f"batch-{index:05d}.bin": [label] for index, label in enumerate(self.labels)},
        )
        self.results = root / "out put" / "bs1"
        for index in range(images):
            write_result(self.result(index, suffix), self.logits[index : index + 1])

    def result(self, index, suffix=".npy"):
        return self.results / f"batch-{index:05d}_0{suffix}"

    def flags(self, *more):
        return ["--infer_result_dir", str(self.results), "--labels", str(self.manifest), *map(str, more)]

    def top(self, k):
        return top_k_accuracy_score(self.labels, self.logits, k=k, labels=range(CLASSES))


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def evaluated(run, *more):
    """The JSON of a run that must succeed."""
    target = run.root / "report.json"
    assert evaluate.main(run.flags("--json", target, *more)) == 0
    return json.loads(target.read_text())


def assert_refused(flags, capsys, *named):
    """The command ends with status 1 and one line on stderr that names the culprit, and writes nothing."""
    root = Path(flags[1]).parents[1]
    before = sorted(root.rglob("*"))
    outputs = ["--json", str(root / "refused.json"), "--predictions", str(root / "refused.csv")]
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda _: evaluate.main([*flags, *outputs]))
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert err.startswith("error: ") and err.count("\n") == 1
    for name in named:
        assert str(name) in err
    assert out == ""
    assert sorted(root.rglob("*")) == before


def test_scores_agree_with_scikit_learn(run, capsys):
    report = evaluated(run)
    assert report["top1"] == pytest.approx(100 * run.top(1))
    assert report["top5"] == pytest.approx(100 * run.top(5))
    assert capsys.readouterr().out == f"acc1:{run.top(1):.4f}, acc5:{run.top(5):.4f}\n"
    low, high = statistics.wilson_interval(round(12 * run.top(1)), 12)
    assert (report["top1_wilson_low"], report["top1_wilson_high"]) == (100 * low, 100 * high)
    assert (report["images"], report["num_classes"]) == (12, CLASSES)


@pytest.mark.parametrize("suffix", [".npy", ".bin", ".txt"])
def test_every_format_scores_the_same(tmp_path, suffix, capsys):
    run = Run(tmp_path, suffix=suffix)
    assert evaluate.main(run.flags("--num_classes", CLASSES)) == 0
    assert capsys.readouterr().out == f"acc1:{run.top(1):.4f}, acc5:{run.top(5):.4f}\n"


def test_float16_results(tmp_path, capsys):
    run = Run(tmp_path)
    run.logits = run.logits.astype(np.float16)
    for index in range(12):
        run.result(index).unlink()
        write_result(run.result(index, ".bin"), run.logits[index : index + 1])
    assert evaluate.main(run.flags("--num_classes", CLASSES)) == 0
    assert capsys.readouterr().out == f"acc1:{run.top(1):.4f}, acc5:{run.top(5):.4f}\n"


def test_bins_of_several_images_are_read_row_by_row(tmp_path):
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


def test_shards_join_whatever_their_order(run):
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


def test_labels_come_from_the_manifest_never_from_position(run):
    rows = run.manifest.read_text().splitlines()
    run.manifest.write_text("\n".join([rows[0], *rows[:0:-1]]) + "\n")
    assert evaluated(run)["top1"] == pytest.approx(100 * run.top(1))


def test_bins_in_subfolders_and_names_with_dots_join_by_their_first_part(tmp_path, capsys):
    # ais_bench cuts names at the first dot
    manifest = write_manifest(tmp_path / "manifest.csv", {"n01/a.b.bin": [1], "n02/c.bin": [2]})
    write_result(tmp_path / "out/a_0.npy", np.eye(3)[[1]])
    write_result(tmp_path / "out/c_0.npy", np.eye(3)[[0]])
    evaluate.main(["--infer_result_dir", str(tmp_path / "out"), "--labels", str(manifest)])
    assert capsys.readouterr().out == "acc1:0.5000, acc5:1.0000\n"


def test_equal_scores_rank_by_class_index():
    logits = np.array([[0, 7, 7, 7, 1, 7], [5, 5, 5, 5, 5, 5]], dtype=np.float32)
    for label, rank in enumerate([5, 0, 1, 2, 4, 3]):
        top, ranks = evaluate.rank_labels(logits, np.array([label, label]))
        assert top.tolist() == [1, 0]
        assert ranks.tolist() == [rank, label]


def test_ranks_agree_with_a_stable_sort():
    random = np.random.default_rng(1)
    logits = random.integers(0, 6, size=(200, 17)).astype(np.float16)
    labels = random.integers(0, 17, size=200)
    order = np.argsort(-logits, axis=1, kind="stable")
    top, ranks = evaluate.rank_labels(logits, labels)
    assert np.array_equal(top, order[:, 0])
    assert np.array_equal(ranks, (order == labels[:, None]).argmax(axis=1))


def test_top5_of_three_classes_is_everything(tmp_path, capsys):
    manifest = write_manifest(tmp_path / "manifest.csv", {"b-0.bin": [2, 2]})
    write_result(tmp_path / "out/b-0_0.npy", np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]))
    evaluate.main(["--infer_result_dir", str(tmp_path / "out"), "--labels", str(manifest)])
    assert capsys.readouterr().out == "acc1:0.5000, acc5:1.0000\n"


def test_what_ais_bench_and_snakemake_leave_is_no_result(run):
    (run.results / ".snakemake_timestamp").touch()
    (run.results / "sumary.json").write_text("{}")
    (run.results / "device0_summary.json").write_text("{}")
    summary = run.results.with_name("bs1_summary.json")
    summary.write_text(json.dumps({"filesinfo": {}, "args": [], "throughput": 3.5, "pid": 1}))
    report = evaluated(run, "--model_label", "smlpnet_tiny", "--backend", "ascend", "--batchsize", 8)
    assert (report["model"], report["backend"], report["batch"]) == ("smlpnet_tiny", "ascend", 8)
    assert report["precision"] is None and report["emulated"] is False


def write_summary(run, **changes):
    known = {
        "model": "smlpnet_tiny",
        "backend": "openvino",
        "precision": "bf16",
        "batch": 8,
        "device": "CPU",
        "emulated": True,
        "engine": {"path": "bs8.xml", "sha256": "ab" * 32},
    }
    path = run.results.with_name(run.results.name + "_summary.json")
    path.write_text(json.dumps({"throughput": 1.0, "smlp": {**known, **changes}}))
    return path


def test_facts_come_from_the_summary_of_infer(run):
    summary = write_summary(run)
    report = evaluated(run)
    facts = {
        key: report[key] for key in ("model", "backend", "precision", "batch", "device", "emulated", "engine_sha256")
    }
    assert facts == {
        "model": "smlpnet_tiny",
        "backend": "openvino",
        "precision": "bf16",
        "batch": 8,
        "device": "CPU",
        "emulated": True,
        "engine_sha256": "ab" * 32,
    }
    assert report["inputs"]["summary_0"]["path"] == str(summary)
    assert report["inputs"]["labels_0"]["path"] == str(run.manifest)
    assert report["versions"]["numpy"] == np.__version__
    assert evaluated(run, "--model_label", "ours")["model"] == "ours"


def test_skipped_images_are_counted_from_the_sidecars(run):
    assert evaluated(run)["skipped"] is None
    sidecar = run.manifest.parent.with_name("shard-0.json")
    sidecar.write_text(json.dumps({"skipped": ["a.JPEG", "b.JPEG"]}))
    assert evaluated(run)["skipped"] == 2


def test_without_a_reference_nothing_is_claimed_about_it(run):
    report = evaluated(run)
    for key in ("agreement", "flips_right_to_wrong", "mcnemar_p", "drop_points", "verdict", "flips", "margin_points"):
        assert report[key] is None


def test_a_run_agrees_with_itself(run):
    table = run.root / "reference.csv"
    evaluated(run, "--predictions", table)
    report = evaluated(run, "--reference", table)
    assert report["agreement"] == 100
    assert (report["flips_right_to_wrong"], report["flips_wrong_to_right"], report["flips"]) == (0, 0, [])
    assert (report["mcnemar_p"], report["drop_points"]) == (1.0, 0.0)
    assert report["verdict"] == "undecided"  # 12 images do not prove a drop below one point
    assert report["inputs"]["reference"]["path"] == str(table)


def test_flips_against_the_reference(tmp_path, capsys):
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


def test_a_drop_is_counted_in_the_right_direction(tmp_path):
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


def damage_missing(run):
    run.result(7).unlink()


def damage_surplus(run):
    write_result(run.results / "batch-00012_0.npy", run.logits[:1])


def damage_second_output(run):
    write_result(run.results / "batch-00003_1.npy", run.logits[:1])


def damage_unknown_file(run):
    (run.results / "notes.md").touch()


def damage_two_formats(run):
    write_result(run.result(3, ".txt"), run.logits[3:4])


def damage_truncated(run):
    content = run.result(3).read_bytes()
    run.result(3).write_bytes(content[:-1])


def damage_header_only(run):
    run.result(3).write_bytes(b"\x93NUMPY")


def damage_empty(run):
    run.result(3).write_bytes(b"")


def damage_longer(run):
    run.result(3).write_bytes(run.result(3).read_bytes() + b"\0")


def damage_class_count(run):
    np.save(run.result(3), run.logits[3:4, :-1])


def damage_image_count(run):
    np.save(run.result(3), run.logits[2:4])


def damage_rank(run):
    np.save(run.result(3), run.logits[3])


def damage_nan(run):
    run.logits[3, 4] = np.nan
    np.save(run.result(3), run.logits[3:4])


def damage_infinity(run):
    run.logits[3, 4] = -np.inf
    np.save(run.result(3), run.logits[3:4])


def damage_text(run):
    np.save(run.result(3), np.array([["x"] * CLASSES]))


def damage_pickle(run):
    np.save(run.result(3), np.array([[print] * CLASSES], dtype=object), allow_pickle=True)


def damage_archive(run):
    with open(run.result(3), "wb") as stream:
        np.savez(stream, logits=run.logits[3:4])


def damage_giant_header(run):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 10), }" % 10**25
    header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    run.result(3).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def damage_precision(run):
    np.save(run.result(3), run.logits[3:4].astype(np.float64))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_missing, "batch-00007_0"),
        (damage_surplus, "batch-00012_0.npy"),
        (damage_second_output, "batch-00003_1.npy"),
        (damage_unknown_file, "notes.md"),
        (damage_two_formats, "batch-00003_0.txt"),
        (damage_truncated, "batch-00003_0.npy"),
        (damage_header_only, "batch-00003_0.npy"),
        (damage_empty, "batch-00003_0.npy"),
        (damage_longer, "batch-00003_0.npy"),
        (damage_class_count, "batch-00003_0.npy: holds 1 images of 9 classes"),
        (damage_image_count, "batch-00003_0.npy: holds 2 images"),
        (damage_rank, "batch-00003_0.npy"),
        (damage_nan, "batch-00003_0.npy: row 0 is not finite"),
        (damage_infinity, "batch-00003_0.npy: row 0 is not finite"),
        (damage_text, "batch-00003_0.npy"),
        (damage_pickle, "batch-00003_0.npy"),
        (damage_archive, "batch-00003_0.npy"),
        (damage_giant_header, "batch-00003_0.npy"),
        (damage_precision, "batch-00003_0.npy: holds float64"),
    ],
)
def test_a_damaged_result_is_refused_by_name(run, damage, named, capsys):
    damage(run)
    assert_refused(run.flags(), capsys, named)


@pytest.mark.parametrize("cut", [1, 2, CLASSES * 2, CLASSES * 4])
def test_a_short_bin_is_refused(tmp_path, cut, capsys):
    run = Run(tmp_path, suffix=".bin")
    path = run.result(5, ".bin")
    path.write_bytes(path.read_bytes()[:-cut])  # half of float32 looks like float16, were it not for the others
    assert_refused(run.flags("--num_classes", CLASSES), capsys, "batch-00005_0.bin")


def test_a_bin_needs_the_number_of_classes(tmp_path, capsys):
    run = Run(tmp_path, suffix=".bin")
    assert_refused(run.flags(), capsys, "batch-00000_0.bin", "--num_classes")
    assert_refused(run.flags("--num_classes", CLASSES + 1), capsys, "batch-00000_0.bin", "40 bytes", "44 as float32")
    write_summary(run, num_classes=CLASSES)
    assert evaluated(run)["num_classes"] == CLASSES


@pytest.mark.parametrize(
    "text",
    ["", "0.5 0.1", "0.5 " * CLASSES, "0.5 " * (CLASSES - 1) + "\n", "0.5 \n" * 2 + "0.5 0.5 \n", "0.5 x \n", "\xff\n"],
)
def test_a_damaged_txt_is_refused(tmp_path, text, capsys):
    run = Run(tmp_path, suffix=".txt")
    run.result(3, ".txt").write_text(text, encoding="latin-1")
    assert_refused(run.flags(), capsys, "batch-00003_0.txt")


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda text: text.replace("label", "target"), "no column label"),
        (lambda text: text.replace("index,bin", "idx,bin"), "no column index"),
        (lambda text: "", "no column"),
        (lambda text: text.splitlines()[0] + "\n", "no image is listed"),
        (lambda text: text + text.splitlines()[1] + "\n", "0.JPEG is listed twice"),
        (lambda text: text + "0,batch-00012.bin,new.JPEG,0,0,0\n", "index 0 is listed twice"),
        (lambda text: text + "12,batch-00012.bin,new.JPEG\n", "line 14"),
        (lambda text: text + "12,batch-00012.bin,new.JPEG,0,-1,0\n", "label '-1'"),
        (lambda text: text + "12,batch-00012.bin,new.JPEG,0,cat,0\n", "label 'cat'"),
        (lambda text: text + f"12,batch-00012.bin,new.JPEG,0,{'9' * 5000},0\n", "of image new.JPEG"),
        (lambda text: text + "12,batch-00003.1.bin,new.JPEG,0,1,0\n", "share the stem batch-00003"),
        (lambda text: text + '12,"batch-00012.bin,new.JPEG,0,1,0\n', "is no CSV file"),
        (lambda text: text + "\0", "manifest.csv"),
    ],
)
def test_a_damaged_manifest_is_refused(run, edit, named, capsys):
    run.manifest.write_text(edit(run.manifest.read_text()))
    assert_refused(run.flags(), capsys, run.manifest, named)


def test_a_manifest_that_is_no_text_is_refused(run, capsys):
    run.manifest.write_bytes(b"\x89PNG\xff\xfe")
    assert_refused(run.flags(), capsys, run.manifest, "is no CSV file")


def test_a_label_beyond_the_models_classes_is_refused(run, capsys):
    run.manifest.write_text(run.manifest.read_text() + "12,batch-00012.bin,cat.JPEG,cat,10,0\n")
    write_result(run.result(12), run.logits[:1])
    assert_refused(run.flags(), capsys, "cat.JPEG", "label 10", "10 classes")


def test_missing_paths_are_refused(run, capsys):
    assert_refused([*run.flags(), "--labels", str(run.root / "no.csv")], capsys, "no.csv")
    assert_refused([*run.flags(), "--reference", str(run.root / "no.csv")], capsys, "no.csv")
    flags = run.flags()
    flags[1] = str(run.root / "out put" / "bs2")
    assert_refused(flags, capsys, "bs2")


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda lines: lines[:-1], "lacks image"),
        (lambda lines: [*lines, "12,more.JPEG,1,1,0"], "more.JPEG"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 3)[0] + ",0,0,0"], "label 0"),
        (lambda lines: [*lines, lines[-1]], "contradicts itself"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 2)[0] + ",9,1"], "contradicts itself"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",x"], "rank 'x'"),
        (lambda lines: [lines[0].replace("rank", "place"), *lines[1:]], "no column rank"),
    ],
)
def test_a_reference_of_other_images_is_refused(run, edit, named, capsys):
    table = run.root / "reference.csv"
    evaluate.main(run.flags("--predictions", table))
    capsys.readouterr()
    table.write_text("\n".join(edit(table.read_text().splitlines())) + "\n")
    assert_refused(run.flags("--reference", table), capsys, "reference.csv", named)


@pytest.mark.parametrize("name", ["backend", "precision", "batch", "device", "model", "emulated"])
def test_shards_of_different_runs_are_refused(run, name, capsys):
    write_summary(run)
    other = Run(run.root / "other", seed=1)
    other.results = other.results.rename(other.results.with_name("bs2"))
    path = write_summary(other, **{name: "another"})
    shards = [str(run.results), str(other.results)]
    with pytest.raises(cli.UserError, match=f"{name} is 'another' where"):
        evaluate.run_facts(map(Path, shards), {})
    path.unlink()
    with pytest.raises(cli.UserError, match="no summary by infer.py"):
        evaluate.run_facts(map(Path, shards), {})


def test_a_flag_that_contradicts_the_summary_is_refused(run, capsys):
    path = write_summary(run)
    assert_refused(run.flags("--backend", "onnxruntime"), capsys, path, "'openvino'", "'onnxruntime'")
    assert_refused(run.flags("--batchsize", 4), capsys, path, "batch is 8")


@pytest.mark.parametrize("text", ["{", '{"smlp": 3}', '{"smlp": {"num_classes": "10"}}'])
def test_a_damaged_summary_is_refused(run, text, capsys):
    path = write_summary(run)
    path.write_text(text)
    assert_refused(run.flags(), capsys, path)


def test_the_command(run):
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
def test_wrong_usage(run, flags, capsys):
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
