"""A sweep whose checkpoint comes from the hub: its variables reach the job, and nothing is looked up twice."""

import json
import sys

import hub_server
import pytest
import torch
from conftest import DEMO
from hub_server import COMMIT

PUBLISHED = "test_resnet.r160_in1k"
RETRIEVED = "results/retrieve/mine/checkpoint.pth"


@pytest.fixture
def project(new_project, tmp_path):
    """A sweep of what timm publishes; the hub is a server of this test's own."""
    from smlp.models import architectures

    torch.save(architectures.create("test_resnet").state_dict(), tmp_path / "weights")
    with hub_server.running() as server, pytest.MonkeyPatch.context() as monkeypatch:
        hub_server.use(server, monkeypatch, tmp_path / "the home")
        server.files = {(f"timm/{PUBLISHED}", COMMIT, "pytorch_model.bin"): (tmp_path / "weights").read_bytes()}
        project = new_project({**DEMO, "models": {"mine": {"checkpoint": f"timm:{PUBLISHED}"}}})
        project.python = sys.executable  # the hub's library reads its variables when it is imported
        project.server = server
        yield project


def test_a_checkpoint_that_timm_publishes_is_fetched_once_from_the_mirror(project):
    project.sweep(RETRIEVED)
    sidecar = json.loads((project.folder / RETRIEVED).with_suffix(".json").read_text())
    stated = {"revision": COMMIT, "file": "pytorch_model.bin", "model_name": PUBLISHED, "num_classes": 1000}
    assert stated.items() <= sidecar.items()
    assert [path for command, path, _ in project.server.requests if command == "GET"] != []
    project.server.requests.clear()
    assert project.planned(RETRIEVED) == {}
    settings = project.settings
    settings["models"]["mine"]["checkpoint"] = {"source": f"hf-hub:timm/{PUBLISHED}@main", "sha256": "0" * 64}
    project.configure(settings)
    assert project.planned(RETRIEVED) == {"retrieve_checkpoint": 1}
    assert project.server.requests == []  # a plan asks no server
