"""What a host has for Ascend, for scripts/doctor.py: CANN, driver, firmware, every NPU, who imports aclruntime.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ...core.cli import UserError
from ..base import Finding
from . import atc, cann, npu_smi

_RUNTIME = (
    "import aclruntime, platform, importlib.metadata as m;"
    "v = {d.metadata['Name']: d.version for d in m.distributions()};"
    "print('emulated' if hasattr(aclruntime, 'SMLP_EMULATED') else v.get('aclruntime', 'unknown version'),"
    "'for Python', platform.python_version())"
)


def examine(root: Path, set_env: str | None, python: str | None) -> tuple[list[Finding], dict[str, bool]]:
    """Everything that this host has for Ascend, and what can be done with it: compile, run.

    root: where driver and CANN are; set_env: the set_env.sh that was sourced; python: the one that has aclruntime.
    """
    found = [*look_at_cann(root, set_env, python), *look_at_npus(root), *look_at_runtime(python)]
    missing = {finding.what for finding in found if finding.state == "missing"}
    return found, {
        "compile for Ascend": "atc" not in missing,
        "run on Ascend": not {"aclruntime", "NPUs"} & missing,
    }


def look_at_cann(root: Path, set_env: str | None, python: str | None) -> list[Finding]:
    """CANN, its environment, atc and the python3 that atc runs."""
    home = cann.find_home()
    there = cann.installed(root)
    if home is not None and not home.is_dir():
        text = f"set_env.sh was sourced but {home} is not there any more; source that of the CANN you have"
        found = [Finding("missing", "CANN", text)]
    elif home is not None:
        how = f"{set_env} sourced" if set_env else "set_env.sh sourced"
        found = [Finding("ok", "CANN", f"{cann.version_of(home)} in {home}, {how}")]
    elif there:
        text = f"installed but not set up: source {there[0]}, or name it in backends.ascend.set_env"
        found = [Finding("missing", "CANN", text)]
    else:
        text = f"not found: install Ascend-cann-toolkit for {platform.machine()}, then {cann.SET_ENV}"
        found = [Finding("missing", "CANN", text)]
    compiler = shutil.which("atc")
    if compiler:
        found.append(Finding("ok", "atc", compiler))
        numpy, error = _ask("python3", "import numpy; print(numpy.__version__)", atc.environment(python))
        if not numpy or int(numpy.split(".")[0]) > 1:
            text = f"NumPy {numpy or error}; atc's compiler needs numpy<2: name another in backends.ascend.python"
            found.append(Finding("note", "atc's python3", text))
    else:
        text = "not on PATH; it is part of Ascend-cann-toolkit (not of nnrt), and set_env.sh puts it there"
        found.append(Finding("missing", "atc", text))
    return found


def look_at_npus(root: Path) -> list[Finding]:
    """Driver, firmware, npu-smi and every chip with its processes."""
    found = []
    for part in ("driver", "firmware"):
        version = cann.version_info(root / part / "version.info")
        text = version or f"no {root / part / 'version.info'}; only hosts with an NPU need it"
        found.append(Finding("ok" if version else "note", part, text))
    try:
        table = npu_smi.table()
    except UserError as error:
        return [*found, Finding("missing", "NPUs", str(error))]
    found.append(Finding("ok", "npu-smi", f"{table.tool_version or 'version unknown'}, {npu_smi.program()}"))
    if not table.chips:
        found.append(Finding("missing", "NPUs", "npu-smi shows none"))
    for chip in table.chips:
        users = chip.processes
        busy = "processes unknown" if users is None else "idle" if not users else ", ".join(
            f"process {user.pid} {user.name}".strip() for user in users
        )  # fmt: skip
        memory = f"{chip.memory_used_mb} of {chip.memory_total_mb} MB"
        text = f"{chip.name}, NPU {chip.npu_id}, {chip.health}, {chip.temperature_c} C, {memory}, {busy}"
        found.append(Finding("ok" if chip.health == "OK" and not users else "note", f"device {chip.device}", text))
    return found


def look_at_runtime(python: str | None) -> list[Finding]:
    """Which interpreter can import aclruntime, and NumPy with it."""
    found = []
    candidates = [python] if python else [sys.executable, shutil.which("python3", path=_outside_venv())]
    tried = []
    for candidate in dict.fromkeys(filter(None, candidates)):
        runtime, error = _ask(candidate, _RUNTIME)
        numpy, _ = _ask(candidate, "import numpy; print(numpy.__version__)")
        if runtime:
            text = f"{runtime} in {candidate}, NumPy {numpy or 'is missing there: install it'}"
            found.append(Finding("ok" if numpy else "missing", "aclruntime", text))
            if not python and candidate != sys.executable:
                found.append(Finding("note", "python", f"only there: set backends.ascend.python to {candidate}"))
            return found
        tried.append(f"{candidate}: {error}")
    text = "; ".join(tried) + ". Install the aclruntime wheel of Ascend's ais_bench into one of them"
    if "libascend" in text:
        text += f"; its libraries are found after: {cann.SET_ENV}"
    return [Finding("missing", "aclruntime", text)]


def _outside_venv() -> str:
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(place for place in places if Path(place) != Path(sys.executable).parent)


def _ask(python: str, code: str, environment: Mapping[str, str] | None = None) -> tuple[str, str]:
    """(what it printed, the last line of its error) of an interpreter that runs `code`."""
    try:
        done = subprocess.run([python, "-c", code], env=environment, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it failed"]
    return (done.stdout.decode(errors="replace").strip(), "") if done.returncode == 0 else ("", lines[-1])
