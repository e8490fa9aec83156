"""What a backend is: the object that states it, the engine that it opens, and what every backend needs.

NumPy is all that this module needs, under Python 3.9 or newer.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, NamedTuple

import numpy as np

from ..core import identity, lock
from ..core.cli import UserError
from ..core.provenance import Facts
from ..core.runs import RunFacts
from ..core.tensor import TensorInfo, shape_text
from ._profile import Profiler

_NO_MEMORY = re.compile("out of memory|allocate|not enough memory|bad_alloc|OutOfMemory", re.IGNORECASE)

# Options of a backend by their names, as texts: the values of `--option name=value`.
Options = Mapping[str, str]


class EngineFailure(UserError):
    """An engine that this machine cannot make or run, for lack of memory for instance. The settings are right.

    A sweep records it as a row that says so, and goes on.
    """


class Timings(NamedTuple):
    """Milliseconds of one `run`, one entry per transfer or execution; empty if the runtime does not tell."""

    h2d_ms: list[float]
    compute_ms: list[float]
    d2h_ms: list[float]


class Together(NamedTuple):
    """Batches that were under way together: when each had ended, in seconds from the start of the first, ascending;
    how long each took by itself, in ms; what the runtime says it ran with, the number of `requests` among it."""

    ended_s: np.ndarray
    latency_ms: np.ndarray
    settings: Facts


class Engine(ABC):
    """An opened engine: `with backend.open(...) as engine: outputs = engine.run(images)`.

    The device is held only inside the `with`. Subclasses set `device` (the one that it really runs on, also the name of
    its lock) when they are made, `inputs`, `outputs` and `settings` (what the runtime says it runs with: threads, for
    instance) in `_open`, and implement `_execute` and `_close`.
    """

    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    device: str
    settings: Facts = {}
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

    @abstractmethod
    def _open(self) -> None:
        """Take the device, and state `inputs`, `outputs` and `settings`."""

    @abstractmethod
    def _close(self) -> None:
        """Let the device go."""

    @abstractmethod
    def _execute(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        """One batch, checked: the outputs and the time they took."""

    @property
    def batch(self) -> int | None:
        """Batch size compiled into the engine, read back from it; None if it takes any."""
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

        batches: as for `run`, without end; none may change before it has ended. None if the runtime runs one batch
        at a time.
        """
        return None

    def profiler(self) -> Profiler | None:
        """What runs the opened engine with its runtime's own profiling on; None if the runtime has none."""
        return None


@dataclasses.dataclass(frozen=True)
class DeviceKind:
    """A kind of device. Devices are called "cpu", or "<kind>:<number>".

    resource: what schedulers count, None for the CPU. visible: the environment variable that renumbers a process's
    devices, so that the first one of two processes need not be the same.
    """

    name: str
    resource: str | None = None
    visible: str | None = None

    def __post_init__(self) -> None:
        if self.visible:
            lock.RENUMBERED[self.name] = self.visible


CPU = DeviceKind("cpu")
CUDA = DeviceKind("cuda", resource="gpu", visible="CUDA_VISIBLE_DEVICES")


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of compiling: `--option name=value`, and the setting backends.<backend>.<name> or options of a target.

    kind: text, integer, boolean, file (whose content the engine depends on), folder, or program (whose place makes no
    other engine). precisions: those that it is for, () for all. setting: False for one that the sweep itself gives.
    """

    name: str
    help: str
    kind: str = "text"
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    pattern: str | None = None
    default: str | int | bool | None = None
    precisions: tuple[str, ...] = ()
    setting: bool = True

    def check(self, value: str) -> None:
        """Raise UserError for a value that is none of this option's."""
        if self.kind == "boolean":
            fits, wanted = value in ("true", "false"), "true or false"
        elif self.kind == "integer":
            fits = value.isascii() and value.isdigit() and int(value) >= (self.minimum or 0)
            wanted = f"a whole number of at least {self.minimum or 0}"
        elif self.choices:
            fits, wanted = value in self.choices, " or ".join(self.choices)
        else:
            fits = bool(value) and (self.pattern is None or re.fullmatch(self.pattern, value) is not None)
            wanted = f"a text that matches {self.pattern}" if self.pattern else "a text"
        if not fits:
            raise UserError(f"--option {self.name}={value}: {wanted} was expected; {self.help}")

    def schema(self) -> Facts:
        """The JSON schema of its setting."""
        kinds: dict[str, Facts] = {
            "boolean": {"enum": [True, False, "true", "false"]},
            "integer": {"type": "integer", "minimum": self.minimum or 0},
        }
        rule = kinds.get(self.kind) or {"type": "string", "minLength": 1}
        rule |= {"enum": list(self.choices)} if self.choices else {}
        rule |= {"pattern": self.pattern} if self.pattern else {}
        rule |= {} if self.default is None else {"default": self.default}
        return {"description": self.help, **rule}


CALIBRATION = Option(
    "calibration",
    "folder of bins whose images the ranges of activations are taken from, made by scripts/preprocess.py --draw",
    kind="folder",
    setting=False,
)
DEVICE = Option("device", "what to compile for: cpu, cuda or cuda:N", setting=False)


class Finding(NamedTuple):
    """One line of scripts/doctor.py. state: "ok", "missing" or "note"."""

    state: str
    what: str
    text: str


def _asks_nothing(device: str) -> Facts:
    return {}


def _never(options: Options) -> bool:
    return False


@dataclasses.dataclass(frozen=True)
class Backend:
    """One runtime: all that rules, settings and commands know about it. Each module of a backend has one, `BACKEND`.

    name            that of its module
    suffix          of an engine file; of what it runs as it is, if it compiles nothing
    precisions      that it knows, the default first
    packages        distributions whose versions decide what its engines compute
    open            (path, *, device, threads, facts) -> Engine, not yet holding its device. facts: the sidecar's
    compiles_from   "onnx" or "checkpoint"; None if it runs the checkpoint itself
    compile         (source, output, *, precision, batch_size, options) -> facts for the sidecar, `batch` among them;
                    None if it compiles nothing
    companions      suffixes of the other files of an engine, which lie beside it under its stem
    large           suffixes of those that only an engine has which is too large for one file
    calibrated      precisions that need images to calibrate with (option `calibration`)
    devices         kinds of devices that it runs on, its default first
    graph           the ONNX graph it runs faster, "reference" or "fused"
    options         of compiling
    passes_on       an option that is a mapping: the compiler's own options, whose names are not listed here
    compile_packages  distributions whose versions decide what it compiles to, if not `packages`
    python_compiles whether the interpreter that runs its engines also compiles them
    made_for        (options) -> what an engine depends on of this host beside source, options, code and packages; None
                    if nobody can tell: its engines are then not shared
    telemetry       (device) -> what the device says of itself just now: health, processes (one text each, None if
                    unknown), temperature_c, power_w, aicore_percent; {} if nothing can be asked
    normalises      (options) -> whether such an engine takes bytes of images and normalises them by itself
    shows           (precision, batch_size, image_shape, as_bytes, options) -> the command line that its compiler will
                    get, for a dry run; None if it has none
    reference_for   "checkpoint" or "onnx": the model's starting point for which its fp32 is what others are judged by
    ready_made      key of models.<name>, and subcommand of scripts/retrieve.py, that takes its engines ready-made
    examine         (root, set_env, python) -> findings about this host and what can be done with it, for
                    scripts/doctor.py; None if its packages tell all
    host_root       where its driver and runtime are installed, if `examine` looks at them
    """

    name: str
    suffix: str
    precisions: tuple[str, ...]
    packages: tuple[str, ...]
    open: Callable[..., Engine]
    compiles_from: str | None = None
    compile: Callable[..., Facts] | None = None
    companions: tuple[str, ...] = ()
    large: tuple[str, ...] = ()
    calibrated: tuple[str, ...] = ()
    devices: tuple[DeviceKind, ...] = (CPU,)
    graph: str = "reference"
    options: tuple[Option, ...] = ()
    passes_on: Option | None = None
    compile_packages: tuple[str, ...] | None = None
    python_compiles: bool = True
    made_for: Callable[[Options], Facts] | None = None
    telemetry: Callable[[str], Facts] = _asks_nothing
    normalises: Callable[[Options], bool] = _never
    shows: Callable[..., list[str]] | None = None
    reference_for: str | None = None
    ready_made: str | None = None
    examine: Callable[..., tuple[list[Finding], dict[str, bool]]] | None = None
    host_root: Path | None = None

    @property
    def device(self) -> str:
        """Where it runs unless told otherwise."""
        kind = self.devices[0]
        return kind.name if kind is CPU else f"{kind.name}:0"

    @property
    def made_by(self) -> tuple[str, ...]:
        """Distributions whose versions decide what it compiles to."""
        return self.packages if self.compile_packages is None else self.compile_packages

    @property
    def tells_state(self) -> bool:
        """Whether its devices can be asked how they are."""
        return self.telemetry is not _asks_nothing

    def check_options(self, options: Options) -> None:
        """Raise UserError for an option that this backend does not have, or that has not such a value."""
        known = {option.name: option for option in self.options}
        for name, value in options.items():
            if name in known:
                known[name].check(value)
            elif not self.passes_on:
                listed = ", ".join(known) or "none"
                raise UserError(f"backend {self.name!r} has no option {name!r}; it has {listed}")


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


def failure_record(failure: EngineFailure, flags: argparse.Namespace) -> Facts:
    """What a command that runs an engine leaves instead of its result: why there is none, and of which run."""
    known = identity.known(flags.model, check=False)
    run = RunFacts.asked(flags, {**known.facts, "id": known.id, "start": known.facts.get("start")})
    return run.failure(str(failure))


def timed(function: Any, *arguments: Any) -> tuple[Any, float]:
    """Call and return (result, milliseconds)."""
    start = time.perf_counter()
    result = function(*arguments)
    return result, 1000 * (time.perf_counter() - start)


def duration_ms(entry: Any) -> float:
    """One entry of a list of times by aclruntime: milliseconds, from 2024 on a pair of start and end."""
    return float(entry) if isinstance(entry, (int, float)) else float(entry[1]) - float(entry[0])


def batch_size_of(engine: Engine, requested: int | None) -> int:
    """Images per run: what the engine was compiled for. Only an engine of any batch takes the requested size.

    Raises UserError if both are known and differ: a figure must never rest on a requested number.
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
