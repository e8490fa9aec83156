"""ceilings.py on this processor, for real; no figure is asserted but that it is one."""

import importlib.util
import json

import ceilings_probes
import pytest

from smlp.core import cli, host
from smlp.results import roofs

_SPEC = importlib.util.spec_from_file_location("command_ceilings", ceilings_probes.__file__.replace("_probes", ""))
ceilings = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(ceilings)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A file of this host's ceilings, and where it is."""
    path = tmp_path_factory.mktemp("ceilings") / "cpu.json"
    assert ceilings.main(["--time_s", "0.05", "--output", str(path)]) == 0
    return path, json.loads(path.read_text())


def test_products_in_each_precision_and_each_level_of_memory_are_measured(measured):
    path, facts = measured
    assert {"fp32"} <= facts["operations_per_s"].keys() <= {"fp32", "bf16", "fp16", "int8"}
    assert facts["settled"].keys() == facts["operations_per_s"].keys()
    assert [level["level"] for level in facts["bandwidths"]][-1] == "memory"
    assert facts["bandwidths"][-1]["holds_bytes"] is None and facts["host_to_device_bytes_per_s"] is None
    assert facts["threads"] == host.usable_processors()
    assert facts["fingerprint"] == {
        "host": host.facts(),
        "processors": host.processors(),
        "gpus": {},
        "where": "here",
    }
    (machine,) = (one for one in roofs.read([path], [], roofs.SHEET, []).machines if one.kind)
    assert machine.kind == "cpu" and machine.levels[-1].holds_bytes == float("inf")


def test_a_file_of_ceilings_that_was_edited_is_refused(measured, tmp_path):
    path, facts = measured
    edited = tmp_path / "cpu.json"
    edited.write_text(json.dumps({**facts, "operations_per_s": {"fp32": 1e18}}))
    with pytest.raises(cli.UserError, match=r"is not as it was written, its seal is broken"):
        roofs.read([edited], [], roofs.SHEET, [])


@pytest.mark.skipif("amx_int8" not in host.cpu_features(), reason="this processor has no AMX")
def test_int8_weights_are_in_the_processors_order_where_it_has_products_of_bytes():
    """With plain weights a product of bytes reaches 1.3 times bf16 on AMX, packed ones more than twice."""
    assert "linear" in ceilings_probes._product("int8", 256).__code__.co_freevars


def test_products_by_packed_weights_are_right():
    made = ceilings_probes._product("int8", 64)()
    assert {int(value) for value in made.flatten()} == {64}


def test_what_this_torch_cannot_multiply_has_no_ceiling(monkeypatch):
    def refuse(*_):
        raise NotImplementedError("no such product")

    monkeypatch.setattr(ceilings_probes, "_product", refuse)
    assert ceilings_probes.cpu_product("fp16", 1) is None


def test_a_gpu_that_torch_does_not_see_is_a_reason_and_no_failure(tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this host has a GPU")
    output = tmp_path / "cuda.json"
    assert ceilings.main(["--device", "cuda:0", "--output", str(output)]) == 0
    assert json.loads(output.read_text())["failed"] == "this PyTorch sees no GPU"
    assert "no ceilings of cuda:0" in capsys.readouterr().err


def test_a_gpu_is_measured(tmp_path):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("this host has no GPU")
    output = tmp_path / "cuda.json"
    assert ceilings.main(["--device", "cuda:0", "--time_s", "0.5", "--output", str(output)]) == 0
    facts = json.loads(output.read_text())
    assert facts["name"] == torch.cuda.get_device_name(0)
    assert {"fp32", "fp16"} <= facts["operations_per_s"].keys()
    assert facts["operations_per_s"]["fp16"] > facts["operations_per_s"]["fp32"]
    assert facts["host_to_device_bytes_per_s"] < facts["bandwidths"][-1]["bytes_per_s"]


@pytest.mark.parametrize("device", ["ascend:0", "cuda", "cuda:x", "gpu"])
def test_a_device_without_a_probe_is_wrong_usage(device, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        ceilings.main(["--device", device, "--output", str(tmp_path / "x.json")])
    assert ended.value.code == 2 and "is neither cpu nor cuda:N" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("caches", "levels"),
    [
        ({1: 96 << 10, 2: 4 << 20, 3: 32 << 20}, [("L2 cache", 4 << 20), ("L3 cache", 32 << 20), ("memory", None)]),
        ({}, [("memory", None)]),
        ({2: 1 << 20, 3: 768 << 20}, [("L2 cache", 1 << 20), ("L3 cache", 768 << 20), ("memory", None)]),
    ],
)
def test_memory_is_measured_beyond_the_largest_cache(caches, levels):
    found = ceilings_probes._levels(caches)
    assert [(name, holds) for name, holds, _ in found] == levels
    assert found[-1][2] > max(caches.values(), default=0)
    assert all(size < holds for _, holds, size in found[:-1])
