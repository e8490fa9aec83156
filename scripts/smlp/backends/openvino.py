"""OpenVINO on the CPU: IR of a fixed batch, run one request at a time, or several at once over streams."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import provenance
from ..core.cli import UserError
from ..core.tensor import TensorInfo
from . import _calibration
from ._profile import Operation, Profiler, precision
from .base import (
    CALIBRATION,
    Backend,
    Engine,
    EngineFailure,
    Facts,
    Options,
    Timings,
    Together,
    first_line,
    memory_named,
    require,
    timed,
)

# Left alone, NNCF quantises the residual stream and the insides of layer norm, GELU and batch norm too. That costs
# accuracy, and speed: the CPU plugin no longer recognises what it would fuse into the matrix products.
_NOT_QUANTISED = (
    "Add", "BatchNormInference", "Divide", "Erf", "Gelu", "MVN", "Multiply", "Power", "ReduceMean", "Sqrt", "Subtract"
)  # fmt: skip

# Nodes that only convert or move, as the CPU plugin names them.
_MOVES = ("Reorder", "Transpose", "Convert", "Reshape")


def compile_engine(source: Path, output: Path, *, precision: str, batch_size: int, options: Options) -> Facts:
    """Write the ONNX file `source` as IR of a fixed batch: `output`, and its weights in the .bin beside it.

    options: `calibration`, needed for int8: the folder of bins whose images the activations' ranges are taken from.
    The files of fp32 and bf16 are the same but for what they are run as; their weights are fp32.
    """
    openvino = require("openvino", "openvino")
    from ..models import onnx_graph

    folder = _calibration.folder_option(options, precision)
    onnx_model = onnx_graph.load(source)
    onnx_graph.require_batch(onnx_model, batch_size)
    image = onnx_graph.image_info(onnx_model)
    core = openvino.Core()
    # what int8 leaves in floating point runs a tenth faster in bf16, with errors far below those of int8
    hint = {"fp32": "f32", "bf16": "bf16", "int8": "bf16" if _has_bf16(core) else "f32"}[precision]
    _require(core, hint, f"precision {precision}")
    facts: Facts = {"inference_precision": hint}
    try:
        model = core.read_model(source)
        if folder:
            model = _quantise(model, list(_calibration.images(folder, image)))
            facts["calibration"] = _calibration.facts(folder)
        model.reshape([batch_size, *image.shape[1:]])
        openvino.save_model(model, output, compress_to_fp16=False)
        made = core.read_model(output)
    except RuntimeError as error:
        raise EngineFailure(
            f"{source}: OpenVINO cannot compile it for batch {batch_size} ({first_line(error)})"
        ) from None
    return {
        "batch": _info(made.input(0)).shape[0],
        "node_counts": dict(Counter(node.get_type_name() for node in made.get_ops()).most_common()),
        **facts,
    }


def made_for(options: Options) -> Facts:
    """The processor: it decides whether int8 leaves the rest to bf16."""
    return {"cpu_model": provenance.cpu_model(), "cpu_features": provenance.cpu_features()}


def _quantise(model: Any, images: list[np.ndarray]) -> Any:
    """The model in int8, calibrated on `images`, each (1, …).

    It is quantised with one image at a time before its batch is fixed: NNCF's bias correction reshapes by the batch
    it saw, and the sparse MLPs' products, whose first axis is none, do not survive that in a graph of fixed batch.
    """
    os.environ.setdefault("NNCF_CI", "1")  # it would report its use to its makers
    nncf = require("nncf", "openvino")
    nncf.set_log_level("ERROR")
    return nncf.quantize(
        model,
        nncf.Dataset(images),
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(types=list(_NOT_QUANTISED), validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE),
    )


def open_engine(path: Path, *, device: str, threads: int | None, facts: Facts) -> Engine:
    """An engine made by `compile_engine`, or any IR with one image input, which then runs in fp32."""
    return _CompiledModel(path, device, threads, facts)


class _CompiledModel(Engine):
    def __init__(self, path: Path, device: str, threads: int | None, facts: Facts) -> None:
        if device != "cpu":
            raise UserError(f"backend 'openvino' runs on the cpu here, not on {device!r}")
        self._path, self._threads = path, threads
        self._hint = facts.get("inference_precision", "f32")
        self.device = device

    def _open(self) -> None:
        openvino = require("openvino", "openvino")
        weights = self._path.with_suffix(".bin")
        if not weights.exists():
            raise UserError(
                f"{weights}: not found; it holds the weights of {self._path.name}, copy both or compile again"
            )
        self._core = openvino.Core()
        _require(self._core, self._hint, str(self._path))
        try:
            self._model = self._core.read_model(self._path)
            with memory_named(str(self._path)):
                compiled = self._compile({"NUM_STREAMS": 1})
        except RuntimeError as error:
            raise UserError(
                f"{self._path}: OpenVINO cannot open it ({first_line(error)}); compile the engine again"
            ) from None
        self.settings = _settings(compiled)
        self.inputs = [_info(port) for port in compiled.inputs]
        self.outputs = [_info(port) for port in compiled.outputs]
        self._request = compiled.create_infer_request()
        self._queue = None

    def _compile(self, properties: Facts) -> Any:
        # Where the CPU has bf16, OpenVINO would take it for an fp32 model too unless told which precision to use.
        properties["INFERENCE_PRECISION_HINT"] = self._hint
        if self._threads:
            properties["INFERENCE_NUM_THREADS"] = self._threads
        return self._core.compile_model(self._model, "CPU", properties)

    def _execute(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        results, compute_ms = timed(self._infer, images)
        return [results[index] for index in range(len(self.outputs))], Timings([], [compute_ms], [])

    def _infer(self, images: np.ndarray) -> Any:
        return self._request.infer({0: images}, share_inputs=True)

    def run_together(self, batches: Iterator[np.ndarray], min_time_s: float, min_runs: int) -> Together:
        if self._queue is None:
            self._queue, self._queue_settings = self._open_queue()
        ended_s: list[float] = []
        latency_ms: list[float] = []

        def completed(request: Any, _: Any) -> None:
            ended_s.append(time.perf_counter())
            latency_ms.append(request.latency)

        self._queue.set_callback(completed)
        started_s = time.perf_counter()
        while len(ended_s) < min_runs or time.perf_counter() - started_s < min_time_s:
            self._queue.start_async({0: next(batches)}, share_inputs=True)  # waits until a request is free
        self._queue.wait_all()
        return Together(np.sort(ended_s) - started_s, np.array(latency_ms), self._queue_settings)

    def _open_queue(self) -> tuple[Any, Facts]:
        """As many requests as OpenVINO finds best for this CPU and model, each on a stream of its own."""
        from openvino import AsyncInferQueue

        compiled = self._compile({"PERFORMANCE_HINT": "THROUGHPUT"})
        queue = AsyncInferQueue(compiled)
        return queue, {**_settings(compiled), "requests": len(queue)}

    def profiler(self) -> Profiler:
        return _Profiler(self)

    def _close(self) -> None:
        del self._request, self._queue, self._model, self._core


class _Profiler(Profiler):
    """The model compiled once more, with counters."""

    def __init__(self, engine: _CompiledModel) -> None:
        self._engine = engine
        self._plain = engine._request
        self._counting = engine._compile({"NUM_STREAMS": 1, "PERF_COUNT": True}).create_infer_request()
        self._runs = self._skipped = 0
        self._before: list[Any] = []

    def run(self, images: np.ndarray, times: int) -> list[float]:
        self._engine._request = self._counting
        try:
            self._runs += times
            return [self._engine.run(images)[1].compute_ms[0] for _ in range(times)]
        finally:
            self._engine._request = self._plain

    def begin(self) -> None:
        self._skipped, self._before = self._runs, self._counting.profiling_info

    def end(self) -> list[Operation]:
        after = self._counting.profiling_info
        del self._counting
        return parse_profile(after, self._runs, self._before, self._skipped)


def parse_profile(nodes: list[Any], runs: int, before: Sequence[Any] = (), skipped: int = 0) -> list[Operation]:
    """Operators in the ProfilingInfo of a request after `runs` runs, without those that it told after `skipped`.

    The CPU plugin tells the mean time of all runs so far. A node's kind of kernel ends in its precision:
    brgemm_avx512_amx_bf16.
    """
    earlier_ms = {node.node_name: _ms(node) for node in before}
    found = []
    for node in nodes:
        if not str(node.status).endswith("EXECUTED"):
            continue
        total_ms = runs * _ms(node) - skipped * earlier_ms.get(node.node_name, 0.0)
        kernel, _, kind = node.exec_type.rpartition("_")
        found.append(
            Operation(
                node.node_name,
                node.node_type,
                precision(kind) if kernel else None,
                node.exec_type,
                max(0.0, total_ms / max(1, runs - skipped)),
                moves=node.node_type in _MOVES,
            )
        )
    return found


def _ms(node: Any) -> float:
    return 1000 * node.real_time.total_seconds()


def _settings(compiled: Any) -> Facts:
    """What a compiled model really runs with, read back from it."""
    return {
        "inference_precision": compiled.get_property("INFERENCE_PRECISION_HINT").to_string(),
        "threads": compiled.get_property("INFERENCE_NUM_THREADS"),
        "streams": compiled.get_property("NUM_STREAMS"),
    }


def _has_bf16(core: Any) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _require(core: Any, hint: str, what: str) -> None:
    if hint == "bf16" and not _has_bf16(core):
        raise EngineFailure(
            f"{what}: this CPU ({core.get_property('CPU', 'FULL_DEVICE_NAME')}) has no bf16; use fp32, or int8"
        )


def _info(port: Any) -> TensorInfo:
    shape = tuple(size.get_length() if size.is_static else None for size in port.get_partial_shape())
    return TensorInfo(port.get_any_name(), port.get_element_type().to_dtype(), shape)


BACKEND = Backend(
    name="openvino",
    compiles_from="onnx",
    suffix=".xml",
    companions=(".bin",),
    precisions=("fp32", "bf16", "int8"),
    calibrated=("int8",),
    graph="fused",
    packages=("openvino", "nncf", "onnx", "numpy"),
    options=(CALIBRATION,),
    compile=compile_engine,
    open=open_engine,
    made_for=made_for,
)
