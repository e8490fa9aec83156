"""share.py: what counts into an entry's key, and what is never used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smlp.core import files, identity, provenance
from smlp.core.cli import UserError

ROOT = Path(__file__).resolve().parents[3]
COPY = """
from pathlib import Path
from smlp.core import files, identity, provenance
source, target, *more = sys.argv[1:]
source, target, log = Path(source), Path(target), Path(sys.argv[0]).with_name("runs")
log.write_text(log.read_text() + "x" if log.exists() else "x")
made_from = {"source": identity.known(source).id}
target.write_text(source.read_text())
target.with_suffix(".bin").write_text("weights")
if "meddle" in more:
    source.write_text("another")
state = identity.state("a kind", identity.contents(target, [".bin"]), made_from=made_from)
failed = {"failed": "no"} if "fail" in more else {}
files.write_json(target.with_suffix(".json"), provenance.describe(state=state, **failed))
sys.exit(3 if "error" in more else 0)
"""


@pytest.fixture
def share(load_command):
    return load_command("share")


@pytest.fixture
def place(tmp_path):
    """A command that copies its input to its output and writes a sidecar; it counts its runs."""
    (tmp_path / "in put.txt").write_text("content")
    (tmp_path / "copy.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT / 'scripts')!r})\n{COPY}")
    return tmp_path


def run(place, *more, key=("code=1",), out="out", source="in put.txt", store="store"):
    target = place / out / "bs2.onnx"
    target.parent.mkdir(exist_ok=True)
    flags = [word for entry in key for word in ("--key", entry)]
    flags += ["--store", place / store] if store else []
    flags += ["--output", target, "--"]
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


def entry_of(place):
    (entry,) = (place / "store").glob("*/*/entry.json")
    return entry.parent


def test_the_second_time_it_is_taken_with_what_lies_beside_it(place):
    assert run(place).returncode == 0
    done = run(place, out="elsewhere")
    assert done.returncode == 0 and done.stderr.startswith(f"taken from {place / 'store'}")
    assert runs(place) == 1
    assert contents(place / "elsewhere") == contents(place / "out")
    made = contents(place / "out")
    assert set(made) == {"bs2.onnx", "bs2.bin", "bs2.json"} and made["bs2.bin"] == "weights"


@pytest.mark.parametrize("change", ["content", "id", "flag", "key"])
def test_another_flag_file_id_or_key_makes_another_entry(place, change):
    run(place)
    if change == "content":
        (place / "in put.txt").write_text("other content")
    elif change == "id":
        state = identity.state("a kind", identity.contents(place / "in put.txt"), code="another")
        files.write_json(place / "in put.json", provenance.describe(state=state))
    done = run(place, *(["--opset=13"] if change == "flag" else []), key=["code=2" if change == "key" else "code=1"])
    assert (done.returncode, done.stderr) == (0, "")
    assert runs(place) == 2


def test_the_name_of_the_input_and_the_number_of_workers_make_no_other_entry(place):
    run(place, "--workers", "2")
    (place / "in put.txt").rename(place / "renamed.txt")
    assert "taken from" in run(place, "--workers", "8", source="renamed.txt", out="elsewhere").stderr


def restated(entry, **changed):
    """Let the stored sidecar state something else, as somebody might who can write into the store."""
    path = entry / "artefact.json"
    facts = json.loads(path.read_text())
    facts["identity"].update(changed)
    path.write_text(json.dumps(identity.sealed({**facts, "id": identity.digest(facts["identity"])})))


DAMAGE = {
    "longer": lambda entry: (entry / "artefact.onnx").write_text("content and more"),
    "missing": lambda entry: (entry / "artefact.onnx").unlink(),
    "companion": lambda entry: (entry / "artefact.bin").write_text("other weights"),
    "no entry": lambda entry: (entry / "entry.json").write_text("{"),
    "other key": lambda entry: (entry / "entry.json").write_text("{}"),
    "no id": lambda entry: (entry / "artefact.json").write_text("{}"),
    "no facts": lambda entry: (entry / "artefact.json").write_text("[" * 100_000),
    "edited": lambda entry: (entry / "artefact.json").write_text('{"id": "0", "identity": {}, "seal": "1"}'),
    "other source": lambda entry: restated(entry, made_from={"source": "0" * 64}),
    "other files": lambda entry: restated(entry, files={".onnx": files.digest(entry / "artefact.onnx"), "/../x": ""}),
    "no files": lambda entry: restated(entry, files=[]),
    "no made_from": lambda entry: restated(entry, made_from=[]),
    "sidecar": lambda entry: restated(entry, files={".onnx": "", ".json": ""}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_never_used(place, damage):
    run(place)
    DAMAGE[damage](entry_of(place))
    done = run(place, out="elsewhere")
    assert done.returncode == 0 and "is damaged and not used" in done.stderr
    assert runs(place) == 2
    assert sorted(path.name for path in (place / "elsewhere").iterdir()) == ["bs2.bin", "bs2.json", "bs2.onnx"]
    assert (place / "elsewhere" / "bs2.onnx").read_text() == "content"
    assert "taken from" in run(place, out="third").stderr


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "//outside", "a/../../outside"])
def test_a_stored_folder_does_not_lead_out_of_the_output(share, tmp_path, name):
    (tmp_path / "entry" / "artefact").mkdir(parents=True)
    state = identity.state("bins", {"a.bin": "0", name: "0"})
    files.write_json(tmp_path / "entry" / "artefact.json", provenance.describe(state=state))
    files.write_json(tmp_path / "entry" / "entry.json", {"words": []})
    assert share.restore(tmp_path / "entry", {"words": []}, tmp_path / "out" / "shard-0") is False
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "out"]


def test_a_full_folder_is_left_to_the_command(share, tmp_path):
    for name in ("entry", "shard-0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a file").touch()
    assert share.restore(tmp_path / "entry", {"words": []}, tmp_path / "shard-0") is False
    assert len(list(tmp_path.rglob("a file"))) == 2


def test_what_is_made_while_an_input_changes_is_not_stored(place):
    done = run(place, "meddle")
    assert (done.returncode, done.stderr) == (0, "not stored: an input has changed meanwhile\n")
    assert (place / "out" / "bs2.onnx").exists() and not (place / "store").exists()


def test_an_input_that_is_not_as_its_sidecar_says_is_named(place):
    state = identity.state("a kind", {".txt": "0" * 64})
    files.write_json(place / "in put.json", provenance.describe(state=state))
    done = run(place)
    assert done.returncode == 1 and "in put.txt: is not the file that" in done.stderr
    assert not (place / "runs").exists()


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
    for folder in (images, images.parent / "dogs"):
        folder.mkdir(parents=True)
        (folder / "9.png").write_bytes(b"one of its class")
    for number in range(4):
        (images / f"{number}.png").write_bytes(bytes([number]))

    def content(part, *more):
        return share._images(["python", "preprocess.py", "--data_root", str(tmp_path / "data"), "--shard", part, *more])

    first, second = content("0/2"), content("1/2")
    assert first != second
    (images / "3.png").write_bytes(b"other")
    assert (content("0/2"), content("1/2") == second) == (first, False)
    assert content("0/2", "--background_class", "0") != first  # the same images with other labels
    (images.parent / "a").mkdir()
    (images.parent / "a" / "0.png").write_bytes(b"prepended")  # the same images follow with other indices
    assert content("1/2") not in (first, second)
    (images.parent / "a" / "0.png").unlink()
    (images.parent / "a").rmdir()
    option = share._content(f"calibration={images}")
    assert option.startswith("calibration=") and str(images) not in option


def test_backends_that_do_not_say_what_their_engines_fit_are_not_shared(share):
    flags = share._parse(["--backend", "tensorrt", "--output", "x.plan"])
    assert share.describe(flags, ["python", "compile.py"]) is None
    flags = share._parse(["--backend", "onnxruntime", "--output", "x.onnx"])
    assert "cpu_model" in share.describe(flags, ["python", "compile.py"])["made_for"]


def test_a_missing_command_is_refused(share):
    with pytest.raises(UserError, match="give the command behind --"):
        share.main(["--output", "x"])
