"""NVIDIA TensorRT 7 to 11: a fixed-batch ONNX graph, built to a .plan by trtexec or by the package `tensorrt`.

trtexec builds if it is found (on the PATH, or by --option trtexec=…), else the package does. The package runs an
engine if it has the same version and torch sees the GPU; else trtexec runs it, one process per batch. Both count as
the T4 column of the model-zoo guides does: throughput = 1000 · batch / mean GPU compute milliseconds, transfers left
out. With trtexec every latency is the mean of ten queries, the number of the guides.

Checked against the formats that NVIDIA's sources of each version print, not on a GPU. A plan is code for one model
of GPU and one version of TensorRT.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import provenance
from ..core.cli import UserError
from ..core.tensor import TensorInfo
from . import _cuda, _nvml
from ._profile import Profiler
from ._tensorrt_profile import ByPackage, ByTrtexec
from .base import CUDA, DEVICE, Backend, Engine, EngineFailure, Facts, Option, Options, Timings, require

INPUT, OUTPUT = "input", "output"  # as scripts/export.py names them
# TensorRT 7 starts from 16 MiB, too little for most of its convolutions
_OLD_WORKSPACE_MIB = 4096
_QUERIES = 10
_INSTALL = "and there is no trtexec on the PATH either; install TensorRT, or add --option trtexec=<path>"
_NUMBER = r"([-+.\w]+)"


def compile_engine(source: Path, output: Path, *, precision: str, batch_size: int, options: Options) -> Facts:
    """Fix the batch dimension of the ONNX file `source`, build the plan `output`, and run it once to read it back.

    Raises UserError if neither trtexec nor the package is there, EngineFailure with the builder's words if it fails.
    """
    onnx = require("onnx", "tensorrt")
    from ..models import onnx_files, onnx_graph

    device = options.get("device", "cuda:0")
    model = onnx_graph.with_batch(onnx_graph.load(source), batch_size)
    if onnx_files.is_large(model):
        raise EngineFailure(
            f"{source}: TensorRT is given graphs of at most 2 GB here; use another backend for this one"
        )
    input_shape = [batch_size, *onnx_graph.shape(onnx_graph.inputs(model)[0])[1:]]
    tool = _find_trtexec(options.get("trtexec"))
    with tempfile.TemporaryDirectory() as scratch:
        network = Path(scratch) / "network.onnx"
        if tool:
            flags = known_flags(_call([tool, "--help"], output))
            typed = "--fp16" not in flags
            onnx.save(_half(model) if precision == "fp16" and typed else model, network)
            command = build_command(tool, flags, network, output, precision, device, options.get("workspace_mib"))
            report = parse_report(_call(command, output))
            facts = {"trtexec": tool, "build_command": command, "tensorrt": report["tensorrt"], "gpu": report["gpu"]}
        else:
            trt = require(
                "tensorrt",
                "tensorrt",
                _INSTALL,
            )
            facts = _build(trt, model, output, precision, device, options.get("workspace_mib"))
    facts = {**facts, "input_shape": input_shape, "device": "cuda"}
    with _engine(output, device, facts) as engine:
        logits = engine.run(np.zeros(input_shape, np.float32))[0][0]
    return {**facts, "batch": len(logits), "num_classes": logits.shape[1]}


def open_engine(path: Path, *, device: str, threads: int | None, facts: Facts) -> Engine:
    """An engine made by `compile_engine` on this model of GPU."""
    if "identity" not in facts:
        raise UserError(f"{path}: is code for a GPU, and no sidecar vouches for it; compile it with scripts/compile.py")
    return _engine(path, device, facts)


def _engine(path: Path, device: str, facts: Facts) -> Engine:
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise UserError(f"backend 'tensorrt' runs on cuda or cuda:N, not on {device!r}")
    version = provenance.versions(["tensorrt"])["tensorrt"]
    tool = _find_trtexec(facts.get("options", {}).get("trtexec") or facts.get("trtexec"))
    if not (version or tool):
        require("tensorrt", "tensorrt", _INSTALL)
    if version and version.split(".")[:3] == str(facts["tensorrt"]).split("."):
        return _ByPackage(path, device, facts)
    if not tool:
        raise UserError(
            f"{path}: was built by TensorRT {facts['tensorrt']}, and here is neither trtexec nor that version of "
            "the package tensorrt; install it, or compile the engine again"
        )
    return _ByTrtexec(path, device, facts, tool)


# ---- trtexec


def _find_trtexec(path: str | None) -> str | None:
    return shutil.which(path or "trtexec")


def known_flags(help_text: str) -> set[str]:
    """The flags that a trtexec says it has. They, not version numbers, decide what it is asked for."""
    return set(re.findall(r"^\s*(--\w+)", help_text, re.MULTILINE))


def build_command(
    trtexec: str, flags: set[str], network: Path, plan: Path, precision: str, device: str, workspace_mib: str | None
) -> list[str]:
    """The command that builds `plan` from the ONNX file `network`, in the words of the trtexec that has `flags`.

    fp16 is a flag up to TensorRT 10; from 11 on the types are those of the network, which must be half already.
    fp32 is true fp32: without TF32, if this trtexec can be told so.
    """
    command = [trtexec, f"--onnx={network}", f"--saveEngine={plan}", f"--device={_index(device)}"]
    command += ["--skipInference" if "--skipInference" in flags else "--buildOnly"]
    if "--explicitBatch" in flags:
        command += ["--explicitBatch"]
    if precision == "fp16" and "--fp16" in flags:
        command += ["--fp16"]
    if precision == "fp32" and "--noTF32" in flags:
        command += ["--noTF32"]
    if "--memPoolSize" in flags:
        command += [f"--memPoolSize=workspace:{workspace_mib}"] if workspace_mib else []
    else:
        command += [f"--workspace={workspace_mib or _OLD_WORKSPACE_MIB}"]
    return command


def run_command(trtexec: str, flags: set[str], plan: Path, device: str) -> list[str]:
    """The command that runs `plan` on images.bin and writes logits.json, both in its working folder.

    TensorRT 11 leaves transfers out and replays CUDA graphs unless told otherwise; it is, to count as before.
    """
    command = [trtexec, f"--loadEngine={plan}", f"--loadInputs={INPUT}:images.bin", "--exportOutput=logits.json"]
    command += [f"--iterations={_QUERIES}", "--duration=0", "--warmUp=200", f"--device={_index(device)}"]
    command += [flag for flag in ("--includeDataTransfers", "--noCudaGraph") if flag in flags]
    return command


def parse_report(text: str) -> Facts:
    """What trtexec printed: `tensorrt` (version; "7" before it said), `gpu` (None before it said) and, if it ran, the
    means `compute_ms`, `h2d_ms`, `d2h_ms` of a query (None if it does not tell).

    Since version 8 each quantity is one line, `GPU Compute Time: min = …, mean = … ms`; before, GPU compute is a
    block of lines. Raises UserError for a mean that is no time.
    """
    banner = re.search(r"\[TensorRT v(\d+)\]", text)
    gpu = re.search(r"Selected Device: (.+)", text)
    report: Facts = {
        "tensorrt": _version(int(banner[1])) if banner else "7",
        "gpu": gpu[1].strip() if gpu else None,
    }
    for key, label in {"compute_ms": "GPU Compute Time", "h2d_ms": "H2D Latency", "d2h_ms": "D2H Latency"}.items():
        mean = re.search(rf"\] {label}: min = .*?mean = {_NUMBER} ms", text)
        report[key] = _milliseconds(mean[1], label) if mean else None
    block = re.search(rf"\] GPU Compute\s*$.*?\] mean: {_NUMBER} ms\s*$", text, re.MULTILINE | re.DOTALL)
    if report["compute_ms"] is None and block:
        report["compute_ms"] = _milliseconds(block[1], "GPU Compute")
    return report


def _version(number: int) -> str:
    """8601 -> 8.6.1, 101303 -> 10.13.3: from version 10 on the minor version has two digits."""
    major, rest = divmod(number, 10000 if number >= 10000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _milliseconds(text: str, label: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf") or (value == 0 and label.startswith("GPU")):
        raise UserError(f"trtexec says {label}: mean = {text} ms, which is no time; run it by hand and see")
    return value


def parse_outputs(text: str) -> np.ndarray:
    """The one output that trtexec exported: float32 of the shape it states. It is JSON but for nan and inf."""
    found = re.findall(r'"dimensions" : "([\dx]+)"\s*,\s*"values" : \[([^\]]*)\]', text)
    if len(found) != 1:
        raise UserError(f"trtexec exported {len(found)} outputs; an image classifier with one was expected")
    shape = tuple(int(size) for size in found[0][0].split("x"))
    values = np.array([float(value) for value in found[0][1].split(",") if value.strip()], np.float32)
    if values.size != int(np.prod(shape)):
        raise UserError(f"trtexec exported {values.size} values for an output of {found[0][0]}; run the command again")
    return values.reshape(shape)


def _index(device: str) -> str:
    return device.partition(":")[2] or "0"


def _call(command: Sequence[str], path: Path, folder: str | None = None) -> str:
    """Run trtexec; return what it printed. Raises UserError with its own words, `path` being what it worked on."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run ({error.strerror}); check --option trtexec") from None
    text = done.stdout + done.stderr
    if done.returncode:
        complaints = re.findall(r"\[E\] (.*)", text) or text.strip().splitlines() or ["it says nothing"]
        memory = next((line for line in complaints if re.search("out ?of ?memory", line, re.IGNORECASE)), None)
        advice = "use a smaller --batch_size" if memory else "run it by hand: " + " ".join(command)
        raise EngineFailure(f"{path}: trtexec ended with {done.returncode}: {memory or complaints[0]}; {advice}")
    return text


class _ByTrtexec(Engine):
    """One process per batch."""

    def __init__(self, path: Path, device: str, facts: Facts, tool: str) -> None:
        self._path, self._facts, self._tool = path.resolve(), facts, tool
        self.device = device

    def _open(self) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        self._command = run_command(
            self._tool, known_flags(_call([self._tool, "--help"], self._path)), self._path, self.device
        )
        self.settings = {"gpu": self._facts["gpu"]}  # each run checks that it is this one
        shape = tuple(self._facts["input_shape"])
        self.inputs = [TensorInfo(INPUT, np.dtype(np.float32), shape)]
        self.outputs = [TensorInfo(OUTPUT, np.dtype(np.float32), (shape[0], self._facts.get("num_classes")))]

    def _execute(self, images: np.ndarray, further: Sequence[str] = ()) -> tuple[list[np.ndarray], Timings]:
        folder = Path(self._scratch.name)
        images.tofile(folder / "images.bin")
        report = parse_report(_call([*self._command, *further], self._path, folder))
        if report["gpu"] != self._facts["gpu"]:
            raise UserError(
                f"{self._path}: was built for {self._facts['gpu']}, this is {report['gpu']}; compile it again here"
            )
        if report["compute_ms"] is None:
            raise UserError(
                f"{self._path}: trtexec said no GPU compute time; run it by hand: {' '.join(self._command)}"
            )
        times = [[] if report[key] is None else [report[key]] for key in ("h2d_ms", "compute_ms", "d2h_ms")]
        return [parse_outputs((folder / "logits.json").read_text())], Timings(*times)

    def profiler(self) -> Profiler:
        return ByTrtexec(self, known_flags(_call([self._tool, "--help"], self._path)), Path(self._scratch.name))

    def _close(self) -> None:
        self._scratch.cleanup()


# ---- the package


def _build(trt: Any, model: Any, plan: Path, precision: str, device: str, workspace_mib: str | None) -> Facts:
    """Build by the package: `model` is an ONNX model of fixed batch."""
    torch = require("torch", "tensorrt")
    gpu = _cuda.device(device, "tensorrt")
    torch.cuda.set_device(gpu)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    config = builder.create_builder_config()
    # gone or without effect since networks are always explicit (10) and always strongly typed (11)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    half = getattr(trt.BuilderFlag, "FP16", None)
    if precision == "fp16" and half is not None:
        config.set_flag(half)
    elif precision == "fp16":
        model = _half(model)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(workspace_mib) << 20)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        raise UserError(f"{plan}: TensorRT cannot read the ONNX file ({parser.get_error(0)})")
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise EngineFailure(
            f"{plan}: TensorRT could not build it; its own lines above say why, often too little GPU memory"
        )
    plan.write_bytes(serialised)
    return {"tensorrt": ".".join(trt.__version__.split(".")[:3]), "gpu": torch.cuda.get_device_name(gpu)}


class _ByPackage(Engine):
    """Buffers and stream are torch's."""

    def __init__(self, path: Path, device: str, facts: Facts) -> None:
        self._path, self._facts = path, facts
        self.device = device

    def _open(self) -> None:
        import tensorrt
        import torch

        device = _cuda.device(self.device, "tensorrt")
        if torch.cuda.get_device_name(device) != self._facts["gpu"]:
            raise UserError(
                f"{self._path}: was built for {self._facts['gpu']}, this is {torch.cuda.get_device_name(device)}; "
                "compile the engine again here"
            )
        self.settings = {"gpu": self._facts["gpu"]}
        torch.cuda.set_device(device)
        runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        self._engine = runtime.deserialize_cuda_engine(self._path.read_bytes())
        self._context = self._engine and self._engine.create_execution_context()
        if not self._context:
            raise UserError(
                f"{self._path}: TensorRT cannot open it, its own lines above say why; too little GPU memory, or "
                "compile the engine again here"
            )
        tensors = {}
        for name in map(self._engine.get_tensor_name, range(self._engine.num_io_tensors)):
            dtype = np.dtype(tensorrt.nptype(self._engine.get_tensor_dtype(name)))
            tensors[self._engine.get_tensor_mode(name)] = TensorInfo(
                name, dtype, tuple(self._engine.get_tensor_shape(name))
            )
        image, logits = tensors[tensorrt.TensorIOMode.INPUT], tensors[tensorrt.TensorIOMode.OUTPUT]
        self.inputs, self.outputs = [image], [logits]
        self._steps = _cuda.Steps(image.shape, logits.shape, device)
        self._bind(self._context)

    def _bind(self, context: Any) -> None:
        context.set_tensor_address(self.inputs[0].name, self._steps.images.data_ptr())
        context.set_tensor_address(self.outputs[0].name, self._steps.logits.data_ptr())

    def _execute(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        logits, timings = self._steps.run(
            images, lambda: self._context.execute_async_v3(self._steps.stream.cuda_stream)
        )
        return [logits], timings

    def profiler(self) -> Profiler:
        return ByPackage(self)

    def _close(self) -> None:
        # contexts go before their engine
        self._context = self._engine = self._steps = None


def _half(model: Any) -> Any:
    """The ONNX model with half-precision weights and arithmetic; input, output and what overflows stay float32."""
    float16 = require(
        "onnxruntime.transformers.float16", "tensorrt", "TensorRT 11 takes fp16 from it: pip install onnxruntime"
    )
    # the squares in a layer norm pass 65504 long before their mean's root does
    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, "Pow", "ReduceMean", "Sqrt"]
    return float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked)


BACKEND = Backend(
    name="tensorrt",
    compiles_from="onnx",
    suffix=".plan",
    precisions=("fp32", "fp16"),
    devices=(CUDA,),
    packages=("tensorrt", "torch", "onnx", "onnxruntime", "numpy"),
    options=(
        DEVICE,
        Option("trtexec", "path of trtexec; the one on the PATH unless given", kind="program"),
        Option(
            "workspace_mib",
            "largest workspace of the builder, in MiB; TensorRT's own choice unless given",
            kind="integer",
            minimum=1,
        ),
    ),
    compile=compile_engine,
    open=open_engine,
    telemetry=_nvml.telemetry,
)
