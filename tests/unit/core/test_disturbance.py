"""What else happened on the host while something was measured."""

import os
import subprocess
import sys

import pytest

from smlp.core import disturbance, host
from smlp.core.disturbance import Disturbance, Moment


def moment(**more):
    return Moment(**{**dict(zip(Moment._fields, (0.0, 0.0, 0.0, 0.0, None, None))), **more})


@pytest.fixture
def two_processors(monkeypatch):
    monkeypatch.setattr(host, "usable_processors", lambda root: 2)


@pytest.mark.parametrize(
    ("after", "reasons"),
    [
        ({"busy_s": 10.0, "own_s": 9.5}, []),  # of 20 s
        ({"busy_s": 10.0, "own_s": 8.0}, ["other processes took 10% of the processors"]),
        ({"busy_s": 9.0, "own_s": 10.0}, []),  # ticks are coarse
        ({"steal_s": 0.3}, []),
        ({"steal_s": 1.0}, ["the hypervisor took 5% of the processors"]),
        ({"throttled": 3}, ["the processors were throttled 3 times for their heat"]),
        ({"quota_held": 4}, ["the CPU quota held the process 4 times"]),
        ({"busy_s": None, "steal_s": None}, []),
    ],
)
def test_reasons(two_processors, after, reasons):
    before = moment(throttled=0, quota_held=0)
    found = disturbance.between(before, moment(wall_s=10.0, **{"throttled": 0, "quota_held": 0, **after}))
    assert found.reasons() == reasons


def test_moments_are_too_short_for_ticks(two_processors):
    found = disturbance.between(moment(), moment(wall_s=0.1, busy_s=0.2))
    assert found == Disturbance(None, None, None, None)


def test_counters_are_read_of_the_processors_that_may_be_used(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3})
    (tmp_path / "proc" / "self").mkdir(parents=True)
    lines = [f"cpu{number} {10**number} 0 0 100 0 0 0 {number} 0 0" for number in range(4)]
    (tmp_path / "proc" / "stat").write_text("\n".join(["cpu 1 2 3 4 5 6 7 8 9 10", *lines, "intr 1"]))
    throttle = tmp_path / "sys/devices/system/cpu/cpu0/thermal_throttle"
    throttle.mkdir(parents=True)
    (throttle / "core_throttle_count").write_text("7\n")
    found = disturbance.now(tmp_path)
    ticks = os.sysconf("SC_CLK_TCK")
    assert (found.busy_s, found.steal_s, found.throttled) == (1010 / ticks, 4 / ticks, 7)
    assert found.quota_held is None


def test_a_host_that_tells_nothing(tmp_path):
    assert disturbance.now(tmp_path)[1:3] == (None, None)
    assert disturbance.peak_memory_mb(tmp_path) is None


def test_own_work_is_no_disturbance_and_that_of_others_is():
    """Another process that wants every processor gets about half of them: far beyond the limit."""
    if disturbance.now().busy_s is None:
        pytest.skip("this host's /proc/stat tells nothing")
    before = disturbance.now()
    burn = "while True: pass"
    others = [subprocess.Popen([sys.executable, "-c", burn]) for _ in range(host.usable_processors())]
    try:
        while disturbance.now().wall_s - before.wall_s < 1:
            sum(range(10000))
        found = disturbance.between(before, disturbance.now())
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert any("other processes took" in reason for reason in found.reasons())
