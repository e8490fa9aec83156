"""envs/check.py tells an environment that is whole from one of another lock and from one that lost files."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "envs" / "check.py"
RIGHT, OUTDATED, BROKEN = 0, 1, 2


@pytest.fixture
def environment(tmp_path):
    """(its Python, its packages): a virtual environment with one package of two modules, Some.Package 1.5+cpu."""
    folder = tmp_path / "an environment"
    venv.create(folder, symlinks=True)
    packages = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    record = packages / "some_package-1.5+cpu.dist-info" / "RECORD"
    record.parent.mkdir()
    files = ["some/__init__.py", "some/part.py", "other.py", "__pycache__/other.cpython-311.pyc"]
    record.write_text("".join(f"{file},sha256=0,1\n" for file in files))
    (packages / "some").mkdir()
    for file in files[:3]:
        (packages / file).touch()
    (folder / "finished").touch()
    (folder / "lock").write_text("# made of something\nsome-package==1.5\n")
    return folder / "bin" / "python", packages


def state(python):
    folder = python.parents[1]
    return subprocess.run([python, CHECK, folder / "lock", folder / "finished"]).returncode


def test_what_the_lock_says_is_right(environment):
    assert state(environment[0]) == RIGHT


@pytest.mark.parametrize("line", ["some_package==1.6", "some_package==1.5\nmissing==1.0"])
def test_another_lock_is_outdated(environment, line):
    python, _ = environment
    (python.parents[1] / "lock").write_text(line)
    assert state(python) == OUTDATED


@pytest.mark.parametrize("lost", ["other.py", "some", "some_package-1.5+cpu.dist-info/RECORD", "../../../finished"])
def test_what_lost_files_is_broken(environment, lost):
    python, packages = environment
    path = packages / lost
    path.rename(path.with_name("gone"))
    assert state(python) == BROKEN
