"""Tables as CSV, Parquet and Markdown, and one HTML page of everything (resources/report.html.j2)."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import pandas
import pyarrow
import pyarrow.parquet
from markupsafe import Markup

from ..core import files
from .answer import Answer
from .cells import NONE, Table, legend, make_table, texts
from .columns import ACCURACY, DECISION, FLIPS, Column, unique
from .reader import Record
from .throughput_columns import THROUGHPUT

_TEMPLATES = Path(__file__).resolve().parents[3] / "resources"
_FLIPS_SHOWN = 200  # in the page; flips.csv holds all

_PLOTS = {
    "tradeoff": "Accuracy against speed",
    "throughput": "Throughput against batch size",
    "latency": "Latency against batch size",
    "sustained": "Sustained load: rate, temperature, clock and power over time",
    "roofline": "Roofline: how near each row comes to what its device allows",
}
# What the page explains beside the columns of the tables.
_OTHER_TERMS = {
    "best": "each column's own optimum, its batch size in brackets.",
    "published columns": "figures that others measured on other machines with other software, as quoted.",
}


class Section(NamedTuple):
    """A part of the page with a heading of its own. plots: SVG files by their heading."""

    title: str
    tables: Sequence[Table]
    plots: Mapping[str, str] = {}


def csv_text(columns: Sequence[Column], table: pandas.DataFrame) -> str:
    """CSV with a header, units in its names. Unknown values are empty, mappings are JSON with sorted keys."""
    as_text = {
        "Float64": lambda value: f"{value:.10g}",  # 81.25, not 81.25000000000001
        "boolean": lambda value: "true" if value else "false",
    }
    plain = _for_files(columns, table).astype(object)
    for column in columns:
        if column.dtype in as_text:
            plain[column.title] = plain[column.title].map(as_text[column.dtype], na_action="ignore")
    return plain.to_csv(index=False, lineterminator="\n")


def parquet_bytes(columns: Sequence[Column], table: pandas.DataFrame) -> bytes:
    """The same as Parquet, with the columns' dtypes; their units are metadata. The same table gives the same bytes."""
    content = pyarrow.Table.from_pandas(_for_files(columns, table), preserve_index=False)
    fields = [content.field(column.title).with_metadata({"unit": column.unit}) for column in columns]
    target = io.BytesIO()
    pyarrow.parquet.write_table(content.cast(pyarrow.schema(fields, content.schema.metadata)), target)
    return target.getvalue()


def _for_files(columns: Sequence[Column], table: pandas.DataFrame) -> pandas.DataFrame:
    named = table.rename(columns={column.name: column.title for column in columns})
    for column in columns:
        if column.dtype == "json":
            named[column.title] = named[column.title].map(
                lambda text: json.dumps(json.loads(text), sort_keys=True), na_action="ignore"
            )
    return named


def markdown(tables: Sequence[Table]) -> str:
    """Tables as aligned Markdown, readable as plain text too. (pandas' writer does not escape a | in a name.)"""
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


def make_report(
    answers: Sequence[Answer],
    tables: Sequence[Table],
    plots: Mapping[str, str],
    details: Sequence[Table],
    flips: pandas.DataFrame,
    records: Sequence[Record],
    sections: Sequence[Section] = (),
) -> str:
    """One HTML file with everything, which loads nothing from elsewhere. plots: SVG files by their name.

    sections: what is shown after the plots.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.j2").render(
        answers=answers,
        tables=tables,
        plots={_PLOTS[name]: _inline(name, svg) for name, svg in plots.items()},
        sections=[_with_plots(section, number) for number, section in enumerate(sections)],
        details=[*details, make_flip_table(flips)],
        provenance=make_provenance_tables(records),
        legend={**legend(ACCURACY, THROUGHPUT, DECISION), **_OTHER_TERMS},
    )


def _with_plots(section: Section, number: int) -> Section:
    """A section whose plots can stand in one page with all others."""
    plots = {name: _inline(f"s{number}p{place}", svg) for place, (name, svg) in enumerate(section.plots.items())}
    return section._replace(plots=plots)


def _inline(name: str, svg: str) -> Markup:
    """An SVG file as part of a page: without its XML header, its ids told apart from another plot's."""
    return Markup(re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg[svg.index("<svg") :]))


def make_flip_table(flips: pandas.DataFrame) -> Table:
    """The first changed predictions, for the page."""
    shown = texts(FLIPS, flips.head(_FLIPS_SHOWN))
    more = [f"{len(flips) - len(shown)} more are in flips.csv."] if len(flips) > len(shown) else []
    title = f"Changed predictions: {len(flips)} images whose top-1 class is not that of the reference"
    return make_table(title, FLIPS, shown, more)._replace(left=len(shown.columns))


def make_provenance_tables(records: Sequence[Record]) -> list[Table]:
    """Machines, versions and source files of the figures."""
    hosts: dict[tuple[str, ...], None] = {}
    versions: dict[str, list[str]] = {}
    sources = []
    for record in records:
        host = record.facts.get("host") or {}
        if host:
            keys = ("cpu_model", "cpu_count", "machine", "system")
            hosts[tuple(str(host.get(key, NONE)) for key in keys)] = None
        for package, version in (record.facts.get("versions") or {}).items():
            versions.setdefault(package, []).append(str(version))
        batch = NONE if record.batch is None else str(record.batch)
        line = [str(record.path), record.model, str(record.target), batch]
        line += [record.facts.get("device") or NONE, record.facts.get("started_at") or NONE]
        sources.append([*line, files.digest(record.path)])
    version_rows = [[package, ", ".join(unique(found))] for package, found in sorted(versions.items())]
    host_header = ["processor", "processors", "machine", "system"]
    source_header = ["file", "model", "target", "batch size", "device", "started at", "sha256"]
    tables = [
        Table("Machines", host_header, [list(host) for host in hosts], [], left=4),
        Table("Versions", ["package", "version"], version_rows, [], left=2),
        Table("Files", source_header, sources, [], left=7),
    ]
    return [table for table in tables if table.rows]
