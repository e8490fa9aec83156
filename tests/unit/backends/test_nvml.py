"""What an NVIDIA GPU says of itself. No GPU here: a module stands in for pynvml, written after NVML's documentation."""

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from smlp.backends import _nvml


class NVMLError(Exception):
    pass


def refuse(*arguments):
    raise NVMLError("Not Supported")


@pytest.fixture
def nvml(monkeypatch):
    """A stand-in for pynvml on a host with one GPU; tests change what it answers."""
    module = ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.names = ["NVIDIA H100"]
    module.processes = [SimpleNamespace(pid=os.getpid(), usedGpuMemory=512_000_000)]
    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: len(module.names),
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetHandleByUUID": lambda name: name,
        "nvmlDeviceGetName": lambda handle: module.names[handle],
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: module.processes,
        "nvmlDeviceGetGraphicsRunningProcesses": refuse,
        "nvmlSystemGetProcessName": lambda pid: b"python",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=600_000_000),
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: 12_000,
        "nvmlDeviceGetPowerUsage": lambda handle: 71_500,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=3),
        "nvmlDeviceGetTemperature": lambda handle, sensor: 41,
        "nvmlDeviceGetClockInfo": lambda handle, kind: {1: 1980, 2: 2619}[kind],
        "nvmlDeviceGetTotalEccErrors": lambda handle, kind, counter: 0,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: 0x1,
        "nvmlSystemGetDriverVersion": lambda: "580.1",
    }
    for name, answer in answers.items():
        setattr(module, name, answer)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    _nvml._library.cache_clear()
    yield module
    _nvml._library.cache_clear()


def test_all_that_it_tells(nvml):
    assert _nvml.telemetry("cuda:0") == {
        "health": "OK",
        "temperature_c": 41,
        "power_w": 71.5,
        "energy_j": 12.0,
        "aicore_percent": 3,
        "memory_used_mb": 600.0,
        "memory_mb": 512.0,
        "clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "throttling": [],
        "processes": [],
        "driver": "580.1",
    }


def test_another_process_is_named(nvml):
    nvml.processes = [SimpleNamespace(pid=1, usedGpuMemory=None)]
    assert _nvml.telemetry("cuda:0")["processes"] == ["process 1 python"]


def test_an_empty_list_does_not_mean_that_nobody_computes(nvml):
    """In virtual machines NVML lists nothing while this process computes."""
    nvml.processes = []
    assert _nvml.telemetry("cuda:0")["processes"] is None
    nvml.nvmlDeviceGetComputeRunningProcesses = refuse
    assert _nvml.telemetry("cuda:0")["processes"] is None


def test_what_a_gpu_does_not_tell_is_none(nvml):
    for name in ("PowerUsage", "TotalEnergyConsumption", "UtilizationRates", "Temperature", "ClockInfo", "MemoryInfo"):
        setattr(nvml, f"nvmlDeviceGet{name}", refuse)
    nvml.nvmlDeviceGetTotalEccErrors = refuse
    del nvml.nvmlDeviceGetCurrentClocksEventReasons
    found = _nvml.telemetry("cuda:0")
    assert found["health"] == "OK"
    told = ("power_w", "energy_j", "aicore_percent", "temperature_c", "clock_mhz", "memory_used_mb", "throttling")
    assert [found[key] for key in told] == [None] * len(told)


def test_reasons_to_throttle_and_memory_errors_are_named(nvml):
    nvml.nvmlDeviceGetCurrentClocksEventReasons = refuse
    nvml.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: 0x1 | 0x4 | 0x40
    nvml.nvmlDeviceGetTotalEccErrors = lambda handle, kind, counter: 2
    found = _nvml.telemetry("cuda:0")
    assert found["throttling"] == ["power cap", "thermal slowdown by hardware"]
    assert found["health"] == "2 uncorrected memory errors"


def test_the_number_is_the_hosts(nvml, monkeypatch):
    nvml.names = ["NVIDIA H100"] * 3
    seen = []
    nvml.nvmlDeviceGetTemperature = lambda handle, sensor: seen.append(handle)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5e")
    _nvml.telemetry("cuda:0")
    _nvml.telemetry("cuda:1")
    assert seen == [2, "GPU-5e"]


def test_nothing_is_said_of_a_gpu_that_may_be_another(nvml, monkeypatch):
    nvml.names = ["NVIDIA T4", "NVIDIA H100"]
    assert _nvml.telemetry("cuda:0") == {}
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert _nvml.telemetry("cuda:1")["health"] == "OK"
    assert _nvml.telemetry("cuda:2") == {}


def test_without_the_package_the_driver_or_a_gpu_nothing_is_known(nvml, monkeypatch):
    assert _nvml.telemetry("cpu") == {}
    _nvml._library.cache_clear()
    nvml.nvmlInit = refuse
    assert _nvml.telemetry("cuda:0") == {}
    _nvml._library.cache_clear()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert _nvml.telemetry("cuda:0") == {}
