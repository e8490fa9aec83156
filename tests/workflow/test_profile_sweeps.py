"""The best row in a sweep, measured again and profiled; named rows profiled; sustained runs: in tables and page."""

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

    # a sustained run is asked for later, and then for longer: nothing else is made again
    assert not (results / "tables" / "sustained.png").exists()
    project.configure({**project.settings, "measure": {**small["measure"], "sustained_s": 0.05}})
    assert project.planned() == {"sustain_engine": 2, "tabulate": 1}
    project.configure({**project.settings, "measure": {**small["measure"], "sustained_s": 1}})
    project.sweep()
    with open(results / "tables" / "throughput.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 and all(float(row["sustained_last_images_per_s"]) > 0 for row in rows)
    assert (results / "tables" / "sustained.png").read_bytes().startswith(b"\x89PNG")
    assert "Sustained load: rate" in (results / "tables" / "report.html").read_text(encoding="utf-8")
    notes = (results / "tables" / "throughput.md").read_text(encoding="utf-8")
    assert "sustained load, last tenth of a run against its first half: " in notes
    assert project.planned() == {}
    project.configure({**project.settings, "measure": {**small["measure"], "sustained_s": 0.2}})
    assert project.planned() == {"sustain_engine": 2, "tabulate": 1}
    project.configure({**project.settings, "measure": {**small["measure"], "sustained_batch_sizes": [3]}})
    refused = project.snakemake("--cores", "2")
    assert refused.returncode == 1
    assert "measure.sustained_batch_sizes: 3: is no batch size of this sweep; batch_sizes has 1" in refused.stdout

    project.configure(
        {**project.settings, "measure": small["measure"], "profile": {"rows": ["tiny/onnxruntime/fp32/bs7"]}}
    )
    refused = project.snakemake("--cores", "2")
    assert refused.returncode == 1
    assert "profile.rows: tiny/onnxruntime/fp32/bs7: is no row of this sweep" in refused.stdout
