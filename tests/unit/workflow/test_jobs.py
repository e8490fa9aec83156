"""What jobs find in their environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
