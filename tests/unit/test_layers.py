"""The layers of scripts/smlp, and which modules need nothing but NumPy, read from the imports in the source."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smlp import backends

ROOT = Path(__file__).parents[2]
# Each may import itself and those before it. workflow lies beside them: nothing imports it but rules and commands.
LAYERS = ("core", "data", "models", "backends", "results")
ALLOWED = {layer: set(LAYERS[: place + 1]) for place, layer in enumerate(LAYERS)}
ALLOWED["workflow"] = {"core", "data", "models", "backends", "workflow"}
# What an NPU host's own interpreter loads: the commands that run there, and a backend that needs only NumPy.
ON_TARGET = ("infer.py", "measure.py", "sustain.py", "smlp/backends/ascend/__init__.py")


def modules(scripts):
    """Every module of the package, by the parts of its name below it."""
    return {path.relative_to(scripts / "smlp").with_suffix("").parts: path for path in (scripts / "smlp").rglob("*.py")}


def imported(path, scripts, everywhere=True):
    """Names that a file imports, dotted, relative ones written out; without `everywhere` those outside functions."""
    package = path.parent.relative_to(scripts).parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def upward_imports(scripts):
    """ "file imports name" for every import of a layer that the file's own may not use."""
    found = []
    for parts, path in modules(scripts).items():
        for name in imported(path, scripts):
            words = name.split(".")
            if len(parts) > 1 and words[0] == "smlp" and words[1] in ALLOWED and words[1] not in ALLOWED[parts[0]]:
                found.append(f"{'/'.join(parts)} imports {name}")
    return found


def edges(scripts):
    """Every module of ours -> the modules of ours that it imports, anywhere in it."""
    known = {}
    for parts, path in modules(scripts).items():
        known[".".join(("smlp", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    found = {}
    for module, path in known.items():
        names = set()
        for name in imported(path, scripts):
            # `from package import module` is of the module, `from module import thing` of the module too
            names.add(name if name in known else name.rpartition(".")[0])
        found[module] = (names & known.keys()) - {module}
    return found


def cycle(graph):
    """The modules of one cycle, none if there is none."""
    done = set()

    def visit(module, path):
        if module in path:
            return path[path.index(module) :]
        if module not in done:
            for other in sorted(graph[module]):
                if found := visit(other, [*path, module]):
                    return found
            done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


@pytest.fixture
def planted(tmp_path):
    """A copy of scripts/smlp to plant imports in."""
    shutil.copytree(ROOT / "scripts" / "smlp", tmp_path / "smlp", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_no_layer_imports_a_later_one():
    assert upward_imports(ROOT / "scripts") == []


def test_every_module_is_in_a_layer():
    assert {parts[0] for parts in modules(ROOT / "scripts")} == {*ALLOWED, "__init__"}


def test_nothing_imports_in_a_circle():
    assert cycle(edges(ROOT / "scripts")) == []


@pytest.mark.parametrize(
    "module, line, named",
    [
        ("core/files.py", "from ..data import bins\n", "core/files imports smlp.data.bins"),
        ("data/bins.py", "\ndef late():\n    from ..backends.base import Engine\n", "data/bins imports smlp.b"),
        ("backends/_cuda.py", "import smlp.results.statistics\n", "backends/_cuda imports smlp.results.statistics"),
        (
            "results/aisbench.py",
            "\ndef late():\n    from smlp import workflow\n",
            "results/aisbench imports smlp.",
        ),
        (
            "backends/ascend/atc.py",
            "from ...results import reader\n",
            "backends/ascend/atc imports smlp.r",
        ),
    ],
)
def test_a_planted_upward_import_is_found(planted, module, line, named):
    path = planted / "smlp" / module
    path.write_text(path.read_text() + "\n" + line)
    assert [found.startswith(named) for found in upward_imports(planted)] == [True]


def test_a_planted_circle_is_found(planted):
    path = planted / "smlp" / "core" / "cli.py"
    path.write_text(path.read_text() + "\ndef late():\n    from . import files\n")
    assert {"smlp.core.cli", "smlp.core.files"} <= set(cycle(edges(planted)))


def on_target(scripts):
    """The files that the commands on the target load before a backend's runtime."""
    waiting, seen = [scripts / name for name in ON_TARGET], set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imported(path, scripts, everywhere=False):
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):
                place = scripts.joinpath(*parts[:depth])
                waiting += [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    return seen


def foreign_imports(scripts):
    """ "file imports name" for what is neither ours, nor NumPy, nor of the standard library."""
    return [
        f"{path.name} imports {name}"
        for path in sorted(on_target(scripts))
        for name in imported(path, scripts, everywhere=False)
        if (top := name.split(".")[0]) not in ("smlp", "numpy") and top not in sys.stdlib_module_names
        if f"{top}.py" not in ON_TARGET
    ]


def test_commands_on_the_target_load_nothing_but_numpy():
    assert foreign_imports(ROOT / "scripts") == []
    loaded = {path.name for path in on_target(ROOT / "scripts")}
    assert {"lock.py", "bins.py", "base.py", "aisbench.py", "npu_smi.py", "session.py"} <= loaded


def test_what_the_target_loads_says_so():
    """Whoever edits one of these modules must be told that it runs under an old Python with NumPy alone."""
    silent = [
        str(path.relative_to(ROOT))
        for path in on_target(ROOT / "scripts")
        if path.name != "__init__.py" and "smlp/" in str(path)
        if not any(words in ast.get_docstring(ast.parse(path.read_text())) for words in ("NumPy", "Standard library"))
    ]
    assert silent == []


def test_a_planted_foreign_import_is_found(planted):
    for name in ("infer.py", "measure.py", "sustain.py"):
        shutil.copy2(ROOT / "scripts" / name, planted)
    path = planted / "smlp" / "data" / "bins.py"
    path.write_text(path.read_text() + "\nimport pandas\n")
    assert foreign_imports(planted) == ["bins.py imports pandas"]


@pytest.mark.parametrize("path", sorted(on_target(ROOT / "scripts")), ids=lambda path: path.stem)
def test_what_the_target_loads_is_written_for_python_3_9(path):
    """Its syntax; annotations may say more, as nobody evaluates them."""
    text = path.read_text(encoding="utf-8")
    ast.parse(text, str(path), feature_version=(3, 9))
    assert "from __future__ import annotations" in text or "class" not in text and "def " not in text


@pytest.mark.parametrize(
    "module", ["infer", "measure", "sustain", *(f"smlp.backends.{name}" for name in backends.names())]
)
def test_importing_needs_nothing_but_numpy(module, tmp_path):
    """By a fresh interpreter, because other tests have imported everything."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
import numpy
before = {{name.split(".")[0] for name in sys.modules}}
import {module}
after = {{name.split(".")[0] for name in sys.modules}}
print(*sorted(after - before - set(sys.stdlib_module_names) - {{"smlp", "infer", "measure", "sustain"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


def test_every_module_can_be_imported_first(tmp_path):
    """None may rest on what another module did before, as timm does on torchvision; each in a fork of its own."""
    names = [".".join(("smlp", *parts)).replace(".__init__", "") for parts in sorted(modules(ROOT / "scripts"))]
    code = f"""
import importlib, os, sys, traceback
sys.path.insert(0, {str(ROOT / "scripts")!r})
import numpy, torch
torch.set_num_threads(1)
for name in {names!r}:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
