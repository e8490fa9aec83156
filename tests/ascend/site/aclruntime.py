"""Emulated `aclruntime`: the API of the real extension module without an NPU.

Comments name the contract file and section that they follow. Where the real module is undefined
(reads out of bounds, uses freed memory, runs in the wrong context) this one dies or raises at once.
It differs knowingly in one thing: below Python 3.12 no pure Python class has the buffer protocol, so
`np.array(tensor)` works through `__array__` and `memoryview(tensor)` does not work.

Environment: SMLP_EMULATOR_ACLRUNTIME (a name in _VARIANTS), SMLP_EMULATOR_DEVICES (how many there are),
SMLP_EMULATOR_SOC (the chip; an .om for another one does not load), SMLP_EMULATOR_PYTHON (an interpreter
with ONNX Runtime, for hosts whose own has none; else the one that compiled the model is used).
"""

from __future__ import annotations

import atexit
import ctypes
import enum
import json
import math
import operator
import os
import re
import resource
import signal
import stat
import sys
import threading
import time

import numpy as np
from aclruntime_compute import open_model

SMLP_EMULATED = True  # how our code tells the emulator from the real thing

_VARIANTS = ("0.0.1", "0.0.2", "0.0.2-pairs", "0.0.2-g25", "0.0.3")
_VARIANT = _VARIANTS.index(os.environ.get("SMLP_EMULATOR_ACLRUNTIME", "0.0.2"))
# aclruntime_api.md 10: from RC3/M24 on (start, end) pairs and one context a session, which every call sets
_PAIRS = _VARIANT >= 2
_VALIDATES = _VARIANT >= 3  # aclruntime_api.md 10, row G25

if not os.environ.get("ASCEND_TOOLKIT_HOME"):  # aclruntime_api.md 10, last paragraph
    raise ImportError("libascendcl.so: cannot open shared object file: No such file or directory")

_ERRORS = {
    -1: "ACL: general failure",
    1: "ACL: invalid parameter",
    2: "ACL: memory allocation fail",
    26: "ACL: memory copy fail",
    1004: "Invalid parameter",
    3011: "Infer: find outputsize is zero please check outputsize is set correct",
}
_POISON = 0xFF  # fills memory that the real module leaves uninitialised or frees: NaN in any float type
_libc = ctypes.CDLL(None)
_current = threading.local()  # .device: the ACL context made current in this thread


class _process:  # one ACL a process, aclruntime_api.md 8
    initialised = finalized = False
    opened: set = set()
    log_level = 2
    models = 0
    times: dict = {"H2D": [], "D2H": []}


def _error(code):
    return RuntimeError(f"[{code}][{_ERRORS.get(code, 'Error code unknown')}] ")  # aclruntime_api.md 3


def _print(text, end="\n"):
    """Log as C++ does, aclruntime_api.md 8: on the C runtime's stdout, which Python's own does not know."""
    _libc.printf(b"%s", (text + end).encode())


def _log(level, text):
    if ("DEBUG", "INFO", "WARN", "ERROR").index(level) + 1 >= _process.log_level:
        _print(f"[{level}] {text}")


def _undefined(what):
    """Die as the real module does where it reads memory that is not its own (rc 139), but say why."""
    print(f"aclruntime emulator: {what}", file=sys.stderr, flush=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def _match(name, given, *kinds):
    """The arguments of a bound C++ function: positional only, and of these kinds (no float for an int)."""
    if len(given) == len(kinds):
        try:
            return [_cast(value, kind) for value, kind in zip(given, kinds)]
        except TypeError:
            pass
    raise TypeError(f"{name}(): incompatible function arguments. Invoked with: {', '.join(map(repr, given))}")


def _cast(value, kind):
    if kind is int:
        return operator.index(value)
    if kind == "strings":
        return [_cast(text, str) for text in _cast(value, (list, tuple))]
    if not isinstance(value, kind):
        raise TypeError
    return value


def _attribute(name, kind):
    """A read/write attribute of a bound C++ structure, kept in `_fields`."""

    def write(self, value):
        self._fields[name] = _match(name, [value], kind)[0]

    return property(lambda self: self._fields[name], write)


class _Enum(enum.Enum):
    """As pybind11's enums: no ints, but equal to them."""

    def __index__(self):
        return self.value

    __int__ = __index__

    def __eq__(self, other):
        return self.value == (other.value if isinstance(other, _Enum) else other)

    def __hash__(self):
        return hash(self.value)


# aclruntime_api.md 1
_DTYPES = {"float32": 0, "float16": 1, "int8": 2, "int32": 3, "uint8": 4, "int16": 6, "uint16": 7, "uint32": 8}
dtype = _Enum("dtype", {**_DTYPES, "int64": 9, "uint64": 10, "double": 11, "bool": 12}, module=__name__)
_Memory = _Enum("type", {"memory_host": 0, "memory_device": 1, "memory_dvpp": 2}, module=__name__)
_BUFFER_FORMATS = {"b": "int8", "h": "int16", "i": "int32", "l": "int64", "e": "float16", "f": "float32"}
_BUFFER_FORMATS.update({"B": "uint8", "H": "uint16", "I": "uint32", "L": "uint64", "d": "double", "?": "bool"})


def _numpy(kind):
    return np.dtype("float64" if kind.name == "double" else kind.name)


def _shape_text(shape):
    return "(" + ", ".join(map(str, shape)) + ")"


class session_options:  # aclruntime_api.md 2
    __slots__ = ("_fields",)

    def __init__(self):
        self._fields = {"loop": 1, "log_level": 2, "acl_json_path": ""}

    loop, log_level = _attribute("loop", int), _attribute("log_level", int)
    acl_json_path = _attribute("acl_json_path", str)


class tensor_desc:
    """aclruntime_api.md 6: a live view of the session's own description, dangling once that is destroyed."""

    __slots__ = ("_live",)

    def __init__(self):
        self._live = {"name": "", "datatype": dtype(0), "format": 2, "shape": [], "size": 0, "realsize": 0}

    @property
    def _fields(self):
        if self._live is None:
            _undefined("a tensor_desc was used after its session had been destroyed (aclruntime_api.md 6)")
        return self._live

    name, datatype, format = _attribute("name", str), _attribute("datatype", dtype), _attribute("format", int)
    size, realsize = _attribute("size", int), _attribute("realsize", int)
    shape = property(
        lambda self: list(self._fields["shape"]), lambda self, value: self._fields.update(shape=list(value))
    )


class _Summary:  # aclruntime_api.md 7
    def __init__(self):
        self._times = []

    @property
    def exec_time_list(self):
        return list(self._times)

    @exec_time_list.setter
    def exec_time_list(self, values):
        self._times = list(values)


class _MemorySummary:  # aclruntime_api.md 7: every instance shows the same process-wide lists
    H2D_time_list, D2H_time_list = (
        property(
            lambda self, key=key: list(_process.times[key]),
            lambda self, values, key=key: _process.times.update({key: list(values)}),
        )
        for key in ("H2D", "D2H")
    )

    def reset(self):
        _process.times = {"H2D": [], "D2H": []}


def _device_count():
    visible = os.environ.get("ASCEND_RT_VISIBLE_DEVICES")  # npu_smi.md 4.2
    return len(visible.split(",")) if visible else int(os.environ.get("SMLP_EMULATOR_DEVICES", "1"))


def _set_device(device):
    """Open the device on its first use and make its context current in this thread, aclruntime_api.md 3."""
    if not _process.initialised:
        _process.initialised = True
        atexit.register(_shut_down)
        _log("INFO", "acl init success")
    if not 0 <= device < _device_count() or _process.finalized:  # 8: after finalize() nothing can be relied on
        _print("EL003: The argument is invalid.")
        _print(f"        Failed to open device,retCode=0x7020014,deviceId={device}.[FUNC:Init][FILE:device.cc]")
        _log("ERROR", f"acl open device {device & 0xFFFFFFFF} failed")
        _print("SetDevice failed. ret=507033")
        raise _error(507033)
    if device not in _process.opened:
        _process.opened.add(device)
        _log("INFO", f"open device {device} success")
    _current.device = device


def _shut_down():
    if not _process.finalized:
        _log("INFO", "end to destroy context")
        for device in sorted(_process.opened):
            _log("INFO", f"end to reset device is {device}")
        _log("INFO", "end to finalize acl")


def _copied(direction, data):
    """A timed copy between host and device: one entry a memcpy, aclruntime_api.md 7."""
    start = time.perf_counter()
    copy = data.copy()
    _process.times[direction].append(_milliseconds(1e3 * (time.perf_counter() - start)))
    return copy


def _milliseconds(value):
    return float(np.float32(round(value, 3)))  # aclruntime_api.md 7: C float, gettimeofday resolution 1 us


class _BaseTensor:  # aclruntime_api.md 4.2: a bare address, read when run() is called and not before
    def __init__(self, *arguments):
        address, size = _match("BaseTensor", arguments, int, int)
        self._fields = {"size": size}
        self._address = address

    size = _attribute("size", int)

    def _upload(self):
        if self.size <= 0:
            return np.zeros(2, np.uint8)  # "the user sees a misleading in size:2"
        if self._address <= 0:
            _undefined(f"BaseTensor has the address {self._address}")
        return _copied("H2D", np.frombuffer(ctypes.string_at(self._address, self.size), np.uint8))


class Tensor:  # aclruntime_api.md 9
    def __init__(self, *arguments):
        device = operator.index(arguments[1]) if _VARIANT == 4 and len(arguments) == 2 else -1  # 10, row 0.0.3
        if len(arguments) != 1 and device < 0:
            raise TypeError("__init__(): incompatible constructor arguments.")
        view = memoryview(arguments[0])  # list, None: TypeError
        if getattr(_current, "device", None) is None or _process.finalized:
            raise _error(2)  # section 8: host memory is pinned, which needs a context
        kind = dtype[_BUFFER_FORMATS.get(view.format, "uint8")]  # anything unknown: one byte an element
        array = arguments[0] if isinstance(arguments[0], np.ndarray) else np.asarray(view)
        size = math.prod(view.shape) * _numpy(kind).itemsize
        data = ctypes.string_at(array.ctypes.data, size)  # strides are ignored, as the real one does
        self._fill(np.frombuffer(data, np.uint8).copy(), kind, view.shape, -1)
        if device >= 0:
            self.to_device(device)

    def _fill(self, data, kind, shape, device):
        self._bytes, self._dtype, self._shape, self._device = data, kind, [int(size) for size in shape], device
        self._type = _Memory(0 if device < 0 else 1)
        return self

    shape = property(lambda self: list(self._shape))
    dtype = property(lambda self: self._dtype)
    device = property(lambda self: self._device)
    type = property(lambda self: self._type)

    def __repr__(self):
        return f"<Tensor>\nshape:\t{_shape_text(self._shape)}\ndtype:\t{self._dtype.name}\ndevice:\t{self._device}"

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle 'aclruntime.Tensor' object")

    def __array__(self, dtype=None, copy=None):
        if self._device >= 0:  # the real one aborts, or gives an object array: never do it
            raise BufferError("tensor is in npu. can't convert to numpy array")
        array = self._bytes.view(_numpy(self._dtype)).reshape(self._shape)
        array = array if dtype is None else array.astype(dtype, copy=False)
        return array.copy() if copy else array

    def __buffer__(self, flags):
        return memoryview(self.__array__())

    def to_host(self):
        self._move(-1, 0)

    def to_device(self, *device):
        self._move(*_match("to_device", device, int), 1)

    def to_dvpp(self, *device):
        self._move(*_match("to_dvpp", device, int), 2)

    def _move(self, device, memory):
        if memory and device < 0:
            _print(f"deviceId({device}) is less than 0")
        elif memory and device >= _device_count():
            _print(f"deviceId({device}) is bigger than deviceCount({_device_count()})")
        elif self._bytes is not None:
            if _process.finalized:
                raise _error(26)
            if memory:
                _current.device = device  # section 8: the context is switched as a side effect
            if (device, memory) != (self._device, self._type.value):
                old = self._bytes
                if self._device >= 0:
                    self._bytes = _copied("D2H", self._bytes)
                if memory:
                    self._bytes = _copied("H2D", self._bytes)
                old.fill(_POISON)  # freed: what np.asarray() shared with it dangles
                self._device, self._type = device, _Memory(memory)
            return
        raise _error(1004)


def _read_om(path):
    """(header, ONNX bytes) of an emulated .om, None where the file is missing, no om, or for another chip."""
    try:
        with open(path, "rb") as stream:
            header = json.loads(stream.readline(1 << 20))
            built_for = header["emulated_om_for"]
            fits = built_for == os.environ.get("SMLP_EMULATOR_SOC", built_for)  # atc_contract.md 7
            return (header, stream.read()) if fits else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _validate(path, device, options):  # aclruntime_api.md 10, row G25
    if not 1 <= options.loop <= 100000:
        raise RuntimeError("loop num out of range. Please check.")
    if not 1 <= options.log_level <= 4:
        raise RuntimeError("log level out of range. Please check.")
    if not (
        re.fullmatch(r"[A-Za-z0-9_./-]+\.om", path)
        and not os.path.islink(path)
        and os.path.isfile(path)
        and not stat.S_IMODE(os.stat(path).st_mode) & ~0o755
    ):
        raise RuntimeError("please check model path")
    if not 0 <= device <= 255:
        raise RuntimeError("device id is out of range")


class InferenceSession:  # aclruntime_api.md 3
    _model = None

    def __init__(self, *arguments):
        path, device, options = _match("InferenceSession", arguments, str, int, (session_options, None.__class__))
        if options is None:
            _undefined("options=None is dereferenced (aclruntime_api.md 3)")
        if _VALIDATES:
            _validate(path, device, options)
        _set_device(device)
        _process.log_level = options.log_level
        om = _read_om(path)
        if om is None:
            _print("(ACL's message) the file is missing, is no offline model, or was built for another chip")
            _log("ERROR", f"load model from file failed, model file is {path}")
            _log("WARN", "Check failed:processModel->LoadModelFromFile(modelPath), ret:1")
            _print("")
            _log("WARN", "no model had been loaded, unload failed")
            raise _error(1)
        header, onnx = om
        self._model = open_model(onnx, os.environ.get("SMLP_EMULATOR_PYTHON", header["python"]))
        self._device, self._options, self._header = device, options, header
        self._gears, self._gear, self._custom = header["gears"], None, []
        self._inputs, self._outputs = ([_describe(entry) for entry in header[key]] for key in ("inputs", "outputs"))
        self._finalized, self._summary, self._zero = False, _Summary(), 1e3 * time.perf_counter()
        _process.models += 1
        self._id = _process.models
        self.set_staticbatch()
        _log("INFO", f"load model {path} success")
        _log("INFO", "create model description success")

    def __del__(self):
        if self._model is not None:
            for desc in (*self._inputs, *self._outputs):
                desc._live = None
            self._model.close()
            _log("INFO", f"unload model success, model Id is {self._id}")

    def __repr__(self):
        text = f"<Model>\ndevice:\t{self._device}\n"
        for title, descs in (("input", self._inputs), ("output", self._outputs)):
            text += title + ":\n"
            for index, desc in enumerate(descs):
                kind = desc.datatype.name.replace("double", "double64")
                text += f"  #{index}    {desc.name}  {_shape_text(desc.shape)}  {kind}  {desc.size}  {desc.realsize}\n"
        return text

    def get_inputs(self):
        return list(self._inputs)

    def get_outputs(self):
        return list(self._outputs)

    def options(self):
        return self._options

    def sumary(self):
        return self._summary

    def reset_sumaryinfo(self):
        self._summary._times = []
        return 0

    def set_staticbatch(self):  # aclruntime_api.md 3.1, 5: the largest gear
        return self._set_gear(max(self._gears) if self._gears else None)

    def set_dynamic_batchsize(self, *batch):  # aclruntime_api.md 5
        (batch,) = _match("set_dynamic_batchsize", batch, int)
        if not self._gears:
            _log("ERROR", "the dynamic_batch_size parameter is not specified for model conversion")
            raise _error(1)
        if batch not in self._gears:
            gears = "".join(f"[{gear}]" for gear in self._gears)
            _log("ERROR", "the dymBatch parameter is not correct")
            _log("ERROR", f"model has dynamic batch size:{{{gears}}}, please set correct dynamic batch size")
            _log("WARN", "Check failed:modelProcess SetDynamicBatchSize, ret:1")
            raise _error(1)
        return self._set_gear(batch)

    def _set_gear(self, gear):
        self._gear = gear
        for desc, entry in zip(self._inputs, self._header["inputs"]):
            desc.realsize = math.prod(self._shape(entry)) * np.dtype(entry["dtype"]).itemsize
        return 0

    def _shape(self, entry):
        return [self._gear if size == -1 else size for size in entry["shape"]]

    def set_dynamic_hw(self, *size):
        _match("set_dynamic_hw", size, int, int)
        _log("ERROR", "the dynamic_image_size parameter is not specified for model conversion")
        raise _error(1)

    def set_dynamic_dims(self, *text):
        _match("set_dynamic_dims", text, str)
        raise _error(-1)

    def set_dynamic_shape(self, *text):
        _match("set_dynamic_shape", text, str)
        raise _error(-1)

    def set_custom_outsize(self, *sizes):
        self._custom = [_cast(size, int) for size in _match("set_custom_outsize", sizes, (list, tuple))[0]]
        return 0

    def create_tensor_from_fileslist(self, *arguments):  # aclruntime_api.md 3.1
        desc, files = _match("create_tensor_from_fileslist", arguments, tensor_desc, "strings")
        try:
            parts = [np.fromfile(name, np.uint8) for name in files]
        except OSError:
            raise _error(1) from None
        size = math.prod(desc.shape) * _numpy(desc.datatype).itemsize
        if not all(len(part) for part in parts) or sum(map(len, parts)) > size:
            raise _error(1)
        data = np.full(size, _POISON, np.uint8)  # too few bytes are accepted silently
        data[: sum(map(len, parts))] = np.concatenate([np.empty(0, np.uint8), *parts])
        tensor = Tensor.__new__(Tensor)._fill(data, desc.datatype, desc.shape, -1)
        tensor.to_device(self._device)
        return tensor

    def finalize(self):  # aclruntime_api.md 8
        self._finalized = True
        _process.finalized = True
        return 0

    def run(self, *arguments):  # aclruntime_api.md 4
        names, feeds = _match("run", arguments, "strings", (list, tuple, dict))
        values = list(feeds.values()) if isinstance(feeds, dict) else feeds
        bare = () if isinstance(feeds, dict) else (_BaseTensor,)
        if not any(all(isinstance(value, kind) for value in values) for kind in (Tensor, *bare)):
            raise TypeError("run(): incompatible function arguments.")
        if self._finalized:
            _undefined("run() after finalize() (aclruntime_api.md 8)")
        if _process.finalized:
            raise _error(-1)
        if _PAIRS:
            _current.device = self._device
        context = getattr(_current, "device", None)
        if values and isinstance(values[0], _BaseTensor):
            # section 8: a thread without a context cannot allocate, which shows as a size error
            feeds = [np.zeros(2, np.uint8) if context is None else tensor._upload() for tensor in values]
        else:
            for tensor in values:
                if tensor.device != self._device:
                    _undefined(f"run() was given a tensor on device {tensor.device} (aclruntime_api.md 4.3)")
            data = [tensor._bytes for tensor in values]
            feeds = dict(zip(feeds, data)) if isinstance(feeds, dict) else data
        outputs = self._execute(self._checked(feeds), context)
        return self._select(names, outputs)

    def _checked(self, feeds):
        """The feeds in model order as arrays of the model's own dtype and shape: only bytes are compared, 4.1."""
        if isinstance(feeds, dict):
            if len(feeds) != len(self._inputs):
                _log("ERROR", f"intensors size:{len(feeds)} need size:{len(self._inputs)} not match")
                raise _error(-1)
            for index, desc in enumerate(self._inputs):
                if desc.name not in feeds:
                    _log("ERROR", f"intensors i:{index} name:{desc.name} not find")
                    raise _error(-1)
            feeds = [feeds[desc.name] for desc in self._inputs]
        if len(feeds) > len(self._inputs) and not _VALIDATES:
            _undefined(f"{len(feeds)} feeds for {len(self._inputs)} inputs (aclruntime_api.md 4.1)")
        for index, (data, desc) in enumerate(zip(feeds, self._inputs)):
            if len(data) != desc.realsize:
                first, then = ("check", "check input vector") if _VALIDATES else ("Check", "Check InVector")
                sizes = f"in size:{len(data)} needsize:{desc.realsize}"
                _log("ERROR", f"{first} i:{index} name:{desc.name} {sizes} not match")
                _log("ERROR", f"{then} failed ret:-1")
                raise _error(-1)
        if len(feeds) != len(self._inputs):
            _log("WARN", f"intensors in:{len(feeds)} need:{len(self._inputs)} not match")
            _log("ERROR", "Set InputsData failed ret:-1")
            raise _error(-1)
        arrays = []
        for data, entry in zip(feeds, self._header["inputs"]):
            if len(data) != math.prod(self._shape(entry)) * np.dtype(entry["dtype"]).itemsize:
                _undefined("realsize was edited and no longer fits the model (aclruntime_api.md 6)")
            arrays.append(data.view(entry["dtype"]).reshape(self._shape(entry)))
        return arrays

    def _execute(self, arrays, context):
        if context != self._device:
            raise RuntimeError(
                f"emulator: run() of a session on device {self._device} was issued in the context of device {context}; "
                "the real module reads the wrong device's memory (aclruntime_api.md 8): one process a device"
            )
        shapes = [entry["shape"] for entry in self._header["outputs"]]
        if self._gears:
            shapes = [[self._gear, *shape[1:]] for shape in shapes]
        kinds = [np.dtype(entry["dtype"]) for entry in self._header["outputs"]]
        for size, shape, kind in zip(self._custom, shapes, kinds):
            if not size:
                raise _error(3011)
            if size < math.prod(shape) * kind.itemsize:
                _undefined("set_custom_outsize() made an output buffer too small (aclruntime_api.md 3.1)")
        loop = self._options.loop
        if loop < 1:  # section 2: executes nothing and still returns tensors
            return [_poisoned(shape, kind) for shape, kind in zip(shapes, kinds)]
        outputs, spans = self._model.execute(arrays, loop)
        if loop > 1:
            _print("\n" + "".join(f"\rloop inference exec: ({index + 1}/{loop})" for index in range(loop)))
        for start, end in spans - self._zero:
            self._summary._times.append((round(start, 3), round(end, 3)) if _PAIRS else _milliseconds(end - start))
        return outputs

    def _select(self, names, outputs):
        known = [desc.name for desc in self._outputs]
        tensors = []
        for name in names:
            if name not in known:  # section 4.1, 7: after the execution
                _log("ERROR", f"outnames {name} not valid")
                _log("ERROR", "Get OutTensors failed ret:-1")
                raise _error(-1)
            output, desc = outputs[known.index(name)], self._outputs[known.index(name)]
            # a name asked for twice: its second tensor has a null pointer
            data = None if name in names[: len(tensors)] else np.ascontiguousarray(output).reshape(-1).view(np.uint8)
            tensors.append(Tensor.__new__(Tensor)._fill(data, desc.datatype, output.shape, self._device))
        return tensors


def _poisoned(shape, kind):
    return np.full(math.prod(shape) * kind.itemsize, _POISON, np.uint8).view(kind).reshape(shape)


def _describe(entry):
    desc = tensor_desc()
    desc.name, desc.shape = entry["name"], entry["shape"]
    desc.datatype = dtype[entry["dtype"].replace("float64", "double")]
    desc.format = {"NCHW": 0, "NHWC": 1}.get(entry["layout"], 2)
    desc.size = desc.realsize = entry["size"]
    return desc


def model(modelPath, deviceId=0, options=None):  # aclruntime_api.md 3
    if deviceId < 0:
        raise TypeError("model(): incompatible function arguments.")
    return InferenceSession(modelPath, deviceId, options)


def batch(inputs, keep_dims=False):  # aclruntime_api.md 9
    first = inputs[0] if inputs else None
    if not inputs or any((t.shape, t.dtype, t.device) != (first.shape, first.dtype, first.device) for t in inputs):
        raise _error(1004)
    shape = [len(inputs) * first.shape[0], *first.shape[1:]] if keep_dims else [len(inputs), *first.shape]
    return Tensor.__new__(Tensor)._fill(np.concatenate([t._bytes for t in inputs]), first.dtype, shape, first.device)


# aclruntime_api.md 10: what the versions differ in
if _VARIANT > 0:
    BaseTensor, MemorySummary = _BaseTensor, _MemorySummary
else:
    del InferenceSession.finalize, InferenceSession.create_tensor_from_fileslist
if _PAIRS:
    InferenceSession.finalize = staticmethod(lambda: setattr(_process, "finalized", True) or 0)
if _VARIANT < 4:
    sumary = _Summary
else:
    Summary = _Summary
    InferenceSession.summary = InferenceSession.sumary
    InferenceSession.reset_summaryinfo = InferenceSession.reset_sumaryinfo
    del InferenceSession.reset_sumaryinfo
    Tensor.nbytes = property(lambda self: len(self._bytes))
    Tensor.data_ptr = property(lambda self: self._bytes.ctypes.data)
globals().update({**dtype.__members__, **_Memory.__members__, "type": _Memory})  # shadows builtins, as the real one
