"""A device watched while something runs on it: its temperature, clock, power and memory over time.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from . import cli
from .cli import UserError


class Sample(NamedTuple):
    """at_s: since the block began. The others are named as a backend's telemetry does; None where nothing tells."""

    at_s: float
    temperature_c: float | None
    clock_mhz: float | None
    power_w: float | None
    memory_mb: float | None


class Watch:
    """Asks how a device is every `interval_s` while the block runs, until it turns out to tell nothing.

    read: a function that returns what a backend's `telemetry` does. throttling: every reason for low clocks that was
    seen, as telemetry names them.
    """

    def __init__(self, read: Callable[[], Mapping[str, Any]], interval_s: float = 1.0) -> None:
        self._read, self._interval_s = read, interval_s
        self.samples: list[Sample] = []
        self.throttling: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.is_set():
            try:
                state = self._read()
            except UserError as error:
                cli.say(f"the device's state is not recorded: {error}")
                return
            self.throttling.update(state.get("throttling") or ())
            told = [state.get(name) for name in Sample._fields[1:]]
            self.samples.append(Sample(time.perf_counter() - self._started_s, *told))
            # the first answer lacks a power that is told only between two moments
            if len(self.samples) > 1 and all(value is None for sample in self.samples for value in sample[1:]):
                return
            self._over.wait(self._interval_s)

    def __enter__(self) -> Watch:
        self._started_s = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def mean(self, name: str) -> float | None:
        """The mean of a quantity over all samples that tell it."""
        told = self._told(name)
        return sum(told) / len(told) if told else None

    def peak(self, name: str) -> float | None:
        """The largest value of a quantity."""
        return max(self._told(name), default=None)

    def _told(self, name: str) -> list[float]:
        values = [getattr(sample, name) for sample in self.samples]
        return [float(value) for value in values if value is not None]
