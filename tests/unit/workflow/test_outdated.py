"""While a run makes anew what the tables show, the old tables are set aside."""

import pytest

from smlp.workflow import outdated


@pytest.fixture(autouse=True)
def tables(tmp_path, monkeypatch):
    """The tables of a finished sweep."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results" / "tables"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("old")
    return folder


def test_tables_are_set_aside_before_anything_that_they_show_is_made(tables, capsys):
    outdated.set_aside(["infer_shard", "tabulate"])
    assert not tables.exists()
    assert (tables.with_name("tables.outdated") / "report.html").read_text() == "old"
    assert "results/tables: now in results/tables.outdated" in capsys.readouterr().err


@pytest.mark.parametrize("rules", [[], ["tabulate"]])
def test_tables_stay_if_nothing_is_made_but_them(tables, rules):
    outdated.set_aside(rules)
    outdated.settle()
    assert (tables / "report.html").read_text() == "old"


def test_older_tables_make_way_for_those_that_are_set_aside_now(tables):
    aside = tables.with_name("tables.outdated")
    aside.mkdir()
    (aside / "latency.png").touch()
    outdated.set_aside(["infer_shard"])
    assert [path.name for path in aside.iterdir()] == ["report.html"]
    outdated.set_aside(["infer_shard"])  # none are left, and those of before stay
    assert [path.name for path in aside.iterdir()] == ["report.html"]


def test_the_old_tables_go_as_soon_as_there_are_new_ones(tables, capsys):
    aside = tables.with_name("tables.outdated")
    outdated.set_aside(["infer_shard"])
    outdated.settle()
    assert aside.is_dir() and "results/tables.outdated: has the tables of before" in capsys.readouterr().err
    tables.mkdir()
    (tables / "report.html").write_text("new")
    outdated.settle()
    assert not aside.exists() and capsys.readouterr().err == ""
