"""docs/inputs.md lists what can be brought; each row names the test that runs it."""

import re

import pytest
from pages import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and not re.match(r"\|[-| ]+\|$|\| form \|", line)
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_the_test_that_a_row_names_exists(row):
    form, example, test = row
    assert form and example
    file, name = re.fullmatch(r"`(test_\w+\.py)::(test_\w+)`", test).groups()
    (path,) = ROOT.glob(f"tests/**/{file}")
    assert re.search(rf"^def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE), f"{file}: no {name}"
