"""Which code a result depends on: Snakemake sees a command's own text, not the modules that it imports.

Standard library only: the Snakefile imports this at every start.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2]


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
    return {str(module.relative_to(SCRIPTS)): _essence(module) for module in sorted(_reached(roots))}


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
    names: set[str] = set()
    for node in _statements(_tree(module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(module.parent.parts[len(SCRIPTS.parts) :][: None if node.level < 2 else 1 - node.level])
            base = ".".join(part for part in (package if node.level else "", node.module or "") if part)
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    files: set[Path] = set()
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            path = SCRIPTS.joinpath(*parts[:depth])
            files.update(file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file())
    return frozenset(file for file in files if file != module)


@functools.cache
def _tree(module: Path) -> ast.Module:
    """The module's syntax without its docstrings."""
    tree = ast.parse(module.read_text(encoding="utf-8"), str(module))
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


@functools.cache
def _essence(module: Path) -> str:
    return hashlib.sha256(ast.dump(_tree(module)).encode()).hexdigest()[:16]
