"""Is this environment what the lock says? Exit status 0: yes; 1: healthy, but of another lock; 2: broken or half made.

    python check.py requirements.lock <file that a finished installation leaves>

A package counts as present when its metadata has the version and its modules can be found; nothing is imported.
"""

import importlib.util
import os
import sys
from importlib import metadata


def main(lock: str, finished: str) -> int:
    with open(lock) as stream:
        lines = [line.split("#")[0].strip() for line in stream]
    pins = dict(line.split("==") for line in lines if line)
    present = {name: _version(name) for name in pins}
    modules = [name for name in metadata.packages_distributions() if not name.startswith("_")]
    if not os.path.exists(finished) or any(importlib.util.find_spec(name) is None for name in modules):
        return 2
    return int(any(present[name] != version for name, version in pins.items()))


def _version(name: str) -> str:
    try:
        return metadata.version(name).split("+")[0]  # a build such as +cpu is the same version
    except metadata.PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
