"""How often, and in which order, a sweep's engines are measured.

Each load is a job of its own. They go in rounds: no engine is loaded for the second time before all engines of the
model and batch size were loaded once, so that whatever changes on the host in the meantime changes all of them.
"""

from __future__ import annotations

from .plan import Sweep, flags
from .targets import Cell, Settings


class Measuring:
    """Of a sweep with these complete settings."""

    def __init__(self, sweep: Sweep, complete: Settings) -> None:
        self._sweep = sweep
        self._bounds = {key: value for key, value in complete["measure"].items() if key != "loads"}
        self._rounds = range(complete["measure"]["loads"])
        self._backends: Settings = complete["backends"]

    def loads(self, cell: Cell) -> list[str]:
        """The measurements that a row of the throughput table is made of."""
        return [self.load(cell, number) for number in self._rounds]

    def load(self, cell: Cell, number: int) -> str:
        """One load of an engine."""
        return f"results/measure/{cell.place}/bs{cell.batch}/load-{number}.json"

    def before(self, cell: Cell, number: int) -> list[str]:
        """The loads of the round before, of all engines that the load is compared with."""
        same = [other for other in self._sweep.cells if (other.model, other.batch) == (cell.model, cell.batch)]
        return [self.load(other, number - 1) for other in same if number and not self._sweep.imported(other)]

    def flags(self, cell: Cell) -> list[str]:
        """All flags of measuring but what to measure and where to write."""
        allow = ["--allow_busy_device"] if self._backends.get(cell.backend, {}).get("allow_busy_device") else []
        bounds = flags({**self._bounds, "device": self._sweep.hosts.devices(cell.backend)[0]})
        return bounds + allow + self._sweep.variant_flags(cell)
