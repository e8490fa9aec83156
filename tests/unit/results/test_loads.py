"""A row of the throughput table from its loads."""

import numpy as np
import pytest
from scipy import stats

from smlp.results import loads


def load(rate=100.0, **more):
    """The facts of one load of batch 1, steady unless told otherwise."""
    way = {
        "images_per_s": rate,
        "latency_ms_mean": 1000 / rate,
        "warmup_runs": 3,
        "disturbed": None,
        "autocorrelation": 0.1,
        "drift_percent": 0.0,
        "known_to_percent": 0.5,
    }
    cost = {"load_s": 1.0, "first_inference_ms": 20.0, "peak_host_mb": 300.0, "peak_device_mb": None}
    energy = dict.fromkeys(("power_w_mean", "images_per_joule", "idle_w", "joules_per_image"))
    own = {"fingerprint": {"host": "a", "where": "here"}, "throughput_way": None, "end_to_end_images_per_s": rate / 2}
    return {"model": "m", **way, **cost, **energy, **own, "discarded": 0, "discarded_why": None, **more}


def row(*found):
    return loads.row(found, [np.full((200, 2), 1000 / one["images_per_s"]) for one in found])


def test_the_figure_is_that_of_the_mean_latency():
    made = row(load(50.0), load(100.0), load(200.0))
    assert made["images_per_s"] == pytest.approx(1000 / np.mean([20, 10, 5]))
    assert made["latency_ms_mean"] == pytest.approx(np.mean([20, 10, 5]))
    assert made["end_to_end_images_per_s"] == pytest.approx(made["images_per_s"] / 2)
    assert (made["loads"], made["rates_of_loads"], made["runs"]) == (3, [50.0, 100.0, 200.0], 600)
    assert made["warmup_runs"] == 9


def test_percentiles_are_of_all_loads_together():
    made = row(load(100.0), load(100.0))
    assert made["latency_ms_p99"] == pytest.approx(10)  # 300 runs support it, 200 would not
    assert row(load(100.0))["latency_ms_p99"] is None


def test_the_interval_is_students_of_the_logarithms():
    rates = [95.0, 100.0, 104.0, 99.0]
    found = loads.figures(rates)
    low, high = stats.t.interval(0.95, 3, np.mean(np.log(rates)), stats.sem(np.log(rates)))
    assert found.images_per_s_low == pytest.approx(np.exp(low), rel=1e-3)
    assert found.images_per_s_high == pytest.approx(np.exp(high), rel=1e-3)


def test_fewer_than_three_loads_have_no_interval():
    assert loads.figures([100.0]) == (pytest.approx(100), None, None, None)
    assert loads.figures([100.0, 110.0])[1:3] == (None, None)


def test_loads_that_differ_are_no_single_figure():
    made = row(load(100.0), load(101.0), load(125.0))
    assert made["stable"] is False
    assert made["disturbed"] == "its loads differ by 12% (standard deviation)"
    assert row(load(100.0), load(101.0), load(103.0))["stable"] is True


def test_what_is_known_against_loads_is_said_once_and_of_which():
    heat, others = "the processors were throttled 3 times for their heat", "other processes took 40% of the processors"
    made = row(load(), load(disturbed=f"{others}; {heat}"), load(disturbed=others))
    assert made["disturbed"] == f"load 1, 2: {others}; load 1: {heat}"
    assert row(load(disturbed=heat), load(disturbed=heat))["disturbed"] == heat


def test_loads_of_other_hosts_are_marked_and_who_chose_the_host_is_no_matter():
    other = {"host": "b", "where": "here"}
    assert row(load(), load(fingerprint=other))["disturbed"] == "its loads ran under different conditions"
    assert row(load(), load(fingerprint={"host": "a", "where": "submitted"}))["stable"] is True


def test_discarded_loads_are_counted_with_their_reasons():
    made = row(load(), load(discarded=2, discarded_why="latency drifted by +7.0%; only noise"))
    assert (made["discarded"], made["discarded_why"]) == (2, "load 1: latency drifted by +7.0%; only noise")


def test_costs_are_means_and_peaks():
    made = row(load(load_s=1.0, peak_host_mb=300.0), load(load_s=3.0, peak_host_mb=500.0))
    assert (made["load_s"], made["peak_host_mb"], made["peak_device_mb"], made["power_w_mean"]) == (2, 500, None, None)


def test_clocks_are_means_and_every_reason_for_low_ones_is_named_once():
    slow = {"clock_mhz_mean": 1000.0, "throttling": "power cap; power brake"}
    made = row(load(clock_mhz_mean=2000.0, throttling=None), load(**slow), load(**{**slow, "throttling": "power cap"}))
    assert (made["clock_mhz_mean"], made["throttling"]) == (pytest.approx(4000 / 3), "power cap; power brake")
    assert (row(load())["clock_mhz_mean"], row(load())["throttling"]) == (None, None)


def test_the_throughput_way_has_figures_of_its_own():
    way = {key: load(300.0)[key] for key in ("images_per_s", "latency_ms_mean", "warmup_runs", "disturbed")}
    way |= {"autocorrelation": 0.5, "drift_percent": 4.0, "known_to_percent": 1.0}
    way |= {"latency_ms": [6.0] * 10, "settings": {"requests": 2}}
    made = row(load(throughput_way=way), load(throughput_way={**way, "disturbed": "latency drifted by +4.0%"}))
    together = made["throughput_way"]
    assert (together["images_per_s"], together["runs"], together["settings"]) == (
        pytest.approx(300),
        20,
        {"requests": 2},
    )
    assert together["disturbed"] == "load 1: latency drifted by +4.0%" and made["stable"] is True
