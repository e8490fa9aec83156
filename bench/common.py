"""What every benchmark shares: the machine it ran on, a table on the screen, a CSV beside it."""

from __future__ import annotations

import csv
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "scripts"))

from smlp import cli, files, provenance  # noqa: E402

RESULTS = REPOSITORY / "bench" / "results"


def load_command(name: str) -> ModuleType:
    """scripts/<name>.py as a module; not by import, since names such as `tabulate` belong to packages too."""
    spec = importlib.util.spec_from_file_location(f"command_{name}", REPOSITORY / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def machine() -> dict[str, Any]:
    """Columns that say where and when a figure was taken, and how busy the machine was just before."""
    return {
        "cpu_model": provenance.cpu_model(),
        "cpu_count": cli.default_workers(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
    }


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same keys as CSV, whole or not at all."""
    with files.whole_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with the same keys as a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
