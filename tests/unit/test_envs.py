"""The environments say the same everywhere: what is asked for is pinned, and pinned once."""

import re
from pathlib import Path

import pytest
import yaml

from smlp import backends

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "envs"
CONDA_FILES = sorted(ENVS.glob("*.yaml"))


def canonical(name):
    """PEP 503: Pillow, pillow and PILLOW are one package, so are typing_extensions and typing-extensions."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lines(path):
    return [line for line in (line.split("#")[0].strip() for line in path.read_text().splitlines()) if line]


@pytest.fixture(scope="module")
def lock():
    """{package: version} of requirements.lock."""
    pins = [line.partition("==") for line in lines(ENVS / "requirements.lock")]
    assert all(equals and re.fullmatch(r"[0-9][0-9A-Za-z.]*", version) for _, equals, version in pins)
    assert len({canonical(name) for name, _, _ in pins}) == len(pins)
    return {canonical(name): version for name, _, version in pins}


def test_everything_asked_for_is_pinned(lock):
    asked = lines(ENVS / "requirements.txt")
    names = [canonical(re.match(r"[A-Za-z0-9._-]+", line)[0]) for line in asked]
    assert "torch" in names
    assert [name for name in names if name not in lock] == []
    exact = [line.partition("==") for line in asked if "==" in line]
    assert {canonical(name): version for name, _, version in exact}.items() <= lock.items()


@pytest.mark.parametrize("path", CONDA_FILES, ids=lambda path: path.name)
def test_a_conda_file_has_the_versions_of_the_lock(path, lock):
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    (packages,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    pins = [package.partition("==") for package in packages]
    assert {canonical(name): version for name, _, version in pins}.items() <= lock.items()
    assert "python=3.11" in dependencies


def test_every_conda_file_of_a_rule_exists():
    named = re.findall(r'conda:\s*\n\s*"([^"]+)"', "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk")))
    assert len(named) > 5
    for name in set(named):
        for backend in backends.names() if "{backend}" in name else [None]:
            assert (ROOT / "rules" / name.format(backend=backend)).resolve().is_file(), name


def test_every_conda_file_is_used():
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    names = {path.stem for path in CONDA_FILES}
    assert names - set(backends.names()) - set(re.findall(r"envs/(\w+)\.yaml", rules)) == set()


# come with the host's driver packages and are in no registry
FROM_THE_HOST = {"aclruntime", "tensorrt"}


def test_a_conda_file_has_the_runtime_of_its_backend():
    """Where a backend names distributions of PyPI, its file installs them: every result states their versions."""
    for backend in backends.names():
        text = (ENVS / f"{backend}.yaml").read_text()
        for package in set(backends.load(backend).packages) - FROM_THE_HOST:
            assert re.search(rf"\b{re.escape(package)}==", text), (backend, package)
