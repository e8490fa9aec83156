"""The stage `ceilings` in whole sweeps: once per host and usable processors, and the tables know it."""

import csv
import os
import sys

import pytest


@pytest.fixture(scope="module")
def swept(make_project, small):
    """A finished sweep that measured the ceilings of this host."""
    project = make_project({**small, "ceilings": {"time_s": 0.05}})
    project.sweep()
    return project


def test_the_host_is_measured_once_and_rows_are_stated_as_a_share_of_it(swept):
    file = swept.folder / "results" / "ceilings" / "cpu.json"
    before = file.read_bytes()
    with open(swept.folder / "results" / "tables" / "throughput.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2
    for row in rows:
        assert float(row["ceiling_percent"]) > 0 and row["roof"] in ("compute", "memory")
        assert row["ceiling_source"].startswith("measured ")
    assert "Roofline: how near" in (swept.folder / "results" / "tables" / "report.html").read_text(encoding="utf-8")
    assert swept.planned() == {}
    assert file.read_bytes() == before


def test_settings_of_the_stage_make_nothing_else_stale(swept):
    swept.configure({**swept.settings, "ceilings": {"time_s": 0.06}})
    assert swept.planned() == {"measure_ceilings": 1, "tabulate": 1}
    swept.configure({**swept.settings, "ceilings": {"measure": False}})
    assert swept.planned() == {"tabulate": 1}
    swept.configure({**swept.settings, "ceilings": {"time_s": 0.05}})
    assert swept.planned() == {}
    done = swept.snakemake("--cores", "1", "--dry-run", "--quiet=rules")
    assert "measure_ceilings" not in done.stdout  # it uses all usable processors, whatever --cores says


def test_usable_processors_are_part_of_the_fingerprint(swept, monkeypatch):
    """With fewer processors to be had, the ceilings are others."""
    monkeypatch.setattr(swept, "python", sys.executable)  # what serves forks has all of them
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this process may use one processor only")
    one = str(min(os.sched_getaffinity(0)))
    done = swept.snakemake("--cores", "1", "--dry-run", "--quiet=rules", prefix=["taskset", "-c", one])
    assert "measure_ceilings" in done.stdout
