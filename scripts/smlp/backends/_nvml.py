"""What an NVIDIA GPU says of itself, by NVML (the package nvidia-ml-py, module `pynvml`), which need not be there.

Written against NVIDIA's documentation of NVML, and tested with a module that stands in for pynvml; not run on a GPU.
Standard library only: infer and measure load this on the target, under Python 3.9.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any, Callable

from ..core import lock
from ..core.provenance import Facts

# Reasons for a lower clock, as nvml.h numbers them. Left out: an idle GPU, and clocks that somebody set on purpose.
_THROTTLING = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown by software",
    0x40: "thermal slowdown by hardware",
    0x80: "power brake",
}


def telemetry(device: str) -> Facts:
    """health, temperature_c, power_w, aicore_percent, processes and more of "cuda:N"; {} if nothing can be asked.

    processes: one text for each other one; None if nobody can tell, as where NVML lists none and not even this process
    that computes: an empty list must not be read as an idle device. memory_mb: of this process. energy_j: since the
    driver was loaded. throttling: why clocks are lower than they could be, [] if they are not. On hosts with
    several kinds of GPUs CUDA numbers them by their speed unless CUDA_DEVICE_ORDER=PCI_BUS_ID: nothing is asked then.
    """
    nvml = _library() if device.partition(":")[0] == "cuda" else None
    handle = nvml and _handle(nvml, device)
    if handle is None:
        return {}
    ask = functools.partial(_ask, nvml)
    listed = _processes(nvml, handle)
    own = [process for process in listed or () if process.pid == os.getpid()]
    others = [process for process in listed or () if process.pid != os.getpid()]
    memory = ask("nvmlDeviceGetMemoryInfo", handle)
    energy_mj = ask("nvmlDeviceGetTotalEnergyConsumption", handle)
    power_mw = ask("nvmlDeviceGetPowerUsage", handle)
    load = ask("nvmlDeviceGetUtilizationRates", handle)
    used = own[0].usedGpuMemory if own else None
    return {
        "health": _health(nvml, handle),
        "temperature_c": ask("nvmlDeviceGetTemperature", handle, getattr(nvml, "NVML_TEMPERATURE_GPU", 0)),
        "power_w": None if power_mw is None else power_mw / 1000,
        "energy_j": None if energy_mj is None else energy_mj / 1000,
        "aicore_percent": None if load is None else load.gpu,
        "memory_used_mb": None if memory is None else memory.used / 1e6,
        "memory_mb": None if used is None else used / 1e6,
        "clock_mhz": ask("nvmlDeviceGetClockInfo", handle, getattr(nvml, "NVML_CLOCK_SM", 1)),
        "memory_clock_mhz": ask("nvmlDeviceGetClockInfo", handle, getattr(nvml, "NVML_CLOCK_MEM", 2)),
        "throttling": _throttling(nvml, handle),
        "processes": [_named(nvml, process) for process in others] if listed else None,
        "driver": _text(ask("nvmlSystemGetDriverVersion")),
    }


@functools.cache
def _library() -> Any | None:
    """pynvml with NVML opened, None without the package or the driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _ask(nvml: Any, name: str, *arguments: Any) -> Any | None:
    """What NVML answers; None if this version, GPU or user gets no answer."""
    function: Callable[..., Any] | None = getattr(nvml, name, None)
    if function is None:
        return None
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None


def _handle(nvml: Any, device: str) -> Any | None:
    """NVML's handle of what this process calls `device`; None if it cannot be told which one that is."""
    name = lock.physical(device if ":" in device else f"{device}:0").partition(":")[2]
    if re.fullmatch(r"(GPU|MIG)-.+", name):
        return _ask(nvml, "nvmlDeviceGetHandleByUUID", name)
    if not name.isdigit():
        return None
    count = _ask(nvml, "nvmlDeviceGetCount") or 0
    handles = [_ask(nvml, "nvmlDeviceGetHandleByIndex", number) for number in range(count)]
    kinds = {_text(_ask(nvml, "nvmlDeviceGetName", handle)) for handle in handles}
    if int(name) >= count or (len(kinds) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"):
        return None
    return handles[int(name)]


def _processes(nvml: Any, handle: Any) -> list[Any] | None:
    """Every process that NVML lists on the device; [] and None both mean that it lists none."""
    found = {}
    for name in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        for process in _ask(nvml, name, handle) or ():
            found.setdefault(process.pid, process)
    return list(found.values())


def _named(nvml: Any, process: Any) -> str:
    return f"process {process.pid} {_text(_ask(nvml, 'nvmlSystemGetProcessName', process.pid)) or ''}".strip()


def _health(nvml: Any, handle: Any) -> str:
    """OK, or how many memory errors could not be corrected since the driver was loaded."""
    kinds = (getattr(nvml, "NVML_MEMORY_ERROR_TYPE_UNCORRECTED", 1), getattr(nvml, "NVML_VOLATILE_ECC", 0))
    errors = _ask(nvml, "nvmlDeviceGetTotalEccErrors", handle, *kinds)
    return f"{errors} uncorrected memory errors" if errors else "OK"


def _throttling(nvml: Any, handle: Any) -> list[str] | None:
    reasons = _ask(nvml, "nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:  # its name until 2023
        reasons = _ask(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return None if reasons is None else [name for bit, name in _THROTTLING.items() if reasons & bit]


def _text(value: Any) -> str | None:
    """Texts of older versions of the package are bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
