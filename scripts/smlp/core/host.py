"""What this host is, and how much of it this process may use: what figures of speed depend on.

Everything is read from /proc and /sys below `root`. What a host does not tell is None, never an error.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

_ROOT = Path("/")
# What sensors of processors call themselves, on x86 and on Arm.
_SENSORS = (
    "coretemp",
    "k10temp",
    "zenpower",
    "x86_pkg_temp",
    "cpu_thermal",
    "cpu-thermal",
    "soc_thermal",
    "soc-thermal",
)
# So many processors' clocks tell that of all: each question wakes its processor.
_CLOCKS = 16
_VECTORS = ("sse", "ssse", "fma", "f16c", "avx", "amx", "asimd", "sve", "i8mm", "bf16")


def facts(root: Path = _ROOT) -> dict[str, Any]:
    """What stays the same until the machine, its firmware or its settings change."""
    return {
        "processor": cpu_model(root),
        "features": cpu_features(root),
        "virtualisation": _virtualisation(root),
        "microcode": _of_processor(root, "microcode"),
        "governor": _governor(root),
    }


def processors(root: Path = _ROOT) -> dict[str, Any]:
    """How many processors this process may use: by affinity, and by the quota of its control groups."""
    return {"affinity": _affinity(), "quota": _quota(root)}


def usable_processors(root: Path = _ROOT) -> int:
    """As many processors as this process may keep busy, at least one."""
    quota = _quota(root)
    return _affinity() if quota is None else max(1, min(_affinity(), int(quota)))


def memory(root: Path = _ROOT) -> dict[str, Any]:
    """How the system places this process's memory."""
    pages = re.search(r"\[(\w+)\]", text(root / "sys/kernel/mm/transparent_hugepage/enabled") or "")
    nodes = re.search(r"^Mems_allowed_list:\s*(\S+)", text(root / "proc/self/status") or "", re.MULTILINE)
    policy = re.match(r"\S+ (\S+)", _first_line(root / "proc/self/numa_maps") or "")
    return {
        "transparent_huge_pages": pages and pages[1],
        "numa_nodes": nodes and nodes[1],
        "numa_policy": policy and policy[1],
    }


def caches(root: Path = _ROOT) -> dict[int, int]:
    """Bytes of the caches for data that the usable processors have, together, by level; {} if nothing tells."""
    found: dict[tuple[int, str], int] = {}
    for number in os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ():
        for cache in (root / f"sys/devices/system/cpu/cpu{number}/cache").glob("index*"):
            level, kind, size, shared = (text(cache / name) for name in ("level", "type", "size", "shared_cpu_list"))
            words = re.fullmatch(r"(\d+)([KMG]?)", size or "")
            if level and level.isdigit() and words and kind != "Instruction":
                found[int(level), shared or str(number)] = int(words[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[words[2]]
    levels = sorted({level for level, _ in found})
    return {level: sum(size for (own, _), size in found.items() if own == level) for level in levels}


def gpus(root: Path = _ROOT) -> dict[str, Any]:
    """NVIDIA's driver and the GPUs that it has: {} without it."""
    driver = _first_line(root / "proc/driver/nvidia/version")
    places = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    models = [re.search(r"^Model:\s*(.+)$", text(place) or "", re.MULTILINE) for place in places]
    return {"driver": driver.strip(), "models": [model[1] for model in models if model]} if driver else {}


def telemetry(root: Path = _ROOT) -> dict[str, Any]:
    """temperature_c and clock_mhz of the processors just now, named as a backend's telemetry; {} if neither is told."""
    found = {"temperature_c": _temperature_c(root), "clock_mhz": _clock_mhz(root)}
    return found if any(value is not None for value in found.values()) else {}


def _temperature_c(root: Path) -> float | None:
    """The hottest of the processors' own sensors."""
    places = [
        *(path for path in (root / "sys/class/hwmon").glob("hwmon*") if text(path / "name") in _SENSORS),
        *(path for path in (root / "sys/class/thermal").glob("thermal_zone*") if text(path / "type") in _SENSORS),
    ]
    told = [text(path) for place in places for path in (*place.glob("temp*_input"), place / "temp")]
    return max((int(value) / 1000 for value in told if value and re.fullmatch(r"-?\d{1,9}", value)), default=None)


def _clock_mhz(root: Path) -> float | None:
    """Mean clock of the processors that this process may use, or of an even choice among many."""
    numbers = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    numbers = list(numbers)[:: 1 + len(numbers) // _CLOCKS]
    places = [root / f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_cur_freq" for number in numbers]
    told_khz = [int(value) for value in map(text, places) if value and re.fullmatch(r"\d{1,9}", value)]
    if told_khz:
        return sum(told_khz) / len(told_khz) / 1000
    if "hypervisor" in _flags(root):  # /proc/cpuinfo of a virtual machine names the clock that it was sold with
        return None
    told = re.findall(r"^cpu MHz\s*:\s*(\d{1,6}(?:\.\d+)?)$", text(root / "proc/cpuinfo") or "", re.MULTILINE)
    own = [float(told[number]) for number in numbers if number < len(told)]
    return sum(own) / len(own) if own else None


def fingerprint(versions: dict[str, str | None], settings: dict[str, Any], threads: int | None) -> dict[str, Any]:
    """What a measurement on this host depends on beside its engine: figures can be compared if this is the same.

    settings: what the runtime says that it runs with; threads that it does not tell are those that were asked for.
    """
    return {
        "host": facts(),
        "processors": {**processors(), "asked": threads, "used": settings.get("threads") or threads},
        "memory": memory(),
        "versions": versions,
        "settings": settings,
    }


def cpu_model(root: Path = _ROOT) -> str:
    """The processor's name as /proc/cpuinfo states it, else the machine type."""
    names = (_of_processor(root, key) for key in ("model name", "Model name", "Hardware"))
    return next(filter(None, names), None) or platform.processor() or platform.machine()


def cpu_features(root: Path = _ROOT) -> list[str]:
    """The processor's vector instructions as /proc/cpuinfo names them; virtual machines hide which model it is."""
    return sorted(word for word in _flags(root) if word.startswith(_VECTORS))


def _flags(root: Path) -> list[str]:
    return (_of_processor(root, "flags") or _of_processor(root, "Features") or "").split()


def _of_processor(root: Path, key: str) -> str | None:
    """What /proc/cpuinfo says about the first processor."""
    for line in (text(root / "proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            return value.strip() or None
    return None


def _virtualisation(root: Path) -> str | None:
    """What the machine's hypervisor calls itself, "none" on bare metal."""
    if kind := text(root / "sys/hypervisor/type"):
        return kind
    if "hypervisor" not in _flags(root):
        return "none" if _of_processor(root, "flags") else None  # only x86 says so
    names = (text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name"))
    return " ".join(filter(None, names)) or "some hypervisor"


def _governor(root: Path) -> str | None:
    """What sets the processors' clock, of all processors."""
    found = {text(path) for path in (root / "sys/devices/system/cpu").glob("cpu*/cpufreq/scaling_governor")}
    return ", ".join(sorted(filter(None, found))) or None


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(root: Path) -> float | None:
    """The smallest CPU quota of this process's control group and those above it, in processors."""
    quotas = [_quota_of(place, controllers) for place, controllers in control_groups(root).items()]
    return min((quota for quota in quotas if quota), default=None)


def control_groups(root: Path = _ROOT) -> dict[Path, str]:
    """Folders of this process's control groups and those above them: their controllers, "" for version 2."""
    found = {}
    for mount, inside, controllers in _control_groups(root):
        place = mount
        for part in ("", *Path(inside).parts):
            place = place / part.lstrip("/")
            found[place] = controllers
    return found


def _quota_of(place: Path, controllers: str) -> float | None:
    if controllers:  # version 1
        quota, period = text(place / "cpu.cfs_quota_us"), text(place / "cpu.cfs_period_us")
    else:
        quota, _, period = (text(place / "cpu.max") or "").partition(" ")
    try:
        return float(quota) / float(period) if float(quota) > 0 else None
    except (TypeError, ValueError, ZeroDivisionError):  # there is none, or it is "max"
        return None


def _control_groups(root: Path) -> list[tuple[Path, str, str]]:
    """(where its hierarchy is mounted, this process's group below that, controllers; "" for version 2)."""
    groups = {}
    for line in (text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            groups[controllers] = group
    found = []
    for line in (text(root / "proc/self/mountinfo") or "").splitlines():
        head, _, tail = line.partition(" - ")
        top, mount = head.split(" ")[3:5]
        kind, _, options = (tail.split(" ") + ["", "", ""])[:3]
        for controllers, group in groups.items():
            if kind == "cgroup2" if not controllers else kind == "cgroup" and "cpu" in options.split(","):
                # a container sees its own group as the top of what is mounted
                inside = group[len(top) :] if top != "/" and group.startswith(top) else group if top == "/" else ""
                found.append((root / mount.lstrip("/"), inside.lstrip("/"), controllers))
    return found


def text(path: Path) -> str | None:
    """The content of a file of the system; None if it is empty or not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _first_line(path: Path) -> str | None:
    """The first line of a file that may be long."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.readline()
    except OSError:
        return None
