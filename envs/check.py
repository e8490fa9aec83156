"""Is this environment what the lock says? Exit status 0: yes; 1: healthy, but of another lock; 2: broken or half made.

    python check.py requirements.lock <file that a finished installation leaves>

A package counts as present if its metadata has the version, and as whole if each of the files and folders that it put
beside others is there. Nothing is imported, and pip's own lists are read as text: every `make` waits for this.
"""

import re
import sys
import sysconfig
from pathlib import Path


def main(lock: str, finished: str) -> int:
    lines = [line.split("#")[0].strip() for line in Path(lock).read_text().splitlines()]
    pins = [line.split("==") for line in lines if line]
    site = Path(sysconfig.get_path("purelib"))
    present, tops = {}, set()
    for folder in site.glob("*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
        present[_normal(name)] = version.split("+")[0]  # a build such as +cpu is the same version
        record = folder / "RECORD"
        if not record.exists():
            return 2
        tops |= {line.split(",")[0].split("/")[0] for line in record.read_text(encoding="utf-8").splitlines()}
    # bytecode may be removed
    if not Path(finished).exists() or any(not (site / top).exists() for top in tops - {"__pycache__"}):
        return 2
    return int(any(present.get(_normal(name)) != version for name, version in pins))


def _normal(name: str) -> str:
    """The one form of a package's name (packaging.python.org: Names and normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
