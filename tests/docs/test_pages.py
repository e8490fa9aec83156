"""The README and the pages of docs/ hold together: sizes, links, names of files, examples."""

import re

import pytest
import yaml
from pages import PAGES, ROOT, anchors, blocks, links, prose

from smlp.workflow import settings

DOCS = [path for path in PAGES if path.name != "README.md"]
# What refers to pages of docs/ from outside
REFERRING = [
    *PAGES,
    ROOT / "config.yaml",
    ROOT / "Snakefile",
    *(path for folder in ("configs", "profiles") for path in ROOT.glob(f"{folder}/**/*.yaml")),
    *ROOT.glob("rules/*"),
    *ROOT.glob("scripts/**/*.py"),
    *ROOT.glob("bench/*.py"),
]


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= 7000


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_a_page_begins_with_its_commands(path):
    assert re.match(r"# [^\n]+\n\n```bash\n", path.read_text(encoding="utf-8")), "title, then a bash block"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_the_readme_leads_to_the_page(path):
    assert (f"docs/{path.name}", "") in links(ROOT / "README.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    for target, anchor in links(path):
        file = path.parent / target if target else path
        assert file.is_file(), f"{path.name}: {target}: no such file"
        assert not anchor or anchor in anchors(file), f"{path.name}: {target}#{anchor}: no such heading"


def test_pages_that_are_named_exist():
    for path in filter(lambda path: path.is_file(), REFERRING):
        for name in re.findall(r"\bdocs/([\w.-]+\.(?:md|py|svg))", path.read_text(encoding="utf-8")):
            assert (ROOT / "docs" / name).is_file(), f"{path.relative_to(ROOT)}: docs/{name}: no such file"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_exist(path):
    """Paths in inline code that begin with a folder of the repository, without a placeholder."""
    folders = "bench|configs|docs|envs|profiles|resources|rules|scripts|tests"
    for name in re.findall(rf"`((?:{folders})/[\w./*-]*)`", prose(path)):
        assert list(ROOT.glob(name.rstrip("/"))), f"{path.name}: {name}: no such file"


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: f"{block.page}: {block.text[:30]!r}")
def test_examples_of_settings_are_valid(block):
    """As part of the settings of config.yaml; an example of envs/ is only read."""
    example = yaml.safe_load(block.text)
    if "channels" not in example:
        shipped = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
        complete = settings.complete({**shipped, **example}, block.page)
        assert example.keys() <= complete.keys()


def test_every_block_has_a_language_that_is_checked():
    """bash: tests/docs/test_commands.py. python: tests/docs/test_backend_example.py. Plain text shows folders."""
    for path in PAGES:
        languages = set(re.findall(r"^ *```(\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert languages <= {"bash", "yaml", "python"}, f"{path.name}: teach tests/docs how to check {languages}"


def test_no_line_of_text_is_longer_than_120_characters():
    for path in PAGES:
        for line in prose(path).splitlines():
            assert len(line) <= 120 or line.startswith("|"), f"{path.name}: {line}"
