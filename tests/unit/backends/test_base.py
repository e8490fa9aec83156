"""What a backend states, and what checks its options; every real backend is held to it in tests/backends."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import jsonschema
import pytest

from smlp import backends
from smlp.backends import base
from smlp.backends.base import Backend, DeviceKind, Option
from smlp.core import lock
from smlp.core.cli import UserError

SCRIPTS = Path(__file__).parents[3] / "scripts"
KINDS = ("text", "integer", "boolean", "file", "folder", "program")
TOY = Backend(
    name="toy",
    suffix=".toy",
    precisions=("fp32",),
    packages=("numpy",),
    open=lambda path, **_: None,
    options=(
        Option("speed", "how fast", choices=("low", "high")),
        Option("chip", "which one", pattern="^[A-Z][0-9]+$"),
        Option("memory_mib", "at most", kind="integer", minimum=16),
        Option("graph_replay", "whether", kind="boolean"),
    ),
)


@pytest.mark.parametrize(
    "options",
    [{}, {"speed": "low"}, {"chip": "A10"}, {"memory_mib": "16"}, {"graph_replay": "true"}, {"graph_replay": "false"}],
)
def test_declared_values_pass(options):
    TOY.check_options(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sped": "low"}, "backend 'toy' has no option 'sped'; it has speed, chip, memory_mib, graph_replay"),
        ({"speed": "medium"}, "--option speed=medium: low or high was expected; how fast"),
        ({"chip": "10"}, "--option chip=10: a text that matches "),
        ({"chip": ""}, "--option chip=: a text"),
        ({"memory_mib": "15"}, "--option memory_mib=15: a whole number of at least 16 was expected"),
        ({"memory_mib": "much"}, "--option memory_mib=much: a whole number"),
        ({"memory_mib": "١٦"}, "--option memory_mib=١٦: a whole number"),
        ({"graph_replay": "yes"}, "--option graph_replay=yes: true or false was expected"),
    ],
)
def test_any_other_option_is_named_with_what_was_expected(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        TOY.check_options(options)


def test_a_backend_without_options_says_so():
    with pytest.raises(UserError, match="has no option 'speed'; it has none"):
        dataclasses.replace(TOY, options=()).check_options({"speed": "low"})


def test_a_compiler_with_options_of_its_own_gets_them():
    dataclasses.replace(TOY, passes_on=Option("toy_options", "further ones")).check_options({"unheard_of": "1"})


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("speed", "low", True),
        ("speed", "medium", False),
        ("chip", "A10", True),
        ("chip", "10", False),
        ("memory_mib", 16, True),
        ("memory_mib", 15, False),
        ("graph_replay", True, True),
        ("graph_replay", "false", True),
        ("graph_replay", 1.5, False),
    ],
)
def test_the_schema_of_a_setting_allows_what_the_flag_allows(name, value, fits):
    option = next(option for option in TOY.options if option.name == name)
    assert option.schema()["description"] == option.help
    assert jsonschema.Draft202012Validator(option.schema()).is_valid(value) is fits


def test_devices_are_renumbered_as_their_kind_says(monkeypatch):
    monkeypatch.setattr(lock, "RENUMBERED", dict(lock.RENUMBERED))
    DeviceKind("tpu", resource="tpu", visible="TPU_VISIBLE")
    monkeypatch.setenv("TPU_VISIBLE", "3,1")
    assert [lock.physical(f"tpu:{number}") for number in (0, 1, 2)] == ["tpu:3", "tpu:1", "tpu:2"]


def test_the_first_device_is_the_default():
    assert TOY.device == "cpu"
    assert dataclasses.replace(TOY, devices=(base.CUDA, base.CPU)).device == "cuda:0"


@pytest.mark.parametrize("backend", backends.every(), ids=lambda backend: backend.name)
def test_options_are_declared_with_type_bounds_and_help(backend):
    names = [option.name for option in backend.options]
    assert len(set(names)) == len(names)
    for option in backend.options:
        assert option.kind in KINDS and option.help and not option.help.endswith(".")
        assert re.fullmatch("[a-z][a-z0-9_]*", option.name)
        assert set(option.precisions) <= set(backend.precisions)
        if option.default is not None:
            option.check(str(option.default))


def test_every_field_of_a_backend_is_explained():
    described = re.findall(r"^(\w+) ", inspect.getdoc(Backend), re.MULTILINE)
    fields = {field.name for field in dataclasses.fields(Backend)}
    assert fields - set(described) == set()


def test_each_kind_of_start_has_one_reference():
    judges = [backend.reference_for for backend in backends.every() if backend.reference_for]
    assert sorted(judges) == ["checkpoint", "onnx"]


def test_an_unknown_backend_is_named_with_the_known_ones():
    with pytest.raises(UserError, match="backend 'tpu' is not known; choose one of aotinductor, ascend"):
        backends.load("tpu")


def spoken_names(path):
    """(line, text) of every text in a file's code that is a backend's name, not in docstrings and lists of packages."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
        if isinstance(node, ast.Assign) and any("PACKAGES" in ast.unparse(target) for target in node.targets):
            skipped.update(map(id, ast.walk(node.value)))
        if isinstance(node, ast.keyword) and node.arg == "packages":
            skipped.update(map(id, ast.walk(node.value)))
    names = set(backends.names())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in skipped and node.value in names:
            yield node.lineno, node.value
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            source = getattr(node, "module", None) or ""
            words = {word for alias in node.names for word in f"{source}.{alias.name}".split(".")}
            if "backends" in words and words & names:
                yield node.lineno, ast.unparse(node)


def test_no_command_knows_a_backend_by_name():
    assert {path.name: found for path in SCRIPTS.glob("*.py") if (found := list(spoken_names(path)))} == {}


def test_the_workflow_knows_no_backend_by_name():
    modules = (SCRIPTS / "smlp" / "workflow").glob("*.py")
    assert {path.name: found for path in modules if (found := list(spoken_names(path)))} == {}


def test_a_spoken_name_is_found(tmp_path):
    (tmp_path / "x.py").write_text('"""onnxruntime"""\nPACKAGES = ("onnxruntime",)\nif name == "ascend":\n    pass\n')
    (tmp_path / "y.py").write_text("from smlp.backends.ascend import atc\n")
    assert list(spoken_names(tmp_path / "x.py")) == [(3, "ascend")]
    assert [line for line, _ in spoken_names(tmp_path / "y.py")] == [1]
