"""Profiles by hand: the file that profile_engine.py writes."""

import json

import numpy as np
import pytest

from smlp.backends import _profile, onnxruntime
from smlp.core import identity
from smlp.core.cli import UserError
from smlp.results.reader import read_profiles


@pytest.fixture(scope="module")
def profile_engine(load_command):
    return load_command("profile_engine")


def flags(place, *more):
    output = place.root / "profile.json"
    about = ["--model", place.engine, "--input", place.bins, "--output", output, "--min_time_s", 0.01, *more]
    return list(map(str, about)), output


def test_the_file_has_every_operator_and_is_sealed(place, profile_engine, capsys):
    place.add("a.bin", "b.bin")  # fewer than a batch
    words, output = flags(place, "--model_label", "mixer")
    assert profile_engine.main(words) == 0
    facts = json.loads(output.read_text())["smlp"]
    assert identity.verify(facts, output) == facts["id"]
    assert (facts["model"], facts["backend"], facts["batch"], facts["device"]) == ("mixer", "onnxruntime", 4, "cpu")
    assert {one["type"] for one in facts["operations"]} >= {"MatMul"}
    assert facts["operators_ms"] == pytest.approx(sum(one["ms"] for one in facts["operations"]))
    assert facts["runs"] >= 3 and facts["profiled_ms_mean"] > 0 and facts["plain_ms_mean"] > 0
    (record,) = read_profiles([output])
    assert (record.failed, record.batch) == (None, 4)
    assert "operators " in capsys.readouterr().out


def test_a_runtime_without_profiling_says_so(place, profile_engine, monkeypatch):
    place.add("a.bin")
    monkeypatch.setattr(onnxruntime._Session, "profiler", lambda engine: None)
    words, output = flags(place)
    with pytest.raises(UserError, match="backend 'onnxruntime' has no profiling"):
        profile_engine.main(words)
    assert not output.exists()
    assert profile_engine.main([*words, "--record_failure"]) == 0
    assert "has no profiling" in json.loads(output.read_text())["failed"]


def test_a_tool_that_is_missing_ends_no_sweep(place, profile_engine, monkeypatch):
    def missing(engine):
        raise UserError("msprof is not on the PATH")

    place.add("a.bin")
    monkeypatch.setattr(onnxruntime._Session, "profiler", missing)
    words, output = flags(place)
    assert profile_engine.main([*words, "--record_failure"]) == 0
    assert json.loads(output.read_text())["failed"] == "msprof is not on the PATH"


@pytest.mark.parametrize("name", ["profile.txt", "profile"])
def test_the_output_is_json(place, profile_engine, name):
    with pytest.raises(UserError, match=r"a name ending in \.json was expected"):
        profile_engine.main([*flags(place)[0], "--output", str(place.root / name)])


def test_plain_and_profiled_runs_take_turns(profile_engine):
    seen = []

    class Engine:
        def run(self, images):
            seen.append("plain")
            return [images], _profile_timings(1.0)

    class Profiler(_profile.Profiler):
        def run(self, images, times):
            seen.extend(["profiled"] * times)
            return [2.0] * times

        def begin(self):
            seen.append("begin")

        def end(self):
            return [_profile.Operation("a", "A", "fp32", "cpu", 1.9)]

    found = profile_engine.profile(Engine(), Profiler(), np.zeros(1), 1e-9)
    assert seen[seen.index("begin") + 1 :] == ["plain", "profiled"] * 3
    assert (found.plain_ms, found.profiled_ms) == ([1.0] * 3, [2.0] * 3)


def _profile_timings(ms):
    from smlp.backends.base import Timings

    return Timings([], [ms], [])
