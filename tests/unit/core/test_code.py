"""The digest changes with the code that a result depends on, and with nothing else."""

import ast
import importlib.util
import itertools
import shutil
from pathlib import Path

import pytest

from smlp import backends

SCRIPTS = Path(__file__).parents[3] / "scripts"
BACKENDS = backends.names()
PLAIN = ["retrieve", "export", "preprocess", "evaluate", "tabulate"]
PER_BACKEND = ["compile", "infer", "measure"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """(a copy of scripts/, its digests)"""
    folder = tmp_path_factory.mktemp("original") / "scripts"
    shutil.copytree(SCRIPTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder, digests(folder)


@pytest.fixture
def scripts(original, tmp_path):
    """A copy of scripts/ to change, under a path with a blank."""
    return Path(shutil.copytree(original[0], tmp_path / "a copy" / "scripts"))


@pytest.fixture
def changed(original, scripts):
    """A function: names of the digests that an edit of one file changes. `before`: those before it."""

    def hit(file, edit, before=original[1]):
        path = scripts / file
        text = edit(path.read_text(encoding="utf-8"))
        assert text != path.read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        after = digests(scripts)
        return {name for name in before if before[name] != after[name]}

    return hit


def loaded(scripts):
    """The module code.py of a copy."""
    spec = importlib.util.spec_from_file_location("smlp.core.digest_of_a_copy", scripts / "smlp" / "core" / "code.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert scripts == module.SCRIPTS
    return module


def digests(scripts):
    """{"compile/onnxruntime": digest, "export": digest, …} of the code in a copy."""
    module = loaded(scripts)
    found = {command: module.code_digest(command) for command in PLAIN}
    for command, backend in itertools.product(PER_BACKEND, BACKENDS):
        found[f"{command}/{backend}"] = module.code_digest(command, backend)
    return found


def code(text):
    return text + "\nADDED = 1\n"


def comment(text):
    return "# a comment\n" + text + "\n\n    # and another\n"


def docstring(text):
    return '"""Another docstring."""\n' + text.split('"""', 2)[2] if text.startswith('"""') else "# none\n" + text


def layout(text):
    return text.replace("\n\n", "\n\n\n\n").replace(" == ", "  ==  ").replace('"""', "'''")


def everything_of(*commands):
    return {f"{command}/{backend}" for command, backend in itertools.product(commands, BACKENDS)}


def test_the_same_code_has_the_same_digest_wherever_it_lies(original, scripts):
    assert digests(scripts) == original[1]


def test_digests_differ_from_each_other(original):
    found = original[1]
    assert len(set(found.values())) == len(found)
    assert all(len(value) == 16 for value in found.values())


@pytest.mark.parametrize("edit", [comment, docstring])
def test_text_that_is_not_code_does_not_count(original, scripts, edit):
    for path in scripts.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert edit(text) != text
        path.write_text(edit(text), encoding="utf-8")
    assert digests(scripts) == original[1]


def test_layout_does_not_count(changed):
    assert changed("infer.py", layout) == set()


def test_a_functions_docstring_does_not_count(changed):
    old = '"""A shape for people: 8x3x224x224, with ? for a free axis."""'
    assert changed("smlp/core/tensor.py", lambda text: text.replace(old, '"""Other words."""')) == set()


def test_a_text_that_is_code_counts(changed):
    hit = changed("smlp/core/tensor.py", lambda text: text.replace('"x".join', '"·".join'))
    assert hit >= everything_of(*PER_BACKEND)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_concerns_only_itself(changed, backend):
    place = Path("smlp/backends", backend)
    hit = changed(place / "__init__.py" if (SCRIPTS / place).is_dir() else place.with_suffix(".py"), code)
    assert hit == {f"{command}/{backend}" for command in PER_BACKEND}


@pytest.mark.parametrize("command", PER_BACKEND)
def test_a_command_concerns_only_its_stage(changed, command):
    assert changed(f"{command}.py", code) == everything_of(command)


@pytest.mark.parametrize("command", PLAIN)
def test_a_command_without_backends_too(changed, command):
    assert changed(f"{command}.py", code) == {command}


# backends that read images when they compile
CALIBRATING = {
    f"{command}/{backend}" for command in PER_BACKEND for backend in BACKENDS if backends.load(backend).calibrated
}


@pytest.mark.parametrize(
    ("file", "must", "must_not"),
    [
        ("smlp/core/cli.py", {*PLAIN, *everything_of(*PER_BACKEND)}, set()),
        ("smlp/__init__.py", {*PLAIN, *everything_of(*PER_BACKEND)}, set()),
        (
            "smlp/data/transform.py",
            {"preprocess", "export"},  # export proves itself on preprocessed photographs
            {"evaluate", "tabulate", "compile/onnxruntime", "infer/onnxruntime", "measure/onnxruntime"},
        ),
        ("smlp/models/smlpnet.py", {"export", "infer/pytorch"}, {"evaluate", "tabulate", "infer/onnxruntime"}),
        ("smlp/models/architectures.py", {"export", "infer/pytorch"}, {"evaluate", "tabulate", "infer/onnxruntime"}),
        (
            "smlp/models/checkpoint.py",
            {"retrieve", "export", "infer/pytorch"},
            {"preprocess", "evaluate", "infer/onnxruntime"},
        ),
        (
            "smlp/models/onnx_graph.py",
            {"export", "compile/onnxruntime"},
            {"preprocess", "evaluate", "tabulate", "infer/pytorch"},
        ),
        (
            "smlp/data/bins.py",
            {"evaluate", *everything_of("infer", "measure")},
            {"export", "preprocess", "tabulate", *everything_of("compile")} - CALIBRATING,
        ),
        (
            "smlp/results/statistics.py",
            {"evaluate", *everything_of("measure")},
            {"export", "preprocess", *everything_of("compile", "infer")},
        ),
        (
            "smlp/results/aisbench.py",
            everything_of("infer", "measure"),
            {"export", "preprocess", *everything_of("compile")},
        ),
        ("smlp/data/manifest.py", {"preprocess", *everything_of("infer", "measure")}, {"export"}),
        ("smlp/data/dataset.py", {"preprocess"}, {"export", "evaluate", *everything_of(*PER_BACKEND)}),
        ("smlp/workflow/settings.py", set(), {"export", "preprocess", "evaluate", *everything_of(*PER_BACKEND)}),
    ],
)
def test_what_a_change_in_a_shared_module_concerns(changed, file, must, must_not):
    hit = changed(file, code)
    assert must <= hit
    assert not must_not & hit


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("infer.py", "from smlp import fresh"),
        ("infer.py", "import smlp.fresh"),
        ("smlp/data/bins.py", "from ..fresh import VALUE"),
        ("smlp/backends/pytorch.py", "from ..fresh import VALUE"),
        ("smlp/backends/ascend/atc.py", "from ... import fresh as other"),
    ],
)
def test_an_import_inside_a_function_counts(scripts, changed, importer, statement):
    (scripts / "smlp" / "fresh.py").write_text("VALUE = 1\n")
    path = scripts / importer
    path.write_text(path.read_text() + f"\n\ndef late():\n    {statement}\n")
    hit = changed("smlp/fresh.py", lambda text: "VALUE = 2\n", digests(scripts))
    assert {"infer/pytorch", "infer/ascend"} & hit
    assert "export" not in hit


def test_an_import_of_an_import_counts(scripts, changed):
    (scripts / "smlp" / "near.py").write_text("from .far import VALUE\n")
    (scripts / "smlp" / "far.py").write_text("VALUE = 1\n")
    path = scripts / "evaluate.py"
    path.write_text(path.read_text() + "\n\ndef late():\n    from smlp import near\n")
    assert changed("smlp/far.py", lambda text: "VALUE = 2\n", digests(scripts)) == {"evaluate"}


def test_modules_that_import_each_other(scripts, changed):
    (scripts / "smlp" / "one.py").write_text("from . import two\n")
    (scripts / "smlp" / "two.py").write_text("from . import one\n")
    path = scripts / "evaluate.py"
    path.write_text(path.read_text() + "\nfrom smlp import one\n")
    assert changed("smlp/two.py", code, digests(scripts)) == {"evaluate"}


def test_what_a_sweep_found_out_is_not_found_out_again(scripts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = loaded(scripts)
    wanted = first.code_digest("infer", "openvino")
    first.remember()

    parsed = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda *text: parsed.append(text) or parse(*text))
    again = loaded(scripts)
    assert again.code_digest("infer", "openvino") == wanted and parsed == []
    assert again.code_modules("infer", "openvino") == first.code_modules("infer", "openvino")

    with open(scripts / "smlp" / "backends" / "openvino.py", "a") as module:
        module.write("ADDED = 1\n")
    assert loaded(scripts).code_digest("infer", "openvino") != wanted and len(parsed) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"by": 1, "modules": {"infer.py": 3}}', '{"by": 1, "modules": []}'])
def test_a_damaged_memory_is_no_memory(text, original, scripts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    memory = loaded(scripts).MEMORY
    memory.parent.mkdir(parents=True)
    memory.write_text(text)
    assert loaded(scripts).code_digest("infer", "openvino") == original[1]["infer/openvino"]
