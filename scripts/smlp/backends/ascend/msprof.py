"""msprof's op summary: time per operator of an .om, and the core that ran it.

Written from Huawei's documentation of msprof (CANN 5 to 8); not run on an NPU. NumPy is all that this module needs,
under Python 3.9.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...core.cli import UserError
from .._profile import Operation, Profiler, computing, converting

_MOVES = re.compile(
    r"Cast|Trans(Data|pose)\w*|AscendQuant|AscendDequant|Format\w*|Reshape|Identity|MemcpyAsync|\w*Copy"
)
# Tasks that compute nothing: they wait, or tell that something is over.
_NO_OPERATORS = ("EVENT_RECORD", "EVENT_WAIT", "NOTIFY_RECORD", "NOTIFY_WAIT", "PROFILER_TRACE_EX", "MODEL_MAINTAINCE")
_NAMES = ("Op Name", "OP Type", "Task Type", "Task Duration(us)")
_TIMEOUT_S = 1800

# What msprof watches: as many runs of the engine, without anything else of this project around them.
_RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy
from pathlib import Path
from smlp.backends.ascend import session
images = numpy.load(sys.argv[4])
with session.open_engine(Path(sys.argv[2]), device=sys.argv[3], threads=None, facts={}) as engine:
    for _ in range(int(sys.argv[5])):
        print("compute_ms", *engine.run(images)[1].compute_ms, flush=True)
"""


class MsprofProfiler(Profiler):
    """Runs of the engine in processes of their own, under msprof."""

    def __init__(self, path: Path, device: str) -> None:
        tool = shutil.which("msprof")
        if tool is None:
            raise UserError(
                "msprof is not on the PATH; it comes with the CANN toolkit: source its set_env.sh, or name that file "
                "in backends.ascend.set_env"
            )
        self._tool, self._path, self._device = tool, path, device
        self._scratch = tempfile.TemporaryDirectory(prefix="smlp-msprof-")
        self._rows: list[Mapping[str, Any]] = []
        self._runs = 0

    def run(self, images: np.ndarray, times: int) -> list[float]:
        folder = Path(tempfile.mkdtemp(dir=self._scratch.name))
        np.save(folder / "images.npy", images)
        (folder / "run.py").write_text(_RUN, encoding="utf-8")
        scripts = Path(__file__).resolve().parents[3]
        words = [sys.executable, folder / "run.py", scripts, self._path, self._device, folder / "images.npy", times]
        if any(re.search(r"\s", str(word)) for word in words):
            raise UserError(f"{self._path}: msprof takes no paths with blanks; move the engine, or set TMPDIR")
        command = [self._tool, f"--application={' '.join(map(str, words))}", f"--output={folder / 'profile'}"]
        try:
            done = subprocess.run(
                [*command, "--task-time=on", "--aicpu=on"], capture_output=True, text=True, timeout=_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"msprof did not end within {_TIMEOUT_S} s; run it by hand: {' '.join(command)}") from None
        found = sorted((folder / "profile").rglob("op_summary*.csv"))
        if done.returncode or not found:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it says nothing"]
            raise UserError(f"msprof ended with {done.returncode} and no op summary: {last[0]}")
        self._rows += [row for file in found for row in _read(file)]
        self._runs += times
        return [float(word) for line in re.findall(r"^compute_ms (.*)$", done.stdout, re.M) for word in line.split()]

    def begin(self) -> None:
        self._rows, self._runs = [], 0

    def end(self) -> list[Operation]:
        self._scratch.cleanup()
        return parse_op_summary(self._rows, self._runs)


def _read(path: Path) -> list[Mapping[str, Any]]:
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as stream:
        return list(csv.DictReader(stream))


def parse_op_summary(rows: Iterable[Mapping[str, Any]], runs: int) -> list[Operation]:
    """Operators in msprof's op_summary_*.csv, the mean over `runs` runs, in their order.

    A task that the AI CPU ran counts as elsewhere: the AI core was asked for. Raises UserError for a file that lacks
    one of the columns that every version has.
    """
    total_ms: dict[str, float] = {}
    about: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        lacking = [name for name in _NAMES if name not in row]
        if lacking:
            raise UserError(f"msprof's op summary has no column {lacking[0]!r}; run msprof by hand and see")
        if row["Task Type"] in _NO_OPERATORS or row["Op Name"] in ("", "N/A"):
            continue
        try:
            ms = float(row["Task Duration(us)"]) / 1000
        except (TypeError, ValueError):
            raise UserError(
                f"msprof's op summary: the duration of {row['Op Name']} is {row['Task Duration(us)']!r}, no number"
            ) from None
        total_ms[row["Op Name"]] = total_ms.get(row["Op Name"], 0.0) + ms
        about[row["Op Name"]] = row
    return [_operation(name, about[name], ms / max(1, runs)) for name, ms in total_ms.items()]


def _operation(name: str, row: Mapping[str, Any], ms: float) -> Operation:
    kind, unit = row["OP Type"], row["Task Type"]
    moves = _MOVES.fullmatch(kind) is not None
    inputs, outputs = (_types(row.get(f"{side} Data Types")) for side in ("Input", "Output"))
    precision = (converting if moves else computing)(inputs, outputs)
    return Operation(name, kind, precision, unit, ms, moves=moves, elsewhere="CPU" in unit.upper())


def _types(listed: str | None) -> list[str]:
    """Types of tensors, from "FLOAT16;FLOAT16" and "DT_FLOAT16;DT_FLOAT"."""
    return [word for word in (listed or "").strip('"').split(";") if word and word not in ("N/A", "UNDEFINED")]
