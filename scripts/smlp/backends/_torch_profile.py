"""Time per operator by torch.profiler, of eager models and of AOTInductor's packages.

NumPy is all that this module needs; torch is imported when asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ._profile import Operation, Profiler, computing, precision

# What only moves or converts: ATen's operators, and the words that a fused kernel's name is made of.
_MOVES = re.compile(
    r"aten::(copy_?|clone|contiguous|to|_to_copy|permute|transpose|t|reshape|view|unflatten|as_strided)|Mem(cpy|set) .*"
)
_MOVING_WORDS = {"to", "copy", "clone", "permute", "transpose", "view", "unsafe", "split", "reshape", "contiguous", ""}
_FUSED = re.compile(r"(?:graph_\d+_)?((?:cpp|triton_\w+?)_fused_(\w*?)_?\d+)$")
# Transfers to and from the device: Timings tells them apart from computing.
_TRANSFER = re.compile(r"Memcpy (HtoD|DtoH)")
_NO_TENSORS = ("", "Scalar", "ScalarList", "TensorList", "GenericList")


class Event(NamedTuple):
    """What the profiler saw once. ms: without what it called. types: of the tensors that went in, as torch says it.

    on_device: of a CUDA device; nested: called by an operator that was seen too.
    """

    name: str
    ms: float
    types: tuple[str, ...] = ()
    shapes: str = ""
    on_device: bool = False
    nested: bool = False


class TorchProfiler(Profiler):
    """A block of runs under torch.profiler. engine: an opened Engine; calls: as for `operations`."""

    def __init__(self, engine: Any, calls: Mapping[str, list[str | None]] = {}) -> None:
        self._engine, self._calls = engine, calls
        self._events: list[Event] = []
        self._runs = 0

    def run(self, images: np.ndarray, times: int) -> list[float]:
        from torch import profiler

        kinds = [profiler.ProfilerActivity.CPU]
        if self._engine.device != "cpu":
            kinds.append(profiler.ProfilerActivity.CUDA)
        with profiler.profile(activities=kinds, record_shapes=True) as seen:
            run_ms = [self._engine.run(images)[1].compute_ms[0] for _ in range(times)]
        self._runs += times
        self._events += map(_event, sorted(seen.events(), key=lambda one: one.time_range.start))
        return run_ms

    def begin(self) -> None:
        self._events, self._runs = [], 0

    def end(self) -> list[Operation]:
        return operations(self._events, self._runs, self._engine.device, self._calls)


def _event(seen: Any) -> Event:
    on_device = "CUDA" in str(seen.device_type)
    us = seen.time_range.elapsed_us() if on_device else seen.self_cpu_time_total
    types = tuple(name for name in getattr(seen, "input_dtypes", None) or () if name not in _NO_TENSORS)
    shapes = " ".join(str(shape).replace(" ", "") for shape in seen.input_shapes or () if shape)
    return Event(seen.name, us / 1000, types, shapes, on_device, seen.cpu_parent is not None)


def operations(
    events: Iterable[Event], runs: int, device: str, calls: Mapping[str, list[str | None]] = {}
) -> list[Operation]:
    """Operators in what the profiler saw in `runs` runs, in the order of their first call.

    Of a CUDA device only what ran there counts, without transfers: the host waits meanwhile. calls: of a package, the
    precision of each call of what its code calls in one run, by name. Such calls are told apart by their number;
    everything else by name, types and shapes.
    """
    on_device = device != "cpu"
    events = [one for one in events if one.on_device == on_device and not _TRANSFER.match(one.name)]
    counts, seen = Counter(one.name for one in events), Counter()
    total_ms: dict[tuple[str, str, str | None], float] = {}
    called: Counter[tuple[str, str, str | None]] = Counter()
    for one in events:
        kind = fused[1] if (fused := _FUSED.match(one.name)) else one.name
        known = calls.get(kind, [])
        if known and counts[one.name] == runs * len(known):
            number = seen[one.name] % len(known)
            key = (f"{kind} #{number + 1}" if len(known) > 1 else kind, kind, known[number])
        else:
            name = f"{kind} {one.shapes}".strip() if not known else kind
            key = (name, kind, _of_kernel(kind) if on_device else computing(one.types, ()))
        seen[one.name] += 1
        total_ms[key] = total_ms.get(key, 0.0) + one.ms
        called[key] += 1
    unit = "cuda" if on_device else "cpu"
    return [
        Operation(name, kind, of, unit, ms / runs, max(1, round(called[name, kind, of] / runs)), moves(kind))
        for (name, kind, of), ms in total_ms.items()
    ]


def moves(name: str) -> bool:
    """Whether an operator or a fused kernel only moves or converts, by its name."""
    fused = _FUSED.match(name)
    if fused:
        return set(fused[2].split("_")) <= _MOVING_WORDS
    return _MOVES.fullmatch(name) is not None


def _of_kernel(name: str) -> str | None:
    """The precision of a CUDA kernel of a library, as far as its name tells."""
    words = re.findall(r"bf16|f16|fp16|half|tf32|sgemm|f32|float|int8|i8", name.lower())
    return {"sgemm": "fp32", "tf32": "tf32"}.get(words[0], precision(words[0])) if words else None


def package_calls(code: str) -> dict[str, list[str | None]]:
    """The precision of each call in a run of an AOTInductor package, by the name that is called, from its C++ code.

    A fused kernel's is that of the first values that it reads, as its call casts them; a library's call has that of
    its first tensor, followed through the code from where the tensor was made. None if it cannot be followed.
    """
    types: dict[str, str] = {}
    found: dict[str, list[str | None]] = {}
    for line in code.splitlines():
        if made := _EMPTY.search(line):
            types[made[2]] = precision(made[1])
        elif alias := _ALIAS.match(line):
            if alias[2] in types:
                types[alias[1]] = types[alias[2]]
        elif kernel := _KERNEL_CALL.match(line):
            casts = _CAST.findall(kernel[2])
            types |= {variable: precision(kind) for kind, variable in casts}
            found.setdefault(kernel[1], []).append(precision(casts[0][0]) if casts else None)
        elif call := _LIBRARY_CALL.search(line):
            own = next((types[word] for word in re.findall(r"\w+", call[2]) if word in types), None)
            if result := re.search(r"&(\w+)_handle\)", call[2]):
                types |= {result[1]: own} if own else {}
            found.setdefault(call[1], []).append(own)
    return found


_EMPTY = re.compile(r"aoti_torch_empty_strided\w*\(.*cached_torch_dtype_(\w+),.*&(\w+)_handle\)")
_ALIAS = re.compile(r"\s*(?:auto|RAIIAtenTensorHandle) (\w+) = .*?\b(buf\d+|arg\d+_\d+)\b")
_KERNEL_CALL = re.compile(r"\s*(cpp_fused_\w+)\((\(.*)\);")
_CAST = re.compile(r"\((?:const )?([\w:]+)\*\)\((\w+)\.data_ptr\(\)")
_LIBRARY_CALL = re.compile(r"\((aoti_torch_cpu_\w+)\((.*)")
