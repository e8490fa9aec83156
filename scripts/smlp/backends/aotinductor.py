"""torch AOTInductor: the checkpoint, exported and compiled to native code ahead of time, one package per batch size.

A package is native code for one kind of processor, and opening it runs it. So a package is opened only if its sidecar
states what it is: whoever copies an engine copies both, and vouches for both. Input and output are float32 for every
precision; the casts are inside.

Compiling needs a C++ compiler (g++, or what CXX names); for CUDA also Triton and the CUDA headers. Running needs
neither.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..core import files, provenance
from ..core.cli import UserError
from ..core.tensor import TensorInfo
from . import _cuda, _nvml, _precision
from ._profile import Profiler
from ._torch_profile import TorchProfiler, package_calls
from .base import (
    CPU,
    CUDA,
    DEVICE,
    Backend,
    Engine,
    EngineFailure,
    Facts,
    Option,
    Options,
    Timings,
    first_line,
    memory_named,
    require,
    timed,
)

# freezing: weights are folded and laid out for the kernels once. dynamic_threads: the number of threads is
# chosen when the engine runs, not when it is compiled. enable_kernel_profile: kernels are named while torch's profiler
# looks; to ask whether it does took 0.8 microseconds a kernel here, 0.2 ms of the 267 of sMLPNet-T.
_CPU_CONFIG = {"freezing": True, "cpp.dynamic_threads": True, "cpp.enable_kernel_profile": True}
_CUDA_CONFIG = {
    "freezing": True,
    # the nine taps of a depthwise convolution all read one GELU: store its result instead of computing it nine times
    "realize_opcount_threshold": 5,
}
# Its table of every kernel that was tried fills logs with hundreds of lines.
_SEARCH = {"max_autotune": True, "coordinate_descent_tuning": True, "autotune_num_choices_displayed": 0}


def compile_engine(source: Path, output: Path, *, precision: str, batch_size: int, options: Options) -> Facts:
    """Compile the checkpoint `source`, whose sidecar names the model, to the package `output`.

    Raises UserError for a missing compiler or device, and for a precision that the device does not have. Raises
    EngineFailure for a model that cannot be compiled, and for a batch that does not fit into memory.
    """
    torch = require("torch", "aotinductor")
    device = _device(options.get("device", "cpu"))
    if precision == "fp16" and device.type == "cpu":
        raise UserError("backend 'aotinductor' has fp16 on CUDA devices only; choose bf16 or fp32 for the cpu")
    if precision == "bf16" and device.type == "cpu" and not _has_bf16():
        raise EngineFailure(f"precision bf16: this CPU ({provenance.cpu_model()}) has no bf16; use fp32")
    compiler = os.environ.get("CXX", "g++")
    if not shutil.which(compiler):
        raise UserError(
            f"backend 'aotinductor' needs a C++ compiler and there is no {compiler!r}; install g++, or set CXX"
        )
    model, model_name, image_shape = _model(source, options.get("graph"), stencil=device.type == "cuda")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    _precision.use_full_fp32(threads=None)
    with _named_failures(source, batch_size), torch.no_grad():
        images = torch.zeros((batch_size, *image_shape), device=device)
        searches = device.type == "cuda" and options.get("autotune") != "false"
        _package(_casting(model.to(device, dtype), dtype), images, output, _SEARCH if searches else {})
        logits = _load(output, device)(images)
    return {"batch": len(logits), "model_name": model_name, "device": device.type, **_built_for(device)}


def made_for(options: Options) -> Facts:
    """The processor or GPU, and torch's build."""
    require("torch", "aotinductor")
    return _built_for(_device(options.get("device", "cpu")))


def _device(name: str) -> Any:
    """`name` as a torch device that is there; raises UserError otherwise."""
    import torch

    return torch.device("cpu") if name == "cpu" else _cuda.device(name, "aotinductor")


def _has_bf16() -> bool:
    """Whether this CPU's kernels have bf16. If not, torch multiplies number by number, ten times slower than fp32."""
    import torch

    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _model(source: Path, graph: str | None, stencil: bool) -> tuple[Any, str, tuple[int, ...]]:
    """The checkpoint's model as it is to be compiled, its name, and the shape of one image."""
    from ..models import architectures
    from ..models.checkpoint import load_model
    from ..models.fused import fuse
    from ..models.smlpnet import SMLPNet

    facts = files.read_json(files.sidecar_path(source), "the sidecar of a checkpoint")
    if "model_name" not in facts:
        raise UserError(f"{source}: which model is it? fetch it with scripts/retrieve.py, which writes that beside it")
    with architectures.sized(facts.get("image_size")):
        model, _ = load_model(facts["model_name"], source, facts.get("num_classes"), facts.get("key"))
    image_shape = tuple(model.pretrained_cfg["input_size"])
    if graph == "fused" or (graph is None and isinstance(model, SMLPNet)):
        model = fuse(model, stencil)
    return model, facts["model_name"], image_shape


def _casting(model: Any, dtype: Any) -> Any:
    """`model` with float32 input and output."""
    from torch import Tensor, nn

    class Casting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            return self.model(images.to(dtype)).float()

    return Casting().eval()


def _package(model: Any, images: Any, output: Path, further: Facts) -> None:
    import torch
    from torch._inductor.utils import fresh_cache

    config = {**(_CPU_CONFIG if images.device.type == "cpu" else _CUDA_CONFIG), **further}
    config["aot_inductor.metadata"] = {"smlp_input_shape": json.dumps(list(images.shape))}
    torch._logging.set_logs(all=logging.ERROR)
    # A cache of our own: torch names its working folder by the code alone, and two compilations of one model at
    # the same time, with other weights or another batch size, would write into the same one.
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch, fresh_cache(dir=scratch):
        if shlex.quote(scratch) != scratch:
            raise UserError(f"TMPDIR={tempfile.gettempdir()}: torch's compiler needs a folder without blanks or quotes")
        warnings.simplefilter("ignore")
        exported = torch.export.export(model, (images,))
        for node in exported.graph.nodes:  # named kernels would state where this code lies
            node.meta.pop("stack_trace", None)
        with _quoted_library_folders():
            torch._inductor.aoti_compile_and_package(exported, package_path=str(output), inductor_configs=config)


@contextlib.contextmanager
def _quoted_library_folders() -> Iterator[None]:
    """torch 2.13 quotes the folders of includes in the compiler's command, but not those of libraries.

    An environment in a path with a blank, which has torch's libraries, would end the linker with "cannot find".
    """
    from torch._inductor.cpp_builder import BuildOptionsBase

    folders = BuildOptionsBase.get_libraries_dirs
    BuildOptionsBase.get_libraries_dirs = lambda options: [shlex.quote(folder) for folder in folders(options)]
    try:
        yield
    finally:
        BuildOptionsBase.get_libraries_dirs = folders


def _load(path: Path, device: Any) -> Any:
    import torch

    index = -1 if device.index is None else device.index
    # single-threaded: without locks between callers, of whom there is one here; a CUDA graph needs it so
    return torch._inductor.aoti_load_package(str(path), run_single_threaded=True, device_index=index)


@contextlib.contextmanager
def _named_failures(path: Path, batch_size: int) -> Iterator[None]:
    """Turn what torch raises about `path` into one line with what to do."""
    try:
        with memory_named(f"{path}: batch {batch_size}"):
            yield
    except UserError:
        raise
    except Exception as error:  # torch's failures share no narrower base
        raise EngineFailure(f"{path}: AOTInductor failed at batch {batch_size} ({first_line(error)})") from error


def _built_for(device: Any) -> Facts:
    """What must be the same on the machine that runs the engine."""
    import torch

    if device.type == "cuda":
        return {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(device)}
    features = [name for name, has in torch.cpu.get_capabilities().items() if has is True]
    return {
        "torch": torch.__version__,
        "cpu_model": provenance.cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_features": sorted(features),
    }


def open_engine(path: Path, *, device: str, threads: int | None, facts: Facts) -> Engine:
    """An engine made by `compile_engine` on this kind of processor."""
    return _Package(path, device, threads, facts)


class _Package(Engine):
    def __init__(self, path: Path, device: str, threads: int | None, facts: Facts) -> None:
        made_for = facts.get("device", "cpu")
        if device.partition(":")[0] != made_for:
            raise UserError(f"{path}: was compiled for {made_for}, not for {device!r}; add --device {made_for}")
        self._path, self._threads, self._facts = path, threads, facts
        self._model = self._steps = self._graph = None
        self.device = device

    def _open(self) -> None:
        torch = require("torch", "aotinductor")
        if "identity" not in self._facts:
            sidecar = files.sidecar_path(self._path).name
            raise UserError(f"{self._path}: is native code, and no sidecar {sidecar} vouches for it; compile it")
        self._device = _device(self.device)
        self.device = str(self._device)
        here = _built_for(self._device)
        for key, value in here.items():
            if self._facts[key] != value:
                raise UserError(
                    f"{self._path}: was compiled for another {key}, {_differing(self._facts[key], value)} "
                    f"and not {_differing(value, self._facts[key])}; compile it again here"
                )
        _precision.use_full_fp32(self._threads)
        self.settings = {**_precision.stated(), **({"gpu": here["gpu"]} if "gpu" in here else {})}
        shape = tuple(json.loads(_metadata(self._path)["smlp_input_shape"]))
        with _named_failures(self._path, shape[0]), torch.inference_mode():
            self._model = _load(self._path, self._device)
            output_shape = tuple(self._model(torch.zeros(shape, device=self._device)).shape)
            if self._device.type == "cuda":
                self._steps = _cuda.Steps(shape, output_shape, self._device)
                if self._facts.get("options", {}).get("cuda_graph") != "false":
                    self._capture()
        self.inputs = [TensorInfo("input", np.dtype(np.float32), shape)]
        self.outputs = [TensorInfo("output", np.dtype(np.float32), output_shape)]

    def _capture(self) -> None:
        """All kernels as one CUDA graph, launched at once."""
        import torch

        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=self._steps.stream):
            self._compute()

    def _compute(self) -> None:
        self._steps.logits.copy_(self._model(self._steps.images))

    def _execute(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        import torch

        with torch.inference_mode(), _named_failures(self._path, len(images)):
            if self._device.type == "cuda":
                logits, timings = self._steps.run(images, self._graph.replay if self._graph else self._compute)
                return [logits], timings
            output, compute_ms = timed(self._model, torch.from_numpy(images))
        return [output.numpy()], Timings([], [compute_ms], [])

    def profiler(self) -> Profiler:
        return TorchProfiler(self, package_calls(_code(self._path)))

    def _close(self) -> None:
        self._graph = self._steps = self._model = None


def _metadata(path: Path) -> dict[str, str]:
    """What the package says about itself, read without running it."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("wrapper_metadata.json"))
            metadata = json.loads(archive.read(name))
            metadata["smlp_input_shape"]  # noqa: B018  (a package of someone else's has none)
            return metadata
    except (zipfile.BadZipFile, StopIteration, ValueError, KeyError):
        raise UserError(
            f"{path}: is no package that this backend compiled; compile it with scripts/compile.py"
        ) from None


def _code(path: Path) -> str:
    """The C++ code that calls the package's kernels; "" if the package does not hold it."""
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name.endswith(".wrapper.cpp")), None)
        return archive.read(name).decode(errors="replace") if name else ""


def _differing(value: Any, other: Any) -> str:
    """`value` for people; of a long list only what `other` lacks."""
    return "with " + (", ".join(sorted(set(value) - set(other))) or "fewer") if isinstance(value, list) else repr(value)


BACKEND = Backend(
    name="aotinductor",
    compiles_from="checkpoint",
    suffix=".pt2",
    precisions=("fp32", "bf16", "fp16"),
    devices=(CPU, CUDA),
    graph="fused",
    packages=("torch", "torchvision", "timm", "einops", "numpy"),
    options=(
        DEVICE,
        Option(
            "autotune",
            "time several kernels of each product and convolution, which takes minutes; true unless given. CUDA only",
            "boolean",
        ),
        Option("cuda_graph", "replay all kernels of a run as one CUDA graph; true unless given. CUDA only", "boolean"),
        Option(
            "graph",
            "fused (the default for sMLPNets) or reference (for every other model)",
            choices=("fused", "reference"),
            setting=False,
        ),
    ),
    compile=compile_engine,
    open=open_engine,
    telemetry=_nvml.telemetry,
    made_for=made_for,
)
