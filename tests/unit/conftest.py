"""Fixtures of the tests of the results and of tabulate.py."""

import pytest
import result_files
from result_files import Sweep


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A sweep that is tabulated; only to be read."""
    return Sweep(tmp_path_factory.mktemp("sweep")).make()


@pytest.fixture(scope="session")
def decided(tmp_path_factory):
    """A sweep that is tabulated with a limit of 500 ms; only to be read."""
    sweep = Sweep(tmp_path_factory.mktemp("decision"), result_files.DECIDED_ACCURACY, result_files.DECIDED_THROUGHPUT)
    return sweep.make("--latency_ms_max", 500)
