"""The best row in a sweep: measured again, and profiled, as are rows that the settings name."""

import csv
import json

# a head that knows something, and a margin that so few images decide
LEARNT = {"name": "digits", "demo": {"train_images": 200, "val_images": 40}, "shards": 1}
MARGIN = {"reference_batch_size": 1, "margin_points": 60}
ROW = "tiny/onnxruntime/fp32/bs1"


def test_the_best_row_and_a_named_one_are_profiled_once(new_project, small):
    project = new_project(
        {
            **small,
            "dataset": LEARNT,
            "accuracy": MARGIN,
            "confirm": {"loads": 1},
            "profile": {"rows": [ROW], "min_time_s": 0.01},
        }
    )
    planned = project.planned()
    assert (planned["confirm_best"], planned["profile_best"], planned["profile_engine"]) == (1, 1, 1)
    project.sweep()
    results = project.folder / "results"
    best = json.loads((results / "profile" / "tiny" / "best.json").read_text(encoding="utf-8"))
    with open(results / "tables" / "decision.csv", encoding="utf-8", newline="") as stream:
        decided = list(csv.DictReader(stream))
    (winner,) = [row for row in decided if row["fastest_of_model"] == "true"]
    assert best["smlp"]["backend"] == winner["backend"]
    confirmed = json.loads((results / "confirm" / "tiny.json").read_text(encoding="utf-8"))
    assert f"tiny/{winner['backend']}/fp32/bs1" in confirmed["finalists"]
    assert float(winner["confirmed_images_per_s"]) > 0 and winner["confirmed_loads"] == "1"
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
