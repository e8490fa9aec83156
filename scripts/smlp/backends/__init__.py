"""Backends: one module or package per runtime, found by its name. May import core, data and models.

base.py states what a backend is; onnxruntime.py is the example to follow. Modules that begin with _ help one or two
backends. Naming a backend never imports its runtime. NumPy is all that this module needs, under Python 3.9 or newer.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path

from ..core import files, identity
from ..core.cli import UserError
from .base import Backend, Engine, EngineFailure, Facts

_HELPERS = ("__init__", "base")


@functools.cache
def names() -> list[str]:
    """Every backend there is."""
    found = [path.parent.name if path.stem == "__init__" else path.stem for path in _modules()]
    return sorted(name for name in found if name not in _HELPERS and not name.startswith("_"))


def _modules() -> list[Path]:
    folder = Path(__file__).parent
    return [path for path in (*folder.glob("*.py"), *folder.glob("*/__init__.py")) if path != Path(__file__)]


def load(name: str) -> Backend:
    """The backend called `name`. Raises UserError for a name that is none."""
    if name not in names():
        raise UserError(f"backend {name!r} is not known; choose one of {', '.join(names())}")
    return importlib.import_module(f".{name}", __name__).BACKEND


def every() -> list[Backend]:
    """Every backend there is, by name."""
    return [load(name) for name in names()]


def reference(starts_from: str) -> Backend:
    """What engines are judged by if a model starts from a "checkpoint", or from an "onnx" file alone."""
    return next(backend for backend in every() if backend.reference_for == starts_from)


def open_engine(
    path: Path, *, backend: str | None, device: str | None, threads: int | None
) -> tuple[Backend, Facts, Engine]:
    """The engine at `path`, not yet holding its device: (backend, facts, engine).

    The backend is the one asked for, else what the sidecar says, else what the suffix means. facts: those of the
    sidecar, and always `id` and `start`; without a sidecar the files are the id, and start is None unless a model
    starts from that file. Raises UserError if a file is missing, or is not the one that the sidecar describes.
    """
    if not path.exists():
        raise UserError(f"{path}: no such engine; compile it with scripts/compile.py, or check the path")
    stated = identity.known(path)
    if not stated.facts and identity.sidecar_of(path).is_file():
        raise UserError(
            f"{identity.sidecar_of(path)}: does not describe {path.name}; make that again, or remove the file"
        )
    found = load(backend or stated.facts.get("backend") or _by_suffix(path))
    if "failed" in stated.facts:
        raise EngineFailure(str(stated.facts["failed"]))
    beside = (*found.companions, *found.large)
    if "id" not in stated.facts and beside:
        present = [suffix for suffix in beside if path.with_suffix(suffix).is_file()]
        stated = identity.known(path, companions=present)
    start = stated.start if "id" in stated.facts or found.compiles_from is None else None
    facts = {**stated.facts, "id": stated.id, "start": start}
    engine = found.open(path, device=device or facts.get("device") or found.device, threads=threads, facts=facts)
    return found, facts, engine


def _by_suffix(path: Path) -> str:
    owners = [backend.name for backend in every() if path.suffix == backend.suffix]
    if len(owners) != 1:
        raise UserError(
            f"{path}: no sidecar {files.sidecar_path(path).name}, and its suffix names no backend; add --backend"
        )
    return owners[0]
