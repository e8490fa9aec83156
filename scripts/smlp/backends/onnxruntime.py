"""ONNX Runtime on the CPU, or on CUDA if it has that provider: one fixed-batch graph per engine, optimised offline.

int8 (CPU) is static quantisation in QDQ form, per channel, of convolutions and matrix products: 8-bit activations,
ranges from calibration images. Depthwise convolutions and the classifier stay in floating point: the former gain
nothing and lose most. Weights have 8 bits, on x86 without VNNI 7, because sums of 8-bit products saturate there.
"""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..core import provenance
from ..core.cli import UserError
from ..core.tensor import TensorInfo
from . import _calibration, _nvml
from ._profile import Operation, Profiler, computing, converting
from .base import (
    CALIBRATION,
    CPU,
    CUDA,
    DEVICE,
    Backend,
    Engine,
    EngineFailure,
    Facts,
    Options,
    Timings,
    first_line,
    memory_named,
    require,
    timed,
)

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_QUANTISED = ["Conv", "MatMul"]
_QDQ_OPSET = 13  # the first whose QuantizeLinear knows channels
# Operators that only convert or move: between types, layouts, and devices.
_MOVES = (
    *("Cast", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Transpose", "Reshape", "Identity"),
    *("ReorderInput", "ReorderOutput", "MemcpyFromHost", "MemcpyToHost"),
)
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_INSTALL = "and the CUDA provider is in onnxruntime-gpu; install that in place of onnxruntime"


def compile_engine(source: Path, output: Path, *, precision: str, batch_size: int, options: Options) -> Facts:
    """Fix the batch dimension of the ONNX file `source` and write ONNX Runtime's optimised graph to `output`.

    The optimised graph uses kernels and memory layouts of this processor (sidecar: `cpu_model`, or `device`).
    """
    onnx = require("onnx", "onnxruntime")
    runtime = require("onnxruntime", "onnxruntime")
    from ..models import onnx_files, onnx_graph

    folder, kind = _calibration.folder_option(options, precision), options.get("device", "cpu")
    if folder and kind != "cpu":
        raise UserError("backend 'onnxruntime' has int8 on the cpu only; choose fp32 for cuda")
    providers = _providers(kind)
    model = onnx_graph.load(source)
    onnx_graph.require_batch(model, batch_size)
    facts: Facts = {}
    if folder:
        if onnx_files.is_large(model):
            raise EngineFailure(f"{source}: ONNX Runtime's int8 is for graphs of at most 2 GB; use fp32 for this one")
        model = _quantise(model, folder)
        facts["calibration"] = _calibration.facts(folder)
    model = onnx_graph.with_batch(model, batch_size)
    session_options = runtime.SessionOptions()
    session_options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session_options.optimized_model_filepath = str(output)
    session_options.log_severity_level = 3  # it warns that the result fits this CPU only, which is what we want
    if onnx_files.is_large(model):
        data = output.with_suffix(onnx_files.DATA).name
        session_options.add_session_config_entry("session.optimized_model_external_initializers_file_name", data)
        session_options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", str(onnx_files.SMALL_BYTES)
        )
    try:
        with onnx_files.in_place(model, source.parent, output.parent) as opened:
            runtime.InferenceSession(opened, session_options, providers=providers)
    except Exception as error:  # the runtime's own exceptions share no narrower base
        raise EngineFailure(
            f"{source}: ONNX Runtime cannot compile it for batch {batch_size} ({first_line(error)})"
        ) from None
    optimised = onnx.load(output, load_external_data=False)
    return {
        "batch": onnx_graph.batch(optimised),
        "node_counts": onnx_graph.node_counts(optimised),
        "device": kind,
        **made_for(options),
        **facts,
    }


def made_for(options: Options) -> Facts:
    """The processor, whose kernels and memory layouts the graph states."""
    return {"cpu_model": provenance.cpu_model(), "cpu_features": provenance.cpu_features()}


def _quantise(model: Any, folder: Path) -> Any:
    """The ONNX model with int8 products, calibrated on the bins in `folder`, one image at a time."""
    import onnx
    from onnx import version_converter
    from onnxruntime import quantization

    from ..models import onnx_graph

    image = onnx_graph.inputs(model)[0]
    content = _calibration.images(folder, onnx_graph.image_info(model))

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(content, None)
            return None if images is None else {image.name: images}

    if onnx_graph.opset(model) < _QDQ_OPSET:
        model = version_converter.convert_version(model, _QDQ_OPSET)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    depthwise = [
        node.name for node in model.graph.node if node.op_type == "Conv" and weights.get(node.input[1], [0, 0])[1] == 1
    ]
    logging.getLogger().setLevel(logging.ERROR)  # it advises a preparation that changes nothing here
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "int8.onnx"
        quantization.quantize_static(
            onnx.shape_inference.infer_shapes(model),
            path,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            nodes_to_exclude=depthwise,
            per_channel=True,
            reduce_range=_saturates(),
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return onnx.load(path)


def _saturates() -> bool:
    """Whether int8 products on this processor lose what passes 16 bits: on x86 without VNNI. 7-bit weights do not."""
    features = provenance.cpu_features()
    return "avx2" in features and not any("vnni" in name or name == "amx_int8" for name in features)


def open_engine(path: Path, *, device: str, threads: int | None, facts: Facts) -> Engine:
    """An engine made by `compile_engine`, or any ONNX file with one image input."""
    return _Session(path, device, threads, facts)


def _providers(device: str) -> list[Any]:
    """ONNX Runtime's provider for `device`: cpu, cuda or cuda:N."""
    runtime = require("onnxruntime", "onnxruntime")
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise UserError(f"device {device!r}: ONNX Runtime {runtime.__version__} has no CUDA provider, {_INSTALL}")
    # fp32 is true fp32 here; without a fallback it would run on the cpu if CUDA does not start
    return [("CUDAExecutionProvider", {"device_id": int(index or 0), "use_tf32": 0})]


class _Session(Engine):
    def __init__(self, path: Path, device: str, threads: int | None, facts: Facts) -> None:
        kind, _, index = device.partition(":")
        if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
            raise UserError(f"backend 'onnxruntime' runs on cpu, cuda or cuda:N, not on {device!r}")
        if facts.get("device", kind) != kind:
            raise UserError(
                f"{path}: was optimised for {facts['device']}, not for {device!r}; add --device {facts['device']}, or "
                "compile it again"
            )
        made_for = facts.get("cpu_model", provenance.cpu_model())
        if made_for != provenance.cpu_model():
            raise UserError(
                f"{path}: was optimised for {made_for!r} and this is {provenance.cpu_model()!r}; compile it again here"
            )
        here = set(provenance.cpu_features())
        if other := set(facts.get("cpu_features", here)) ^ here:
            raise UserError(
                f"{path}: was optimised for a processor with other instructions ({', '.join(sorted(other))} only in "
                "one of the two); compile it again here"
            )
        self._path, self._threads = path, threads
        self._optimised = "cpu_model" in facts
        self.device = "cpu" if kind == "cpu" else f"cuda:{index or 0}"

    def _open(self) -> None:
        self._session = self._new_session()
        if self.device != "cpu" and self._session.get_providers()[0] != "CUDAExecutionProvider":
            raise UserError(f"device {self.device!r}: ONNX Runtime cannot start CUDA; check nvidia-smi")
        # as the session says; 0 threads are its own choice
        self.settings = {
            "threads": self._session.get_session_options().intra_op_num_threads or None,
            "providers": self._session.get_providers(),
        }
        self.inputs = [_info(value) for value in self._session.get_inputs()]
        self.outputs = [_info(value) for value in self._session.get_outputs()]

    def _new_session(self, profile_to: Path | None = None) -> Any:
        runtime = require("onnxruntime", "onnxruntime")
        session_options = runtime.SessionOptions()
        session_options.log_severity_level = 3
        if self._threads:
            session_options.intra_op_num_threads = self._threads
        if self._optimised:
            session_options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if profile_to:
            session_options.enable_profiling = True
            session_options.profile_file_prefix = str(profile_to)
        try:
            with memory_named(str(self._path)):
                return runtime.InferenceSession(str(self._path), session_options, providers=_providers(self.device))
        except UserError:
            raise
        except Exception as error:  # the runtime's own exceptions share no narrower base
            raise UserError(
                f"{self._path}: ONNX Runtime cannot open it ({first_line(error)}); compile the engine again"
            ) from None

    def _execute(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        if self.device != "cpu":
            return self._execute_on_device(images)
        outputs, compute_ms = timed(self._session.run, None, {self.inputs[0].name: images})
        return outputs, Timings([], [compute_ms], [])

    def _execute_on_device(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        from onnxruntime import OrtValue

        place = ("cuda", int(self.device.partition(":")[2]))
        on_device, h2d_ms = timed(OrtValue.ortvalue_from_numpy, images, *place)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self.inputs[0].name, on_device)
        for info in self.outputs:
            binding.bind_output(info.name, *place)

        def compute() -> None:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        _, compute_ms = timed(compute)
        outputs, d2h_ms = timed(binding.copy_outputs_to_cpu)
        return outputs, Timings([h2d_ms], [compute_ms], [d2h_ms])

    def profiler(self) -> Profiler:
        return _Profiler(self)

    def _close(self) -> None:
        del self._session


class _Profiler(Profiler):
    """A second session of the same engine, which writes what it does into a file."""

    def __init__(self, engine: _Session) -> None:
        self._engine = engine
        self._scratch = tempfile.TemporaryDirectory()
        self._plain, self._profiled = engine._session, engine._new_session(Path(self._scratch.name) / "ort")
        self._runs = self._skipped = 0

    def run(self, images: np.ndarray, times: int) -> list[float]:
        self._engine._session = self._profiled
        try:
            self._runs += times
            return [self._engine.run(images)[1].compute_ms[0] for _ in range(times)]
        finally:
            self._engine._session = self._plain

    def begin(self) -> None:
        self._skipped = self._runs

    def end(self) -> list[Operation]:
        with self._scratch:
            written = Path(self._profiled.end_profiling())
            events = json.loads(written.read_text(encoding="utf-8", errors="replace"))
        return parse_profile(events, self._engine.device, self._skipped)


def parse_profile(events: list[Facts], device: str, skip: int = 0) -> list[Operation]:
    """Operators in the file of ONNX Runtime's profiling, in the order in which they ran.

    A run's operators precede its `model_run`; those of the first `skip` runs do not count. On CUDA the times are those
    that the host saw, launches and not kernels: their sum says how much that leaves out.
    """
    wanted = _PROVIDERS[device.partition(":")[0]]
    total_ms: dict[tuple[str, str], float] = {}
    about: dict[tuple[str, str], Facts] = {}
    runs = 0
    for event in events:
        name, arguments = str(event.get("name")), event.get("args") or {}
        if name == "model_run":
            runs += 1
        elif name.endswith("_kernel_time") and runs >= skip:
            key = (name[: -len("_kernel_time")], str(arguments.get("node_index")))
            total_ms[key] = total_ms.get(key, 0.0) + event["dur"] / 1000
            about[key] = arguments
    return [_operation(key[0], about[key], ms / max(1, runs - skip), wanted) for key, ms in total_ms.items()]


def _operation(name: str, arguments: Facts, ms: float, wanted: str) -> Operation:
    kind, provider = arguments.get("op_name", "unknown"), arguments.get("provider", "unknown")
    moves = kind in _MOVES
    inputs, outputs = (_types(arguments.get(f"{side}_type_shape") or []) for side in ("input", "output"))
    precision = (converting if moves else computing)(inputs, outputs)
    return Operation(name, kind, precision, provider, ms, moves=moves, elsewhere=provider != wanted)


def _types(listed: list[Facts]) -> list[str]:
    """Types of tensors, from [{"float": [1, 3]}, …]."""
    return [name for tensor in listed for name in tensor]


def _info(value: Any) -> TensorInfo:
    if value.type not in _DTYPES:
        raise UserError(f"the engine's {value.name!r} is a {value.type}; one of {', '.join(_DTYPES)} was expected")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorInfo(value.name, np.dtype(_DTYPES[value.type]), shape)


BACKEND = Backend(
    name="onnxruntime",
    compiles_from="onnx",
    suffix=".onnx",
    precisions=("fp32", "int8"),
    calibrated=("int8",),
    devices=(CPU, CUDA),
    graph="fused",
    packages=("onnxruntime", "onnx", "numpy"),
    options=(DEVICE, CALIBRATION),
    compile=compile_engine,
    open=open_engine,
    telemetry=_nvml.telemetry,
    made_for=made_for,
    large=(".onnx.data",),
    reference_for="onnx",
)
