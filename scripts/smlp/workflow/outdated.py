"""Tables that are out of date never look current: while a run makes anew what they show, they are set aside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..core import cli

TABLES, ASIDE = Path("results/tables"), Path("results/tables.outdated")


def set_aside(rules: Iterable[str]) -> None:
    """Move the tables away if a run will make anything but them. rules: names of those of its jobs."""
    if not TABLES.is_dir() or set(rules) <= {"tabulate"}:
        return
    shutil.rmtree(ASIDE, ignore_errors=True)
    os.rename(TABLES, ASIDE)
    cli.say(f"{TABLES}: now in {ASIDE}, out of date as soon as this run has made something anew")


def settle() -> None:
    """At the end of a run: the old tables go if there are new ones, else say where they are."""
    if not ASIDE.is_dir():
        return
    if any(TABLES.glob("report.html")):
        shutil.rmtree(ASIDE, ignore_errors=True)
    else:
        cli.say(f"{ASIDE}: has the tables of before; there are no new ones until a whole sweep ends well")
