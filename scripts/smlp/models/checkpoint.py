"""Checkpoints: read without running their code, load completely or not at all.

A checkpoint may be a bare state dict, a training checkpoint that holds one under `model` or `state_dict` (and perhaps
averaged weights under `model_ema`), or a safetensors file.
"""

from __future__ import annotations

import argparse
import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.cli import UserError
from ..core.provenance import Facts

if TYPE_CHECKING:
    import torch

# Where training scripts keep weights, the ones that are taken unasked first. timm says state_dict, SPACH says model.
_PLAIN = ("model", "state_dict")
_AVERAGED = ("model_ema", "state_dict_ema")
# put before every key by DistributedDataParallel and torch.compile
_PREFIXES = ("module.", "_orig_mod.")
_LISTED = 10
_DEEPEST = 4  # a pickle can contain itself
_RESAVE = "in the training code, save it anew with torch.save(model.state_dict(), path)"


def load_model(
    model_name: str, path: str | Path, num_classes: int | None = None, which: str | None = None
) -> tuple[torch.nn.Module, Facts]:
    """The model with the checkpoint's weights, in evaluation mode, and what the checkpoint is.

    num_classes: read from the checkpoint's head if None. which: key of the weights in a training checkpoint.
    The facts: num_classes, parameters (a count), taken (which weights, in words).
    """
    from . import architectures

    architectures.require_known(model_name)
    state_dict, note = load_state_dict(path, which)
    try:
        classes = num_classes or head_classes(model_name, state_dict)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    model = architectures.create(model_name, classes)
    load_into(model, state_dict, path)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return model.eval(), {"num_classes": classes, "parameters": parameters, "taken": note}


def load_state_dict(path: str | Path, which: str | None = None) -> tuple[dict[str, torch.Tensor], str]:
    """The weights in a checkpoint and a note that says which were taken.

    which: a key such as "model_ema". None takes the plain weights, or the averaged ones if there are no others.
    Runs nothing that the file contains: a pickle that asks for more than tensors and plain values is refused.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such checkpoint; check the path")
    if not path.is_file() or not path.stat().st_size:
        raise UserError(f"{path}: is {'empty' if path.is_file() else 'no file'}; a PyTorch checkpoint was expected")
    loaded = _load_safetensors(path) if _is_safetensors(path) else _load_pickle(path)
    state_dict, taken, left = _find(loaded, path, which)
    state_dict, prefix = _without_prefixes(state_dict)
    _check_tensors(state_dict, path)
    note = taken or "bare state dict"
    note += f", prefix {prefix} removed" if prefix else ""
    note += f"; {', '.join(left)} left aside" if left else ""
    return dict(state_dict), note


def _is_safetensors(path: Path) -> bool:
    """Whether the file is laid out as safetensors: eight bytes of header length, then a JSON object."""
    with open(path, "rb") as stream:
        head = stream.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


def _load_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: is a damaged safetensors file ({error}); fetch it again") from None


def _load_pickle(path: Path) -> Any:
    import torch

    # Training checkpoints keep their command line; a Namespace only ever holds values.
    allowed = [argparse.Namespace]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the bytes are untrusted: a damaged file can raise anything at all
        raise UserError(_refusal(path, str(error))) from None


def _refusal(path: Path, message: str) -> str:
    """Why torch would not load the file, in one line with what to do."""
    named = _named_globals(path)
    if "TorchScript" in message:
        return f"{path}: is a TorchScript archive, which is code; {_RESAVE}"
    if any(name.startswith("torch.nn.modules.") for name in named):
        return f"{path}: holds a whole pickled model, which is code, instead of its weights; {_RESAVE}"
    found = re.search(r"unsupported GLOBAL:? (?:GLOBAL )?(\S+)", message, re.IGNORECASE)
    foreign = [name for name in named if not name.startswith(("torch.", "collections.", "argparse.Namespace"))]
    if found or foreign:
        offending = found[1] if found else foreign[0]
        return f"{path}: refused, it would run or build {offending!r}, more than weights need; {_RESAVE}"
    with open(path, "rb") as stream:
        start = stream.read(24)
    return (
        f"{path}: is no PyTorch checkpoint, or a damaged or truncated one (it begins with {start!r}); "
        f"fetch it again, or {_RESAVE}"
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


def _find(loaded: Any, path: Path, which: str | None) -> tuple[Mapping[str, Any], str, list[str]]:
    """Descend to the state dict. Returns it, the keys that led to it joined by dots, and other weights passed by."""
    taken: list[str] = []
    left: list[str] = []
    while isinstance(loaded, Mapping) and len(taken) < _DEEPEST:
        nested = [key for key, value in loaded.items() if isinstance(value, Mapping)]
        candidates = [key for key in (*_PLAIN, *_AVERAGED) if key in nested]
        if which is not None and which in nested:
            key, which = which, None
        elif candidates:
            key = candidates[0]
        else:
            break
        left += [other for other in candidates if other != key]
        taken.append(key)
        loaded = loaded[key]
    if which is not None:
        others = [".".join(taken), *left] if taken else []
        raise UserError(
            f"{path}: has no weights under {which!r}"
            + (f"; it has {', '.join(others)}" if others else "; it is a bare state dict")
        )
    if not isinstance(loaded, Mapping) or not loaded:
        kind = "nothing" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        raise UserError(
            f"{path}: holds {kind}{' under ' + '.'.join(taken) if taken else ''} where weights were expected; {_RESAVE}"
        )
    return loaded, ".".join(taken), left


def _without_prefixes(state_dict: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The state dict with the prefixes of wrappers removed that every key has, and what was removed."""
    removed = ""
    while prefix := next((p for p in _PREFIXES if all(str(key).startswith(p) for key in state_dict)), None):
        state_dict = {key[len(prefix) :]: value for key, value in state_dict.items()}
        removed += prefix
    return state_dict, removed


def _check_tensors(state_dict: Mapping[Any, Any], path: Path) -> None:
    import torch

    if not any(isinstance(value, torch.Tensor) for value in state_dict.values()):
        raise UserError(f"{path}: has no weights, only {_some(map(str, state_dict))}; {_RESAVE}")
    size_bytes = path.stat().st_size
    for key, value in state_dict.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise UserError(f"{path}: {key!r} is a {type(value).__name__} where a tensor was expected; {_RESAVE}")
        # A few bytes can claim a tensor that no machine holds: strides of zero repeat one value for ever.
        if value.is_meta or value.layout != torch.strided or value.numel() * value.element_size() > size_bytes:
            raise UserError(f"{path}: {key!r} has shape {tuple(value.shape)} but not as much data; {_RESAVE}")


def head_classes(model_name: str, state_dict: Mapping[str, torch.Tensor]) -> int:
    """Number of classes, read from the layer of the checkpoint that timm calls the model's classifier.

    Raises UserError that does not name the file: the caller knows it.
    """
    from . import architectures

    architectures.require_known(model_name)
    names = classifiers(model_name)
    for name in names:
        for key in (f"{name}.weight", f"{name}.bias"):
            if key in state_dict and state_dict[key].ndim:
                return len(state_dict[key])
    wanted = " or ".join(f"{name}.weight" for name in names) or "a classifier that timm knows"
    raise UserError(
        f"has no {wanted}, the head of {model_name}, to count the classes of; give --num_classes "
        f"(its keys: {_some(state_dict)})"
    )


def classifiers(model_name: str) -> list[str]:
    """Names of the head's layers in timm's configuration of the model; most models have one."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model_name, allow_unregistered=True)
    names = config.classifier if config else None
    return [names] if isinstance(names, str) else list(names or ())


def load_into(model: torch.nn.Module, state_dict: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Load every weight, or raise UserError that lists what is missing, surplus, of another shape or not finite.

    path: of the checkpoint, for the message.
    """
    import torch

    own = model.state_dict()
    wrong = []
    if missing := [key for key in own if key not in state_dict]:
        wrong.append(f"{len(missing)} missing: {_some(missing)}")
    if surplus := [key for key in state_dict if key not in own]:
        wrong.append(f"{len(surplus)} unexpected: {_some(surplus)}")
    shapes = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in own.items()
        if key in state_dict and state_dict[key].shape != tensor.shape
    ]
    if shapes:
        wrong.append(f"{len(shapes)} of another shape: {_some(shapes)}")
    if wrong:
        raise UserError(
            f"{path}: does not fit the model; check --model_name and --num_classes; keys {'; '.join(wrong)}"
        )
    for key, tensor in own.items():
        value = state_dict[key]
        if value.is_floating_point() != tensor.is_floating_point() or value.is_quantized:
            raise UserError(f"{path}: {key} is {value.dtype} where {tensor.dtype} was expected; {_RESAVE}")
        # in the model's own type, as which a large float64 may overflow
        bad = value.numel() - int(torch.isfinite(value.to(tensor.dtype)).sum())
        if bad:
            raise UserError(f"{path}: {key} has {bad} values that are NaN or infinite; use an earlier checkpoint")
    model.load_state_dict(state_dict, strict=True)


def _some(names: Iterable[str]) -> str:
    """The first few of many names."""
    names = list(names)
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
