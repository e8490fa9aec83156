"""npu-smi: every chip of this host and its processes.

The parsers take text and touch nothing; they split at `|` and blanks, because column widths change between versions.
Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from ...core.cli import UserError

_DRIVER = "Ascend driver and firmware (npu-smi comes with them)"
_PLACES = ("/usr/local/bin", "/usr/local/sbin")


class Process(NamedTuple):
    """A process on a chip; its name is empty if npu-smi runs in a container."""

    pid: int
    name: str
    memory_mb: int


class Chip(NamedTuple):
    """One chip. npu_id and chip_id are npu-smi's names for it, device is aclruntime's: they differ.

    None: npu-smi does not tell. processes: None if it lists none at all, which is not the same as none running.
    """

    npu_id: int
    chip_id: int
    device: int
    name: str
    health: str
    power_w: float | None
    temperature_c: float | None
    aicore_percent: float | None
    memory_used_mb: int | None
    memory_total_mb: int | None
    processes: list[Process] | None
    clock_mhz: float | None = None


class Table(NamedTuple):
    """`npu-smi info`."""

    tool_version: str | None
    driver_version: str | None
    chips: list[Chip]


def parse_table(text: str, mapping: Mapping[tuple[int, int], int] | None = None) -> Table:
    """The chips in the output of `npu-smi info`, of either family of tables (with HBM and without).

    mapping: (NPU id, chip id) -> device, for the tables that have no column Device. Without it chips are counted.
    """
    header = re.search(r"npu-smi\s+(\S+)\s+Version:\s+(\S+)", text)
    rows = [
        [cell.split() for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.lstrip().startswith("|")
    ]
    has_device = any(row[0] == ["Chip", "Device"] for row in rows)
    processes, told = _processes(rows, text)
    found: list[Chip] = []
    card: list[list[str]] = []
    for row in rows:
        if len(row) != 3 or not (row[0] and row[0][0].isdigit() and row[1] and row[2]):
            continue
        # rows come in pairs; the second has a bus address in the place of the first one's health word
        if ":" not in "".join(row[1]) and row[1] != ["NA"]:
            card = row if len(row[2]) > 1 else []
        elif card:
            npu_id, chip_id = int(card[0][0]), int(row[0][0])
            device = (mapping or {}).get((npu_id, chip_id), len(found))
            used, total = (_pairs(row[2][1:]) or [(None, None)])[-1]  # the last pair is HBM if there is any
            found.append(
                Chip(
                    npu_id,
                    chip_id,
                    device=int(row[0][1]) if has_device else device,
                    name=" ".join(card[0][1:]),
                    health=" ".join(card[1]),
                    power_w=_number(card[2][0]),
                    temperature_c=_number(card[2][1]),
                    aicore_percent=_number(row[2][0]),
                    memory_used_mb=used,
                    memory_total_mb=total,
                    processes=processes.get((npu_id, chip_id), []) if npu_id in told else None,
                )
            )
    return Table(header and header[1], header and header[2], found)


def _processes(rows: list[list[list[str]]], text: str) -> tuple[dict[tuple[int, int], list[Process]], set[int]]:
    """Processes by (NPU id, chip id), and the NPUs that the table of processes says anything about."""
    found: dict[tuple[int, int], list[Process]] = {}
    for row in rows:
        if len(row) == 4 and len(row[0]) == 2 and row[0][0].isdigit() and row[1][:1] and row[1][0].isdigit():
            process = Process(int(row[1][0]), " ".join(row[2]), int(row[3][0]))
            found.setdefault((int(row[0][0]), int(row[0][1])), []).append(process)
    idle = {int(npu) for npu in re.findall(r"No running processes found in NPU (\d+)\b", text)}
    return found, idle | {npu for npu, _ in found}


def _pairs(words: list[str]) -> list[tuple[int | None, int | None]]:
    """ "60478/ 65536" and "0 / 0" as (used, total)."""
    parts = " ".join(words).replace("/", " ").split()
    numbers = [int(part) if part.isdigit() else None for part in parts]
    return list(zip(numbers[::2], numbers[1::2]))


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else None


def parse_fields(text: str) -> dict[str, str]:
    """`label : value` lines of `npu-smi info -t …`; the last one if a label comes several times."""
    pairs = (line.strip().partition(":") for line in text.splitlines() if ":" in line)
    return {label.strip(): value.strip() for label, _, value in pairs}


def parse_common(text: str) -> dict[str, dict[str, str]]:
    """The lines of `npu-smi info -t common`, by the chip id that stands above them; those of the controller by mcu."""
    found: dict[str, dict[str, str]] = {}
    chip = ""
    for line in text.splitlines():
        label, colon, value = (part.strip() for part in line.partition(":"))
        if label == "Chip ID" or (label == "Chip Name" and value.lower() == "mcu"):
            chip = value.lower()
        elif colon and chip:
            found.setdefault(chip, {})[label] = value
    return found


def parse_mapping(text: str) -> dict[tuple[int, int], int]:
    """(NPU id, chip id) -> device, from `npu-smi info -m`, for tables without a column Device."""
    rows = (line.split() for line in text.splitlines())
    return {
        (int(row[0]), int(row[1])): int(row[2])
        for row in rows
        if len(row) > 3 and all(word.isdigit() for word in row[:3])
    }


def parse_proc_mem(text: str) -> list[Process] | None:
    """The processes in `npu-smi info -t proc-mem`; None if it does not tell."""
    found = re.findall(r"Process id:\s*(\d+)\s+Process name:\s*(.*?)\s*Process memory\(MB\):\s*(\d+)", text)
    if not found and "No process in device" not in text:
        return None
    return [Process(int(pid), name, int(memory)) for pid, name, memory in found]


# --- running it


def program() -> str | None:
    """npu-smi on PATH, or in the folders that drivers put it into."""
    return shutil.which("npu-smi") or shutil.which("npu-smi", path=os.pathsep.join(_PLACES))


def run(*words: str) -> str:
    """Output of npu-smi; it writes errors to stdout too, and its exit status alone tells them apart."""
    tool = program()
    if tool is None:
        raise UserError(f"npu-smi is not there: install {_DRIVER}, or put its folder on PATH")
    try:
        done = subprocess.run([tool, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{tool} {' '.join(words)}: {error}; check the driver with `npu-smi info`") from None
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        what = " ".join(text.split()[:40])
        if "-8020" in text:
            fix = "another container holds the device: stop it, or choose another device"
        else:
            fix = "check that the driver is installed and loaded, and that this user may use it"
        raise UserError(f"npu-smi {' '.join(words)} failed with status {done.returncode} ({what}); {fix}")
    return text


def table() -> Table:
    """Every chip of this host. Raises UserError if npu-smi is missing or fails."""
    text = run("info")
    mapping = None if re.search(r"\|\s*Chip\s+Device\b", text) else parse_mapping(run("info", "-m"))
    return parse_table(text, mapping)


def chip(device: int) -> Chip:
    """The chip that aclruntime calls `device`, with all that npu-smi's other commands add to the table."""
    device = physical(device)
    chips = table().chips
    for found in chips:
        if found.device == device:
            return _complete(found)
    there = ", ".join(f"device {found.device} (NPU {found.npu_id})" for found in chips) or "none"
    raise UserError(f"device {device}: this host has no such NPU; it has {there}. An NPU id is not a device id")


def physical(device: int) -> int:
    """The device id on this host of what this process calls `device`: ASCEND_RT_VISIBLE_DEVICES renumbers them."""
    visible = [word for word in os.environ.get("ASCEND_RT_VISIBLE_DEVICES", "").split(",") if word.strip().isdigit()]
    return int(visible[device]) if device < len(visible) else device


def _complete(found: Chip) -> Chip:
    which = ("-i", str(found.npu_id))
    common = parse_common(_ask("-t", "common", *which))
    clock = common.get(str(found.chip_id), {}).get("Aicore curFreq(MHZ)", "")
    found = found._replace(clock_mhz=_number(clock))
    if found.power_w is None:  # new tools print NA for a 310P, whose power only its controller knows
        power = common.get("mcu", {}).get("NPU Real-time Power(W)", "")
        if not power:
            fields = parse_fields(_ask("-t", "power", *which))
            power = fields.get("NPU Real-time Power(W)") or fields.get("Power Dissipation(W)") or ""
        found = found._replace(power_w=_number(power))
    if found.processes is None:
        answer = _ask("-t", "proc-mem", *which, "-c", str(found.chip_id))
        found = found._replace(processes=parse_proc_mem(answer))
    return found


def _ask(*words: str) -> str:
    """An answer of npu-smi that not every chip and version gives; nothing then."""
    try:
        return run("info", *words)
    except UserError:
        return ""


def soc_version() -> str:
    """What atc calls this host's chips. Raises UserError if there is none, or several kinds."""
    kinds = sorted({_soc_version(found) for found in table().chips})
    if len(kinds) != 1:
        raise UserError(
            f"this host has {' and '.join(kinds) or 'no NPU'}; which chip is the engine for? Set soc_version, for "
            "example to Ascend310P3"
        )
    return kinds[0]


def _soc_version(found: Chip) -> str:
    if not found.name.startswith("Ascend"):
        return f"Ascend{found.name}"
    fields = parse_fields(_ask("-t", "board", "-i", str(found.npu_id), "-c", str(found.chip_id)))
    if "NPU Name" not in fields:  # Atlas A3 and later: <chip name>_<NPU name>
        raise UserError(f"npu-smi does not tell the NPU Name of a chip {found.name}; set soc_version")
    return f"{found.name}_{fields['NPU Name']}"
