"""Every finished sweep goes into the history, and the gate tells a worse sweep from one that is the same."""

import csv
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from smlp.results import history

# One row a table, three loads each: as few as an interval needs.
BOUNDS = (
    "--rounds",
    "3",
    "--min_time_s",
    "0.2",
    "--min_runs",
    "3",
    "--warmup_window_s",
    "0.02",
    "--warmup_max_s",
    "0.1",
)


@pytest.fixture(scope="module")
def taught(make_project, small, finished_demo):
    """A sweep of the demo's network with a head that knows the demo's images by heart."""
    import torch

    from smlp.models import checkpoint

    results = finished_demo.folder / "results"
    model, _ = checkpoint.load_model("test_resnet", results / "retrieve/tiny/checkpoint.pth")
    images, labels = [], []
    for manifest in sorted(results.glob("preprocess/digits/*/shard-*/manifest.csv")):
        with open(manifest, newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                images.append(np.fromfile(manifest.parent / row["bin"], np.float32))
                labels.append(int(row["label"]))
    side = round((len(images[0]) / 3) ** 0.5)
    batch = torch.from_numpy(np.stack(images)).reshape(-1, 3, side, side)
    with torch.no_grad():
        features = model.forward_head(model.forward_features(batch), pre_logits=True).double()
        centred = features - features.mean(0)
        wanted = torch.nn.functional.one_hot(torch.tensor(labels), 10).double()
        found = torch.linalg.lstsq(centred, wanted).solution
        head = model.get_classifier()
        head.weight.copy_(found.T)
        head.bias.copy_(-features.mean(0) @ found)
    project = make_project({**small, "models": {"tiny": {"model_name": "test_resnet", "checkpoint": "taught.pth"}}})
    torch.save(model.state_dict(), project.folder / "taught.pth")
    project.sweep()
    return project


@pytest.fixture(scope="module")
def heavy(make_project, small):
    """The speed of a network that is many times as large, under the same name."""
    models = {"tiny": {"model_name": "resnet10t", "checkpoint": "demo"}}
    project = make_project({**small, "models": models, "targets": [{"backend": "onnxruntime"}]})
    project.sweep("measure")
    return project


def compare(base, head, *flags):
    """(exit status, what was printed) of the command as a user runs it."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "compare.py", base, head, *flags],
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout + done.stderr


def kept(project):
    return history.paths(project.folder / "results" / "history")


def test_a_sweep_goes_into_the_history_once(demo_sweep):
    project = demo_sweep
    (path,) = kept(project)
    entry = history.read(path)
    cells = [(row.key.backend, row.key.batch) for row in entry.rows]
    assert cells == 2 * [(backend, batch) for backend in ("pytorch", "onnxruntime") for batch in (1, 4)]
    assert all(row.result and row.figures["engine_id"] for row in entry.rows)
    assert {len(row.predictions().images) for row in entry.rows if row.table == "accuracy"} == {24}
    assert entry.settings["dataset"]["name"] == "digits" and entry.starts["tiny"]["sha256"]
    before = path.read_bytes()
    (project.folder / "results/tables/accuracy.csv").unlink()
    project.sweep()
    assert kept(project) == [path] and path.read_bytes() == before


def test_a_setting_adds_an_entry_only_if_it_changes_a_row(demo_sweep):
    project = demo_sweep
    before = project.settings
    project.configure({**before, "calibration": {"seed": 1}})
    assert project.planned() == {}  # the settings that the history keeps make nothing stale
    project.configure({**before, "decision": {"latency_ms_max": 5}})
    project.sweep()
    assert len(kept(project)) == 1
    project.configure({**before, "accuracy": {"margin_points": 20}})
    project.sweep()
    assert len(kept(project)) == 2
    page = (project.folder / "results/tables/report.html").read_text()
    assert "<h2>History</h2>" in page and "accuracy.margin_points: 1.0 → 20" in page
    project.configure({**before, "history": None})
    project.sweep()
    assert len(kept(project)) == 2
    assert "<h2>History</h2>" not in (project.folder / "results/tables/report.html").read_text()


def test_two_sweeps_of_the_same_pass(finished_demo, demo_sweep):
    project = demo_sweep
    for made in ("measure", "tables"):
        shutil.rmtree(project.folder / "results" / made)
    project.sweep()
    first, second = kept(project)
    for base, head in ((finished_demo.folder, project.folder), (first, second), (first.parent, project.folder)):
        status, text = compare(base, head)
        assert status == 0 and "Nothing got worse in 8 comparisons" in text, text


def test_a_less_accurate_sweep_does_not(taught, finished_demo):
    status, text = compare(taught.folder, finished_demo.folder)
    assert status == 1 and "onnxruntime fp32, batch size 1 is less accurate" in text, text
    assert "tiny starts from another checkpoint" in text and "| new " in text
    assert compare(kept(finished_demo)[0], taught.folder / "results")[0] == 0


def test_measured_in_turn_a_larger_network_is_judged_by_its_ratio(finished_demo, heavy):
    status, text = compare(finished_demo.folder, heavy.folder, "--remeasure", *BOUNDS)
    (row,) = [line for line in text.splitlines() if line.startswith("| tiny, onnxruntime fp32, batch size 1 ")]
    _, _, base, head, ratio, _, verdict, _ = (cell.strip() for cell in row.split("|"))
    ratio, low, high = (float(figure) for figure in re.findall(r"[\d.]+", ratio.replace("95%", "")))
    assert float(head) < float(base) and low < ratio < high, text
    # how wide the interval is depends on what else the machine does
    assert (status, verdict) == ((1, "slower") if high < 0.97 else (0, "undecided")), text
    assert "rounds in which both were measured in turn" in text
    shown = [line for line in text.splitlines() if line.startswith("round ")]
    assert shown == [f"round {number} of 3: tiny, onnxruntime fp32, batch size 1" for number in (1, 2, 3)]


def test_an_engine_that_is_gone_is_named(finished_demo, demo_sweep):
    engine = demo_sweep.folder / "results/compile/tiny/onnxruntime/fp32/bs1.onnx"
    engine.unlink()
    status, text = compare(finished_demo.folder, demo_sweep.folder, "--remeasure", *BOUNDS)
    assert status == 1 and "has not the engine that it was measured with" in text
    assert str(engine.relative_to(demo_sweep.folder)) in text
