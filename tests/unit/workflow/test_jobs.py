"""What jobs find in their environment."""

import os
import sys
from pathlib import Path

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
