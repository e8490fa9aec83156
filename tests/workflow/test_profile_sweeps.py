"""Profiles in a sweep: the best row and rows that the settings name, in the tables and on the page."""

import csv
import json

ROW = "tiny/onnxruntime/fp32/bs1"


def test_the_best_row_and_a_named_one_are_profiled_once(new_project, small):
    project = new_project({**small, "profile": {"rows": [ROW], "min_time_s": 0.01}})
    planned = project.planned()
    assert (planned["profile_best"], planned["profile_engine"]) == (1, 1)
    project.sweep()
    results = project.folder / "results"
    best = json.loads((results / "profile" / "tiny" / "best.json").read_text(encoding="utf-8"))
    with open(results / "tables" / "decision.csv", encoding="utf-8", newline="") as stream:
        (winner,) = [row["backend"] for row in csv.DictReader(stream) if row["fastest_of_model"] == "true"] or ["none"]
    assert best["smlp"]["backend"] == winner
    with open(results / "tables" / "profile.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {"onnxruntime"} <= {row["backend"] for row in rows if not row["failed"]}
    assert "Where the time goes: tiny, onnxruntime fp32 batch size 1" in (results / "tables" / "profile.md").read_text(
        encoding="utf-8"
    )
    assert "Where the time goes" in (results / "tables" / "report.html").read_text(encoding="utf-8")
    assert project.planned() == {}

    project.configure({**project.settings, "profile": {"rows": ["tiny/onnxruntime/fp32/bs7"]}})
    refused = project.snakemake("--cores", "2")
    assert refused.returncode == 1
    assert "profile.rows: tiny/onnxruntime/fp32/bs7: is no row of this sweep" in refused.stdout
