"""Running .om files by aclruntime 0.0.1 to 0.0.3.

It checks hardly anything that it is given and crashes instead of raising: every call here has its arguments checked
first, and is positional, because it knows no names. NumPy is all that this module needs, under Python 3.9.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...core.cli import UserError
from ...core.tensor import TensorInfo, shape_text
from .._profile import Profiler
from ..base import Engine, EngineFailure, Facts, Timings, duration_ms, require
from . import cann, msprof, npu_smi

# Its MB are binary: it tells 65536 of the 64 GiB of a 910B.
_NPU_SMI_MB = 1 << 20


def telemetry(device: str) -> Facts:
    """What npu-smi says of a device: name, health, temperature_c, power_w, clock_mhz, aicore_percent, processes, ….

    processes: one text for each other one, None if npu-smi does not tell. memory_mb: of this process, in 10^6 bytes;
    None if its id is not among those listed, as in a container that numbers its own. npu-smi tells no reasons for low
    clocks. Nothing at all if there is no npu-smi.
    """
    if npu_smi.program() is None:
        return {}
    found, home = npu_smi.chip(_number_of(device)), cann.find_home()
    others = [process for process in found.processes or () if process.pid != os.getpid()]
    own = [process for process in found.processes or () if process.pid == os.getpid()]
    return {
        "name": found.name,
        "health": found.health,
        "temperature_c": found.temperature_c,
        "power_w": found.power_w,
        "aicore_percent": found.aicore_percent,
        "clock_mhz": found.clock_mhz,
        "memory_used_mb": found.memory_used_mb,
        "memory_mb": own[0].memory_mb * _NPU_SMI_MB / 1e6 if own else None,
        "processes": None
        if found.processes is None
        else [f"process {process.pid} {process.name}".strip() for process in others],
        "npu_id": found.npu_id,
        "driver": cann.version_info(cann.ROOT / "driver" / "version.info"),
        "cann": cann.version_of(home) if home else None,
    }


def open_engine(path: Path, *, device: str, threads: int | None, facts: Facts) -> Engine:
    """An .om of `compile_engine`, or any other with one image input and scores as output; also one with gears."""
    return _Session(path, device, facts)


def _number_of(device: str) -> int:
    match = re.fullmatch(r"(?:(?:ascend|npu):)?(\d{1,3})", device)
    if not match:
        raise UserError(f"--device {device}: a number, or ascend:<number>, was expected; npu-smi info shows them")
    return int(match[1])


class _Session(Engine):
    # ACL has one current device a process: a second one would run in the wrong memory
    _of_process: int | None = None

    def __init__(self, path: Path, device: str, facts: Facts) -> None:
        self._path, self._facts = path, facts
        self._number = _number_of(device)
        self.device = f"ascend:{self._number}"

    def _open(self) -> None:
        acl = require("aclruntime", "ascend", _INSTALL)
        if _Session._of_process not in (None, self._number):
            raise UserError(f"device {self.device}: this process has opened another; use one process per device")
        self._acl = acl
        self.emulated = bool(getattr(acl, "SMLP_EMULATED", False))
        options = acl.session_options()
        options.log_level = 3  # warnings
        with _acceptable(self._path) as path:
            try:
                self._session = acl.InferenceSession(path, self._number, options)
            except RuntimeError as error:
                # acl_base.h: bad_alloc, and the memory errors of the runtime and of the graph engine
                no_memory = re.search(r"\[(200000|207001|245000)\]", str(error))
                raise (EngineFailure if no_memory else UserError)(self._refusal(str(error))) from None
        _Session._of_process = self._number
        # descriptions are views into the session: all that is needed is copied out of them here
        self.inputs = [_info(desc) for desc in self._session.get_inputs()]
        self.outputs = [_info(desc) for desc in self._session.get_outputs()]
        self._gear = None
        try:
            self._check()
        except UserError:
            self._close()
            raise

    def _refusal(self, message: str) -> str:
        if "[1][" in message:
            reason = "it is no whole .om, or was compiled for another chip or a newer CANN; compile it again here"
        elif re.search(r"\[(507\d{3}|107\d{3})\]", message):
            reason = f"device {self.device} cannot be opened; `npu-smi info` and `make doctor` show what there is"
        else:
            reason = "see the [ERROR] lines above"
        return f"{self._path}: aclruntime cannot open it ({message.strip()}): {reason}"

    def _check(self) -> None:
        """What aclruntime lets pass: another batch size than the sidecar states, sizes that contradict themselves."""
        if not hasattr(self._session.sumary(), "exec_time_list"):
            raise UserError("this aclruntime is older than September 2022 and lists no times; install a newer one")
        wanted = self._facts.get("batch")
        if self.batch not in (None, wanted or self.batch):
            raise UserError(
                f"{self._path}: is an engine for batch {self.batch}, but stands for batch {wanted}; compile it again, "
                "or give the right file"
            )
        if len(self.inputs) == 1 and None not in self.inputs[0].shape:
            size = int(np.prod(self.inputs[0].shape)) * self.inputs[0].dtype.itemsize
            if size != self._session.get_inputs()[0].realsize:
                raise UserError(
                    f"{self._path}: its input {shape_text(self.inputs[0].shape)} {self.inputs[0].dtype} has {size} "
                    f"bytes, but it asks for {self._session.get_inputs()[0].realsize}; compile it again"
                )
        for info in self.outputs:
            if len(info.shape) != 2 or (None not in (info.shape[0], self.batch) and info.shape[0] != self.batch):
                raise UserError(
                    f"{self._path}: its output {info.name!r} is {shape_text(info.shape)}; (batch, classes) was "
                    "expected of an image classifier"
                )

    def _execute(self, images: np.ndarray) -> tuple[list[np.ndarray], Timings]:
        acl, session = self._acl, self._session
        if self.batch is None and self._gear != len(images):
            self._set_gear(len(images))
        needed = session.get_inputs()[0].realsize
        if images.nbytes != needed:
            raise UserError(f"{self._path}: takes {needed} bytes a run but the batch has {images.nbytes}")
        transfers = acl.MemorySummary() if hasattr(acl, "MemorySummary") else None
        if transfers:
            transfers.reset()
        (getattr(session, "reset_sumaryinfo", None) or session.reset_summaryinfo)()
        try:
            if hasattr(acl, "BaseTensor"):
                # a bare address: `images` is alive until run() is back, because this frame holds it
                feed = acl.BaseTensor(images.ctypes.data, images.nbytes)
            else:
                feed = acl.Tensor(images)
                feed.to_device(self._number)
            tensors = session.run([info.name for info in self.outputs], [feed])
            outputs = []
            for tensor, info in zip(tensors, self.outputs):
                tensor.to_host()  # np.array of a tensor on the device aborts the process, or is no array
                outputs.append(_array(tensor, info))
        except RuntimeError as error:
            raise UserError(
                f"{self._path}: aclruntime failed ({str(error).strip()}); see the [ERROR] lines above"
            ) from None
        compute_ms = [duration_ms(entry) for entry in session.sumary().exec_time_list]
        if transfers is None:
            return outputs, Timings([], compute_ms, [])
        return outputs, Timings(list(transfers.H2D_time_list), compute_ms, list(transfers.D2H_time_list))

    def _set_gear(self, batch: int) -> None:
        try:
            self._session.set_dynamic_batchsize(batch)
        except RuntimeError:
            raise UserError(
                f"{self._path}: is an engine for several batch sizes, and {batch} is none of them (the [ERROR] line "
                "above lists them); choose one with --batchsize"
            ) from None
        self._gear = batch

    def profiler(self) -> Profiler:
        return msprof.MsprofProfiler(self._path, self.device)

    def _close(self) -> None:
        # not finalize(): it ends ACL for the whole process, which the end of the process does anyway
        del self._session


_INSTALL = (
    f"if CANN's libraries are not found, {cann.SET_ENV}, or name that file in backends.ascend.set_env; if the "
    "module is missing, install the aclruntime wheel of Ascend's ais_bench for this interpreter, or name the "
    "interpreter that has it in backends.ascend.python. `make doctor` shows both"
)


def _info(desc: Any) -> TensorInfo:
    kind = desc.datatype.name
    dtype = np.dtype({"double": "float64"}.get(kind, kind))
    return TensorInfo(str(desc.name), dtype, tuple(None if size < 0 else int(size) for size in desc.shape))


def _array(tensor: Any, info: TensorInfo) -> np.ndarray:
    array = np.array(tensor)
    if array.dtype != info.dtype:
        raise UserError(f"the engine's output {info.name!r} is {array.dtype} where {info.dtype} was announced")
    return array


@contextlib.contextmanager
def _acceptable(path: Path) -> Iterator[str]:
    """A path that newer aclruntimes take: plain characters, no link, not writable by others; a copy if need be."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if re.fullmatch(cann.PLAIN_PATH, str(path)) and not path.is_symlink() and not mode & ~0o755:
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="smlp-om-", dir=cann.plain_scratch_parent()) as folder:
        copy = Path(folder) / "engine.om"
        shutil.copyfile(path, copy)
        copy.chmod(0o600)
        yield str(copy)
