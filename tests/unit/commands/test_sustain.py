"""Sustained runs by hand: how slots are kept, and the file and series that sustain.py writes."""

import json

import numpy as np
import pytest
import yaml
from test_measure import IMAGES, Scripted

from smlp.backends import onnxruntime
from smlp.backends.base import EngineFailure
from smlp.core import host, identity
from smlp.core.cli import UserError
from smlp.results import sustained
from smlp.results.reader import SCHEMA, read_sustained
from smlp.results.sustained_tables import courses


@pytest.fixture(scope="module")
def sustain(load_command):
    return load_command("sustain")


def flags(place, *more):
    where = ["--model", place.engine, "--input", place.bins, "--output", place.root / "out put" / "bs4.json"]
    quick = ["--sustained_s", 2, "--warmup_window_s", 0.01, "--warmup_max_s", 0.1, "--threads", 1]
    return [str(part) for part in (*where, *quick, *more)]


# slots


def test_an_engine_that_gets_slower_shows_it(sustain, clock):
    started_s = clock.now_s
    engine = Scripted(clock, lambda run: 9.0 if clock.now_s - started_s < 300 else 19.0)  # and 1 ms for transfers
    slots = sustain.keep_running(engine, IMAGES, 600, 1.0)
    assert len(slots) == pytest.approx(600, abs=10)  # each ends with a whole run
    assert [slot.runs for slot in (slots[0], slots[-1])] == pytest.approx([100, 50], abs=1)
    found = sustained.figures(sustained.series(slots, []), batch=2)
    assert found["sustained_percent"] == pytest.approx(100 * 9 / 19)
    assert found["sustained_first_images_per_s"] == pytest.approx(2 / 0.009)


def test_images_go_on_taking_turns_from_slot_to_slot(sustain, clock):
    engine = Scripted(clock, lambda run: 9.0)
    sustain.keep_running(engine, IMAGES, 0.07, 0.015)
    assert [images[0, 0, 0, 0] for images in engine.seen] == [run % 3 for run in range(len(engine.seen))]


def test_a_run_longer_than_its_slot_is_a_slot(sustain, clock):
    slots = sustain.keep_running(Scripted(clock, lambda run: 2999.0), IMAGES, 7, 0.35)
    assert [(round(slot.started_s), round(slot.ended_s), slot.runs) for slot in slots] == [
        (0, 3, 1),
        (3, 6, 1),
        (6, 9, 1),
    ]


# the whole command


def test_the_command_writes_facts_and_a_short_series(place, command):
    place.add("a.bin", "b.bin")
    done = command("sustain", *flags(place, "--model_label", "mixer"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "images/s in the first half" in done.stdout
    output = place.root / "out put" / "bs4.json"
    assert sorted(path.name for path in output.parent.iterdir()) == ["bs4.json", "bs4.npy"]
    facts = json.loads(output.read_text())["smlp"]
    assert identity.verify(facts, output) == facts["id"]
    assert (facts["model"], facts["backend"], facts["batch"], facts["device"]) == ("mixer", "onnxruntime", 4, "cpu")
    assert facts["engine"]["id"] == identity.known(place.engine).id
    series = np.load(output.with_suffix(".npy"))
    assert series.dtype == np.float64 and series.shape[1] == len(sustained.COLUMNS)
    assert 2 <= len(series) <= 21 and (np.diff(series[:, 0]) > 0).all() and (series[:, 2:4] > 0).all()
    assert facts["sustained_s"] >= 2 and facts["sustained_percent"] > 0
    told = host.telemetry()
    assert (facts["sustained_clock_mhz_start"] is None) == (told.get("clock_mhz") is None)
    assert (facts["sustained_temperature_c_max"] is None) == (told.get("temperature_c") is None)
    (record,) = read_sustained([output])
    assert [course.name for course in courses([record])["mixer"]] == ["onnxruntime unknown batch size 4"]
    np.save(output.with_suffix(".npy"), series + 1)
    with pytest.raises(UserError, match=r"bs4\.npy: is not the file that .* describes"):
        read_sustained([output])


def test_an_engine_that_cannot_run_is_recorded_if_that_is_asked_for(place, sustain, monkeypatch):
    def fail(engine):
        raise EngineFailure("out of memory")

    place.add("a.bin")
    monkeypatch.setattr(onnxruntime._Session, "_open", fail)
    with pytest.raises(EngineFailure):
        sustain.main(flags(place))
    assert not (place.root / "out put").exists()
    assert sustain.main(flags(place, "--record_failure")) == 0
    assert json.loads((place.root / "out put" / "bs4.json").read_text())["failed"] == "out of memory"
    assert len(np.load(place.root / "out put" / "bs4.npy")) == 0


def test_a_device_that_others_use_is_not_run_on(place, sustain, monkeypatch):
    place.add("a.bin")
    monkeypatch.setattr(host, "telemetry", lambda: {"processes": ["process 7 other"]})
    with pytest.raises(UserError, match="device cpu: process 7 other uses it"):
        sustain.main(flags(place))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--output", "out.npy"],
            "--output out.npy: a name ending in .json was expected; the series takes the same stem",
        ),
        (["--input", "{place}/none"], "{place}/none: is no file"),
        (["--batchsize", "8"], "--batchsize 8: the engine was compiled for batch 4"),
    ],
)
def test_flags_that_do_not_fit_are_refused(place, sustain, more, message):
    with pytest.raises(UserError) as error:
        sustain.main(flags(place, *(part.format(place=place.root) for part in more)))
    assert str(error.value).startswith(message.format(place=place.root))
    assert not (place.root / "out put").exists()


def test_a_time_must_be_positive(place, sustain, capsys):
    with pytest.raises(SystemExit):
        sustain.main(flags(place, "--sustained_s", "0"))
    assert "--sustained_s: '0' is not a number above 0" in capsys.readouterr().err


def test_every_key_of_the_file_is_documented(place, sustain):
    place.add("a.bin")
    assert sustain.main(flags(place, "--sustained_s", 0.01)) == 0
    facts = json.loads((place.root / "out put" / "bs4.json").read_text())["smlp"]
    documented = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))["$defs"]["sustained"]["properties"]
    assert set(facts) - set(documented) == set()
