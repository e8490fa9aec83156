"""How a sweep measures its best rows again: which job of a model does it, and what it is told."""

from __future__ import annotations

from . import plan
from .candidates import Candidates
from .measuring import Measuring
from .targets import Settings


class Confirming:
    """Of a sweep with these complete settings."""

    def __init__(self, sweep: plan.Sweep, complete: Settings) -> None:
        self.candidates = Candidates(sweep, complete)
        self._measuring = Measuring(sweep, complete)
        self._settings, self._decision = complete["confirm"], complete["decision"]

    def rows(self, model: str) -> list[str]:
        """For confirm.py: each engine's name and the shell command that measures it."""
        return self.candidates.rows(model, "measure", self._measuring.flags)

    def flags(self, model: str) -> list[str]:
        """How the best row is chosen, and how often it is measured again, with how many others."""
        bounds = {key: value for key, value in self._settings.items() if key != "best"}
        return self.candidates.best_flags(model) + plan.flags({**self._decision, **bounds})

    def code(self, model: str) -> list[str]:
        """Digests of what the job of a model runs."""
        return self.candidates.code(model, "confirm", "measure")
