"""What every benchmark shares: the machine it ran on, a table on the screen, a CSV beside it."""

from __future__ import annotations

import csv
import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "scripts"))

from smlp.core import cli, files, provenance  # noqa: E402

RESULTS = REPOSITORY / "bench" / "results"


def copy_product(folder: Path) -> None:
    """What a sweep needs of this project, but for its settings; what stands in `folder` already is overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Snakefile", "envs", "profiles", "resources", "rules", "scripts"):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)


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
        "cpu_features": " ".join(provenance.cpu_features()),
        "cpu_count": cli.default_workers(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
    }


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; a cell whose row lacks its column stays empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with files.whole_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def record(path: Path, row: Mapping[str, Any], key: Sequence[str]) -> None:
    """Add a row to a CSV; one that has the same values in the columns `key` is replaced."""
    rows: list[Mapping[str, Any]] = []
    if path.exists():
        with open(path, encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    write_csv(path, [*(old for old in rows if any(old[name] != str(row[name]) for name in key)), row])


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
