"""Where the engines of a sweep are made and run: devices, interpreters, versions of packages."""

from __future__ import annotations

import shlex

from .. import backends
from ..backends.base import CPU, DeviceKind
from ..core.environment import FLAG
from ..core.provenance import versions
from .targets import Settings

# Threads of a job that infers: either the CPU does the work, or it only feeds a device.
_CPU_THREADS, _FEEDING_THREADS = 8, 2


def devices(settings: Settings, backend: str) -> list[str]:
    """Every device that a backend may run on, by name: those that its settings list, else the one that it chooses."""
    entry = settings["backends"].get(backend, {})
    kind = entry.get("device", backends.load(backend).devices[0].name)
    return [kind] if kind == CPU.name else [f"{kind}:{number}" for number in entry.get("devices", [0])]


class Hosts:
    """What complete settings say about hosts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def resources(self) -> list[str]:
        """What schedulers count, of all backends."""
        return sorted({kind.resource for one in backends.every() for kind in one.devices if kind.resource})

    def limit(self, resource: str) -> int:
        """How many of a resource the targets use on this host, at least one."""
        owners = {entry["backend"] for entry in self._settings["targets"]}
        used = {name for owner in owners if self.count(owner, resource) for name in self.devices(owner)}
        return max(1, len(used))

    def count(self, backend: str, resource: str) -> int:
        """How many of a resource a job on the backend's device needs: one or none."""
        return int(self._kind(backend).resource == resource)

    def devices(self, backend: str) -> list[str]:
        """Every device that a backend may run on, by name; the first one measures."""
        return devices(self._settings, backend)

    def threads(self, backend: str) -> int:
        """Threads of a job that infers."""
        return _CPU_THREADS if self._kind(backend) is CPU else _FEEDING_THREADS

    def set_up(self, backend: str) -> str:
        """Shell words that set up a backend's host before its command; set_env reads variables that are not set."""
        script = self._known(backend).get("set_env")
        return f"set +eu; source {shlex.quote(script)}; set -eu; " if script else ""

    def interpreter(self, backend: str) -> str:
        """The Python that runs a backend's engines, after what sets up its host."""
        return self.set_up(backend) + self._python(backend)

    def compiling_python(self, backend: str) -> str:
        """The Python that makes a backend's engines, as a shell word."""
        return self._python(backend) if backends.load(backend).python_compiles else "python"

    def environment(self, backend: str) -> list[str]:
        """The variables that the settings ask for, as flags of every command that makes or runs a backend's engines."""
        asked = sorted(self._known(backend).get("env", {}).items())
        return [word for name, value in asked for word in (FLAG, f"{name}={value}")]

    def tools(self, backend: str) -> dict[str, str | None]:
        """Versions of what a backend computes with: another version may compute something else."""
        return versions(backends.load(backend).packages)

    def compiling_tools(self, backend: str) -> dict[str, str | None]:
        """Versions of what a backend compiles with."""
        return versions(backends.load(backend).made_by)

    def _python(self, backend: str) -> str:
        return shlex.quote(self._known(backend).get("python", "python"))

    def _known(self, backend: str) -> Settings:
        return self._settings["backends"].get(backend, {})

    def _kind(self, backend: str) -> DeviceKind:
        name = self.devices(backend)[0].partition(":")[0]
        return next(kind for kind in backends.load(backend).devices if kind.name == name)
