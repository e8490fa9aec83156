"""Ascend NPUs: `atc` makes an .om of an ONNX file, `aclruntime` (0.0.1 to 0.0.3) runs it.

Compiling needs CANN and no NPU. aclruntime checks hardly anything that it is given and crashes instead of raising:
every call here has its arguments checked first, and is positional, because it knows no names.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import host
from ..cli import UserError
from . import Engine, EngineFailure, TensorInfo, Timings, duration_ms, require, shape_text

COMPILES_FROM = "onnx"
SUFFIX = ".om"
PRECISIONS = ("high", "fp16", "fp32")
DEVICE = "ascend:0"
PACKAGES = ("aclruntime", "numpy")

_SUCCESS = "ATC run success"
# options of ours that name a file -> the option of atc, the file's name in the scratch folder
_FILES = {
    "op_precision_ini": ("op_precision_mode", "op_precision.ini"),
    "aipp_config": ("insert_op_conf", "aipp.config"),
    "fusion_switch_file": ("fusion_switch_file", "fusion_switch.cfg"),
}
_OURS = ("framework", "model", "output", "input_format", "input_shape", "log", "op_precision_mode", "precision_mode")
# anything else in op_precision.ini is a warning in a log that nobody reads
_IMPL_MODES = (
    "high_performance",
    "high_precision",
    "super_performance",
    "enable_float_32_execution",
    "enable_hi_float_32_execution",
    "support_out_of_bound_index",
    "keep_fp16",
    "norm_class",
)
_HINTS = {
    "E19010": "export with a lower opset: export.opset_version",
    "EZ9010": "export with a lower opset: export.opset_version",
    "E16002": "export with a lower opset: export.opset_version",
    "EC0010": "atc's python3 lacks a package (it needs numpy<2, decorator, attrs, psutil, sympy, scipy, protobuf); "
    "name one that has them in backends.ascend.python",
    "E40000": "atc's python3 lacks a package, or has numpy 2; name another in backends.ascend.python",
}


# --- compiling


def atc_command(
    model: str,
    output: str,
    *,
    batch_size: int,
    soc_version: str,
    precision: str,
    image_shape: Sequence[int] = (3, 224, 224),
    input_name: str = "input",
    input_format: str = "NCHW",
    options: Mapping[str, str] | None = None,
) -> list[str]:
    """The guide's command line, with what the precision and the options add. Names of files are relative.

    output: without .om, which atc appends. options: those of `compile_engine`; with `dynamic_batch_size` the batch is
    left open.
    """
    options = dict(options or {})
    batch = -1 if "dynamic_batch_size" in options else batch_size
    command = [
        "atc",
        "--framework=5",
        f"--model={model}",
        f"--output={output}",
        f"--input_format={input_format}",
        f"--input_shape={input_name}:{','.join(map(str, (batch, *image_shape)))}",
        "--log=error",
        f"--soc_version={soc_version}",
    ]
    if precision == "fp32":
        # force_fp32 is the same as cube_fp16in_fp32out: matrix products would get fp16 inputs
        command.append("--precision_mode=must_keep_origin_dtype")
    for key, (atc_option, name) in _FILES.items():
        if key in options and (precision == "high" or key != "op_precision_ini"):
            command.append(f"--{atc_option}={name}")
    further = {key: value for key, value in options.items() if key not in (*_FILES, "soc_version", "python")}
    return command + [f"--{key}={value}" for key, value in further.items()]


def made_for(options: dict[str, str]) -> dict[str, Any]:
    """CANN, and the chip where npu-smi and no option says it."""
    return {"cann": host.require_cann()[1], "soc_version": options.get("soc_version") or host.soc_version()}


def compile_engine(
    source: Path, output: Path, *, precision: str, batch_size: int, options: dict[str, str]
) -> dict[str, Any]:
    """Run `atc_command` in a scratch folder of its own and bring the .om to `output`.

    options: soc_version (npu-smi's chip unless given), python (whose folder atc finds its python3 in), op_precision_ini
    (precision high needs it), aipp_config, fusion_switch_file; any other key is one of atc's own. What an .om contains
    only an NPU can tell: the batch is the one asked for, and checked when the engine is opened.
    """
    from .. import graph

    for key in options:
        if key in _OURS:
            raise UserError(f"--option {key}: the command states that itself; remove the option")
    if precision == "high" and "op_precision_ini" not in options:
        raise UserError("precision 'high' needs --option op_precision_ini=resources/op_precision.ini")
    home, version = host.require_cann()
    model = graph.load(source)
    if graph.opset(model) > host.newest_opset(version):
        raise UserError(
            f"{source}: has opset {graph.opset(model)} and CANN {version} reads up to {host.newest_opset(version)}; "
            f"export it again with export.opset_version (--opset_version) {min(11, host.newest_opset(version))}"
        )
    if precision == "high":
        names = {node.name for node in model.graph.node}
        check_op_precision(Path(options["op_precision_ini"]), _known_modes(home), names)
    image = graph.inputs(model)[0]
    soc_version = options.get("soc_version") or host.soc_version()
    command = atc_command(
        "model.onnx",
        f"bs{batch_size}",
        batch_size=batch_size,
        soc_version=soc_version,
        precision=precision,
        image_shape=graph.shape(image)[1:],
        input_name=image.name,
        input_format="ND" if graph.takes_uint8(model) else "NCHW",  # for bytes NHWC, which atc has no word for
        options=options,
    )
    # atc refuses blanks in paths and litters its working folder, where two runs disturb each other
    with tempfile.TemporaryDirectory(prefix="smlp-atc-", dir=host.plain_scratch_parent()) as folder:
        scratch = Path(folder)
        shutil.copyfile(source, scratch / "model.onnx")
        for key, (_, name) in _FILES.items():
            if key in options:
                shutil.copyfile(options[key], scratch / name)
        done = subprocess.run(
            command,
            cwd=scratch,
            env=atc_environment(options.get("python")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said = done.stdout.decode(errors="replace")
        print(said, end="", flush=True)
        made = sorted(scratch.glob(f"bs{batch_size}*.om"))  # newer versions append the host's platform
        if done.returncode or _SUCCESS not in said or len(made) != 1:
            raise EngineFailure(f"{source}: atc failed with status {done.returncode}: {explain(said)}")
        shutil.copyfile(made[0], output)
    return {
        "batch": batch_size,
        "batch_checked": False,
        "soc_version": soc_version,
        "cann": version,
        "atc_command": command,
        "atc_warnings": [message for _, message in messages(said, "W")],
        "opset": graph.opset(model),
        "emulated": _is_emulated(output),
    }


def messages(said: str, kind: str) -> list[tuple[str, str]]:
    """(code, text) of every error ("E") or warning ("W") in atc's output; each text one line, cause and solution in it.

    CANN 8 and later put process and date before the text; tracebacks are left out.
    """
    found: list[tuple[str, list[str]]] = []
    for line in said.splitlines():
        start = re.match(r"\s*([EW][0-9A-Z]\d{3,4}):\s*(?:\[PID: *\d+\]\s+\S+\s+)?(.*)", line)
        if start:
            found.append((start[1], [start[2]]))
        elif found and line[:1].isspace():
            found[-1][1].append(line.strip())
        else:
            found.append(("", []))  # what follows belongs to no message
    texts = ((code, " ".join(lines).split("TraceBack")[0].strip()) for code, lines in found)
    return [(code, f"{code}: {text}") for code, text in texts if code.startswith(kind)]


def explain(said: str) -> str:
    """Why atc failed, in its own words, and what to do about it, in one line."""
    errors = messages(said, "E")
    stray = [line.strip() for line in said.splitlines() if re.match(r"(ERROR:|atc.*error)", line)]
    words = "; ".join([*stray, *(text for _, text in errors)]) or " ".join(said.split())[-300:] or "it said nothing"
    hints = dict.fromkeys(_HINTS[code] for code, _ in errors if code in _HINTS)
    return "; ".join([words, *hints])


def check_op_precision(path: Path, known: set[tuple[str, str]] | None, nodes: set[str]) -> None:
    """Raise UserError for a line of an op_precision.ini that CANN would ignore without a word.

    known: the pairs of operator type and mode that the installed CANN lists, None where it lists none. nodes: names of
    the model's nodes; a fused operator is called <last node>/<type>.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); lines like Gelu=high_performance were expected") from None
    section, seen = "[ByOpType]", set()
    for number, line in enumerate(map(str.strip, lines), 1):
        if line in ("[ByOpType]", "[ByNodeName]"):
            section = line
        elif line and not line.startswith("#"):
            key, equals, mode = (part.strip() for part in line.partition("="))
            problem = None
            if not (key and equals):
                problem = "is not of the form Type=mode"
            elif mode not in _IMPL_MODES:
                problem = f"has no mode of {', '.join(_IMPL_MODES)}"
            elif (section, key) in seen:
                problem = "repeats a key, and the first one counts"
            elif section == "[ByNodeName]" and not nodes & {key, key.rpartition("/")[0]}:
                problem = "names no node of the model"
            elif section == "[ByOpType]" and known is not None and (key, mode) not in known:
                types = sorted({kind for kind, _ in known if kind.lower() == key.lower()})
                problem = "is not in the list of this CANN (impl_mode/all_ops_impl_mode.ini)" + (
                    f", which writes {types[0]}" if types and types[0] != key else ""
                )
            if problem:
                raise UserError(f"{path}: line {number}, {line!r}, {problem}; CANN would silently ignore it")
            seen.add((section, key))


def _known_modes(home: Path) -> set[tuple[str, str]] | None:
    """(operator type, mode) that this CANN has; None where it has no list."""
    path = home / "opp/built-in/op_impl/ai_core/tbe/impl_mode/all_ops_impl_mode.ini"
    if not path.exists():
        return None
    pairs = (line.partition("=") for line in path.read_text(errors="replace").splitlines() if "=" in line)
    return {(key.strip(), mode.strip()) for key, _, modes in pairs for mode in modes.split(",")}


def atc_environment(python: str | None) -> dict[str, str]:
    """The environment for atc, whose compiler runs the first python3 on PATH and needs numpy<2.

    That must not be the virtual environment of this project, unless it is the one named.
    """
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if python:
        places.insert(0, str(Path(shutil.which(python) or python).parent))
    elif sys.prefix != sys.base_prefix:
        places = [place for place in places if Path(place) != Path(sys.executable).parent]
    return {**os.environ, "PATH": os.pathsep.join(places)}


def _is_emulated(path: Path) -> bool:
    with open(path, "rb") as stream:
        return b"emulated_om_for" in stream.read(100)


# --- running


def telemetry(device: str) -> dict[str, Any]:
    """health, temperature_c, power_w, aicore_percent, memory_used_mb and processes of a device, by npu-smi; versions.

    processes: one text each, None where npu-smi does not tell. Nothing at all where there is no npu-smi.
    """
    if host.npu_smi_path() is None:
        return {}
    found, home = host.chip(_number_of(device)), host.cann_home()
    processes = found.processes
    return {
        "health": found.health,
        "temperature_c": found.temperature_c,
        "power_w": found.power_w,
        "aicore_percent": found.aicore_percent,
        "memory_used_mb": found.memory_used_mb,
        "processes": None
        if processes is None
        else [f"process {process.pid} {process.name}".strip() for process in processes],
        "npu_id": found.npu_id,
        "driver": host.version_info(host.ASCEND_ROOT / "driver" / "version.info"),
        "cann": host.cann_version(home) if home else None,
    }


def open_engine(path: Path, *, device: str, threads: int | None, facts: dict[str, Any]) -> Engine:
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

    def __init__(self, path: Path, device: str, facts: dict[str, Any]) -> None:
        self._path, self._facts = path, facts
        self._number = _number_of(device)
        self.device = f"ascend:{self._number}"

    def _open(self) -> None:
        acl = require("aclruntime", "ascend", _INSTALL)
        if _Session._of_process not in (None, self._number):
            raise UserError(f"device {self.device}: this process has opened another; use one process a device")
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

    def _close(self) -> None:
        # not finalize(): it ends ACL for the whole process, which the end of the process does anyway
        del self._session


_INSTALL = (
    f"where CANN's libraries are not found, {host.SET_ENV}, or name that file in backends.ascend.set_env; where the "
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
    """A path that newer aclruntimes take: plain characters, no link, not writable by others; a copy where need be."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if re.fullmatch(host.PLAIN_PATH, str(path)) and not path.is_symlink() and not mode & ~0o755:
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="smlp-om-", dir=host.plain_scratch_parent()) as folder:
        copy = Path(folder) / "engine.om"
        shutil.copyfile(path, copy)
        copy.chmod(0o600)
        yield str(copy)
