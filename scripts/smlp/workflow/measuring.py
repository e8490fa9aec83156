"""How often, and in which order, a sweep's engines are measured.

Each load is a job of its own. They go in rounds: no engine is loaded for the second time before all engines were loaded
once, so that whatever changes on the host in the meantime changes all of them. Their order is one of priorities. If the
loads of a round were inputs of the next round, even ancient ones, Snakemake would look at no change of a job of the
next round as soon as one of them is stale.
"""

from __future__ import annotations

from .plan import Sweep, flags
from .targets import Cell, Settings

_SUSTAINED = ("sustained_s", "sustained_batch_sizes")
# Priority of jobs that make engines and images: nothing is measured while a round could still get more engines.
FIRST = 2


def priority(number: int) -> float:
    """Of a load: above 0, which all other jobs have, and below FIRST; the rounds one after the other."""
    return 1 / (1 + number)


class Measuring:
    """Of a sweep with these complete settings."""

    def __init__(self, sweep: Sweep, complete: Settings) -> None:
        self._sweep = sweep
        measure: Settings = complete["measure"]
        # of loads nothing that is about sustained runs, which make no load stale
        self._bounds = {key: value for key, value in measure.items() if key not in ("loads", *_SUSTAINED)}
        self._sustained = {key: measure[key] for key in ("sustained_s", "warmup_window_s", "warmup_max_s")}
        self._rounds = range(measure["loads"])
        self._backends: Settings = complete["backends"]

    def loads(self, cell: Cell) -> list[str]:
        """The measurements that a row of the throughput table is made of."""
        return [self.load(cell, number) for number in self._rounds]

    def load(self, cell: Cell, number: int) -> str:
        """One load of an engine."""
        return f"results/measure/{cell.place}/bs{cell.batch}/load-{number}.json"

    def flags(self, cell: Cell) -> list[str]:
        """All flags of measuring but what to measure and where to write."""
        return self._flags(self._bounds, cell)

    def sustained_flags(self, cell: Cell) -> list[str]:
        """The same of a sustained run."""
        return self._flags(self._sustained, cell)

    def _flags(self, bounds: Settings, cell: Cell) -> list[str]:
        allow = ["--allow_busy_device"] if self._backends.get(cell.backend, {}).get("allow_busy_device") else []
        words = flags({**bounds, "device": self._sweep.hosts.devices(cell.backend)[0]})
        return words + allow + self._sweep.variant_flags(cell)
