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
from pathlib import Path
from typing import Any

from . import files, identity

# What a command states about an artefact in its sidecar: JSON values by their keys.
Facts = dict[str, Any]

_VECTORS = ("sse", "ssse", "fma", "f16c", "avx", "amx", "asimd", "sve", "i8mm", "bf16")
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


def cpu_model() -> str:
    """The processor's name as /proc/cpuinfo states it, else the machine type."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model name", "Hardware")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """The processor's vector instructions as /proc/cpuinfo names them; virtual machines hide which model it is."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    words = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return sorted(word for word in words if word.startswith(_VECTORS))


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
