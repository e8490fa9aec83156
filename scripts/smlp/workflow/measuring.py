"""How often, and in which order, a sweep's engines are measured.

Each load is a job of its own. They go in rounds: no engine is loaded for the second time before all engines were loaded
once, so that whatever changes on the host in the meantime changes all of them. Their order is one of priorities. If the
loads of a round were inputs of the next round, even ancient ones, Snakemake would look at no change of a job of the
next round as soon as one of them is stale.
"""

from __future__ import annotations

from .plan import Sweep, flags
from .targets import Cell, Settings

# Priority of jobs that make engines and images: nothing is measured while a round could still get more engines.
FIRST = 2


def priority(number: int) -> float:
    """Of a load: above 0, which all other jobs have, and below FIRST; the rounds one after the other."""
    return 1 / (1 + number)


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

    def flags(self, cell: Cell) -> list[str]:
        """All flags of measuring but what to measure and where to write."""
        allow = ["--allow_busy_device"] if self._backends.get(cell.backend, {}).get("allow_busy_device") else []
        bounds = flags({**self._bounds, "device": self._sweep.hosts.devices(cell.backend)[0]})
        return bounds + allow + self._sweep.variant_flags(cell)
