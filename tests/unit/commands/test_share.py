"""share.py: what counts into an entry's key, and what is never used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smlp.core.cli import UserError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def share(load_command):
    return load_command("share")


@pytest.fixture
def place(tmp_path):
    """A command that copies its input to its output and writes a sidecar; it counts its runs."""
    (tmp_path / "in put.txt").write_text("content")
    (tmp_path / "copy.py").write_text(
        "import sys, pathlib as p\n"
        "source, target, *more = sys.argv[1:]\n"
        "log = p.Path(sys.argv[0]).with_name('runs'); log.write_text(log.read_text() + 'x' if log.exists() else 'x')\n"
        "p.Path(target).write_text(p.Path(source).read_text())\n"
        "p.Path(target).with_suffix('.bin').write_text('weights')\n"
        "p.Path(target).with_suffix('.json').write_text('{\"failed\": \"no\"}' if 'fail' in more else '{}')\n"
        "sys.exit(3 if 'error' in more else 0)\n"
    )
    return tmp_path


def run(place, *more, key=("code=1",), out="out", source="in put.txt", store="store"):
    target = place / out / "bs2.onnx"
    target.parent.mkdir(exist_ok=True)
    flags = [word for entry in key for word in ("--key", entry)]
    flags += ["--store", place / store] if store else []
    flags += ["--output", target, "--output", target.with_suffix(".json"), "--"]
    command = [sys.executable, place / "copy.py", place / source, target, *more]
    environment = {name: value for name, value in os.environ.items() if name != "SMLP_STORE"}
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "share.py"), *map(str, [*flags, *command])],
        capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip


def runs(place):
    return len((place / "runs").read_text())


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_second_time_it_is_taken_with_what_lies_beside_it(place):
    assert run(place).returncode == 0
    done = run(place, out="elsewhere")
    assert done.returncode == 0 and done.stderr.startswith(f"taken from {place / 'store'}")
    assert runs(place) == 1
    assert contents(place / "elsewhere") == contents(place / "out")
    assert contents(place / "out") == {"bs2.onnx": "content", "bs2.bin": "weights", "bs2.json": "{}"}


@pytest.mark.parametrize("change", ["content", "flag", "key"])
def test_another_flag_file_or_key_makes_another_entry(place, change):
    run(place)
    if change == "content":
        (place / "in put.txt").write_text("other content")
    done = run(place, *(["--opset=13"] if change == "flag" else []), key=["code=2" if change == "key" else "code=1"])
    assert (done.returncode, done.stderr) == (0, "")
    assert runs(place) == 2


def test_the_name_of_the_input_and_the_number_of_workers_make_no_other_entry(place):
    run(place, "--workers", "2")
    (place / "in put.txt").rename(place / "renamed.txt")
    assert "taken from" in run(place, "--workers", "8", source="renamed.txt", out="elsewhere").stderr


@pytest.mark.parametrize("damage", ["longer", "missing", "no entry", "other key", "outside"])
def test_a_damaged_entry_is_never_used(place, damage):
    run(place)
    (entry,) = (place / "store").glob("*/*/entry.json")
    engine, record = entry.parent / "files" / "bs2.onnx", json.loads(entry.read_text())
    if damage == "longer":
        engine.write_text("content and more")
    elif damage == "missing":
        engine.unlink()
    elif damage == "no entry":
        entry.write_text("{")
    elif damage == "other key":
        entry.write_text(json.dumps({**record, "about": {}}))
    else:
        entry.write_text(json.dumps({**record, "files": {**record["files"], "../x": "0"}}))
    done = run(place, out="elsewhere")
    assert done.returncode == 0 and "is damaged and not used" in done.stderr
    assert runs(place) == 2
    assert contents(place / "elsewhere") == contents(place / "out")
    assert "taken from" in run(place, out="third").stderr


@pytest.mark.parametrize(("word", "status"), [("fail", 0), ("error", 3)])
def test_failures_are_not_stored(place, word, status):
    assert run(place, word).returncode == status
    assert not (place / "store").exists()


def test_without_a_store_the_command_is_just_run(place):
    assert (run(place, store=None).returncode, runs(place)) == (0, 1)
    assert run(place, "error", store=None).returncode == 3


def test_a_store_that_cannot_be_written_costs_no_result(place):
    (place / "store").write_text("a file")
    done = run(place)
    assert done.returncode == 0 and "not stored" in done.stderr
    assert (place / "out" / "bs2.onnx").read_text() == "content"


def test_a_folder_counts_by_its_content_and_a_dataset_by_its_shard(share, tmp_path):
    images = tmp_path / "data" / "val" / "cats"
    images.mkdir(parents=True)
    for number in range(4):
        (images / f"{number}.png").write_bytes(bytes([number]))

    def content(part):
        return share._content(str(tmp_path / "data"), [str(tmp_path / "data"), "val", part])

    first, second = content("0/2"), content("1/2")
    assert first != second
    (images / "3.png").write_bytes(b"other")
    assert (content("0/2"), content("1/2") == second) == (first, False)
    option = share._content(f"calibration={images}", None)
    assert option.startswith("calibration=") and str(images) not in option


def test_backends_that_do_not_say_what_their_engines_fit_are_not_shared(share):
    flags = share._parse(["--backend", "tensorrt", "--output", "x.plan"])
    assert share.describe(flags, ["python", "compile.py"]) is None
    flags = share._parse(["--backend", "onnxruntime", "--output", "x.onnx"])
    assert "cpu_model" in share.describe(flags, ["python", "compile.py"])["made_for"]


def test_a_missing_command_is_refused(share):
    with pytest.raises(UserError, match="give the command behind --"):
        share.main(["--output", "x"])
