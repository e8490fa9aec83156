"""Energy of a measurement, and what of it the machine would have used idle.

A GPU or NPU tells its own energy or power, by the telemetry of its backend; the CPU's is told by RAPL (Intel and AMD,
/sys/class/powercap), which often only root may read, and which virtual machines have not. Nothing is guessed: without a
source there are no figures. Standard library only: the commands that run on the target import this under Python 3.9.

    meter = Meter(engine.device, lambda: backend.telemetry(engine.device))
    meter.idle(2.0)                     # before the engine is opened, nothing of ours running
    with engine, meter:
        ...                             # the runs; more than one `with meter` adds up
    facts = meter.facts(images=1000)    # columns: energy_source, idle_w, joules_per_image
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from . import host

_ROOT = Path("/")
# Domains that add up to what a processor and its memory use; others ("core", "uncore") are inside a package's.
_DOMAINS = ("package", "dram")


class Meter:
    """Energy while the block runs, of one device.

    device: "cpu", or another one, whose `read` then returns energy_j (since some moment) or power_w, as a backend's
    telemetry does. root: where /sys is, for tests.
    """

    def __init__(self, device: str, read: Callable[[], Mapping[str, Any]], root: Path = _ROOT) -> None:
        self._device, self._read = device, read
        self._domains = _rapl_domains(root) if device == "cpu" else []
        self.source: str | None = None
        self.idle_w: float | None = None
        self.joules: float | None = None
        self.seconds = 0.0
        self._started: tuple[float, dict[Any, float]] | None = None
        self._asked: tuple[float, dict[Any, float]] | None = None

    def idle(self, seconds: float) -> None:
        """Watch the device idle for so long. Without a source it returns at once."""
        before = self._now()
        if before is None:
            return
        time.sleep(seconds)
        after = self._now()
        if after is not None and after[0] > before[0]:
            self.idle_w = self._joules(before, after) / (after[0] - before[0])

    def __enter__(self) -> Meter:
        self._started = self._now()
        return self

    def __exit__(self, *exception: object) -> None:
        ended = self._now()
        if self._started is not None and ended is not None:
            self.joules = (self.joules or 0.0) + self._joules(self._started, ended)
            self.seconds += ended[0] - self._started[0]

    def facts(self, images: int, mean_w: float | None = None) -> dict[str, Any]:
        """energy_source, idle_w, joules_per_image: above what the device uses idle; None where nothing tells.

        images: that were computed in the block. mean_w: mean of the power that somebody sampled meanwhile, for
        devices that tell power and no energy: the two ends of a block say little of what lies between.
        """
        joules = self.joules
        if joules is not None and self.source == "power" and mean_w is not None:
            joules = mean_w * self.seconds
        known = joules is not None and self.idle_w is not None and images > 0
        above_j = joules - self.idle_w * self.seconds if known else None
        return {
            "energy_source": self.source,
            "idle_w": self.idle_w,
            # noise of an idle device is no energy of an image
            "joules_per_image": above_j / images if above_j is not None and above_j > 0 else None,
        }

    def watts(self) -> float | None:
        """Mean power since this was asked the last time; None the first time, and where nothing tells."""
        before, self._asked = self._asked, self._now()
        if before is None or self._asked is None or self._asked[0] <= before[0]:
            return None
        return self._joules(before, self._asked) / (self._asked[0] - before[0])

    def _now(self) -> tuple[float, dict[Any, float]] | None:
        """The moment and every counter in joules, or the power in watts; None if nothing tells."""
        if self._device == "cpu":
            counters = {path: joules for path in self._domains if (joules := _microjoules(path / "energy_uj"))}
            self.source = "rapl" if counters else None
            return (time.monotonic(), counters) if counters else None
        state = self._read()
        for key, source in (("energy_j", "energy counter"), ("power_w", "power")):
            if state.get(key) is not None and self.source in (None, source):
                self.source = source
                return time.monotonic(), {source: float(state[key])}
        return None

    def _joules(self, before: tuple[float, dict[Any, float]], after: tuple[float, dict[Any, float]]) -> float:
        """Between two moments. Counters of RAPL begin anew at their range."""
        if self.source == "power":
            return (before[1]["power"] + after[1]["power"]) / 2 * (after[0] - before[0])
        total_j = 0.0
        for name, start in before[1].items():
            spent = after[1].get(name, start) - start
            if spent < 0 and isinstance(name, Path):
                spent += _microjoules(name / "max_energy_range_uj") or 0.0
            total_j += max(0.0, spent)
        return total_j


def _rapl_domains(root: Path) -> list[Path]:
    """The domains of RAPL that can be read: packages, and memory beside them."""
    found = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    kept = [path for path in found if (host.text(path / "name") or "").partition("-")[0] in _DOMAINS]
    return [path for path in kept if _microjoules(path / "energy_uj") is not None]


def _microjoules(path: Path) -> float | None:
    """A counter of microjoules, in joules; None if it is not there, may not be read, or is no number."""
    text = host.text(path)
    return int(text) / 1e6 if text and text.isascii() and text.isdigit() else None
