"""Measurements know under which conditions they were made, and the environment changes none of them."""

import csv
import glob
import json
import shlex

from conftest import DEMO

PLAIN_PYTHON = True  # see new_project

SMALL = {
    **DEMO,
    "dataset": {**DEMO["dataset"], "shards": 1},
    "backends": {"onnxruntime": {"env": {"OMP_WAIT_POLICY": "passive"}}},
}


def throughput(project):
    with open(project.folder / "results/tables/throughput.csv", newline="", encoding="utf-8") as stream:
        return {(row["backend"], row["batch"]): row for row in csv.DictReader(stream)}


def test_rows_of_other_cores_are_marked_until_their_command_measured_them_again(new_project):
    project = new_project({**SMALL, "batch_sizes": [1]})
    project.where = ("--cores", "1")
    project.environment |= {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "OMP_NUM_THREADS": "7"}
    said = project.sweep()
    assert said.count("not used: OMP_NUM_THREADS, ONEDNN_DEFAULT_FPMATH_MODE of the environment") == 1
    assert "BF16" not in "".join(path.read_text() for path in (project.folder / "results/logs").rglob("*.log"))
    assert "not used" not in "".join(path.read_text() for path in (project.folder / "results/logs").rglob("*.log"))

    project.configure(SMALL)
    project.where = ("--cores", "64")
    said = project.sweep()
    assert said.count("--cores 64: cut to ") == 1
    rows = throughput(project)
    if rows["pytorch", "4"]["usable_processors"] == "1":
        return  # nothing to tell apart
    marked = [row for row in rows.values() if row["other_conditions"]]
    assert len(marked) == 2  # of equals those that were measured first
    assert {row["batch"] for row in marked} == {"1"}
    assert all(row["other_conditions"].startswith("threads 1, not ") for row in marked)

    text = (project.folder / "results/tables/throughput.md").read_text(encoding="utf-8")
    (command,) = [line.split("; ")[-1].rstrip(".") for line in text.splitlines() if "--forcerun" in line]
    words = shlex.split(command)
    assert words[0] == "snakemake"
    words = [
        path for word in words for path in sorted(glob.glob(word, root_dir=project.folder)) or [word]
    ]  # as a shell
    assert "results/measure/tiny/pytorch/fp32/bs1/load-0.json" in words
    done = project.snakemake(*words[1:])
    assert done.returncode == 0, done.stdout
    assert [row for row in throughput(project).values() if row["other_conditions"]] == []
    assert project.planned() == {}

    about = json.loads((project.folder / rows["onnxruntime", "4"]["file"]).read_text())["smlp"]
    assert about["environment"] == {"OMP_WAIT_POLICY": "passive"}
    assert about["fingerprint"]["processors"]["used"] == about["fingerprint"]["processors"]["asked"]
    project.configure({**SMALL, "backends": {}})
    assert project.planned() == {
        "compile_onnxruntime": 2,
        "infer_shard": 2,
        "evaluate_engine": 2,
        "measure_load": 2,
        "measure_engine": 2,
        "tabulate": 1,
    }
