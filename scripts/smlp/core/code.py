"""Which code a result depends on: Snakemake sees a command's own text, not the modules that it imports.

Standard library only: the Snakefile imports this at every start.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import files

SCRIPTS = Path(__file__).resolve().parents[2]
# Versions of Python write the same syntax differently.
MEMORY = Path(f"results/.watched/modules.{sys.implementation.cache_tag}.json")


@functools.cache
def code_digest(command: str, backend: str | None = None) -> str:
    """Digest over a command, every `smlp` module that it reaches, and one backend (loaded by name, so named here).

    Comments, docstrings and layout do not count; an import inside a function does.
    """
    checksum = hashlib.sha256()
    for module, essence in code_modules(command, backend).items():
        checksum.update(f"{module}\0{essence}\0".encode())
    return checksum.hexdigest()[:16]


@functools.cache
def code_modules(command: str, backend: str | None = None) -> dict[str, str]:
    """The modules that code_digest covers -> the digest of each; their paths are relative to scripts/."""
    roots = [SCRIPTS / f"{command}.py"]
    if backend:
        place = SCRIPTS / "smlp" / "backends" / backend
        roots.append(place / "__init__.py" if place.is_dir() else place.with_suffix(".py"))
    return {str(module.relative_to(SCRIPTS)): _described(module).essence for module in sorted(_reached(roots))}


def _reached(roots: list[Path]) -> set[Path]:
    found: set[Path] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(_imports(module))
    return found


@functools.cache
def _imports(module: Path) -> frozenset[Path]:
    """Files of our own that `module` imports anywhere in it, packages' __init__ included."""
    found: set[Path] = set()
    for name in _described(module).names:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            path = SCRIPTS.joinpath(*parts[:depth])
            found.update(file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file())
    return frozenset(file for file in found if file != module)


class _Described(NamedTuple):
    """A module's checksum, and what counts of it: a digest of its syntax without docstrings, the names it imports."""

    sha256: str
    essence: str
    names: list[str]


@functools.cache
def _described(module: Path) -> _Described:
    content = module.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    name = str(module.relative_to(SCRIPTS))
    known = _memory().get(name)
    if known is None or known.sha256 != checksum:
        tree = _tree(content, module)
        essence = hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
        known = _memory()[name] = _Described(checksum, essence, sorted(_names(tree, module)))
        _NEW.append(name)
    return known


# What this process has found out beyond the memory.
_NEW: list[str] = []


@functools.cache
def _memory() -> dict[str, _Described]:
    """What a sweep in this folder found out, by module; each entry holds for one content.

    To parse the modules takes longer than all else that a job does before its work.
    """
    try:
        stated = json.loads(MEMORY.read_text(encoding="utf-8"))
        known = {name: _Described(*found) for name, found in stated["modules"].items()}
        return known if stated["by"] == _own_checksum() else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # not yet, or damaged
        return {}


def remember() -> None:
    """Write down what is new, for the jobs of this sweep and for later ones."""
    if _NEW:
        _NEW.clear()
        with contextlib.suppress(OSError):  # a disk that is full, or may not be written, costs no more than time
            files.write_json(MEMORY, {"by": _own_checksum(), "modules": _memory()})


@functools.cache
def _own_checksum() -> str:
    return files.digest(__file__)


def _names(tree: ast.Module, module: Path) -> set[str]:
    """The dotted names that a module imports, and of each what it may be a part of."""
    names: set[str] = set()
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(module.parent.parts[len(SCRIPTS.parts) :][: None if node.level < 2 else 1 - node.level])
            base = ".".join(part for part in (package if node.level else "", node.module or "") if part)
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def _tree(content: bytes, module: Path) -> ast.Module:
    """The module's syntax without its docstrings."""
    tree = ast.parse(content, str(module))
    for node in [tree, *_statements(tree)]:
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node, clean=False
        ):
            del node.body[0]
    return tree


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement below a node; going through expressions as well, as ast.walk does, takes ten times as long."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, field, ()):
            yield child
            yield from _statements(child)
