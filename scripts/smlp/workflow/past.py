"""What a finished sweep leaves to the history beside its tables."""

from __future__ import annotations

import json

from . import plan
from .targets import Settings


def references(sweep: plan.Sweep) -> list[str]:
    """The predictions that the engines of each model were judged by."""
    return [f"results/evaluate/{model}/reference/{sweep.dataset}.csv" for model in sweep.models]


def flags(settings: Settings) -> list[str]:
    """Where the history is; nothing if none is kept."""
    return plan.flags({"history": settings["history"]})


def settings(complete: Settings) -> str:
    """The settings as the history keeps them: JSON."""
    return json.dumps(complete)
