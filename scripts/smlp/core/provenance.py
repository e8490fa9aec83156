"""What every sidecar says about how its file came to be.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from . import files, identity
from .host import cpu_features as cpu_features
from .host import cpu_model as cpu_model

# What a command states about an artefact in its sidecar: JSON values by their keys.
Facts = dict[str, Any]

_STARTED = time.time()
# The load before this process added its own: a busy machine explains a slow figure.
_LOAD_AT_START = list(os.getloadavg()) if hasattr(os, "getloadavg") else None


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Installed versions of distributions (None if one is missing), without importing them."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def now() -> str:
    """This moment, UTC, to the millisecond."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def describe(
    inputs: Mapping[str, str | os.PathLike] = {},
    packages: Iterable[str] = (),
    emulated: bool = False,
    state: Mapping[str, Any] = {},
    **own: Any,
) -> Facts:
    """The contents of a sidecar: the stage's `own` facts first, then where they come from.

    inputs: role -> file; recorded with its SHA-256. packages: distributions whose versions matter. state: what
    `identity.state` says the artefact is; the sidecar is sealed then, and may get no more facts.
    """
    described = {
        **own,
        **state,
        "emulated": emulated,
        "inputs": {role: {"path": str(path), "sha256": files.digest(path)} for role, path in inputs.items()},
        "command": [sys.executable, *sys.argv],
        "versions": {"python": platform.python_version(), **versions(packages)},
        "host": {
            "cpu_model": cpu_model(),
            "cpu_count": os.cpu_count(),
            "machine": platform.machine(),
            "system": platform.platform(),
            "load_at_start": _LOAD_AT_START,
        },
        "started_at": datetime.datetime.fromtimestamp(_STARTED, datetime.timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.time() - _STARTED, 3),
    }
    return identity.sealed(described) if state else described
