"""Time per operator: what the profiler of every backend states, and the names that all of them use for precisions.

Standard library only: infer and measure load this on the target, under Python 3.9.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

# What runtimes call their types. A type that is not here is told as the runtime names it.
_PRECISIONS = {
    **dict.fromkeys(("float", "float32", "f32", "fp32", "dt_float"), "fp32"),
    **dict.fromkeys(("float16", "half", "f16", "fp16", "c10::half", "dt_float16"), "fp16"),
    **dict.fromkeys(("bfloat16", "bf16", "c10::bfloat16", "at::bfloat16", "dt_bf16"), "bf16"),
    **dict.fromkeys(("int8", "uint8", "i8", "u8", "signed char", "unsigned char", "dt_int8", "dt_uint8"), "int8"),
}


class Operation(NamedTuple):
    """One operator of an engine as it really ran.

    name        in the engine
    type        what it does, in the runtime's words
    precision   that it computed in; None if the runtime does not tell
    unit        what ran it: an execution provider, a kind of kernel, a core of the device
    ms          milliseconds of one run of the engine
    calls       how often it ran in one run of the engine, for runtimes that tell equal operators apart by nothing else
    moves       whether it only converts or moves values: casts, quantising, other layouts, transposes, copies
    elsewhere   whether it ran on another device or unit than was asked for
    """

    name: str
    type: str
    precision: str | None
    unit: str
    ms: float
    calls: int = 1
    moves: bool = False
    elsewhere: bool = False


class Profiler(ABC):
    """Runs of an opened engine with the runtime's own profiling on. Its times are never among measured latencies."""

    @abstractmethod
    def run(self, images: np.ndarray, times: int) -> list[float]:
        """So many runs on one batch: the milliseconds of each, as Timings.compute_ms counts them."""

    @abstractmethod
    def begin(self) -> None:
        """What ran before was to warm up: it does not count."""

    @abstractmethod
    def end(self) -> list[Operation]:
        """Stop: every operator, its times the mean over the runs that count."""


def precision(name: str) -> str:
    """What this project calls a type of a runtime: fp32, fp16, bf16 or int8; others keep their name."""
    return _PRECISIONS.get(name.strip().lower(), name.strip())


def computing(inputs: Iterable[str], outputs: Iterable[str]) -> str | None:
    """The precision that an operator computes in, by the types of its inputs and outputs as the runtime names them.

    One 8-bit input makes it an 8-bit operator, since its others are scales and biases.
    """
    have, gives = [precision(name) for name in inputs], [precision(name) for name in outputs]
    return "int8" if "int8" in have else next(iter(have + gives), None)


def converting(inputs: Iterable[str], outputs: Iterable[str]) -> str | None:
    """As `computing`, of an operator that only moves or converts: "fp32 to int8" if it changes the type."""
    have, gives = (next(map(precision, names), None) for names in (iter(inputs), iter(outputs)))
    return f"{have} to {gives}" if have and gives and have != gives else gives or have
