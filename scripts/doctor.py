"""Show in one screen what this host has for its accelerators, what is missing, and what a killed run left behind.

It looks at drivers, compilers, runtimes and devices (of Ascend: CANN, driver and firmware, npu-smi and every NPU,
aclruntime and the interpreter that has it), at the other backends, and at the free disk. In --folder it looks at
locks, incomplete outputs, half-written files, jobs whose Snakemake is gone, and the disk that every stage takes. Each
line says which command mends it. It changes nothing. --config takes interpreter and set_env.sh from the settings of a
sweep. The exit status is 1 if an engine for an accelerator could be neither compiled nor run here; everything else
works without.

  scripts/doctor.py --config configs/imagenet-ascend310p.yaml
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from smlp import backends
from smlp.backends.base import Backend, Finding
from smlp.core import cli, provenance
from smlp.core.cli import UserError
from smlp.workflow import leftovers


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    findings: list[Finding] = []
    can: dict[str, bool] = {}
    for backend in _examined():
        known = _settings(flags.config, backend) if flags.config else {}
        python, set_env = flags.python or known.get("python"), flags.set_env or known.get("set_env")
        if set_env:
            os.environ.update(sourced(Path(set_env)))
        found, possible = backend.examine(getattr(flags, f"{backend.name}_root"), set_env, python)
        findings += found
        can.update(possible)
    findings += [*look_at_host(), *look_at_sweep(flags.folder)]
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(f"{finding.state:8}{finding.what:{width}}  {finding.text}")
    print()
    for what, possible in can.items():
        print(f"{what}: {'yes' if possible else 'no'}")
    return 0 if any(can.values()) else 1


def _examined() -> list[Backend]:
    """The backends whose hosts are looked at; the packages of the others tell all."""
    return [backend for backend in backends.every() if backend.examine]


def look_at_host() -> list[Finding]:
    """Compilers, CPU backends, free disk."""
    compilers = [name for name in ("g++", "gcc", "clang", "cmake") if shutil.which(name)]
    found = [Finding("ok" if compilers else "note", "compilers", ", ".join(compilers) or "none")]
    for backend in backends.every():
        if not backend.examine:
            versions = provenance.versions(backend.packages)
            missing = [package for package, version in versions.items() if version is None]
            text = f"needs {', '.join(missing)}" if missing else ", ".join(f"{p} {v}" for p, v in versions.items())
            found.append(Finding("note" if missing else "ok", backend.name, text))
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
        text = "locked by a run that is gone; run snakemake --unlock, then your command again"
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
        raise UserError(
            f"{set_env}: no such file; set_env is the script that sets up a backend's host, as CANN's set_env.sh"
        )
    command = f"source {shlex.quote(str(set_env))} >/dev/null; env -0"
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    pairs = (line.partition("=") for line in done.stdout.decode(errors="replace").split("\0") if "=" in line)
    return {key: value for key, _, value in pairs}


def _settings(path: Path, backend: Backend) -> Mapping[str, str]:
    """What the settings of a sweep say about a backend."""
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        return settings.get("backends", {}).get(backend.name, {})
    except (AttributeError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is not the settings of a sweep ({error})") from None


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--config", type=Path, help="settings of a sweep, for its interpreter and set_env.sh")
    parser.add_argument("--python", help="interpreter that should have the runtime")
    parser.add_argument("--set_env", help="script that sets up the host, such as CANN's set_env.sh, to source it first")
    for backend in _examined():
        what = f"where driver and runtime of {backend.name} are"
        parser.add_argument(f"--{backend.name}_root", type=Path, default=backend.host_root, help=what)
    parser.add_argument("--folder", type=Path, default=Path(), help="of the sweep, with its results/")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
