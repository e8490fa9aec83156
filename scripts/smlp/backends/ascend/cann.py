"""CANN and the Ascend driver, by the version files that they leave on a host.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ...core.cli import UserError

SET_ENV = "source /usr/local/Ascend/ascend-toolkit/set_env.sh (from CANN 8.5 on: /usr/local/Ascend/cann/set_env.sh)"
ROOT = Path("/usr/local/Ascend")
# the only characters that atc, and newer aclruntimes, take in paths
PLAIN_PATH = r"[A-Za-z0-9_./-]+"


def find_home(environment: Mapping[str, str] | None = None) -> Path | None:
    """Where CANN is, as its set_env.sh says."""
    environment = os.environ if environment is None else environment
    place = environment.get("ASCEND_TOOLKIT_HOME") or environment.get("ASCEND_HOME_PATH")
    return Path(place) if place else None


def installed(root: Path = ROOT) -> list[Path]:
    """set_env.sh of every CANN below the usual places, sourced or not."""
    places = (root, Path.home() / "Ascend")
    return [
        place / name / "set_env.sh"
        for place in places
        for name in ("cann", "ascend-toolkit", "nnrt", "nnae")
        if (place / name / "set_env.sh").exists()
    ]


def version_of(home: Path) -> str:
    """CANN's release, "5.1.RC2" or "8.3.RC2": from the install records, else version.cfg, else the folder's name."""
    for kind in ("toolkit", "nnrt", "nnae"):
        for record in (home / f"{platform.machine()}-linux", home):
            version = re.search(r"^version=(\S+)", _text(record / f"ascend_{kind}_install.info"), re.M)
            if version:
                return version[1]
    # [internal number:release]
    version = re.search(r"_running_version=\[[^]:]*:([^]]+)\]", _text(home / "version.cfg"))
    return version[1] if version else home.resolve().name


def version_info(path: Path) -> str | None:
    """The version in a version.info of driver or firmware."""
    text = _text(path)
    version = re.search(r"^(?:package_version|Version)=(\S+)", text, re.M)
    return version[1] if version else None


def newest_opset(version: str) -> int:
    """The newest ONNX opset that atc of this CANN reads; the oldest is 9."""
    major = re.match(r"\d+", version)
    return 13 if major and int(major[0]) < 7 else 18


def require() -> tuple[Path, str]:
    """(home, version) of a CANN with atc, its environment set. Raises UserError saying what to install or source."""
    home = find_home()
    if home is None or shutil.which("atc") is None:
        found = installed()
        if found:
            fix = f"CANN is installed but not set up here: source {found[0]}, or name it in backends.ascend.set_env"
        else:
            fix = (
                "CANN is not installed: install the package Ascend-cann-toolkit for this processor "
                f"({platform.machine()}), then {SET_ENV}, or name that file in backends.ascend.set_env"
            )
        raise UserError(f"atc is not there to compile for Ascend; {fix}. `make doctor` shows the whole host")
    return home, version_of(home)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def plain_scratch_parent() -> str:
    """A folder for temporary files whose path atc and aclruntime take."""
    folder = tempfile.gettempdir()
    return folder if re.fullmatch(PLAIN_PATH, folder) else "/tmp"
