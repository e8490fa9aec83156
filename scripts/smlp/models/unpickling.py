"""What a file of weights holds, read without running anything that it contains."""

from __future__ import annotations

import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.cli import UserError

RESAVE = "in the training code, save it anew with torch.save(model.state_dict(), path)"


def read(path: str | Path) -> Any:
    """The content of a PyTorch or safetensors file: tensors in plain containers.

    What else lies beside weights (NumPy's values, paths, a command line) is passed over: nothing of it is built. A
    pickle that asks for more is refused. Raises UserError that names the file.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such checkpoint; check the path")
    if not path.is_file() or not path.stat().st_size:
        raise UserError(f"{path}: is {'empty' if path.is_file() else 'no file'}; a PyTorch checkpoint was expected")
    return _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)


def _is_safetensors(path: Path) -> bool:
    """Whether the file is laid out as safetensors: eight bytes of header length, then a JSON object."""
    with open(path, "rb") as stream:
        head = stream.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: is a damaged safetensors file ({error}); fetch it again") from None


def _read_pickle(path: Path) -> Any:
    import torch

    allowed = [(stand_in, name) for name, stand_in in _STAND_INS.items()]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the bytes are untrusted: a damaged file can raise anything at all
        raise UserError(_refusal(path, str(error))) from None


# what training scripts keep beside weights


class _Bystander:
    """In the place of an object that is not wanted: takes whatever that one is made from, and keeps nothing."""

    def __new__(cls, *_: Any) -> _Bystander:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _as_dict(*_: Any) -> dict[Any, Any]:
    return {}


def _as_list(*items: Any) -> list[Any]:
    return list(items[0]) if items and isinstance(items[0], (list, tuple)) else []


def _names(modules: Iterable[str], names: str) -> list[str]:
    return [f"{module}.{name}" for module in modules for name in names.split()]


_NUMPY_SCALARS = "bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128"
_NUMPY_DTYPES = "Bool Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float16 Float32 Float64 Complex64 Object Str"
# Nothing of these objects is built. A pickle gets what stands here in the place of the name that it asks for.
_STAND_INS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(
        [
            *_names(["argparse"], "Namespace"),
            *_names(["types"], "SimpleNamespace"),
            *_names(["numpy.core.multiarray", "numpy._core.multiarray"], "scalar _reconstruct"),
            *_names(["numpy"], f"dtype ndarray {_NUMPY_SCALARS}"),
            *_names(["numpy.dtypes"], " ".join(f"{name}DType" for name in _NUMPY_DTYPES.split())),
            *_names(
                ["pathlib", "pathlib._local"],
                "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
            ),
            *_names(["datetime"], "date datetime time timedelta timezone"),
            *_names(["decimal"], "Decimal"),
            *_names(["fractions"], "Fraction"),
            *_names(["uuid"], "UUID"),
            *_names(["numpy.random._pickle"], "__generator_ctor __randomstate_ctor __bit_generator_ctor"),
            *_names(["numpy.random.bit_generator"], "SeedSequence __pyx_unpickle_SeedSequence"),
            *_names(["numpy.random._mt19937"], "MT19937"),
            *_names(["numpy.random._pcg64"], "PCG64 PCG64DXSM"),
            *_names(["builtins"], "bool bytes float int range slice str"),
        ],
        _Bystander,
    ),
    **dict.fromkeys(_names(["collections"], "defaultdict") + _names(["builtins"], "dict"), _as_dict),
    **dict.fromkeys(_names(["collections"], "deque") + _names(["builtins"], "list tuple frozenset"), _as_list),
}
# What torch itself allows, as a pickle names it.
_HARMLESS = ("torch.", "collections.", "_codecs.encode", "__builtin__.")


# why a file is refused


def _refusal(path: Path, message: str) -> str:
    """Why torch would not load the file, in one line with what to do."""
    named = _named_globals(path)
    if "TorchScript" in message:
        return f"{path}: is a TorchScript archive, which is code; {RESAVE}"
    if any(name.startswith("torch.nn.modules.") for name in named):
        return f"{path}: holds a whole pickled model, which is code, instead of its weights; {RESAVE}"
    found = re.search(r"unsupported GLOBAL:? (?:GLOBAL )?(\S+)", message, re.IGNORECASE)
    foreign = [name for name in named if not name.startswith(_HARMLESS) and name not in _STAND_INS]
    if found or foreign:
        offending = found[1] if found else foreign[0]
        return f"{path}: refused, it would run or build {offending!r}, more than weights need; {RESAVE}"
    if re.search(r"unsupported operand \d+", message, re.IGNORECASE) and named:
        return f"{path}: is pickled by a protocol that cannot be read without running it; {RESAVE}"
    with open(path, "rb") as stream:
        start = stream.read(24)
    return (
        f"{path}: is no PyTorch checkpoint, or a damaged or truncated one (it begins with {start!r}); "
        f"fetch it again, or {RESAVE}"
    )


def _named_globals(path: Path) -> list[str]:
    """Every class and function that a checkpoint's pickles name, as far as they can be read. Nothing is unpickled."""
    names: list[str] = []
    with suppress(Exception):  # untrusted bytes: what was found before the damage counts
        data = path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        stream = io.BytesIO(data)
        while True:  # the format before PyTorch 1.6 is several pickles in a row
            strings: list[str] = []
            memo: list[Any] = []
            value = None  # what the last instruction pushed, if that is known
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "MEMOIZE":
                    memo.append(value)
                    continue
                value = memo[argument] if opcode.name in ("BINGET", "LONG_BINGET") and memo else argument
                if opcode.name == "GLOBAL":
                    names.append(argument.replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.append(".".join(strings[-2:]))
                elif isinstance(value, str):
                    strings.append(value)
    return names
