"""Show Markdown of the product, such as the answer and the tables of a sweep, so that it fits the terminal.

A table that is too wide is turned, if its first column are batch sizes, or else shown in parts that repeat the names of
its rows; no row is ever wrapped. In a pipe the text is plain, for 100 columns, and has no control codes; NO_COLOR is
respected.

  scripts/show.py results/tables/answer.md results/tables/accuracy.md results/tables/throughput.md
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smlp.core import cli
from smlp.core.cli import UserError

_PIPE_COLUMNS = 100
_GAP = 2
_STYLES = (
    (r"pass\b", "bold green"),
    (r"(fail|failed|slower)\b", "bold red"),
    (r"(undecided|none)\b", "bold yellow"),
    (r"reference\b|–$", "dim"),
    (r"\S*\d[*†‡~]", "yellow"),
)

Cells = list[list[str]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="Markdown files to show, in this order")
    flags = parser.parse_args(argv)
    sys.stdout.reconfigure(errors="replace")  # a terminal without → is no reason to fail
    console = Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS, highlight=False, emoji=False)
    for path in flags.files:
        show(_read(path), console)
    return 0


def _read(path: Path) -> str:
    try:
        # what reasons quote may hold codes that a terminal would obey
        return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); a Markdown file of tabulate.py was expected") from None


def show(text: str, console: Console) -> None:
    """Print Markdown of the form that the product writes: headings, paragraphs, lists, commands and tables."""
    for is_table, lines in groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        if is_table:
            for place, part in enumerate(parts(_cells(list(lines)), console.width)):
                console.print(*[""] * bool(place), _table(part), sep="\n")
            continue
        for line in lines:
            if heading := re.match(r"#+ (.*)", line):
                console.print(Text(heading[1], style="bold underline"), soft_wrap=True)
            elif command := re.match(r"  `(.*)`$", line):
                # the terminal breaks it, so that it can be copied
                console.print(Text(f"    {command[1]}", style="cyan"), soft_wrap=True)
            elif line.startswith("- "):
                console.print(Text(_wrapped(line[2:], console.width, "  ")))
            else:
                bold = re.fullmatch(r"\*\*(.*)\*\*", line)
                text = _wrapped(bold[1] if bold else line, console.width)
                console.print(Text(text, style="bold" if bold else ""))
    console.print()


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _cells(lines: Sequence[str]) -> Cells:
    """Header and rows of a Markdown table."""
    split = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [split[0], *split[2:]]


def parts(cells: Cells, width: int) -> list[Cells]:
    """Tables of at most `width` columns that together say what the table says; as few as can be."""
    ways = [list(_split(cells, width))]
    if cells[0][0] == "batch size":
        turned = [list(row) for row in zip(*cells)]
        turned[0][0] = "batch size:"
        ways.append(list(_split(turned, width)))
    return min(ways, key=len)


def _split(cells: Cells, width: int) -> Iterator[Cells]:
    # what names a row: all that stands before its first figure
    names = max(1, sum(1 for _ in takewhile(lambda column: not _has_figures(column), zip(*cells[1:]))))
    while names > 1 and _width([row[:names] for row in cells]) > width // 2:
        names -= 1
    first = 0
    while first < len(cells[0]):
        place = max(first, names) + 1
        own = names if first else 0
        while place < len(cells[0]) and _width([row[:own] + row[first : place + 1] for row in cells]) <= width:
            place += 1
        yield [row[:own] + row[first:place] for row in cells]
        first = place


def _has_figures(column: Sequence[str]) -> bool:
    return any(re.match(r"[+-]?\d+\.", cell) for cell in column)


def _width(cells: Cells) -> int:
    return sum(max(map(cell_len, column)) for column in zip(*cells)) + _GAP * (len(cells[0]) - 1)


def _table(cells: Cells) -> Table:
    gap = (0, _GAP - 1, 0, 0)  # and one of the box
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=gap, header_style="bold")
    columns = list(zip(*cells[1:]))
    for name, column in zip(cells[0], columns or [()] * len(cells[0])):
        is_text = not _has_figures(column) and not all(cell.isdigit() or cell == "best" for cell in column)
        table.add_column(Text(name), justify="left" if is_text else "right", no_wrap=True, overflow="ellipsis")
    for row in cells[1:]:
        table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    return table


def _style(cell: str) -> str:
    return next((style for pattern, style in _STYLES if re.match(pattern, cell)), "")


if __name__ == "__main__":
    cli.run(main)
