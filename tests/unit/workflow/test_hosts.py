"""Where engines are made and run: devices, what schedulers count of them, interpreters."""

import pytest

from smlp import backends
from smlp.core import provenance
from smlp.workflow import settings
from smlp.workflow.hosts import Hosts


def hosts(*names, **sections):
    config = {
        "models": {"mine": {"checkpoint": "x.pth", "model_name": "test_resnet"}},
        "dataset": {"name": "data", "root": "/data"},
        "targets": [{"backend": name} for name in names or ["pytorch"]],
        "backends": sections,
    }
    return Hosts(settings.complete(config, "sweep.yaml"))


@pytest.mark.parametrize(
    ("backend", "section", "devices", "counted"),
    [
        ("pytorch", {}, ["cpu"], {"gpu": 0, "npu": 0}),
        ("onnxruntime", {}, ["cpu"], {"gpu": 0, "npu": 0}),
        ("onnxruntime", {"device": "cuda"}, ["cuda:0"], {"gpu": 1, "npu": 0}),
        ("onnxruntime", {"device": "cuda", "devices": [1, 3]}, ["cuda:1", "cuda:3"], {"gpu": 1, "npu": 0}),
        ("tensorrt", {}, ["cuda:0"], {"gpu": 1, "npu": 0}),
        ("ascend", {}, ["ascend:0"], {"gpu": 0, "npu": 1}),
        ("ascend", {"devices": [2, 0]}, ["ascend:2", "ascend:0"], {"gpu": 0, "npu": 1}),
    ],
)
def test_devices_of_a_backend(backend, section, devices, counted):
    found = hosts(**{backend: section})
    assert found.devices(backend) == devices
    assert {resource: found.count(backend, resource) for resource in found.resources} == counted
    assert found.threads(backend) == (8 if devices == ["cpu"] else 2)


@pytest.mark.parametrize(
    ("names", "sections", "limits"),
    [
        (["pytorch"], {}, {"gpu": 1, "npu": 1}),
        (["ascend"], {"ascend": {"devices": [0, 1, 2]}}, {"gpu": 1, "npu": 3}),
        (["pytorch"], {"ascend": {"devices": [0, 1, 2]}}, {"gpu": 1, "npu": 1}),
        (
            ["aotinductor", "tensorrt"],
            {"aotinductor": {"device": "cuda", "devices": [0, 1]}, "tensorrt": {"devices": [1, 2]}},
            {"gpu": 3, "npu": 1},
        ),
    ],
)
def test_no_more_jobs_at_once_than_devices(names, sections, limits):
    found = hosts(*names, **sections)
    assert {resource: found.limit(resource) for resource in found.resources} == limits


def test_the_interpreter_of_a_backend():
    found = hosts(ascend={"python": "/a b/python", "set_env": "/x y/set_env.sh"}, openvino={"python": "/p"})
    set_up = "set +eu; source '/x y/set_env.sh'; set -eu; "
    assert found.set_up("ascend") == set_up
    assert found.interpreter("ascend") == f"{set_up}'/a b/python'"
    assert found.interpreter("openvino") == found.compiling_python("openvino") == "/p"
    assert found.interpreter("pytorch") == "python" and found.set_up("pytorch") == ""


def test_variables_that_are_asked_for_are_flags_in_one_order():
    found = hosts(openvino={"env": {"OMP_WAIT_POLICY": "active now", "OMP_NUM_THREADS": 2}})
    asked = ["--env", "OMP_NUM_THREADS=2", "--env", "OMP_WAIT_POLICY=active now"]
    assert found.environment("openvino") == asked
    assert found.environment("pytorch") == []


@pytest.mark.parametrize("backend", backends.every(), ids=lambda backend: backend.name)
def test_the_interpreter_that_compiles_is_the_one_that_runs_unless_the_backend_says_otherwise(backend):
    found = hosts(**{backend.name: {"python": "/its/own"}})
    assert found.compiling_python(backend.name) == ("/its/own" if backend.python_compiles else "python")


def test_versions_that_results_depend_on():
    found = hosts()
    packages = backends.load("onnxruntime").packages
    assert found.tools("onnxruntime") == found.compiling_tools("onnxruntime") == provenance.versions(packages)
    assert found.compiling_tools("ascend") == {} and found.tools("ascend").keys() == {"aclruntime", "numpy"}
