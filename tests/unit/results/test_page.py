"""The page in a real browser: it loads nothing, fits every width, and its tables sort, filter and copy."""

import json
import re
import shutil
import subprocess

import pytest
from result_files import DECIDED_ACCURACY, DECIDED_THROUGHPUT, Sweep, judged, throughput

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium here to open the page with")
# What happens in the page, told in its title; errors of the page itself come first.
PROBE = """<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
addEventListener("load", () => {
  const found = (() => { %s })();
  document.title = JSON.stringify({ errors, loaded: performance.getEntriesByType("resource").length, found });
});
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a sweep with failed and undecided rows and every kind of table, as text."""
    batches = (1, 2, 4, 8, 16, 32, 64)
    rates = [throughput("onnxruntime", "int8", batch, 90.0 + 3.1 * batch) for batch in batches]
    verdicts = [judged("onnxruntime", "int8", batch, "undecided", top1=80.0 + batch / 100) for batch in batches]
    root = tmp_path_factory.mktemp("page")
    return Sweep(root, [*DECIDED_ACCURACY, *verdicts], [*DECIDED_THROUGHPUT, *rates]).make().text("report.html")


def opened(page, folder, probe="return null", width=1400):
    """What the probe returns when the page was opened."""
    path = folder / "a page.html"
    path.write_text(page.replace("<style>", PROBE % probe + "<style>", 1), encoding="utf-8")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--window-size={max(width, 500)},900", "--dump-dom")
    done = subprocess.run([BROWSER, *flags, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    told = json.loads(re.search("<title>(.*?)</title>", done.stdout)[1].replace("&amp;", "&").replace("&lt;", "<"))
    assert told["errors"] == [] and told["loaded"] == 0
    return told["found"]


@pytest.mark.parametrize("width", [390, 768, 1400])
def test_it_fits_without_scrolling_sideways(page, tmp_path, width):
    if width < 500:  # narrower than the browser's windows get, so that the body is
        page = page.replace("(max-width: 640px)", "(min-width: 1px)").replace(
            "<body>", f'<body style="width: {width}px">'
        )
    probe = "const body = document.body; return [body.scrollWidth, body.clientWidth]"
    needed, given = opened(page, tmp_path, probe, width)
    assert needed <= given


def test_a_table_sorts_by_any_column_and_back(page, tmp_path):
    probe = """
      const table = document.querySelector("table"), found = [];
      const click = (name) => [...table.querySelectorAll("th button")].find((one) => one.textContent === name).click();
      for (const name of ["top-1 (%)", "top-1 (%)", "engine"]) {
        click(name);
        found.push([...table.tBodies[0].rows].map((row) => row.cells[name === "engine" ? 0 : 2].textContent));
      }
      return [found, table.querySelector("[aria-sort]").textContent];
    """
    (upwards, downwards, names), sorted_by = opened(page, tmp_path, probe)
    figures = [float(text.split()[0]) for text in upwards]
    assert figures == sorted(figures) and len(set(figures)) > 3
    assert [float(text.split()[0]) for text in downwards] == figures[::-1]
    assert names == sorted(names) and sorted_by == "engine"


def test_rows_filter_by_words_and_what_is_shown_is_copied(page, tmp_path):
    probe = """
      const box = document.querySelector("input"), table = document.querySelector("table");
      box.value = "OpenVINO fail";
      box.dispatchEvent(new Event("input"));
      return [box.getAttribute("aria-label"), markdown(table), csv(table)];
    """
    label, as_markdown, as_csv = opened(page, tmp_path, probe)
    assert label == "filter rows of Accuracy: smlpnet_tiny, 1,000 images"
    assert as_markdown.splitlines() == [
        "| engine | batch size | top-1 (%) | drop (points) | flips | verdict |",
        "| --- | --- | --: | --: | --: | --: |",
        "| openvino int8 | 8 | 81.70 (79.20 to 83.98) | +7.50 (-0.25 to +0.83) | 3 / 1 | fail |",
    ]
    assert as_csv.splitlines()[1] == "openvino int8,8,81.70 (79.20 to 83.98),+7.50 (-0.25 to +0.83),3 / 1,fail"


def test_every_table_has_buttons_that_say_what_they_copy(page, tmp_path):
    probe = """
      const labels = [...document.querySelectorAll(".tools button")].map((one) => one.getAttribute("aria-label"));
      const unnamed = document.querySelectorAll("[role=img]:not([aria-label])");
      return [labels, document.querySelectorAll("table").length, unnamed.length];
    """
    labels, tables, unnamed = opened(page, tmp_path, probe)
    assert len(labels) == len(set(labels)) == 2 * tables and unnamed == 0
    assert "copy as CSV: Accuracy: smlpnet_tiny, 1,000 images" in labels


def test_it_prints(page, tmp_path):
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    pdf = tmp_path / "page.pdf"
    flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--print-to-pdf={pdf}")
    subprocess.run([BROWSER, *flags, (tmp_path / "page.html").as_uri()], capture_output=True, timeout=120, check=True)
    assert pdf.read_bytes().startswith(b"%PDF")
