"""Several NPUs in one host: inference takes a free one, one process per device."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import yaml
from cann import HERE, environment
from emulated import Host

from smlp.core import lock

ROOT = HERE.parents[1]


@pytest.fixture
def place(tmp_path):
    """An emulated host with an engine and bins."""
    host = Host(tmp_path)
    host.compile("bs2")
    (tmp_path / "bins").mkdir()
    for index in range(3):
        np.full((1, 3, 8, 8), index, np.float32).tofile(tmp_path / "bins" / f"{index}.bin")
    return host


def infer(command, place, devices, **more):
    flags = ["--model", "bs2.om", "--backend", "ascend", "--input", "bins", "--output", ".", "--output_dirname", "out"]
    env = environment(place.root / "Ascend", devices=2, **more)
    done = command("infer", *flags, "--device", devices, cwd=place.root, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads((place.root / "out_summary.json").read_text())["smlp"]["device"], done.stderr


def test_a_free_device_is_taken(command, place):
    assert infer(command, place, "ascend:0,ascend:1") == ("ascend:0", "")
    with lock.hold("ascend:0", exclusive=True):
        assert infer(command, place, "0,1") == ("ascend:1", "")


def test_the_device_of_a_batch_job_is_not_another_jobs(command, place):
    """Both call theirs ascend:0, where the scheduler tells them which it is."""
    with lock.hold("ascend:0", exclusive=True):
        assert infer(command, place, "ascend:0", ASCEND_RT_VISIBLE_DEVICES="1") == ("ascend:0", "")


def test_settings_list_devices(tmp_path, command):
    from test_ascend_sweep import SETTINGS, snakemake, workplace

    folder = workplace(tmp_path / "place", {**SETTINGS, "backends": {"ascend": {"devices": [2, 0]}}})
    env = {**os.environ, "PYTHONPATH": ""}
    done = snakemake(folder, "-n", "-p", "--cores", "4", env=env)
    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if "/bs8.om " in line and "--device" in line]
    assert sorted(line.split("--device ")[1].split()[0] for line in commands) == ["ascend:2", "ascend:2,ascend:0"]
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**SETTINGS, "backends": {"onnxruntime": {"devices": [0]}}}))
    done = snakemake(folder, "-n", "--cores", "4", env=env)
    assert done.returncode == 1
    assert "backends.onnxruntime.devices: this backend runs on the cpu; remove it" in done.stderr
