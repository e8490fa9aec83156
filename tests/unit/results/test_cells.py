"""Tables for people: columns and their order, cells, numbered notes."""

from smlp.results.cells import Footnotes, make_table, texts
from smlp.results.columns import Column, frame

COLUMNS = (
    Column("name", "string", header="name"),
    Column("low", "Float64", "ms", "interval (ms)", ".1f", upper="high", after="count"),
    Column("high", "Float64", "ms"),
    Column("count", "Int64", header="count"),
    Column("good", "boolean", header="good"),
    Column("note", "string", header="note", optional=True),
    Column("skipped", "Int64", header="skipped", optional=True),
    Column("drop", "Float64", header="drop", format="+.2f", optional=True),
)


def shown(*facts, without=()):
    table = frame(COLUMNS, facts)
    return make_table("title", COLUMNS, texts(COLUMNS, table, without))


def test_cells_are_formatted_and_absent_ones_are_dashes():
    table = shown({"name": "a", "low": 1, "high": 2.25, "count": 3, "good": False}, {"low": 1.0, "good": True})
    assert table.header == ["name", "count", "interval (ms)", "good"]
    assert table.rows == [["a", "3", "1.0 to 2.2", "no"], ["–", "–", "–", "yes"]]
    assert table.left == 1


def test_optional_columns_show_if_a_row_has_a_value():
    none = shown({"name": "a", "note": "", "skipped": 0})
    assert none.header == ["name", "count", "interval (ms)", "good"]
    every = shown({"note": "x", "skipped": 1, "drop": 0.0}, {})
    assert every.header[-3:] == ["note", "skipped", "drop"]
    assert every.rows[0][-3:] == ["x", "1", "+0.00"]


def test_a_column_can_be_left_out():
    assert shown({"name": "a"}, without=("count", "low")).header == ["name", "good"]


def test_a_table_without_rows_has_its_header():
    table = shown()
    assert (table.header, table.rows) == (["name", "count", "interval (ms)", "good"], [])


def test_a_reason_has_one_number():
    notes = Footnotes()
    assert [notes.mark(reason) for reason in ("b", "a", "b", "[1] b")] == ["[1]", "[2]", "[1]", "[3]"]
    assert notes.lines() == ["[1] b", "[2] a", "[3] [1] b"]
