"""A backend is added by one module, its conda file and one `use rule`, and a sweep with it works."""

import csv
import filecmp
import json
import shutil
from pathlib import Path

import pytest
from conftest import PRODUCT, ROOT

TOY = ROOT / "tests" / "data" / "toy_backend"
ADDED = {"scripts/smlp/backends/toy.py", "envs/toy.yaml"}
CHANGED = {"rules/compile.smk"}
TARGETS = [
    {"backend": "onnxruntime"},
    {"backend": "toy"},
    {"backend": "toy", "options": {"gain": 2}},
    {"name": "loud", "backend": "toy", "options": {"gain": 3}},
]
# one engine made again, and what follows from it
ONE_ENGINE = {
    "compile_toy": 1,
    "infer_shard": 1,
    "evaluate_engine": 1,
    "measure_load": 1,
    "measure_engine": 1,
    "tabulate": 1,
}


def tree(folder):
    """Every file of the product below a folder, but the settings, which a sweep has its own of."""
    roots = [folder / name for name in PRODUCT if name != "config.yaml"]
    found = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)) for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def swept(make_project, small):
    """A sweep with the toy in a copy of the product, finished."""
    project = make_project({**small, "targets": TARGETS, "backends": {"toy": {"devices": [1, 4]}}})
    shutil.copy2(TOY / "toy.py", project.folder / "scripts/smlp/backends")
    shutil.copy2(TOY / "toy.yaml", project.folder / "envs")
    rules = project.folder / "rules/compile.smk"
    rules.write_text(rules.read_text() + (TOY / "compile_toy.smk").read_text())
    project.sweep()
    return project


def test_nothing_else_of_the_product_is_touched(swept):
    ours, product = tree(swept.folder), tree(ROOT)
    assert ours - product == ADDED and product <= ours
    differing = {name for name in product if not filecmp.cmp(swept.folder / name, ROOT / name, shallow=False)}
    assert differing == CHANGED


def test_its_engines_are_rows_of_the_tables(swept):
    for name in ("accuracy", "throughput"):
        with open(swept.folder / "results/tables" / f"{name}.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [row["backend"] for row in rows] == ["onnxruntime", "toy", "toy", "toy"]
        assert [row["variant"] for row in rows] == ["", "", "gain_2", "loud"]
    assert {row["device"] for row in rows if row["backend"] == "toy"} == {"abacus:1"}
    assert swept.planned() == {}


def test_its_option_reaches_its_engines_and_its_companion_is_an_output(swept):
    compiled = swept.folder / "results/compile/tiny/toy/fp32"
    gains = {"": "1", "gain_2": "2", "loud": "3"}
    assert {name: (compiled / name / "bs1.gain").read_text() for name in gains} == gains
    sidecar = json.loads((compiled / "loud/bs1.json").read_text())
    assert (sidecar["variant"], sidecar["options"]) == ("loud", {"gain": "3"})
    (compiled / "bs1.gain").rename(compiled / "kept")
    try:
        assert swept.planned("compile") == {"compile_toy": 1}
    finally:
        (compiled / "kept").rename(compiled / "bs1.gain")


@pytest.mark.parametrize(
    "change",
    [
        {"targets": [*TARGETS[:3], {**TARGETS[3], "options": {"gain": 4}}]},
        {"backends": {"toy": {"devices": [1, 4], "gain": 4}}},  # the variants state their own
        {"targets": [*TARGETS, {"backend": "toy", "options": {"gain": 4}}]},
    ],
    ids=["option of a variant", "setting of the backend", "another variant"],
)
def test_a_changed_option_reruns_what_it_touches(swept, change):
    settings = swept.settings
    try:
        swept.configure({**settings, **change})
        assert swept.planned() == ONE_ENGINE
    finally:
        swept.configure(settings)


def test_its_device_is_counted_and_its_settings_are_checked(swept):
    done = swept.snakemake("--cores", "2", "--dry-run", "--forceall", "--printshellcmds")
    assert done.returncode == 0, done.stdout
    commands = [line for line in done.stdout.splitlines() if "scripts/infer.py" in line and "/toy/" in line]
    assert len(commands) == 3 and all("--device abacus:1,abacus:4 " in line for line in commands)
    settings = swept.settings
    try:
        swept.configure({**settings, "backends": {"toy": {"gian": 2}}})
        done = swept.snakemake("--cores", "2", "--dry-run")
        assert "backends.toy: unknown key 'gian'; did you mean 'gain'?" in done.stdout
    finally:
        swept.configure(settings)


def test_the_toy_is_not_part_of_the_product():
    assert not [name for name in ADDED if Path(ROOT, name).exists()]
