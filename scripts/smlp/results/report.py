"""Tables as CSV, Markdown and one HTML page."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from .reader import PERCENT, Record
from .tables import FLIP_COLUMNS, Table, make_provenance_tables

_FLIPS_SHOWN = 200  # in the report; flips.csv holds all

_HOW_TO_READ = {
    "top-1, top-5": "share of images whose label is the engine's first guess, or among its first five.",
    "95% interval": "Wilson's interval of top-1: where it would lie on other images of the same kind.",
    "agreement": "share of images with the same top-1 class as the reference, right or wrong.",
    "flips": "images that the reference got right and the engine wrong, and the reverse.",
    "McNemar p": "chance of flips at least as one-sided as these if engine and reference were equally good (exact).",
    "drop": "top-1 of the reference minus that of the engine on the same images, in points, with Tango's 95% interval "
    "for paired proportions. Positive = the engine is worse.",
    "verdict": "pass: the whole interval of the drop lies below the margin; fail: it lies above; undecided: too few "
    "images to tell.",
    "published → reference": "published top-1 minus that of the reference: the share of weights and preprocessing. The "
    "drop above is the share of conversion.",
    "throughput": "1000 · batch size / mean compute milliseconds, as ais_bench and the model-zoo guide define it. "
    "Transfers are not counted; end-to-end images/s counts them.",
    "throughput way": "several requests at once over the runtime's streams, each on a batch of its own; images/s by "
    "the wall clock, latency that of a request among the others. Elsewhere one request runs at a time.",
    "best row": "the highest images/s of a device and precision among all engines, batch sizes and ways whose verdict "
    "at that batch size is pass, or which are the reference. A faster one that its verdict kept out is named. Within a "
    "limit: whose latency of a batch, at the highest percentile that its runs support, is at most that too.",
    "ratio to best": "images/s over the best that the reference reached at any batch size; not of an emulator.",
    "failed": "could not be compiled, run or measured here; the note with its number says why. The rest went on.",
    "best": "each column's own optimum, its batch size in brackets.",
    "published columns": "figures that others measured on other machines with other software, as quoted.",
    "percentiles": "latency of a whole batch; only where the runs support one: p90 from 30, p95 from 60, p99 from 300.",
    "*": "unstable: latency had not settled, or drifted while measuring. Measure again on an idle machine.",
    "(emulated)": "an emulator stood in for the device: it says nothing about the device's speed.",
}


def csv_text(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """CSV with a header, units in its names. Unknown values are empty, what is no plain value is JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"{column}_percent" if column in PERCENT else column for column in columns])
    for row in rows:
        writer.writerow([_csv_cell(row[column]) for column in columns])
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"  # 81.25, not 81.25000000000001
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def markdown(tables: Sequence[Table]) -> str:
    """Tables as aligned Markdown, readable as plain text too. (pandas' writer needs a package named as this file.)"""
    parts = [] if tables else ["nothing was measured\n"]
    for table in tables:
        cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in [table.header, *table.rows]]
        widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(table.header))]

        def line(row: list[str], widths: list[int] = widths, left: int = table.left) -> str:
            aligned = (
                cell.ljust(width) if column < left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            return "| " + " | ".join(aligned) + " |"

        rule = ["-" * width if column < table.left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
        lines = [f"## {table.title}", "", line(cells[0]), line(rule), *map(line, cells[1:]), ""]
        lines += [f"- {' '.join(note.split())}" for note in table.notes] + [""] * bool(table.notes)
        parts.append("\n".join(lines))
    return "\n".join(parts)


def html_table(table: Table) -> str:
    """A table as HTML, with its notes; every cell escaped."""

    def row(tag: str, cells: Iterable[str]) -> str:
        marked = (
            f'<{tag} class="{"text" if column < table.left else "number"}">{html.escape(cell)}</{tag}>'
            for column, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return "\n".join(
        [
            f"<h3>{html.escape(table.title)}</h3>",
            f'<div class="wide"><table><thead>{row("th", table.header)}</thead><tbody>',
            *(row("td", cells) for cells in table.rows),
            "</tbody></table></div>",
            f'<ul class="notes">{notes}</ul>' if notes else "",
        ]
    )


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; margin: 2rem auto; max-width: 100rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; } h3 { margin: 1.4rem 0 .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; }
th, td { padding: .28rem .45rem; border-bottom: 1px solid #e2e2e2; vertical-align: top; }
th { vertical-align: bottom; } td { white-space: nowrap; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; } /* in sight where a table scrolls */
th { border-bottom: 2px solid #888; } .number { text-align: right; font-variant-numeric: tabular-nums; }
.text { text-align: left; } .notes, dl { font-size: .87rem; color: #444; max-width: 76rem; }
svg { max-width: min(100%, 76rem); height: auto; } dt { font-weight: 600; } dd { margin: 0 0 .4rem 1.5rem; }
"""


def make_report(
    tables: Sequence[Table],
    plots: dict[str, str],
    detail: Table,
    flips: Sequence[dict[str, Any]],
    records: Sequence[Record],
) -> str:
    """One HTML file with everything, which loads nothing from elsewhere."""
    shown = [[str(flip[column]) for column in FLIP_COLUMNS] for flip in flips[:_FLIPS_SHOWN]]
    more = [f"{len(flips) - len(shown)} more are in flips.csv."] if len(flips) > len(shown) else []
    flip_table = Table(
        f"Changed predictions: {len(flips)} images whose top-1 class is not that of the reference",
        list(FLIP_COLUMNS),
        shown,
        more,
        left=len(FLIP_COLUMNS),
    )
    legend = "".join(f"<dt>{html.escape(term)}</dt><dd>{html.escape(what)}</dd>" for term, what in _HOW_TO_READ.items())
    body = [
        "<h1>Accuracy and throughput</h1>",
        "<h2>Tables</h2>",
        *map(html_table, tables),
        "<h2>Plots</h2>",
        *(_inline(name, svg) for name, svg in plots.items()),
        "<h2>Details</h2>",
        html_table(detail),
        html_table(flip_table),
        "<h2>Provenance</h2>",
        *map(html_table, make_provenance_tables(records)),
        "<h2>How to read this</h2>",
        f"<dl>{legend}</dl>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Accuracy and throughput</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def _inline(name: str, svg: str) -> str:
    """An SVG file as part of a page: without its XML header, its ids told apart from another plot's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return f'<h3>{name.capitalize()} against batch size</h3>\n<div class="wide">{svg}</div>'
