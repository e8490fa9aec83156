"""Fixtures of the tests on an emulated Ascend host."""

from __future__ import annotations

import atexit
import importlib
import importlib.machinery
import importlib.util
import sys

import pytest
from cann import HERE, environment
from emulated import Host


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture(scope="session")
def oms(tmp_path_factory):
    """fp16 and fp32 models of batch 2, one with gears."""
    host = Host(tmp_path_factory.mktemp("oms"))
    gears = {"input_shape": "input:-1,3,8,8", "dynamic_batch_size": "1,4,2"}
    host.fp16, host.fp32 = host.compile("fp16"), host.compile("fp32", precision_mode="force_fp32")
    host.gears = host.compile("gears", **gears)
    return host


@pytest.fixture
def load_acl(monkeypatch, oms):
    """Import a fresh aclruntime, as a new process would."""
    loaded = []

    def load(variant="0.0.2", devices=1, **more):
        for key, value in environment(oms.root / "Ascend", aclruntime=variant, devices=devices, **more).items():
            if key.startswith(("ASCEND_", "SMLP_")):
                monkeypatch.setenv(key, value)
        monkeypatch.syspath_prepend(HERE / "site")
        monkeypatch.delitem(sys.modules, "aclruntime", raising=False)
        loaded.append(importlib.import_module("aclruntime"))
        return loaded[-1]

    yield load
    for module in loaded:
        atexit.unregister(module._shut_down)
        sys.modules.pop("aclruntime", None)


@pytest.fixture
def acl(load_acl):
    return load_acl()
