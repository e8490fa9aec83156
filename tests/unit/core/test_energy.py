"""Energy of a measurement, from counters of a made-up /sys and from what devices tell."""

import pytest

from smlp.core import energy


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for sleep, and for what tests add to it."""
    now = [100.0]
    monkeypatch.setattr(energy.time, "monotonic", lambda: now[0])

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(energy.time, "sleep", sleep)
    return now


def domain(root, number, name, microjoules, most=10_000_000):
    place = root / "sys/class/powercap" / f"intel-rapl:{number}"
    place.mkdir(parents=True, exist_ok=True)
    for file, value in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", most)):
        (place / file).write_text(f"{value}\n")


def test_the_energy_of_the_cpu_is_that_of_packages_and_memory_above_idle(tmp_path, clock, monkeypatch):
    domain(tmp_path, "0", "package-0", 9_000_000)
    domain(tmp_path, "0:0", "core", 1)
    domain(tmp_path, "0:1", "dram", 5)
    meter = energy.Meter("cpu", dict, tmp_path)

    def idle(seconds):
        clock[0] += seconds
        domain(tmp_path, "0", "package-0", 9_500_000)

    monkeypatch.setattr(energy.time, "sleep", idle)
    meter.idle(0.5)
    assert meter.idle_w == pytest.approx(1.0)
    with meter:
        clock[0] += 2
        domain(tmp_path, "0", "package-0", 2_500_000)  # it began anew at 10 J
        domain(tmp_path, "0:0", "core", 9_000_000)
        domain(tmp_path, "0:1", "dram", 1_000_005)
    # 3 J of the package and 1 J of memory in 2 s, 2 J of which were idle
    assert meter.facts(4) == {"energy_source": "rapl", "idle_w": pytest.approx(1.0), "joules_per_image": 0.5}


def test_without_a_source_there_are_no_figures(tmp_path):
    meter = energy.Meter("cpu", dict, tmp_path)
    meter.idle(1000)  # returns at once
    with meter:
        pass
    assert meter.facts(4) == {"energy_source": None, "idle_w": None, "joules_per_image": None}


def test_a_device_that_counts_energy_is_asked_for_that(clock):
    energy_j = [50.0]
    meter = energy.Meter("cuda:0", lambda: {"energy_j": energy_j[0], "power_w": 1e9})
    meter.idle(1)
    assert meter.idle_w == 0
    for _ in range(2):
        with meter:
            clock[0] += 1
            energy_j[0] += 6
    assert meter.facts(4) == {"energy_source": "energy counter", "idle_w": 0, "joules_per_image": 3}


def test_a_device_that_tells_power_alone_is_believed_its_samples(clock):
    power_w = [10.0]
    meter = energy.Meter("ascend:0", lambda: {"power_w": power_w[0], "energy_j": None})
    meter.idle(1)
    with meter:
        clock[0] += 3
    assert meter.facts(10, mean_w=20.0) == {"energy_source": "power", "idle_w": 10.0, "joules_per_image": 3}


def test_no_more_than_idle_is_no_energy_of_an_image(clock):
    meter = energy.Meter("ascend:0", lambda: {"power_w": 10.0})
    meter.idle(1)
    with meter:
        clock[0] += 3
    assert meter.facts(10)["joules_per_image"] is None


def test_power_is_told_between_two_questions(tmp_path, clock):
    domain(tmp_path, "0", "package-0", 9_000_000)
    meter = energy.Meter("cpu", dict, tmp_path)
    assert meter.watts() is None
    clock[0] += 2
    domain(tmp_path, "0", "package-0", 9_500_000)
    assert meter.watts() == pytest.approx(0.25)
    assert meter.watts() is None  # no time has gone by
    assert energy.Meter("cpu", dict, tmp_path / "none").watts() is None
