"""Which engines of a sweep are profiled, and how: the rows that the settings name, and the best row of each model."""

from __future__ import annotations

from typing import Any

from ..core.cli import UserError
from .candidates import Candidates, name
from .targets import Cell, Settings


class Profiles:
    """What complete settings say about profiling. sweep: the plan that asks."""

    def __init__(self, sweep: Any, complete: Settings) -> None:
        self._sweep = sweep
        self._settings: Settings = complete["profile"]
        self.candidates = Candidates(sweep, complete)
        known = {name(cell): cell for cell in sweep.cells}
        for row in self._settings["rows"]:
            if row not in known:
                raise UserError(
                    f"profile.rows: {row}: is no row of this sweep; it has {', '.join(list(known)[:6])}"
                    f"{', …' if len(known) > 6 else ''}"
                )
            if sweep.imported(known[row]):
                raise UserError(f"profile.rows: {row}: its results were imported, and only an engine can be profiled")
        self._rows = [known[row] for row in dict.fromkeys(self._settings["rows"])]

    def files(self) -> list[str]:
        """The profiles that the tables show."""
        best = [self.best_file(model) for model in self._sweep.models] if self._settings["best"] else []
        return best + [f"results/profile/{name(cell)}.json" for cell in self._rows]

    def best_file(self, model: str) -> str:
        """The profile of a model's best row."""
        return f"results/profile/{model}/best.json"

    def flags(self, cell: Cell) -> list[str]:
        """All flags of profiling but what to profile, threads, and where to write."""
        device = self._sweep.hosts.devices(cell.backend)[0]
        bounds = ["--min_time_s", str(self._settings["min_time_s"]), "--device", device]
        return bounds + self._sweep.variant_flags(cell)

    def rows(self, model: str) -> list[str]:
        """For profile_best.py: each engine's name and the shell command that profiles it."""
        return self.candidates.rows(model, "profile_engine", self.flags)
