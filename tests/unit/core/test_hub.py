"""Files of the hub: which are asked for, where they come from, what the cache holds, and what is refused."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import hub_server
import pytest
from hub_server import COMMIT, OLDER

from smlp.core import environment, hub
from smlp.core.cli import UserError

FETCH = """
import json, sys
from smlp.core import disturbance, hub
from smlp.core.cli import UserError
try:
    found = hub.fetch(*sys.argv[1:2], *([sys.argv[2:]] if sys.argv[2:] else []))
    answer = [str(found.path), *found[1:]]
except UserError as error:
    answer = str(error)
print(json.dumps([answer, disturbance.peak_memory_mb()]))
"""
CONTENT = bytes(range(256)) * 4000
SCRIPTS = Path(hub.__file__).parents[2]


@pytest.fixture
def server(monkeypatch, tmp_path):
    with hub_server.running() as server:
        server.files = {
            ("timm/net.a1", COMMIT, "model.safetensors"): CONTENT,
            ("timm/net.a1", OLDER, "pytorch_model.bin"): b"older",
            ("me/onnx", COMMIT, "onnx/model.onnx"): b"graph",
        }
        hub_server.use(server, monkeypatch, tmp_path / "the home")
        yield server


def measured(*arguments):
    """Fetch in a process of its own, as a command does; what `fetch` returns, and the process's peak memory in MB."""
    # what is freed goes back at once: else the peak depends on how malloc's heap happened to grow, by whole blocks
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(
        [sys.executable, "-c", FETCH, *arguments], cwd=SCRIPTS, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fetch(*arguments):
    """[path, repository, file, revision], or the error."""
    return measured(*arguments)[0]


def read(found):
    with open(found[0], "rb") as stream:
        return stream.read()


def test_the_weights_of_a_revision_are_fetched_once(server, tmp_path):
    found = fetch("hf-hub:timm/net.a1")
    assert found[1:] == ["timm/net.a1", "model.safetensors", COMMIT]
    assert read(found) == CONTENT
    assert str(tmp_path / "the home") in found[0]
    server.requests.clear()
    assert fetch(f"hf-hub:timm/net.a1@{COMMIT}") == found
    assert server.requests == []  # a commit that the cache has needs no server
    older = fetch(f"hf-hub:timm/net.a1@{OLDER}")
    assert (older[1:], read(older)) == (["timm/net.a1", "pytorch_model.bin", OLDER], b"older")


def test_a_file_is_named_or_looked_for(server):
    assert read(fetch("hf-hub:me/onnx/onnx/model.onnx@main")) == b"graph"
    assert fetch("hf-hub:me/onnx", "model.onnx", "onnx/model.onnx")[2] == "onnx/model.onnx"


def test_a_connection_that_breaks_is_continued(server):
    server.files["me/large", COMMIT, "model.onnx"] = content = CONTENT * 13
    server.cut = 11_000_000  # its client keeps what came in blocks of 10 MiB
    assert read(fetch("hf-hub:me/large/model.onnx")) == content
    ranges = [found for command, path, found in server.requests if command == "GET" and path.startswith("/cdn/")]
    assert ranges == [None, "bytes=10485760-"]


def test_without_a_network_the_cache_is_used(server, monkeypatch):
    found = fetch("hf-hub:timm/net.a1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    server.requests.clear()
    assert fetch("hf-hub:timm/net.a1") == found
    assert "HF_HUB_OFFLINE is set, and its cache does not have" in fetch("hf-hub:me/onnx/onnx/model.onnx")
    assert server.requests == []


def test_a_damaged_cache_is_noticed(server):
    found = fetch("hf-hub:timm/net.a1")
    with open(found[0], "r+b") as stream:
        stream.write(b"damage")
    message = fetch(f"hf-hub:timm/net.a1@{COMMIT}")
    assert hashlib.sha256(CONTENT).hexdigest() in message
    assert "remove it" in message


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("hf-hub:timm/none", "the hub has no timm/none"),
        ("hf-hub:timm/net.a1@v9", "has no revision 'v9'"),
        ("hf-hub:me/onnx", "has no model.safetensors and no pytorch_model.bin at main; name the file"),
        ("hf-hub:me/onnx/other.onnx", "has no other.onnx at main"),
        ("hf-hub:closed/net", "set HF_TOKEN"),
    ],
)
def test_what_the_hub_does_not_have_is_named(server, source, named):
    server.gated = ("closed/net",)
    message = fetch(source)
    assert message.startswith(f"{source}: ")
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "source",
    ["hf-hub:", "hf-hub:net", "hf-hub:a/b@", "hf-hub:a/../b", "hf-hub:a/b/../../c", "hf-hub:a/b c", "hf-hub:a/b@../x"],
)
def test_what_is_no_address_is_refused(source):
    with pytest.raises(UserError, match="is no address in the hub; write hf-hub:owner/name@revision"):
        hub.parse(source)


def test_memory_does_not_grow_with_the_file(server):
    server.files["me/small", COMMIT, "model.onnx"] = bytes(30_000_000)  # several of the client's blocks of 10 MiB
    server.files["me/large", COMMIT, "model.onnx"] = bytes(120_000_000)
    _, small_mb = measured("hf-hub:me/small/model.onnx")
    _, large_mb = measured("hf-hub:me/large/model.onnx")
    assert 10 < large_mb < 1.1 * small_mb


def test_its_variables_reach_the_commands():
    assert not any(map(environment.matters, hub_server.HUB_VARIABLES))


def test_sources_of_servers_are_told_from_files():
    for source in ("http://host/x.pth", "hf-hub:a/b", "timm:net.a1"):
        assert hub.is_remote(source)
    for source in ("x.pth", "./timm:net.a1", "/hf-hub:a", "demo"):
        assert not hub.is_remote(source)
    assert hub.published_name("timm:net.a1@v1") == hub.published_name("hf-hub:timm/net.a1@v1") == "net.a1"
    assert hub.published_name("hf-hub:me/net.a1") == hub.published_name("hf-hub:timm/net") == ""
