"""CSV, Parquet, Markdown and the page."""

import html.parser
import re
import subprocess
import sys

from result_files import COMPARED, SCRIPT, Sweep, accuracy, throughput

from smlp.results import reader, report
from smlp.results.accuracy import make_flips
from smlp.results.throughput import make_detail_table, make_throughput


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
    assert page.loads == [] and "script" not in page.tags
    assert len(page.ids) == len(set(page.ids))  # two plots in one page, each refers to its own parts
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(page.ids)
    assert page.tags.count("svg") == 2
    assert "a/&lt;b&gt;.JPEG" in text and "a/<b>" not in text
    for wanted in ("Testor 9000", "3.11.7", "failed [1]", "McNemar", "298.7 (bs 8)", "Wilson", "0.25"):
        assert wanted in text


def test_the_report_shows_some_flips_and_says_where_the_others_are(tmp_path):
    flips = [{**COMPARED["flips"][0], "image": f"{number}.JPEG"} for number in range(250)]
    sweep = Sweep(tmp_path, [accuracy("openvino", "fp32", 1, **{**COMPARED, "flips": flips})], [])
    found = reader.read_accuracy(sweep.files["accuracy"])
    listed = make_flips(found)
    assert len(listed) == 250
    text = report.make_report([], {}, make_detail_table(make_throughput([])), listed, found)
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
