"""Backends: one module a runtime, found by its file name.

A backend module has
  COMPILES_FROM   "onnx" or "checkpoint", what its engines are made from; None where the checkpoint itself is run
  SUFFIX          of an engine file (for COMPILES_FROM None, of what it runs as it is)
  PRECISIONS      the precisions it knows, the default first
  DEVICE          where it runs unless told otherwise
  PACKAGES        distributions whose versions belong into the provenance
  GRAPH           which ONNX graph it is the faster with, "fused" or (where absent) "reference"
  CALIBRATED      precisions that need images to calibrate with: option `calibration`, a folder of bins (may be absent)
  compile_engine(source, output, *, precision, batch_size, options) -> dict of facts for the sidecar
                  (absent where COMPILES_FROM is None)
  open_engine(path, *, device, threads, facts) -> Engine
  made_for(options) -> dict of what an engine depends on of this host (its processor, its compiler), beside source,
                  options, code and PACKAGES (may be absent: its engines are then not shared)
  telemetry(device) -> dict of what the device says about itself just now, where there is a tool that asks it (may be
                  absent): health, processes (a text each, None where unknown), temperature_c, power_w, aicore_percent
and imports its runtime inside these functions, so that naming a backend never needs its runtime.
NumPy is all that this module needs, under Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .. import files
from ..cli import UserError

_NO_MEMORY = re.compile("out of memory|allocate|not enough memory|bad_alloc|OutOfMemory", re.IGNORECASE)


class EngineFailure(UserError):
    """An engine that this machine cannot make or run, for lack of memory for instance: no fault in the settings.

    A sweep records it as a row that says so, and goes on.
    """


class TensorInfo(NamedTuple):
    """One input or output as the opened engine states it. `shape` holds None where the engine takes any size."""

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]


class Timings(NamedTuple):
    """Milliseconds of one `run`, an entry per transfer or execution; empty where the runtime does not tell."""

    h2d_ms: list[float]
    compute_ms: list[float]
    d2h_ms: list[float]


class Together(NamedTuple):
    """Batches that were under way together: when each had ended, in seconds from the start of the first, ascending;
    how long each took by itself, in ms; what the runtime says it ran with, the number of `requests` among it."""

    ended_s: np.ndarray
    latency_ms: np.ndarray
    settings: dict[str, Any]


class Engine:
    """An opened engine: `with backend.open_engine(...) as engine: outputs = engine.run(images)`.

    The device is held only inside the `with`. Subclasses set `device` (where it really runs, also the name of its
    lock) when they are made, `inputs`, `outputs` and `settings` (what the runtime says it runs with: threads, for
    instance) in `_open`, and implement `_execute` and `_close`.
    """

    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    device: str
    settings: dict[str, Any] = {}
    emulated = False

    def __enter__(self) -> Engine:
        with memory_named("it"):
            self._open()
        if len(self.inputs) != 1 or None in self.inputs[0].shape[1:]:
            self._close()
            found = ", ".join(f"{info.name!r} {shape_text(info.shape)}" for info in self.inputs)
            raise UserError(
                f"the engine takes {found or 'nothing'}; one image input with only the batch free was expected"
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _open(self) -> None: ...

    def _close(self) -> None: ...

    def _execute(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        raise NotImplementedError

    @property
    def batch(self) -> int | None:
        """Batch size compiled into the engine, read back from it; None where any is taken."""
        return self.inputs[0].shape[0]

    def run(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        """One batch through the engine.

        images: the input's dtype and shape, C-contiguous. Returns the outputs in the engine's order,
        first axis the batch, and the time it took. Raises UserError for what runtimes do not check.
        """
        expected = self.inputs[0]
        fits = len(images.shape) == len(expected.shape) and all(
            want is None or have == want for have, want in zip(images.shape, expected.shape)
        )
        if images.dtype != expected.dtype or not fits:
            raise UserError(
                f"the engine's input {expected.name!r} takes {expected.dtype} {shape_text(expected.shape)} "
                f"but got {images.dtype} {shape_text(images.shape)}; preprocess for this model and batch size"
            )
        if not images.flags.c_contiguous:
            images = np.ascontiguousarray(images)
        with memory_named(f"batch {len(images)}"):
            outputs, timings = self._execute(images)
        for info, output in zip(self.outputs, outputs):
            if output.shape[:1] != images.shape[:1]:
                raise UserError(
                    f"the engine's output {info.name!r} has shape {shape_text(output.shape)} for a batch of "
                    f"{len(images)}; compile the engine again, its batch size is not what it claims"
                )
        return outputs, timings

    def run_together(self, batches: Iterator[np.ndarray], min_time_s: float, min_runs: int) -> Together | None:
        """The throughput way: several batches under way at once, for at least `min_time_s` and `min_runs` batches.

        batches: as for `run`, without end; none may change before it has ended. None where the runtime runs one batch
        at a time.
        """
        return None


@contextlib.contextmanager
def memory_named(what: str) -> Iterator[None]:
    """Turn a runtime's own words for too little memory into an EngineFailure."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # runtimes' exceptions share no narrower base
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise EngineFailure(
            f"{what} does not fit into memory ({first_line(error)}); use a smaller batch size"
        ) from None


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def failure_record(failure: EngineFailure, path: Path, flags: Any) -> dict[str, Any]:
    """What a command that runs the engine at `path` leaves in place of its result: why there is none, and of what."""
    facts = files.read_json(files.sidecar_path(path), "the sidecar of an engine")
    about = {
        "model": flags.model_label or facts.get("model_name") or path.stem,
        "backend": flags.backend or facts.get("backend"),
        "precision": facts.get("precision"),
        "batch": facts.get("batch") or flags.batchsize,
    }
    return {"failed": str(failure), "smlp": about}


def timed(function: Any, *arguments: Any) -> tuple[Any, float]:
    """Call and return (result, milliseconds)."""
    start = time.perf_counter()
    result = function(*arguments)
    return result, 1000 * (time.perf_counter() - start)


def duration_ms(entry: Any) -> float:
    """One entry of a list of times by aclruntime: milliseconds, from 2024 on a pair of start and end."""
    return float(entry) if isinstance(entry, (int, float)) else float(entry[1]) - float(entry[0])


def shape_text(shape: tuple) -> str:
    """A shape for people: 8x3x224x224, with ? for a free axis."""
    return "x".join("?" if size is None else str(size) for size in shape)


def names() -> list[str]:
    """Every backend there is."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")


def load(name: str) -> ModuleType:
    """The backend module called `name`."""
    if name not in names():
        raise UserError(f"backend {name!r} is not known; choose one of {', '.join(names())}")
    return importlib.import_module(f".{name}", __name__)


def open_engine(
    path: Path, *, backend: str | None, device: str | None, threads: int | None
) -> tuple[str, dict, Engine]:
    """The engine at `path`, not yet holding its device: (backend name, sidecar facts, engine).

    The backend is the one asked for, else what the sidecar says, else what the suffix means. Raises UserError
    where the file is missing, or is not the file that its sidecar describes.
    """
    if not path.exists():
        raise UserError(f"{path}: no such engine; compile it with scripts/compile.py, or check the path")
    sidecar = files.sidecar_path(path)
    facts = files.read_json(sidecar, "the sidecar of an engine") if sidecar.exists() else {}
    if not isinstance(facts, dict):
        raise UserError(f"{sidecar}: is not the sidecar of an engine; make the engine again, or remove the file")
    name = backend or facts.get("backend") or _by_suffix(path)
    if "failed" in facts:
        raise EngineFailure(str(facts["failed"]))
    if facts.get("sha256", "") not in ("", files.digest(path)):
        raise UserError(
            f"{path}: is not the file that {sidecar.name} beside it describes; make it again, or remove {sidecar.name}"
        )
    module = load(name)
    engine = module.open_engine(
        path, device=device or facts.get("device") or module.DEVICE, threads=threads, facts=facts
    )
    return name, facts, engine


def _by_suffix(path: Path) -> str:
    owners = [name for name in names() if path.suffix == load(name).SUFFIX]
    if len(owners) != 1:
        raise UserError(
            f"{path}: no sidecar {files.sidecar_path(path).name}, and its suffix names no backend; add --backend"
        )
    return owners[0]


def batch_size(engine: Engine, requested: int | None) -> int:
    """Images a run: what the engine was compiled for. Only an engine of any batch takes the requested size.

    Raises UserError where both are known and differ: a figure must never rest on a requested number.
    """
    if engine.batch is None:
        return requested or 1
    if requested not in (None, engine.batch):
        raise UserError(
            f"--batchsize {requested}: the engine was compiled for batch {engine.batch}; leave the flag out"
        )
    return engine.batch


def require(package: str, backend: str, fix: str | None = None) -> ModuleType:
    """Import a backend's runtime, or say how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"backend {backend!r} needs the Python package {package!r} ({error}); "
            + (fix or f"install it into this interpreter: pip install {package}")
        ) from None
