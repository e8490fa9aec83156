"""A model's engines, one of which is its best row: which one is known only when all are measured and scored.

So a job that concerns the best row depends on all of them, and is told how to run whichever it turns out to be.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Callable

from . import ceilings
from .targets import Cell, Settings
from .why import code_digest


def name(cell: Cell) -> str:
    """What a row is called in the settings, and in paths of every stage."""
    return f"{cell.place}/bs{cell.batch}"


class Candidates:
    """The engines of each model of a sweep. sweep: the plan that asks."""

    def __init__(self, sweep: Any, complete: Settings) -> None:
        self._sweep, self._complete = sweep, complete

    def files(self, model: str, stage: str) -> list[str]:
        """The result files of a stage about the model's engines."""
        return [file for cell, file in zip(self._sweep.cells, self._sweep.files(stage)) if cell.model == model]

    def engine_files(self, model: str) -> list[str]:
        """All files of the engines that may be run here."""
        sweep, found = self._sweep, []
        for cell in self._own(model):
            found += [sweep.engine(cell), *sweep.companions(cell), sweep.engine_sidecar(cell)]
        return list(dict.fromkeys(found))

    def rows(self, model: str, command: str, flags: Callable[[Cell], list[str]]) -> list[str]:
        """For a job of the model: each engine's name, and the shell words that run the command on it.

        flags: all flags of the command but what to run, threads, and where to write.
        """
        sweep, words = self._sweep, []
        for cell in self._own(model):
            own = [f"scripts/{command}.py", "--model", sweep.engine(cell), "--model_label", cell.model]
            own += ["--batchsize", str(cell.batch), "--input", sweep.bins(cell.model, 0), "--record_failure"]
            own += sweep.hosts.environment(cell.backend) + flags(cell)
            words += ["--row", name(cell), f"{sweep.hosts.interpreter(cell.backend)} {shlex.join(own)}"]
        return words

    def devices(self) -> dict[str, Callable[[Any], int]]:
        """The resources of the job of a model: what it needs of each, whichever its best row is."""

        def counted(resource: str) -> Callable[[Any], int]:
            count = self._sweep.hosts.count
            return lambda wildcards: max((count(name, resource) for name in self._backends(wildcards.model)), default=0)

        return {resource: counted(resource) for resource in self._sweep.hosts.resources}

    def code(self, model: str, chooser: str, command: str) -> list[str]:
        """Digests of what the job of a model runs, whichever its best row is: `chooser`, which runs `command`."""
        return [code_digest(chooser), *(code_digest(command, backend) for backend in self._backends(model))]

    def tools(self, model: str) -> dict[str, str | None]:
        """Versions of what the engines compute with."""
        found: dict[str, str | None] = {}
        for backend in self._backends(model):
            found |= self._sweep.hosts.tools(backend)
        return found

    def best_flags(self, model: str) -> list[str]:
        """How the best row is chosen."""
        how: Mapping[str, str] = self._complete["accuracy"]
        own = ["--model", model, "--reference_backend", self._sweep.reference(model)]
        return [*own, "--familywise", how["familywise"], *ceilings.chips(self._complete)]

    def _own(self, model: str) -> list[Cell]:
        """The engines of the model whose results were not imported."""
        return [cell for cell in self._sweep.cells if cell.model == model and not self._sweep.imported(cell)]

    def _backends(self, model: str) -> list[str]:
        return sorted({cell.backend for cell in self._own(model)})
