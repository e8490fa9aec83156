"""Sustained runs: figures of planted series, the columns and notes that they give rows, and their plot."""

import hashlib
import json

import numpy as np
import pandas
import pytest
from result_files import Sweep, both_ways, failure, throughput

from smlp.core.cli import UserError
from smlp.core.sampling import Sample
from smlp.results import plots, reader, sustained, sustained_tables
from smlp.results.throughput import make_throughput
from smlp.results.throughput_columns import SUSTAINED

HOT = {"temperature_c": (60.0, 90.0), "clock_mhz": (1500.0, 1200.0), "power_w": (70.0, 65.0)}


def slots(*rates, runs_s=1.0):
    """A slot of a second for each rate, in runs a second."""
    return [sustained.Slot(at, at + runs_s, round(rate * runs_s), runs_s) for at, rate in enumerate(rates)]


def planted(rates, told=None):
    """A series of so many seconds, in which what a device tells goes evenly from one value to another."""
    told = told or {}
    samples = []
    for at in range(len(rates)):
        now = {name: np.interp(at, (0, len(rates) - 1), ends) for name, ends in told.items()}
        samples.append(Sample(at + 0.5, *(now.get(name) for name in Sample._fields[1:])))
    return sustained.series(slots(*rates), samples)


# the figures


def test_the_last_tenth_is_held_against_the_first_minute():
    rates = [100] * 60 + [95] * 480 + [80] * 60
    found = sustained.figures(planted(rates, HOT), batch=4)
    assert (found["sustained_s"], found["sustained_percent"]) == (600, pytest.approx(80))
    assert found["sustained_first_images_per_s"] == pytest.approx(400)
    assert found["sustained_last_images_per_s"] == pytest.approx(320)
    assert [found[f"sustained_temperature_c_{when}"] for when in ("start", "max", "end")] == [60, 90, 90]
    assert [found[f"sustained_clock_mhz_{when}"] for when in ("start", "max", "end")] == [1500, 1500, 1200]
    assert [found[f"sustained_power_w_{when}"] for when in ("start", "max", "end")] == [70, 70, 65]


def test_every_figure_is_a_column():
    found = sustained.figures(planted([1, 1]), batch=1)
    assert {*found, "sustained_throttling", "sustained_disturbed"} == {column.name for column in SUSTAINED}
    assert all(found[name] is None for name in found if name.split("_")[1] in ("temperature", "clock", "power"))


@pytest.mark.parametrize(
    ("rates", "percent"),
    [
        ([10, 10, 5], 50),  # three slow runs: a half and a tenth have a slot each
        ([10], None),
        ([10] * 50 + [20] * 50, 200),  # of a short run the first half is the first part
    ],
)
def test_short_runs_have_a_first_and_a_last_part_too(rates, percent):
    found = sustained.figures(planted(rates), batch=1)["sustained_percent"]
    assert found == (percent if percent is None else pytest.approx(percent))


@pytest.mark.parametrize("seconds", [0.1, 2, 60, 600, 86_400])
def test_a_series_is_short_however_long_the_run(seconds):
    assert 19 <= seconds / sustained.slot_s(seconds) <= 3600


def test_samples_belong_to_the_slot_that_they_were_taken_in():
    samples = [Sample(0.0, 50, None, 1, 7), Sample(0.9, 52, None, None, 7), Sample(1.2, None, None, 3, 7)]
    found = sustained.series(slots(1, 1, 1), [*samples, Sample(3.4, 60, None, None, None)])  # one after the last run
    np.testing.assert_array_equal(found[:, 4], [51, np.nan, 60])
    np.testing.assert_array_equal(found[:, 5], [np.nan] * 3)
    np.testing.assert_array_equal(found[:, 6], [1, 3, np.nan])


# the tables


class WithSustained(Sweep):
    """A sweep with files of sustain.py."""

    def add(self, backend, batch, rates, told=None, **more):
        found = planted(rates, told)
        path = self.root / f"sustained-{backend}-{batch}.json"
        np.save(path.with_suffix(".npy"), found)
        content = throughput(backend, "fp32", batch, 1.0, **more)["smlp"]
        kept = ("model", "backend", "precision", "batch", "device", "emulated", "engine")
        facts = {key: content[key] for key in kept} | sustained.figures(found, batch) | more
        path.write_text(json.dumps({"smlp": facts}))
        self.files.setdefault("sustained", []).append(path)
        return path


FALLING = [100] * 60 + [90] * 540


@pytest.fixture
def heated(tmp_path):
    rows = [throughput("onnxruntime", "fp32", 8, 80.0), both_ways("openvino", "fp32", 8, 60.0, 70.0)]
    sweep = WithSustained(tmp_path, [], [*rows, failure("openvino", "fp32", 64)])
    sweep.add("onnxruntime", 8, FALLING, HOT, sustained_throttling="thermal slowdown by hardware")
    sweep.add("openvino", 8, [50] * 600, sustained_disturbed="other processes took 7% of the processors")
    return sweep


def test_a_sustained_run_adds_columns_to_its_row_of_the_latency_way(heated):
    rows = {(row["backend"], row["batch"], row["way"]): row for row in heated.make().rows("throughput.csv")}
    row = rows["onnxruntime", "8", "latency"]
    assert (row["sustained_percent"], row["sustained_s"]) == ("90", "600")
    assert (row["sustained_temperature_c_max"], row["sustained_clock_mhz_end"]) == ("90", "1200")
    assert row["sustained_throttling"] == "thermal slowdown by hardware"
    assert rows["openvino", "8", "latency"]["sustained_percent"] == "100"
    assert rows["openvino", "8", "throughput"]["sustained_percent"] == ""
    assert rows["openvino", "64", "latency"]["sustained_disturbed"] == ""


def test_a_row_that_does_not_keep_its_rate_says_so_below_the_table(heated):
    notes = [line for line in heated.make().text("throughput.md").splitlines() if "rate" in line or "sustain" in line]
    assert notes == [
        "- sustained load, last tenth of a run against its first minute: onnxruntime fp32 8 90.0%, openvino fp32 8 "
        "100.0%.",
        "- onnxruntime fp32 8 does not keep its rate: after 600 s it was 720.0 images/s, 10.0% below 800.0 in the "
        "first minute (temperature 60 to 90 °C; clock 1500 to 1200 MHz; throttling: thermal slowdown by hardware).",
        "- sustained load of openvino fp32 8: other processes took 7% of the processors.",
    ]


@pytest.mark.parametrize(("last", "falls"), [(96, False), (95, False), (94, True), (104, False)])
def test_a_fall_of_up_to_five_percent_is_none(tmp_path, last, falls):
    sweep = WithSustained(tmp_path, [], [throughput("onnxruntime", "fp32", 8, 80.0)])
    sweep.add("onnxruntime", 8, [100] * 540 + [last] * 60)
    assert ("does not keep its rate" in sweep.make().text("throughput.md")) is falls


def test_a_run_that_failed_says_why(tmp_path):
    sweep = WithSustained(tmp_path, [], [throughput("onnxruntime", "fp32", 8, 80.0)])
    path = sweep.add("onnxruntime", 8, FALLING)
    path.write_text(json.dumps(failure("onnxruntime", "fp32", 8, "the device is lost")))
    sweep.make()
    assert "sustained load of onnxruntime fp32 8: no sustained run: the device is lost." in sweep.text("throughput.md")
    assert sweep.rows("throughput.csv")[0]["sustained_percent"] == ""
    assert "nothing ran for minutes" in sweep.text("sustained.svg")


def test_without_sustained_runs_nothing_is_shown(tmp_path):
    sweep = Sweep(tmp_path, [], [throughput("onnxruntime", "fp32", 8, 80.0, sustained_percent=12.0)]).make()
    assert not (sweep.output / "sustained.png").exists() and "ustained" not in sweep.text("throughput.md")
    # no measurement may say it of itself
    assert sweep.rows("throughput.csv")[0]["sustained_percent"] == ""


def test_what_is_of_no_row_or_of_another_engine_is_refused(heated):
    table = make_throughput(reader.read_throughput(heated.files["throughput"]))
    read = reader.read_sustained
    other = heated.add("openvino", 64, FALLING)
    heated.add("ascend", 8, FALLING)
    changed = heated.add("onnxruntime", 8, FALLING, engine={"path": "x", "id": "another"})
    for path, why in (
        (heated.root / "sustained-ascend-8.json", "which no measured throughput is"),
        (changed, "is about another engine than the measured one of smlpnet_tiny, onnxruntime fp32, batch size 8"),
    ):
        with pytest.raises(UserError) as error:
            sustained_tables.joined(table, read([path]))
        assert str(error.value).startswith(f"{path}: ") and why in str(error.value)
    with pytest.raises(UserError, match="give each once"):
        sustained_tables.joined(table, [*read([other]), *read([other])])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no series of a sustained run can be read"),
        (b"\x93NUMPY", "no series of a sustained run can be read"),
        (np.zeros((3, 7), np.float32), "float64"),
        (np.zeros((0, 7)), "float64"),
        (np.zeros((3, 6)), "float64"),
        (np.zeros(()), "float64"),
        (np.zeros((3, 7)), "slots without runs"),
        (np.full((3, 7), np.nan), "slots without runs"),
        (np.full((3, 7), np.inf), "slots without runs"),
        (np.array([["x"]], object), "no series of a sustained run can be read"),
        (np.ones((1 << 19, 7)), "which no series has"),
    ],
)
def test_a_series_that_is_none_is_refused(heated, content, why):
    path = heated.files["sustained"][0]
    series = path.with_suffix(".npy")
    series.unlink()
    if isinstance(content, bytes):
        series.write_bytes(content)
    elif content is not None:
        np.save(series, content)
    with pytest.raises(UserError) as error:
        sustained_tables.courses(reader.read_sustained([path]))
    assert str(error.value).startswith(str(series)) and why in str(error.value) and "\n" not in str(error.value)


def test_the_shape_of_a_file_is_checked(heated):
    path = heated.files["sustained"][0]
    content = json.loads(path.read_text())
    content["smlp"]["sustained_s"] = 0
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="sustained_s is 0, a number of more than 0 was expected .* run sustain.py"):
        reader.read_sustained([path])


# the plot


def test_the_plot_has_a_panel_for_each_thing_that_was_told(heated):
    heated.add("ascend", 8, FALLING, {"power_w": (20.0, 21.0)}, emulated=True)
    courses = sustained_tables.courses(reader.read_sustained(heated.files["sustained"]))
    figure = plots.plot_sustained({}, courses)
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["images/s (% of the start)", "temperature (°C)", "clock (MHz)", "power (W)"]
    rate, temperature, _, power = figure.axes
    assert rate.get_title() == "smlpnet_tiny" and power.get_xlabel() == "minutes since the warm-up"
    onnxruntime, _, emulated, _ = rate.get_lines()  # the last one marks 100%
    assert onnxruntime.get_ydata()[0] == pytest.approx(100) and onnxruntime.get_ydata()[-1] == pytest.approx(90)
    assert len(onnxruntime.get_ydata()) == 240 and onnxruntime.get_xdata()[-1] == pytest.approx(10, abs=0.05)
    assert (len(temperature.get_lines()), len(power.get_lines())) == (1, 2)
    assert emulated.get_linestyle() == ":"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "onnxruntime fp32 batch size 8",
        "openvino fp32 batch size 8",
        "ascend fp32 batch size 8 (emulated)",
    ]


def test_what_nothing_tells_has_no_panel(tmp_path):
    sweep = WithSustained(tmp_path, [], [throughput("onnxruntime", "fp32", 8, 80.0)])
    sweep.add("onnxruntime", 8, [10] * 20)
    sweep.make()
    assert "temperature (" not in sweep.text("sustained.svg") and "of the start" in sweep.text("sustained.svg")
    assert "Sustained load: rate, temperature, clock and power over time" in sweep.text("report.html")
    digest = hashlib.sha256((sweep.output / "sustained.png").read_bytes()).digest()
    assert digest == hashlib.sha256((sweep.make().output / "sustained.png").read_bytes()).digest()


def test_rows_in_any_order_keep_their_own(heated):
    table = make_throughput(reader.read_throughput(heated.files["throughput"]))
    turned = table.iloc[::-1]
    joined = sustained_tables.joined(turned, reader.read_sustained(heated.files["sustained"]))
    assert list(joined.index) == list(turned.index)
    pandas.testing.assert_series_equal(joined["images_per_s"], turned["images_per_s"])
    assert joined.loc[joined["backend"] == "onnxruntime", "sustained_percent"].tolist() == [pytest.approx(90)]
