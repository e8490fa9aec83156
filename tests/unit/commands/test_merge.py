"""scripts/merge.py: sweeps of several hosts as one table, and what it refuses to join."""

import csv
import importlib.util
import shutil
from pathlib import Path

import pandas
import pytest
from result_folders import IMAGES, START, Results

from smlp.core.cli import UserError
from smlp.results import history, merging
from smlp.results.predictions import Prediction, write_predictions

ROOT = Path(__file__).parents[3]
_SPEC = importlib.util.spec_from_file_location("command_merge", ROOT / "scripts" / "merge.py")
merge = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(merge)


@pytest.fixture
def hosts(tmp_path):
    return [Results(tmp_path / name / "results") for name in ("host1", "host2")]


def run(hosts, *more):
    assert merge.main([*(str(host.folder) for host in hosts), *map(str, more)]) == 0


def rows(folder):
    with open(folder / "merged.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_hosts_become_rows(hosts, tmp_path, capsys):
    one, other = hosts
    one.measure("openvino", 80.0)
    other.measure("openvino", 900.0, device="cuda:0", power_w_mean=71.5, peak_device_mb=300.0)
    run(hosts, "--output_dir", tmp_path / "merged")
    found = rows(tmp_path / "merged")
    about = [(row["host"], row["device"], row["precision"], row["backend"]) for row in found]
    assert about == [
        ("host1", "cpu (Testor 9000)", "fp32", "openvino"),
        ("host2", "cpu (Testor 9000)", "fp32", "onnxruntime"),
        ("host2", "cuda:0", "fp32", "openvino"),
    ]
    assert [row["best_images_per_s"] for row in found] == ["80", "50", "900"]
    assert [row["images_per_s_at_8"] for row in found] == ["80", "50", "900"]
    assert {row["images_per_s_at_1"] for row in found} == {""}
    assert {(row["verdict"], row["images"], row["top1_percent"]) for row in found} == {("pass", "1000", "100")}
    assert (found[2]["power_w_mean"], found[2]["peak_device_mb"]) == ("71.5", "300")
    assert {row["checkpoint_sha256"] for row in found} == {START["sha256"]}
    text = capsys.readouterr().out
    assert text == (tmp_path / "merged" / "merged.md").read_text()
    assert "| smlpnet_tiny | host2 | cuda:0 " in text and "900.0 (bs 8)" in text
    assert len(pandas.read_parquet(tmp_path / "merged" / "merged.parquet")) == 3


def test_the_best_row_is_one_whose_accuracy_holds(hosts, tmp_path, capsys):
    one, _ = hosts
    one.measure("openvino", 500.0)
    one.score("openvino", verdict="fail")
    run(hosts, "--output_dir", tmp_path)
    assert [(row["host"], row["backend"]) for row in rows(tmp_path)][0] == ("host1", "onnxruntime")
    one.score("onnxruntime", verdict="undecided")
    run(hosts, "--output_dir", tmp_path)
    assert [(row["backend"], row["verdict"]) for row in rows(tmp_path)][0] == ("openvino", "fail")


def test_marks_and_failures_are_told(hosts, capsys):
    one, other = hosts
    one.measure("onnxruntime", 60.0, stable=False)
    one.fail("measure", "openvino")
    other.measure("onnxruntime", 60.0, emulated=True, device="ascend:0")
    run(hosts)
    text = capsys.readouterr().out
    assert "60.0* (bs 8)" in text and "ascend:0 (emulated)" in text
    assert "failed on host1: smlpnet_tiny, openvino fp32, batch size 8: out of memory" in text


def test_other_checkpoints_are_refused(hosts, tmp_path, capsys):
    for path in (hosts[1].folder).glob("*/**/bs8.json"):
        path.write_text(path.read_text().replace(START["sha256"], "ef" * 32))
    with pytest.raises(UserError, match="host2: smlpnet_tiny starts from another .* efefefefefefefef…, there"):
        run(hosts, "--output_dir", tmp_path / "merged")
    assert not (tmp_path / "merged").exists() and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda one: one[:-1], "1 are missing, val/999.png for one"),
        (lambda one: [*one, Prediction(1000, "val/x.png", 1, 1, 0)], "1 are new, val/x.png for one"),
        (lambda one: [Prediction(0, "val/0.png", 7, 7, 0), *one[1:]], "val/0.png has 7, before 0"),
    ],
)
def test_other_images_are_refused(hosts, change, named):
    found = [Prediction(number, f"val/{number}.png", number % 10, number % 10, 0) for number in range(IMAGES)]
    write_predictions(hosts[1].reference, change(found))
    for backend in ("onnxruntime", "openvino"):
        hosts[1].score(backend)
    with pytest.raises(UserError, match=f"host2: smlpnet_tiny scored other images than host1: .*{named}"):
        run(hosts)


def test_other_contents_of_the_same_names_are_refused(hosts):
    entries = {name: merge.finished.read_folder(host.folder) for name, host in zip("ab", hosts)}
    for digest, entry in zip(("x", "y"), entries.values()):
        for row in entry.rows:
            row.asked["images"] = digest
    with pytest.raises(UserError, match="the same names and labels, but other contents"):
        merging.check(entries)


def test_entries_of_a_history_can_be_merged(hosts, tmp_path, capsys):
    for host in hosts:
        host.tabulate(tmp_path / host.folder.parent.name)
    paths = [history.paths(tmp_path / host.folder.parent.name)[0] for host in hosts]
    shutil.rmtree(hosts[0].folder)
    shutil.move(paths[0], tmp_path / "host1.jsonl")
    shutil.move(paths[0].parent / "predictions", tmp_path / "predictions")
    assert merge.main([str(tmp_path / "host1.jsonl"), str(hosts[1].folder)]) == 0
    assert "| smlpnet_tiny | host1 |" in capsys.readouterr().out


def test_nothing_to_merge_is_one_line(hosts, tmp_path):
    with pytest.raises(UserError, match="given twice"):
        run([hosts[0], hosts[0]])
    with pytest.raises(UserError, match="no such folder"):
        merge.main([str(tmp_path / "none")])
    for host in hosts:
        shutil.rmtree(host.folder / "measure")
    with pytest.raises(UserError, match="none of these sweeps has a row that was measured"):
        run(hosts)


def test_every_column_is_explained():
    explained = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    assert [column.title for column in merging.MERGED if f"`{column.title}`" not in explained] == []
