"""Every command line of README.md and docs/ is run or dry-run."""

import argparse
import importlib.util
import runpy
import shlex
import shutil
import subprocess
import sys

import pytest
from pages import PAGES, ROOT, commands

# tests/workflow/conftest.py makes copies of the product; pytest shows its fixtures only to the tests beside it.
_spec = importlib.util.spec_from_file_location("workflow_conftest", ROOT / "tests" / "workflow" / "conftest.py")
workflow = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(workflow)
make_project = workflow.make_project
forking_python = workflow.forking_python

# Each command with the first page that has it.
COMMANDS = {line: path.name for path in reversed(PAGES) for line in commands(path)}
# Commands of other programs, which need a scheduler, an NPU host or a finished sweep: only their syntax is checked.
SYNTAX_ONLY = ("ais_bench ", "cat results/tables/", "cp ", "export ", "source ", "squeue ")
# Dry runs with equal flags are one run with all their targets.
STAGES = tuple("retrieve export compile preprocess infer evaluate ceilings measure sustain profile tabulate".split())  # noqa: E501, SIM905


def of(*beginnings):
    """The commands that begin like this, each with the page that has it as its id."""
    return [pytest.param(line, id=f"{page}: {line}") for line, page in COMMANDS.items() if line.startswith(beginnings)]


def runs_of_snakemake():
    """{flags: targets} of what readers are told to run, without the flags that a dry run does not need."""
    found = {}
    for line in COMMANDS:
        if line.startswith("snakemake "):
            words = [word for word in shlex.split(line)[1:] if word not in ("-n", "-p")]
            flags = tuple(word for word in words if word not in STAGES)
            found.setdefault(flags, set()).update(word for word in words if word in STAGES)
    return {flags: tuple(sorted(targets)) for flags, targets in found.items()}


@pytest.fixture(scope="module")
def product(make_project):
    """A copy of the product as shipped, with mine.yaml: a reader's own settings, which here are a small demo's."""
    project = make_project(workflow.DEMO)
    project.configure(workflow.DEMO, "mine.yaml")
    shutil.copy2(ROOT / "config.yaml", project.folder)
    shutil.copytree(ROOT / "configs", project.folder / "configs")
    return project


def test_every_command_has_a_check():
    known = ("make ", "python ", "snakemake ", *SYNTAX_ONLY)
    strange = [f"{page}: {line}" for line, page in COMMANDS.items() if not line.startswith(known)]
    assert strange == [], "teach tests/docs how to check it"


def test_the_pages_have_commands_of_every_kind():
    for beginning in ("make ", "python scripts/", "python bench/", "snakemake ", *SYNTAX_ONLY):
        assert of(beginning), f"no page has a command {beginning!r}; remove it from tests/docs"


@pytest.mark.parametrize("flags", runs_of_snakemake(), ids=" ".join)
def test_snakemake_plans_the_command(product, flags):
    targets = runs_of_snakemake()[flags]
    dry = [] if "--unlock" in flags else ["--dry-run", "--quiet=rules"]
    cores = [] if "--cores" in flags or "--profile" in flags else ["--cores=1"]
    done = product.snakemake(*targets, *flags, *dry, *cores)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("line", of("make "))
def test_make_has_the_target(line):
    done = subprocess.run(["make", "-n", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # that is what make says of a file of this name that is no target
    assert "Nothing to be done" not in done.stdout, done.stdout


class Parsed(Exception):
    """The flags of a command were read without an error."""


@pytest.mark.parametrize("line", of("python "))
def test_a_script_takes_the_flags(line, monkeypatch):
    """The script reads the flags of the command line; it is stopped as soon as it has done so."""
    script, *flags = shlex.split(line)[1:]
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser, *arguments, **named):
        parse(parser, *arguments, **named)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    monkeypatch.setattr(sys, "argv", [script, *flags])
    monkeypatch.syspath_prepend(str((ROOT / script).parent))
    with pytest.raises((Parsed, SystemExit)) as ended:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    # --help exits with status 0
    assert ended.type is Parsed or ("--help" in flags and ended.value.code == 0), f"{line}: wrong usage"


@pytest.mark.parametrize("line", of(*SYNTAX_ONLY))
def test_the_shell_reads_the_command(line):
    done = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    if line.startswith("cp "):
        assert (ROOT / shlex.split(line)[1]).is_file(), f"{line}: no such file"
