"""The table of docs/engines.md lists the options that backends declare."""

import re

import pytest
from pages import ROOT

from smlp import backends

TABLE = re.findall(r"^\| (.+?) \| `(\w+)` \| .+ \| .+ \|$", (ROOT / "docs" / "engines.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", backends.names())
def test_every_option_of_a_backend_is_in_the_table(name):
    backend = backends.load(name)
    settings = [option.name for option in backend.options if option.setting]
    settings += [backend.passes_on.name] if backend.passes_on else []
    listed = [option for names, option in TABLE if f"`{name}`" in names]
    assert [option for option in settings if option not in listed] == [], "docs/engines.md lacks them"
