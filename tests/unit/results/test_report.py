"""CSV, Parquet, Markdown and the page."""

import csv
import html.parser
import io
import json
import re
import subprocess
import sys

import pandas
import pyarrow.parquet
import pytest
from result_files import COMPARED, SCRIPT, Sweep, accuracy, throughput

from smlp.results import columns, reader, report
from smlp.results.accuracy import make_flips
from smlp.results.throughput import make_detail_table, make_throughput
from smlp.results.throughput_columns import THROUGHPUT


class Outline(html.parser.HTMLParser):
    """What a page holds: its tags balance, its ids, and everything that it would load."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.loads, self.tags = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.loads += [
            value for name, value in attributes.items() if name in ("src", "href", "xlink:href") and value[:1] != "#"
        ]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_whole_page(made):
    text = made.text("report.html")
    page = Outline()
    page.feed(text)
    assert page.open == []
    assert page.loads == [] and page.tags.count("script") == 1  # its own
    assert "default-src 'none'" in text
    assert len(page.ids) == len(set(page.ids))  # two plots in one page, each refers to its own parts
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(page.ids)
    assert page.tags.count("svg") == 3
    assert "a/&lt;b&gt;.JPEG" in text and "a/<b>" not in text
    for wanted in ("Testor 9000", "3.11.7", "failed [1]", "McNemar", "298.7 (bs 8)", "Wilson", "0.25"):
        assert wanted in text


def test_the_report_shows_some_flips_and_says_where_the_others_are(tmp_path):
    flips = [{**COMPARED["flips"][0], "image": f"{number}.JPEG"} for number in range(250)]
    sweep = Sweep(tmp_path, [accuracy("openvino", "fp32", 1, **{**COMPARED, "flips": flips})], [])
    found = reader.read_accuracy(sweep.files["accuracy"])
    listed = make_flips(found)
    assert len(listed) == 250
    text = report.make_report([], [], {}, [make_detail_table(make_throughput([]))], listed, found)
    assert "50 more are in flips.csv" in text and ">199.JPEG<" in text and ">200.JPEG<" not in text


def test_names_that_plots_and_tables_could_take_for_markup(tmp_path):
    contents = [throughput("back|end", "$fp_32$", 1, 4.0, model="<i>&$model$")]
    made = Sweep(tmp_path, [accuracy("back|end", "$fp_32$", 1, model="<i>&$model$")], contents).make()
    assert "back\\|end" in made.text("accuracy.md")
    assert "&lt;i&gt;&amp;$model$" in made.text("report.html")


def test_the_report_and_the_screen_show_the_decision(decided):
    text = decided.text("report.html")
    for wanted in ("Best row: smlpnet_tiny", "Best row within 500 ms: smlpnet_tiny", "would be faster"):
        assert wanted in text
    for term in ("best row", "throughput way", "failed", "ratio to best"):
        assert f"<dt>{term}</dt>" in text
    done = subprocess.run([sys.executable, SCRIPT, *decided.flags("--print")], capture_output=True, check=True)
    assert b"## Best row: smlpnet_tiny" in done.stdout and b"within 500 ms" not in done.stdout


@pytest.mark.parametrize("name", ["accuracy", "throughput", "decision", "flips"])
def test_parquet_has_the_columns_and_rows_of_csv(decided, name):
    stored = pandas.read_parquet(decided.output / f"{name}.parquet")
    rows = decided.rows(f"{name}.csv")
    assert list(stored.columns) == decided.text(f"{name}.csv").splitlines()[0].split(",")
    assert len(stored) == len(rows) > 0
    for column in stored.columns:
        absent = [row[column] == "" for row in rows]
        assert stored[column].isna().tolist() == absent or column == "variant"
    assert set(stored["variant"].dropna()) <= {""}


def test_parquet_is_typed_and_states_units(decided):
    stored = pandas.read_parquet(decided.output / "throughput.parquet")
    kinds = {"batch": "Int64", "stable": "boolean", "images_per_s": "Float64", "streams": "Int64", "model": "string"}
    assert {column: str(stored[column].dtype) for column in kinds} == kinds
    assert stored["images_per_s"].tolist() == [10, 20, 15, 30, 50, 80, 40, 44]
    schema = pyarrow.parquet.read_schema(decided.output / "throughput.parquet")
    assert schema.field("images_per_s").metadata == {b"unit": b"images/s"}
    assert json.loads(stored["versions"][0]) == {"python": "3.11.7", "numpy": "2.4.0", "pytorch": "1.2.3"}


def test_csv_has_the_plain_spelling_of_every_kind():
    facts = [
        {"model": 'a "b", c\nd', "top1": 81.25000000000001, "images": 10**12, "emulated": True, "drop_points": 0.0},
        {"mcnemar_p": 1e-20, "emulated": False},
    ]
    header, text = report.csv_text(columns.ACCURACY, columns.frame(columns.ACCURACY, facts)).split("\n", 1)
    rows = list(csv.DictReader(io.StringIO(header + "\n" + text)))
    assert [row["model"] for row in rows] == ['a "b", c\nd', ""]
    assert (rows[0]["top1_percent"], rows[0]["images"], rows[0]["drop_points"]) == ("81.25", "1000000000000", "0")
    assert [row["emulated"] for row in rows] == ["true", "false"] and rows[1]["mcnemar_p"] == "1e-20"


def test_mappings_in_csv_have_sorted_keys():
    table = columns.frame(THROUGHPUT, [{"versions": {"b": "1", "a": None}}])
    assert report.csv_text(THROUGHPUT, table).endswith(',"{""a"": null, ""b"": ""1""}"\n')
