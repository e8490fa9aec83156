"""What else happened on this host while something was measured: other processes, a hypervisor, throttling.

Everything is read from /proc and /sys below `root`; what a host does not tell is no disturbance.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from . import host

# Shares of the time of the processors that a process may use. Our own Snakemake waits at well under a hundredth.
OTHERS_PERCENT = 5.0
STEAL_PERCENT = 2.0
# Below that many seconds the clock ticks of /proc/stat, a hundredth of a second each, say nothing.
_SHORTEST_S = 0.2


class Moment(NamedTuple):
    """Counters at one moment, in seconds; None where the host does not tell."""

    wall_s: float
    busy_s: float | None
    steal_s: float | None
    own_s: float
    throttled: int | None
    quota_held: int | None


class Disturbance(NamedTuple):
    """What happened between two moments. Percentages are of the processors that this process may use."""

    others_percent: float | None
    steal_percent: float | None
    throttled: int | None
    quota_held: int | None

    def reasons(self) -> list[str]:
        """Why figures measured in between would not be the engine's own; none if nothing is known against them."""
        found = []
        if (self.others_percent or 0) > OTHERS_PERCENT:
            found.append(f"other processes took {self.others_percent:.0f}% of the processors")
        if (self.steal_percent or 0) > STEAL_PERCENT:
            found.append(f"the hypervisor took {self.steal_percent:.0f}% of the processors")
        if self.throttled:
            found.append(f"the processors were throttled {self.throttled} times for their heat")
        if self.quota_held:
            found.append(f"the CPU quota held the process {self.quota_held} times")
        return found

    def facts(self) -> dict[str, Any]:
        """As they are written."""
        return self._asdict()


def now(root: Path = Path("/")) -> Moment:
    """The counters of this moment, of the processors that this process may use."""
    times = os.times()
    busy, steal = _processors(root)
    return Moment(
        time.perf_counter(),
        busy,
        steal,
        times.user + times.system + times.children_user + times.children_system,
        _throttled(root),
        _quota_held(root),
    )


def between(before: Moment, after: Moment, root: Path = Path("/")) -> Disturbance:
    """What happened between two moments of this process."""
    wall_s = after.wall_s - before.wall_s
    all_s = wall_s * host.usable_processors(root)

    def percent(start: float | None, end: float | None, own_s: float = 0) -> float | None:
        if start is None or end is None or wall_s < _SHORTEST_S:
            return None
        return max(0.0, 100 * (end - start - own_s) / all_s)

    def more(start: int | None, end: int | None) -> int | None:
        return None if start is None or end is None else end - start

    return Disturbance(
        percent(before.busy_s, after.busy_s, after.own_s - before.own_s),
        percent(before.steal_s, after.steal_s),
        more(before.throttled, after.throttled),
        more(before.quota_held, after.quota_held),
    )


def peak_memory_mb(root: Path = Path("/")) -> float | None:
    """The most memory that this process ever had in RAM, in 10^6 bytes; None if the host does not tell."""
    peak = re.search(r"^VmHWM:\s*(\d+) kB", host.text(root / "proc/self/status") or "", re.MULTILINE)
    return int(peak[1]) * 1024 / 1e6 if peak else None


def _processors(root: Path) -> tuple[float | None, float | None]:
    """Seconds that the processors of this process's affinity were busy, and that a hypervisor took from them."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    ticks = os.sysconf("SC_CLK_TCK")
    busy = steal = known = 0
    for line in (host.text(root / "proc/stat") or "").splitlines():
        name, *counts = line.split()
        number = re.fullmatch(r"cpu(\d+)", name)
        if number and len(counts) >= 8 and (usable is None or int(number[1]) in usable):
            # user, nice, system, idle, iowait, irq, softirq, steal
            values = [int(count) for count in counts[:8]]
            busy += sum(values[:3]) + values[5] + values[6]
            steal += values[7]
            known += sum(values)
    return (busy / ticks, steal / ticks) if known else (None, None)


def _throttled(root: Path) -> int | None:
    """How often the processors have been slowed down for their heat."""
    counts = [
        host.text(path) for path in (root / "sys/devices/system/cpu").glob("cpu*/thermal_throttle/*_throttle_count")
    ]
    return sum(int(count) for count in counts if count and count.isdigit()) if counts else None


def _quota_held(root: Path) -> int | None:
    """How often a CPU quota has made this process's control group wait."""
    found = [
        re.search(r"^nr_throttled (\d+)", host.text(place / "cpu.stat") or "", re.MULTILINE)
        for place in host.control_groups(root)
    ]
    return max((int(match[1]) for match in found if match), default=None)
