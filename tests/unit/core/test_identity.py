"""An artefact's id changes with what makes it this one, and files that are not what their sidecar says are named."""

import json
import os

import pytest

from smlp.core import files, identity, provenance
from smlp.core.cli import UserError

CONTENT = {".xml": "a", ".bin": "b"}
OTHER = {
    "kind": "shard",
    "content": {".xml": "a", ".bin": "c"},
    "made_from": {"source": "2"},
    "flags": {"batch_size": 4},
    "code": "f",
    "versions": {"openvino": "2"},
    "host": {"cpu_features": ["avx2", "amx"]},
    "environment": {"OMP_NUM_THREADS": "1"},
}


def state(**changed):
    given = {
        "kind": "engine",
        "content": CONTENT,
        "made_from": {"source": "1"},
        "flags": {"batch_size": 8},
        "code": "e",
        "versions": {"openvino": "1"},
        "host": {"cpu_features": ["avx2"]},
        "environment": {},
        **changed,
    }
    return identity.state(given.pop("kind"), given.pop("content"), **given)


def write(path, **own):
    """A sidecar beside the artefact `path`."""
    made = identity.state("engine", identity.contents(path))
    files.write_json(identity.sidecar_of(path), provenance.describe(state=made, **own))
    return made["id"]


@pytest.mark.parametrize("part", OTHER)
def test_the_id_changes_with_each_part(part):
    assert state()["id"] == state()["id"] != state(**{part: OTHER[part]})["id"]


def test_the_order_of_keys_and_the_way_through_a_file_do_not_matter(tmp_path):
    made = state(flags={"b": (1, 2), "a": {8: None}})
    files.write_json(tmp_path / "x.json", provenance.describe(state=made, own={1: "é\udce9", 10: 0.1, 9: [()]}))
    assert identity.verify(files.read_json(tmp_path / "x.json", ""), "x.json") == made["id"]
    assert state(flags={"a": {"8": None}, "b": [1, 2]})["id"] == made["id"]


def test_contents_are_named_by_suffix_or_by_place(tmp_path):
    (tmp_path / "bs8.xml").write_text("graph")
    (tmp_path / "bs8.bin").write_text("weights")
    assert list(identity.contents(tmp_path / "bs8.xml", [".bin"])) == [".xml", ".bin"]
    folder = tmp_path / "shard-0.5"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "b").write_text("")
    (folder / "a").write_text("")
    (folder / ".snakemake_timestamp").write_text("")
    assert list(identity.contents(folder)) == ["a", "deep/b"]


def test_an_artefact_may_get_another_name(tmp_path):
    (tmp_path / "bs8.onnx").write_text("graph")
    stated = write(tmp_path / "bs8.onnx")
    for suffix in (".onnx", ".json"):
        os.rename(tmp_path / f"bs8{suffix}", tmp_path / f"theirs{suffix}")
    assert identity.known(tmp_path / "theirs.onnx").id == stated


def test_a_file_without_a_sidecar_is_its_content(tmp_path):
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_text("weights")
    (tmp_path / "c.pth").write_text("others")
    a, b, c = (identity.known(tmp_path / name) for name in ("a.pth", "b.pth", "c.pth"))
    assert a == b and a.id != c.id and a.facts == {}
    assert a.start == {
        "id": a.id,
        "sha256": files.digest(tmp_path / "a.pth"),
        "md5": files.digest(tmp_path / "a.pth", "md5"),
    }


def test_a_sidecar_of_another_file_of_the_same_stem_is_not_its_own(tmp_path):
    for suffix in (".pth", ".onnx"):
        (tmp_path / f"x{suffix}").write_text(suffix)
    bare = identity.known(tmp_path / "x.pth")
    stated = write(tmp_path / "x.onnx", model_name="m")
    assert identity.known(tmp_path / "x.pth") == bare
    assert identity.known(tmp_path / "x.onnx").id == stated


@pytest.mark.parametrize("damage", ["changed", "missing", "surplus"])
def test_a_folder_that_is_not_as_stated_is_refused_by_the_files_name(tmp_path, damage):
    folder = tmp_path / "shard-0"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)
    stated = write(folder)
    assert identity.known(folder).id == stated
    name = {"changed": "b", "missing": "b", "surplus": "c"}[damage]
    (folder / name).unlink() if damage == "missing" else (folder / name).write_text("other")
    assert identity.known(folder, check=False).id == stated
    with pytest.raises(UserError, match=f"shard-0/{name}: "):
        identity.known(folder)
    identity.check_files(identity.known(folder, check=False).facts, "the sidecar", folder, only=["a"])


def test_a_companion_that_is_not_as_stated_is_refused_by_its_name(tmp_path):
    for suffix in (".xml", ".bin"):
        (tmp_path / f"bs8{suffix}").write_text(suffix)
    made = identity.state("engine", identity.contents(tmp_path / "bs8.xml", [".bin"]))
    files.write_json(tmp_path / "bs8.json", provenance.describe(state=made))
    (tmp_path / "bs8.bin").write_text("another network's")
    with pytest.raises(UserError, match=r"bs8\.bin: is not the file that .*bs8\.json describes"):
        identity.known(tmp_path / "bs8.xml")


@pytest.mark.parametrize(
    "edit",
    [
        lambda facts: {**facts, "top1": 99.0},
        lambda facts: {**facts, "id": "0" * 64},
        lambda facts: {**facts, "identity": {**facts["identity"], "code": "other"}},
        lambda facts: {key: value for key, value in facts.items() if key != "seal"},
        lambda facts: {key: value for key, value in facts.items() if key != "identity"},
        lambda facts: {**facts, "identity": "text"},
    ],
)
def test_a_sidecar_that_was_edited_is_refused_by_its_name(tmp_path, edit):
    (tmp_path / "x.onnx").write_text("graph")
    write(tmp_path / "x.onnx", top1=80.0)
    sidecar = tmp_path / "x.json"
    sidecar.write_text(json.dumps(edit(json.loads(sidecar.read_text()))))
    with pytest.raises(UserError, match=r"x\.json: "):
        identity.known(tmp_path / "x.onnx")


def test_a_sidecar_with_another_id_sealed_anew_is_refused(tmp_path):
    facts = identity.sealed({**state(), "id": "0" * 64})
    with pytest.raises(UserError, match=r"x\.json: its id is not that of its identity"):
        identity.verify(facts, "x.json")


def test_a_sidecar_of_another_tool_states_no_id():
    assert identity.verify({"backend": "onnxruntime"}, "x.json") is None
