"""The picture in docs/architecture.md shows the imports that are in the code."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from pages import ROOT

SCRIPT = ROOT / "docs" / "architecture.py"
PICTURE = ROOT / "docs" / "architecture.svg"


@pytest.fixture
def draw(tmp_path):
    """A function: the picture of the code below a folder, as text."""

    def run(root):
        output = tmp_path / "picture.svg"
        subprocess.run([sys.executable, SCRIPT, "--root", root, "--output", output], check=True)
        return output.read_text(encoding="utf-8")

    return run


def test_the_picture_is_that_of_the_code(draw):
    assert draw(ROOT) == PICTURE.read_text(encoding="utf-8"), "run: python docs/architecture.py"


def test_the_picture_is_valid_and_has_a_background():
    root = ElementTree.parse(PICTURE).getroot()
    first = next(element for element in root if element.tag.endswith("rect"))
    assert (first.get("width"), first.get("height")) == (root.get("width"), root.get("height"))
    assert first.get("fill") == "#ffffff"


@pytest.mark.parametrize(
    "statement",
    [
        "from smlp.data import bins",
        "import smlp.data.bins",
        "from smlp import data",
        "from ..data import bins",
        "from .. import data",
        "def late():\n    from ..data.bins import read",
    ],
)
def test_an_import_is_an_arrow(draw, tmp_path, statement):
    module = tmp_path / "scripts" / "smlp" / "models" / "one.py"
    module.parent.mkdir(parents=True)
    module.write_text("VALUE = 1\n")
    (tmp_path / "Snakefile").touch()
    assert "marker-end" not in draw(tmp_path)
    module.write_text(statement + "\n")
    assert draw(tmp_path).count("marker-end") == 1


def test_a_package_in_a_layer_imports_the_layer_below(draw, tmp_path):
    module = tmp_path / "scripts" / "smlp" / "backends" / "ascend" / "atc.py"
    module.parent.mkdir(parents=True)
    module.with_name("__init__.py").write_text("from ...core import files\n")
    module.write_text("from .. import base\nfrom . import cann\n")  # its own layer: no arrow
    (tmp_path / "Snakefile").touch()
    assert draw(tmp_path).count("marker-end") == 1


def test_rules_that_use_the_plan_are_an_arrow(draw, tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "Snakefile").write_text("from scripts.smlp.workflow import settings\n")
    assert draw(tmp_path).count("marker-end") == 1
