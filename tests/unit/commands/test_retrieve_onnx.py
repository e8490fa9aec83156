"""An ONNX file is fetched with the files that hold its weights, and with nothing that lies elsewhere."""

import contextlib
import functools
import http.server
import json
import os
import threading

import hub_server
import numpy as np
import onnx
import pytest
import their_onnx
from hub_server import COMMIT

from smlp.core import files
from smlp.core.cli import UserError
from smlp.models import onnx_files, onnx_graph

IMAGES = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def retrieve(load_command):
    return load_command("retrieve")


@pytest.fixture
def theirs(tmp_path):
    """A file whose weights are in w.data."""
    folder = tmp_path / "their files"
    folder.mkdir()
    path = folder / "their model.onnx"
    onnx.save(their_onnx.classifier(), path, save_as_external_data=True, location="w.data", size_threshold=0)
    return path


@contextlib.contextmanager
def served(folder):
    """The URL of a server for the files of a folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def fetch(retrieve, source, tmp_path, *more):
    target = tmp_path / "got" / "model.onnx"
    assert retrieve.main(["onnx", "--source", str(source), "--output", str(target), *more]) == 0
    return target


def refusal(retrieve, source, tmp_path):
    with pytest.raises(UserError) as error:
        fetch(retrieve, source, tmp_path)
    assert list((tmp_path / "got").iterdir()) == []
    return str(error.value)


def point_to(path, location):
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    onnx.save(model, path)


@pytest.mark.parametrize("inside", ["w.data", "deep er/w ä.data"])
def test_weights_beside_the_file_come_along(retrieve, theirs, tmp_path, inside, capsys):
    (theirs.parent / inside).parent.mkdir(exist_ok=True)
    os.replace(theirs.parent / "w.data", theirs.parent / inside)
    point_to(theirs, inside)
    target = fetch(retrieve, theirs, tmp_path)
    sidecar = json.loads(target.with_suffix(".json").read_text())
    data = theirs.parent / inside
    assert sidecar["identity"]["files"] == {".onnx": files.digest(theirs), f"./{inside}": files.digest(data)}
    assert sidecar["start"]["sha256"] == files.digest(theirs)
    assert "in 2 files" in capsys.readouterr().err
    np.testing.assert_array_equal(onnx_graph.run(target, IMAGES), onnx_graph.run(theirs, IMAGES))
    # what the sidecar states is checked
    (target.parent / inside).write_bytes(b"other")
    with pytest.raises(UserError, match=r"data: is not the file that .*model\.json describes"):
        onnx_files.known(target)


def test_weights_are_fetched_from_a_server(retrieve, theirs, tmp_path):
    with served(theirs.parent) as url:
        target = fetch(retrieve, f"{url}/their%20model.onnx?download=true", tmp_path)
    assert sorted(path.name for path in target.parent.iterdir()) == ["model.json", "model.onnx", "w.data"]
    np.testing.assert_array_equal(onnx_graph.run(target, IMAGES), onnx_graph.run(theirs, IMAGES))


@pytest.mark.parametrize("file", ["/deep/net.onnx", ""], ids=["named", "looked for"])
def test_a_file_of_the_hub_brings_its_weights(theirs, command, tmp_path, monkeypatch, file):
    place = file[1:] or "onnx/model.onnx"
    target = tmp_path / "got" / "model.onnx"
    with hub_server.running() as server:
        hub_server.use(server, monkeypatch, tmp_path / "the home")
        server.files = {
            ("me/net", COMMIT, place): theirs.read_bytes(),
            ("me/net", COMMIT, f"{place.rpartition('/')[0]}/w.data"): (theirs.parent / "w.data").read_bytes(),
        }
        source = f"hf-hub:me/net{file}"
        finished = command("retrieve", "onnx", "--source", source, "--output", target)
        assert finished.returncode == 0, finished.stderr
        assert f"main is now the commit {COMMIT}" in finished.stderr and "in 2 files" in finished.stderr
        stated = json.loads(target.with_suffix(".json").read_text())
        about = {"source": source, "repository": "me/net", "file": place, "revision": COMMIT}
        assert about.items() <= stated.items()
        np.testing.assert_array_equal(onnx_graph.run(target, IMAGES), onnx_graph.run(theirs, IMAGES))
        assert not (target.parent / "w.data").is_symlink() and not target.is_symlink()
        del server.files["me/net", COMMIT, f"{place.rpartition('/')[0]}/w.data"]
        monkeypatch.setenv("HF_HOME", str(tmp_path / "another home"))
        target.unlink()
        finished = command("retrieve", "onnx", "--source", source, "--output", target)
        assert (finished.returncode, target.exists()) == (1, False)
        assert "w.data" in finished.stderr.splitlines()[-1]


def test_a_file_url_brings_them_too(retrieve, theirs, tmp_path):
    fetch(retrieve, theirs.as_uri(), tmp_path)
    assert (tmp_path / "got" / "w.data").read_bytes() == (theirs.parent / "w.data").read_bytes()


@pytest.mark.parametrize("location", ["../w.data", "/etc/passwd", "a/../../w.data", "..", "a\\..\\w.data"])
def test_weights_outside_the_folder_are_refused(retrieve, theirs, tmp_path, location):
    (tmp_path / "w.data").write_bytes((theirs.parent / "w.data").read_bytes())
    point_to(theirs, location)
    message = refusal(retrieve, theirs, tmp_path)
    assert message == (
        f"{theirs}: keeps weights in {location!r}, which leads outside its folder; save it with its weights beside it"
    )
    with pytest.raises(UserError, match="leads outside its folder"):
        onnx_files.read(theirs)


@pytest.mark.parametrize("folder_too", [False, True])
def test_weights_behind_a_link_are_refused(retrieve, theirs, tmp_path, folder_too):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.replace(theirs.parent / "w.data", elsewhere / "w.data")
    if folder_too:
        (theirs.parent / "sub").symlink_to(elsewhere)
        point_to(theirs, "sub/w.data")
    else:
        (theirs.parent / "w.data").symlink_to(elsewhere / "w.data")
    assert "it is a link or no file; copy what it leads to in its place" in refusal(retrieve, theirs, tmp_path)


def test_missing_weights_are_named(retrieve, theirs, tmp_path):
    (theirs.parent / "w.data").unlink()
    message = refusal(retrieve, theirs, tmp_path)
    assert message.startswith(f"{theirs.parent / 'w.data'}: not found; their model.onnx keeps weights there")


@pytest.mark.parametrize("location", ["model.json", "bs8.om", "checkpoint.pth", ".snakemake_timestamp"])
def test_weights_do_not_take_the_place_of_other_files(retrieve, theirs, tmp_path, location):
    os.replace(theirs.parent / "w.data", theirs.parent / location)
    point_to(theirs, location)
    assert "a name that is taken here" in refusal(retrieve, theirs, tmp_path)


def test_weights_that_end_too_soon_are_refused(theirs):
    data = theirs.parent / "w.data"
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(UserError, match="is not a valid ONNX file"):
        onnx_files.read(theirs)


def test_a_file_without_weights_elsewhere_is_one_file(retrieve, tmp_path):
    onnx.save(their_onnx.classifier(), tmp_path / "x.onnx")
    target = fetch(retrieve, tmp_path / "x.onnx", tmp_path)
    assert target.read_bytes() == (tmp_path / "x.onnx").read_bytes()
    assert json.loads(target.with_suffix(".json").read_text())["identity"]["files"].keys() == {".onnx"}
