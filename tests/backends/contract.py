"""What every test of the contract shares: the backends, their tolerances, and how to open an engine."""

import subprocess
import sys
from pathlib import Path

import pytest

from smlp import backends
from smlp.core import provenance

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = backends.names()
BACKENDS = {name: backends.load(name) for name in NAMES}
COMPILING = [name for name in NAMES if BACKENDS[name].compiles_from]

# largest difference from eager PyTorch in fp32, as a fraction of the largest logit
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "high": 2e-2, "bf16": 1e-1, "int8": 5e-1}
BATCHES = (1, 3)


def require_runtime(name):
    missing = [package for package, version in provenance.versions(BACKENDS[name].packages).items() if version is None]
    if missing:
        pytest.skip(f"backend {name}: {', '.join(missing)} not installed")


def opened(path, name, **more):
    arguments = {"backend": name, "device": None, "threads": None, **more}
    return backends.open_engine(path, **arguments)[2]


every_backend = pytest.mark.parametrize("name", NAMES)
every_precision = pytest.mark.parametrize(
    ("name", "precision"), [(name, precision) for name in NAMES for precision in BACKENDS[name].precisions]
)


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(SCRIPTS)!r})\n{code}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def feed(engine, images):
    return images.astype(engine.inputs[0].dtype)
