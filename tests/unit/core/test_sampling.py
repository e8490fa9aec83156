"""A device watched while something runs: what is kept of its answers, and when it is asked no more."""

import threading

import pytest

from smlp.core import sampling
from smlp.core.cli import UserError


def watched(*answers):
    """The watch of a device that gives these answers, and the last one again and again."""
    asked, done = iter(answers), threading.Event()
    last = answers[-1]

    def read():
        answer = next(asked, None)
        if answer is None:
            done.set()
            answer = last
        if isinstance(answer, Exception):
            done.set()
            raise answer
        return answer

    watch = sampling.Watch(read, 0.001)
    with watch:
        assert done.wait(30)
    return watch


def test_quantities_and_reasons_are_kept():
    watch = watched(
        {"temperature_c": 50, "power_w": 10.0, "memory_mb": 5.0, "throttling": None},
        {"temperature_c": 70, "power_w": None, "memory_mb": 9.0, "throttling": ["power cap"]},
        {"temperature_c": 60, "power_w": 40.0, "throttling": ["power brake", "power cap"]},
    )
    first, second, third, *_ = watch.samples
    assert (first.temperature_c, second.temperature_c, third.temperature_c) == (50, 70, 60)
    assert [sample.at_s for sample in watch.samples] == sorted(sample.at_s for sample in watch.samples)
    assert watch.peak("memory_mb") == 9 and watch.peak("temperature_c") == 70
    assert watch.throttling == {"power cap", "power brake"}
    assert (watch.mean("clock_mhz"), watch.peak("clock_mhz")) == (None, None)


def test_the_mean_is_over_what_was_told():
    watch = sampling.Watch(dict)
    watch.samples = [sampling.Sample(at, None, clock, None, None) for at, clock in enumerate((1000, None, 2000))]
    assert watch.mean("clock_mhz") == 1500


def test_what_is_told_only_between_two_moments_is_waited_for():
    watch = watched({"power_w": None}, {"power_w": 30.0}, {"power_w": 30.0})
    assert [sample.power_w for sample in watch.samples[:3]] == [None, 30, 30]


def test_a_device_that_tells_nothing_is_not_asked_for_ever():
    asked = []
    watch = sampling.Watch(lambda: asked.append(1) or {"health": "OK"}, 0.001)
    with watch:
        watch._thread.join(30)
    assert len(asked) == 2 and watch.mean("power_w") is None


def test_a_tool_that_fails_ends_the_watch_and_not_the_run(capsys):
    watch = watched({"power_w": 7.0}, UserError("npu-smi failed"))
    assert watch.mean("power_w") == 7
    assert "the device's state is not recorded: npu-smi failed" in capsys.readouterr().err


def test_an_error_of_the_block_is_passed_on():
    with pytest.raises(ZeroDivisionError), sampling.Watch(dict, 0.001):
        _ = 1 / 0
