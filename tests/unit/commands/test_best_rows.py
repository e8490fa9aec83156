"""What is done with the best row: profile_best.py profiles it, confirm.py measures it and its rivals again."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from smlp.core import identity
from smlp.core.cli import UserError
from smlp.results.confirmed import read_confirmed
from smlp.results.reader import read_profiles

MEASURE = Path(__file__).resolve().parents[3] / "scripts" / "measure.py"


@pytest.fixture(scope="module")
def profile_best(load_command):
    return load_command("profile_best")


@pytest.fixture(scope="module")
def confirm(load_command):
    return load_command("confirm")


def results(folder, backend, ms, verdict=None, batch=8):
    about = {"model": "tiny", "backend": backend, "precision": "fp32", "batch": batch}
    scores = {"images": 400, "top1": 80.0, "top5": 90.0, "top1_wilson_low": 76.0, "top1_wilson_high": 83.0}
    speed = {"images_per_s": 1000 * batch / ms, "latency_ms_mean": ms, "latency_ms_p50": ms, "device": "cpu"}
    (folder / f"{backend}-{batch}-accuracy.json").write_text(json.dumps({**about, **scores, "verdict": verdict}))
    (folder / f"{backend}-{batch}-speed.json").write_text(json.dumps({"smlp": {**about, **speed}}))


def words(folder, commands):
    found = ["--model", "tiny", "--output", str(folder / "found.json"), "--threads", "1"]
    for kind, flag in (("accuracy", "--accuracy"), ("speed", "--throughput")):
        found += [flag, *map(str, sorted(folder.glob(f"*-{kind}.json")))]
    return found + [word for name, command in commands.items() for word in ("--row", name, command)]


# --- profile_best.py


def best(folder, profile_best, *names):
    ran = folder / "ran"
    command = "printf '%s' {} > " + shlex.quote(str(ran)) + "; true"
    status = profile_best.main(words(folder, {name: command.format(name) for name in names}))
    return status, ran.read_text() if ran.exists() else None


def test_the_fastest_row_whose_accuracy_holds_is_profiled(tmp_path, profile_best):
    results(tmp_path, "pytorch", 50.0)
    results(tmp_path, "onnxruntime", 20.0, "pass")
    results(tmp_path, "openvino", 10.0, "fail")
    names = [f"tiny/{backend}/fp32/bs8" for backend in ("pytorch", "onnxruntime", "openvino")]
    assert best(tmp_path, profile_best, *names) == (0, "tiny/onnxruntime/fp32/bs8")


def test_a_best_row_of_another_host_is_not_profiled_here(tmp_path, profile_best):
    results(tmp_path, "pytorch", 50.0)
    assert best(tmp_path, profile_best) == (0, None)
    (record,) = read_profiles([tmp_path / "found.json"])
    assert record.failed == "the best row, tiny/pytorch/fp32/bs8, was measured elsewhere; profile its engine there"


def test_without_a_best_row_the_file_says_so(tmp_path, profile_best):
    results(tmp_path, "openvino", 10.0, "fail")
    assert best(tmp_path, profile_best, "tiny/openvino/fp32/bs8") == (0, None)
    assert "has no best row" in read_profiles([tmp_path / "found.json"])[0].failed


# --- confirm.py


@pytest.fixture()
def rivals(tmp_path, place):
    """Rows of one real engine under several names, and the commands that measure it."""
    for name in "abcd":
        place.add(f"{name}.bin")
    results(tmp_path, "pytorch", 50.0)
    results(tmp_path, "onnxruntime", 20.0, "pass")
    results(tmp_path, "openvino", 20.5, "pass")
    results(tmp_path, "aotinductor", 22.0, "pass")  # 10% slower than the fastest
    words = [sys.executable, MEASURE, "--model", place.engine, "--input", place.bins]
    measure = shlex.join(map(str, words))
    bounds = "--model_label tiny --min_runs 3 --min_time_s 0.01 --warmup_window_s 0.001 --warmup_max_s 0.01"
    names = [f"tiny/{backend}/fp32/bs8" for backend in ("pytorch", "onnxruntime", "openvino", "aotinductor")]
    return {name: f"{measure} {bounds} --retry_max_s 0 --record_failure" for name in names}


def test_rivals_within_five_percent_and_the_reference_take_turns(rivals, tmp_path, confirm, capfd):
    assert confirm.main([*words(tmp_path, rivals), "--loads", "2"]) == 0
    rounds = [line.partition(": ")[2] for line in capfd.readouterr().err.splitlines() if "round" in line]
    first = [f"tiny/{backend}/fp32/bs8" for backend in ("onnxruntime", "openvino", "pytorch")]
    assert [line.rpartition(" ")[2] for line in rounds] == [*first, *first[::-1]]
    facts = json.loads((tmp_path / "found.json").read_text())
    assert identity.verify(facts, tmp_path / "found.json") == facts["id"]
    assert facts["finalists"] == first and facts["unconfirmed"] == []
    found = read_confirmed([tmp_path / "found.json"])
    assert len(found.records) >= 3 and found.missing == {"tiny": []}
    assert {record.facts["loads"] for record in found.records} == {2}


def test_at_most_so_many_take_part(rivals, tmp_path, confirm):
    assert confirm.main([*words(tmp_path, rivals), "--loads", "1", "--finalists", "1"]) == 0
    finalists = json.loads((tmp_path / "found.json").read_text())["finalists"]
    assert finalists == ["tiny/onnxruntime/fp32/bs8", "tiny/pytorch/fp32/bs8"]


def test_a_rival_that_was_measured_elsewhere_leaves_nothing_confirmed(rivals, tmp_path, confirm):
    del rivals["tiny/openvino/fp32/bs8"]
    assert confirm.main(words(tmp_path, rivals)) == 0
    found = read_confirmed([tmp_path / "found.json"])
    reason = "tiny/openvino/fp32/bs8 was measured elsewhere, so no row is measured again"
    assert found == ([], {"tiny": [reason]})


def test_a_row_that_fails_now_says_so(rivals, place, tmp_path, confirm):
    (place.root / "none.onnx").touch()
    about = {"backend": "onnxruntime", "precision": "fp32", "batch": 8}
    (place.root / "none.json").write_text(json.dumps({"failed": "too large", **about}))
    command = rivals["tiny/openvino/fp32/bs8"]
    rivals["tiny/openvino/fp32/bs8"] = command.replace(str(place.engine), str(place.root / "none.onnx"))
    assert confirm.main([*words(tmp_path, rivals), "--loads", "1"]) == 0
    (reason,) = read_confirmed([tmp_path / "found.json"]).missing["tiny"]
    assert "could not be measured again: " in reason


def test_a_command_that_cannot_run_ends_it(rivals, tmp_path, confirm):
    rivals["tiny/openvino/fp32/bs8"] = "false"
    rivals["tiny/onnxruntime/fp32/bs8"] = "true"
    with pytest.raises(UserError, match="tiny/openvino/fp32/bs8: its command ended with status 1"):
        confirm.main(words(tmp_path, rivals))
    assert not (tmp_path / "found.json").exists()


def test_without_an_eligible_row_nothing_is_measured(tmp_path, confirm):
    results(tmp_path, "openvino", 10.0, "fail")
    assert confirm.main(words(tmp_path, {"tiny/openvino/fp32/bs8": "false"})) == 0
    assert read_confirmed([tmp_path / "found.json"]) == ([], {"tiny": []})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is no file of confirm.py"),
        ({"model": "tiny"}, "rows is None"),
        ({"model": "tiny", "rows": {}, "unconfirmed": []}, "rows is {}, a list was expected"),
        ({"model": "tiny", "rows": [1], "unconfirmed": []}, "is no summary"),
        ({"model": "tiny", "rows": [], "unconfirmed": [], "id": "x"}, "its seal is broken"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "found.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_confirmed([path])


@pytest.mark.parametrize("name", ["found.txt", "found"])
def test_what_is_written_is_json(tmp_path, confirm, profile_best, name):
    results(tmp_path, "pytorch", 50.0)
    for command in (confirm, profile_best):
        with pytest.raises(UserError, match=r"a name ending in \.json was expected"):
            command.main([*words(tmp_path, {}), "--output", str(tmp_path / name)])
