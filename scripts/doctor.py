"""Show in one screen what this host has for Ascend, what is missing, and what a killed run left behind.

Looks at CANN, driver and firmware, npu-smi and every NPU, aclruntime and which interpreter has it, the compilers and
the CPU backends, free disk; and in --folder at locks, incomplete outputs, half-written files, jobs whose Snakemake is
gone and the disk that every stage takes, each with the command that mends it. Changes nothing. --config takes
interpreter and set_env.sh from the settings of a sweep. Exit status 1 where an Ascend engine could be neither compiled
nor run here; everything else works without.

  scripts/doctor.py --config configs/imagenet-ascend310p.yaml
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from smlp import backends, cli, host, leftovers, provenance
from smlp.backends import ascend
from smlp.cli import UserError

_RUNTIME = (
    "import aclruntime, platform, importlib.metadata as m;"
    "v = {d.metadata['Name']: d.version for d in m.distributions()};"
    "print('emulated' if hasattr(aclruntime, 'SMLP_EMULATED') else v.get('aclruntime', 'unknown version'),"
    "'for Python', platform.python_version())"
)


class Finding(NamedTuple):
    """One line of the screen. state: "ok", "missing", "note"."""

    state: str
    what: str
    text: str


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    python, set_env = flags.python, flags.set_env
    if flags.config:
        settings = _ascend_settings(flags.config)
        python, set_env = python or settings.get("python"), set_env or settings.get("set_env")
    if set_env:
        os.environ.update(sourced(Path(set_env)))
    findings = [
        *look_at_cann(flags.ascend_root, set_env, python),
        *look_at_npus(flags.ascend_root),
        *look_at_runtime(python),
        *look_at_host(),
        *look_at_sweep(flags.folder),
    ]
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(f"{finding.state:8}{finding.what:{width}}  {finding.text}")
    missing = [finding.what for finding in findings if finding.state == "missing"]
    can = {"compile for Ascend": "atc" not in missing, "run on Ascend": not {"aclruntime", "NPUs"} & set(missing)}
    print()
    for what, possible in can.items():
        print(f"{what}: {'yes' if possible else 'no'}")
    return 0 if any(can.values()) else 1


def look_at_cann(root: Path, set_env: str | None, python: str | None) -> list[Finding]:
    """CANN, its environment, atc and the python3 that atc runs."""
    home = host.cann_home()
    there = host.installed(root)
    if home is not None and not home.is_dir():
        text = f"set_env.sh was sourced but {home} is not there any more; source that of the CANN you have"
        found = [Finding("missing", "CANN", text)]
    elif home is not None:
        how = f"{set_env} sourced" if set_env else "set_env.sh sourced"
        found = [Finding("ok", "CANN", f"{host.cann_version(home)} in {home}, {how}")]
    elif there:
        text = f"installed but not set up: source {there[0]}, or name it in backends.ascend.set_env"
        found = [Finding("missing", "CANN", text)]
    else:
        text = f"not found: install Ascend-cann-toolkit for {platform.machine()}, then {host.SET_ENV}"
        found = [Finding("missing", "CANN", text)]
    atc = shutil.which("atc")
    if atc:
        found.append(Finding("ok", "atc", atc))
        numpy, error = _ask("python3", "import numpy; print(numpy.__version__)", ascend.atc_environment(python))
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
        version = host.version_info(root / part / "version.info")
        text = version or f"no {root / part / 'version.info'}; only hosts with an NPU need it"
        found.append(Finding("ok" if version else "note", part, text))
    try:
        table = host.table()
    except UserError as error:
        return [*found, Finding("missing", "NPUs", str(error))]
    found.append(Finding("ok", "npu-smi", f"{table.tool_version or 'version unknown'}, {host.npu_smi_path()}"))
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
        text += f"; its libraries are found after: {host.SET_ENV}"
    return [Finding("missing", "aclruntime", text)]


def look_at_host() -> list[Finding]:
    """Compilers, CPU backends, free disk."""
    compilers = [name for name in ("g++", "gcc", "clang", "cmake") if shutil.which(name)]
    found = [Finding("ok" if compilers else "note", "compilers", ", ".join(compilers) or "none")]
    for name in backends.names():
        packages = [package for package in backends.load(name).PACKAGES if name != "ascend"]
        versions = provenance.versions(packages)
        if packages:
            missing = [package for package, version in versions.items() if version is None]
            text = f"needs {', '.join(missing)}" if missing else ", ".join(f"{p} {v}" for p, v in versions.items())
            found.append(Finding("note" if missing else "ok", name, text))
    free_bytes = shutil.disk_usage(Path.cwd()).free
    found.append(Finding("ok" if free_bytes > 40e9 else "note", "free disk", f"{free_bytes / 1e9:.0f} GB here"))
    return found


def look_at_sweep(folder: Path) -> list[Finding]:
    """Disk use of every stage, and what a run that was killed left behind, with the command that mends it."""
    used = leftovers.disk_use(folder / "results")
    text = ", ".join(f"{stage} {size / 1e6:.1f} MB in {files} files" for stage, (size, files) in used.items())
    found = [Finding("ok", "results", text or "none yet")]
    if text:
        found[0] = found[0]._replace(text=f"{text}; make clean-<stage> removes one")
    processes = leftovers.processes(folder)
    running = leftovers.runs(processes)
    for process, name in leftovers.orphans(processes).items():
        end = f"scancel {process.slurm_job}" if process.slurm_job else f"kill {process.pid}"
        text = f"{name} runs on, process {process.pid}, its Snakemake is gone; let it finish, or: {end}"
        found.append(Finding("note", "orphan", text))
    if running:
        found.append(Finding("ok", "sweep", f"running, process {', '.join(str(process.pid) for process in running)}"))
        return found
    if leftovers.locked(folder):
        text = "locked by a run that is gone; snakemake --unlock, then the command that you ran"
        found.append(Finding("note", "lock", text))
    if marked := leftovers.incomplete(folder):
        others = f" and {len(marked) - 1} others were" if len(marked) > 1 else " was"
        text = f"{marked[0]}{others} being made; the next run makes it again (rerun-incomplete in the profile)"
        found.append(Finding("note", "incomplete", text))
    if half := leftovers.half_written(folder / "results"):
        paths = " ".join(shlex.quote(str(path)) for path in half)
        text = f"{len(half)} scratch folders; the next run removes those of what it makes again, or: rm -r {paths}"
        found.append(Finding("note", "half-written", text))
    return found


def sourced(set_env: Path) -> Mapping[str, str]:
    """The environment after `source set_env`."""
    if not set_env.is_file():
        raise UserError(f"{set_env}: no such file; backends.ascend.set_env is CANN's set_env.sh")
    command = f"source {shlex.quote(str(set_env))} >/dev/null; env -0"
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    pairs = (line.partition("=") for line in done.stdout.decode(errors="replace").split("\0") if "=" in line)
    return {key: value for key, _, value in pairs}


def _ascend_settings(path: Path) -> dict:
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        return settings.get("backends", {}).get("ascend", {})
    except (AttributeError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is not the settings of a sweep ({error})") from None


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


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--config", type=Path, help="settings of a sweep, for its interpreter and set_env.sh")
    parser.add_argument("--python", help="interpreter that should have aclruntime")
    parser.add_argument("--set_env", help="CANN's set_env.sh, to source it first")
    parser.add_argument("--ascend_root", type=Path, default=host.ASCEND_ROOT, help="where driver and CANN are")
    parser.add_argument("--folder", type=Path, default=Path(), help="of the sweep, with its results/")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
