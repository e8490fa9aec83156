"""A column is stated once: frames, files, tables for people and checks follow it."""

import json
import shutil
import subprocess
import sys

import pandas
import pytest
from result_files import ROOT, Sweep

from smlp.results import cells, columns, throughput_columns

TABLES = {
    "accuracy": columns.ACCURACY,
    "throughput": throughput_columns.THROUGHPUT,
    "decision": columns.DECISION,
    "flips": columns.FLIPS,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_names_each_column_once(name):
    names = [column.name for column in TABLES[name]]
    assert len(set(names)) == len(names)
    assert {column.after for column in TABLES[name]} - {""} <= set(names)
    assert {column.upper for column in TABLES[name]} - {""} <= set(names)


@pytest.mark.parametrize("name", TABLES)
def test_a_frame_has_the_columns_and_dtypes_even_without_rows(name):
    expected = {
        column.name: {"json": "string", "list": "string"}.get(column.dtype, column.dtype) for column in TABLES[name]
    }
    for facts in ([], [{}]):
        found = columns.frame(TABLES[name], facts)
        assert {column: str(dtype) for column, dtype in found.dtypes.items()} == expected
        assert found.isna().all(axis=None)


def test_what_is_absent_stays_absent_beside_what_is_there():
    facts = [{"images": 3, "top1": 50, "emulated": False, "model": ""}, {}]
    found = columns.frame(columns.ACCURACY, facts)
    assert list(found["images"]) == [3, pandas.NA] and list(found["emulated"]) == [False, pandas.NA]
    first, second = columns.rows(found)
    assert (first.images, first.top1, first.emulated, first.model) == (3, 50.0, False, "")
    assert (second.images, second.top1, second.emulated, second.model) == (None, None, None, None)


def test_only_a_percentage_whose_name_does_not_say_so_gets_a_suffix():
    named = {column.name: column.title for table in TABLES.values() for column in table if column.title != column.name}
    assert named == {
        name: f"{name}_percent"
        for name in ("top1", "top5", "top1_wilson_low", "top1_wilson_high", "agreement", "published_top1")
    }


def test_the_legend_explains_marks_after_columns():
    terms = list(cells.legend(*TABLES.values()))
    assert terms[:2] == ["top-1, top-5", "95% interval"]
    assert {"failed", "*", "(emulated)", "best row", "percentiles"} <= set(terms)
    assert terms.index("verdict") < terms.index("failed")


# --- a new column


COLUMN = """
    Column("wrong", "Float64", "images", "wrong (images)", ".1f", "images whose <label> is not the first guess."),
"""
COMPUTED = """
    table["wrong"] = table["images"] * (100 - table["top1"]) / 100
"""


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture
def product(tmp_path):
    """A copy of the product to add a column to, in a path with a blank."""
    for folder in ("scripts", "resources"):
        shutil.copytree(ROOT / folder, tmp_path / "a copy" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "a copy"


def plant(path, before, text):
    """Put `text` in front of a line."""
    content = path.read_text(encoding="utf-8")
    assert content.count(before) == 1
    path.write_text(content.replace(before, text.strip("\n") + "\n" + before), encoding="utf-8")


def test_a_new_column_is_one_statement_and_the_place_where_it_is_computed(product, tmp_path):
    before = contents(product)
    plant(product / "scripts/smlp/results/columns.py", '    Column("num_classes", ', COLUMN)
    plant(product / "scripts/smlp/results/accuracy.py", '    table["published_to_reference_drop_points"] =', COMPUTED)
    sweep = Sweep(tmp_path)
    subprocess.run([sys.executable, product / "scripts/tabulate.py", *sweep.flags()], check=True, capture_output=True)

    assert [row["wrong"] for row in sweep.rows("accuracy.csv")] == ["183", "183", "183", "", "183"]
    page = sweep.text("report.html")
    assert (
        '<th class="number">images</th><th class="number">wrong (images)</th>' in page
        and '<td class="number" data-label="wrong (images)">183.0</td>' in page
    )
    assert "<dt>wrong</dt><dd>images whose &lt;label&gt; is not the first guess.</dd>" in page
    stored = pandas.read_parquet(sweep.output / "accuracy.parquet")
    assert stored["wrong"].dtype == "Float64" and stored["wrong"].isna().tolist() == [False] * 3 + [True, False]

    after = contents(product)
    touched = sorted(name for name in after if after[name] != before.get(name))
    assert touched == ["scripts/smlp/results/accuracy.py", "scripts/smlp/results/columns.py"]


def test_a_new_column_of_a_result_file_is_checked_by_its_statement(product, tmp_path):
    plant(product / "scripts/smlp/results/columns.py", '    Column("num_classes", ', COLUMN)
    sweep = Sweep(tmp_path)
    path = sweep.files["accuracy"][0]
    for value, status in ((183, 0), ("many", 1)):
        path.write_text(json.dumps({**json.loads(path.read_text()), "wrong": value}))
        command = [sys.executable, product / "scripts/tabulate.py", *sweep.flags()]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
    assert f"{path}: wrong is 'many', a number was expected" in done.stderr
    assert sweep.rows("accuracy.csv")[0]["wrong"] == "183"
