"""Which engines of a sweep are profiled, and how: the rows that the settings name, and the best row of each model.

Which row is the best is known only when all are measured and scored; one job for each model finds it, and profiles it.
"""

from __future__ import annotations

import shlex
from typing import Any, Callable

from ..core.cli import UserError
from . import ceilings
from .targets import Cell, Settings
from .why import code_digest


def name(cell: Cell) -> str:
    """What a row is called in the settings, and in paths of every stage."""
    return f"{cell.place}/bs{cell.batch}"


class Profiles:
    """What complete settings say about profiling. sweep: the plan that asks."""

    def __init__(self, sweep: Any, complete: Settings) -> None:
        self._sweep, self._complete = sweep, complete
        self._settings: Settings = complete["profile"]
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

    def candidate_files(self, model: str, stage: str) -> list[str]:
        """The result files of a stage about the model's engines."""
        return [file for cell, file in zip(self._sweep.cells, self._sweep.files(stage)) if cell.model == model]

    def engine_files(self, model: str) -> list[str]:
        """All files of the engines that may be profiled here."""
        sweep, found = self._sweep, []
        for cell in self._own(model):
            found += [sweep.engine(cell), *sweep.companions(cell), sweep.engine_sidecar(cell)]
        return list(dict.fromkeys(found))

    def flags(self, cell: Cell) -> list[str]:
        """All flags of profiling but what to profile, threads, and where to write."""
        device = self._sweep.hosts.devices(cell.backend)[0]
        bounds = ["--min_time_s", str(self._settings["min_time_s"]), "--device", device]
        return bounds + self._sweep.variant_flags(cell)

    def rows(self, model: str) -> list[str]:
        """For profile_best.py: each engine's name and the shell command that profiles it."""
        sweep, words = self._sweep, []
        for cell in self._own(model):
            own = ["scripts/profile_engine.py", "--model", sweep.engine(cell), "--model_label", cell.model]
            own += ["--batchsize", str(cell.batch), "--input", sweep.bins(cell.model, 0), "--record_failure"]
            own += sweep.hosts.environment(cell.backend) + self.flags(cell)
            words += ["--row", name(cell), f"{sweep.hosts.interpreter(cell.backend)} {shlex.join(own)}"]
        return words

    def backends(self, model: str) -> list[str]:
        """The backends of the engines that may be profiled here."""
        return sorted({cell.backend for cell in self._own(model)})

    def devices(self) -> dict[str, Callable[[Any], int]]:
        """The resources of the job of a model: what it needs of each, whichever its best row is."""

        def counted(resource: str) -> Callable[[Any], int]:
            count = self._sweep.hosts.count
            return lambda wildcards: max((count(name, resource) for name in self.backends(wildcards.model)), default=0)

        return {resource: counted(resource) for resource in self._sweep.hosts.resources}

    def code(self, model: str) -> list[str]:
        """Digests of what the job of a model runs, whichever its best row is."""
        own = [code_digest("profile_engine", backend) for backend in self.backends(model)]
        return [code_digest("profile_best"), *own]

    def tools(self, model: str) -> dict[str, str | None]:
        """Versions of what the engines compute with."""
        found: dict[str, str | None] = {}
        for backend in self.backends(model):
            found |= self._sweep.hosts.tools(backend)
        return found

    def best_flags(self, model: str) -> list[str]:
        """How the best row is chosen."""
        how = self._complete["accuracy"]["familywise"]
        return [
            "--model",
            model,
            "--reference_backend",
            self._sweep.reference(model),
            "--familywise",
            how,
        ] + ceilings.chips(self._complete)

    def _own(self, model: str) -> list[Cell]:
        """The engines of the model whose results were not imported."""
        return [cell for cell in self._sweep.cells if cell.model == model and not self._sweep.imported(cell)]
