"""What jobs find in their environment."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from smlp.core import host
from smlp.workflow import jobs


def test_jobs_find_this_interpreter(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    jobs.use_this_interpreter()
    assert os.environ["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]


def test_jobs_find_the_store_by_its_whole_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMLP_STORE", "before")
    jobs.use_store({})
    assert os.environ["SMLP_STORE"] == "before"
    jobs.use_store({"store": "our store"})
    assert os.environ["SMLP_STORE"] == str(tmp_path / "our store")


def test_jobs_find_no_variable_that_changes_arithmetic(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    assert {"OMP_NUM_THREADS", "ONEDNN_DEFAULT_FPMATH_MODE"} <= set(jobs.clear_environment())
    assert not {"OMP_NUM_THREADS", "ONEDNN_DEFAULT_FPMATH_MODE"} & set(os.environ)
    assert jobs.clear_environment() == []


def test_jobs_are_rid_of_what_snakemake_sets():
    from snakemake.shell import shell

    shell.prefix(jobs.SHELL_PREFIX)
    try:
        seen = shell("env", read=True, threads=3).splitlines()
        assert [line for line in seen if "NUM_THREADS" in line or "MAXIMUM_THREADS" in line] == []
        with pytest.raises(subprocess.CalledProcessError):  # still bash's strict mode
            shell("false | cat")
    finally:
        shell._process_prefix = None


def workflow(cores, main=True):
    """As much of Snakemake's workflow as the number of cores needs."""
    settings = SimpleNamespace(cores=cores)
    return SimpleNamespace(resource_settings=settings, global_resources={"_cores": cores}, is_main_process=main)


@pytest.mark.parametrize(("cores", "used"), [(None, 1), (1, 1), (2, 2), (64, 2)])
def test_cores_beyond_what_may_be_used_are_cut_off(cores, used, monkeypatch, capsys):
    monkeypatch.setattr(host, "usable_processors", lambda: 2)
    monkeypatch.setattr(host, "processors", lambda: {"affinity": 8, "quota": 2.5})
    run = workflow(cores)
    assert jobs.usable_cores(run) == used
    said = "--cores 64: cut to 2, all that this process may use (affinity 8, CPU quota 2.5)\n" if cores == 64 else ""
    assert capsys.readouterr().err == said
    assert run.global_resources["_cores"] == run.resource_settings.cores == (cores and used)
    assert jobs.usable_cores(workflow(cores, main=False)) == used
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "counted"),
    [
        ('{"smlp": {"fingerprint": {"where": "here"}}}', {"processor": "mine"}),
        ('{"smlp": {"fingerprint": {"where": "submitted"}}}', {}),
        ('{"smlp": {"fingerprint": null}}', {"processor": "mine"}),
        ("no JSON", {"processor": "mine"}),
        (None, {"processor": "mine"}),
    ],
)
def test_what_a_scheduler_had_measured_elsewhere_is_not_measured_again_here(tmp_path, content, counted):
    if content:
        (tmp_path / "bs1.json").write_text(content)
    assert jobs.measured_on(str(tmp_path / "bs1.json"), {"processor": "mine"}) == counted
