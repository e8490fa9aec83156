"""What the benches of whole sweeps are made of: their images, their lines, whom they kill."""

import csv
import importlib
import io
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from smlp.core import files
from smlp.data import dataset
from smlp.workflow import leftovers

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    return lambda name: importlib.import_module(name)


def test_synthetic_images_all_differ_and_can_be_read(bench, tmp_path):
    scale = bench("scale")
    for _ in range(2):  # what stands there is left alone
        scale.make_images(tmp_path, 450, 20)
    entries = dataset.list_images(tmp_path)
    assert len(entries) == 450
    assert [sum(entry.label == label for entry in entries) for label in (0, 9, 10, 19)] == [23, 23, 22, 22]
    contents = [(tmp_path / entry.image).read_bytes() for entry in entries]
    assert len({files.hashlib.sha256(content).digest() for content in contents}) == 450
    assert {Image.open(io.BytesIO(content)).convert("RGB").size for content in contents[:60]} == {(64, 48)}


def test_overhead_as_a_share_of_imagenet(bench, monkeypatch):
    scale = bench("scale")
    monkeypatch.setattr(scale, "_rate_here", lambda: 10.0)
    here, published = scale.share_of_imagenet(0.5)
    assert here["jobs"] == published["jobs"] == 50 + 90 * 50 + 90 + 3 + 90 + 72 + 6 + 1
    work_s = 90 * 50_000 / 10
    assert here["share_percent"] == pytest.approx(100 * 0.5 * here["jobs"] / (work_s + 0.5 * here["jobs"]), abs=0.01)
    assert published["share_percent"] > here["share_percent"]


def test_a_row_is_recorded_once(bench, tmp_path):
    common = bench("common")
    for kill, where, result in ((0, "here", "x"), (1, "here", "y"), (0, "there", "z"), (0, "here", "identical")):
        row = {"kill": kill, "where": where, "result": result}
        common.record(tmp_path / "kills.csv", row, ("kill", "where"))
    with open(tmp_path / "kills.csv", newline="") as stream:
        assert [(row["kill"], row["where"], row["result"]) for row in csv.DictReader(stream)] == [
            ("1", "here", "y"),
            ("0", "there", "z"),
            ("0", "here", "identical"),
        ]


def test_a_row_with_a_new_column_goes_beside_old_ones(bench, tmp_path):
    common = bench("common")
    (tmp_path / "kills.csv").write_text("kill,result\n0,identical\n1,identical\n")
    common.record(tmp_path / "kills.csv", {"kill": 1, "cpu_features": "avx2", "result": "x"}, ("kill",))
    assert (tmp_path / "kills.csv").read_text() == "kill,result,cpu_features\n0,identical,\n1,x,avx2\n"


def test_what_follows_another_first_runs_uncounted(bench):
    engines, ran = bench("engines"), []

    def runs(name):
        return lambda images: ran.append(name) or float(len(ran))

    rival = engines.Contender("rival", "fp32", runs("r"))
    own = engines.Contender("own", "fp32", runs("o"), bare=runs("b"))
    tool = engines.Contender("tool", "fp32", runs("t"), warms_up=True)
    latencies_ms = engines.take_turns([rival, own, tool], None, rounds=1, block_s=0)
    assert "".join(ran) == "rrrr" + 3 * "oobb" + "t"
    assert latencies_ms == {"rival": [2, 3, 4], "own": [6, 10, 14], "bare loop: own": [8, 12, 16], "tool": [17]}


def test_a_job_dies_with_all_that_it_has_started(bench):
    processes = {
        pid: leftovers.Process(pid, parent, "x")
        for pid, parent in ((5, 1), (6, 5), (7, 6), (8, 1), (9, 5), (os.getpid(), 8))
    }
    assert bench("kills").with_descendants(5, processes) == [5, 6, 9, 7]


def test_a_clusters_queue_is_emptied_as_the_readme_says(bench):
    assert re.fullmatch(r"squeue --me .*\| grep -F .*\| xargs -r scancel +#.*", bench("kills").documented_cancelling())
