"""Which of the weights in a file are a model's: choosing them, and giving them the names that the model has.

Nothing here changes a weight. Keys lose what wrappers put before them; counters of batch norms, which play no part in
inference, are completed.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.cli import UserError
from .unpickling import RESAVE

if TYPE_CHECKING:
    import torch

    Weights = Mapping[str, torch.Tensor]

# Where training scripts keep weights, the ones that are taken unasked first. timm says state_dict, SPACH says model.
PLAIN = ("model", "state_dict")
AVERAGED = ("model_ema", "state_dict_ema")
# put before every key by DistributedDataParallel and torch.compile
_WRAPPERS = ("module", "_orig_mod")
_PROFILER = ("total_ops", "total_params")  # thop leaves them in every layer
_AVERAGE = "n_averaged"  # torch.optim.swa_utils.AveragedModel
_COUNTER = "num_batches_tracked"
_LISTED = 10
_DEEPEST = 4  # containers within each other
_MOST = 1_000_000  # things in them, all together; an optimizer's state has some thousands


class Form(NamedTuple):
    """A state dict as a model may have it. removed: the prefix that every key has lost; notes: what else was done."""

    state_dict: Weights
    removed: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        removed = [f"prefix {self.removed} removed"] if self.removed else []
        return "".join(f", {note}" for note in (*removed, *self.notes))


# what a file holds


def candidates(loaded: Any) -> dict[str, Weights]:
    """Every state dict in what a file holds, by the keys that lead to it joined by dots; "" is the file itself."""
    found: dict[str, Weights] = {}
    patience = _MOST  # a pickle can contain itself, and itself many times
    level = [("", loaded)]
    for _ in range(_DEEPEST + 1):
        inner = []
        for name, value in level:
            if not isinstance(value, Mapping) or patience < 0:
                continue
            patience -= len(value)
            if _is_state_dict(value):
                found[name] = value
            else:
                inner += [(f"{name}.{key}" if name else key, item) for key, item in value.items() if _is_name(key)]
        level = inner
    return found


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and bool(key)


def _is_state_dict(value: Mapping[Any, Any]) -> bool:
    import torch

    return bool(value) and all(isinstance(key, str) and isinstance(item, torch.Tensor) for key, item in value.items())


def usual(loaded: Any) -> tuple[str, Any, list[str]]:
    """Descend by the names that training scripts use. Returns the name, what is there, and the others passed by."""
    taken: list[str] = []
    left: list[str] = []
    while isinstance(loaded, Mapping) and len(taken) < _DEEPEST:
        known = [key for key in (*PLAIN, *AVERAGED) if isinstance(loaded.get(key), Mapping)]
        if not known:
            break
        left += [".".join([*taken, other]) for other in known[1:]]
        taken.append(known[0])
        loaded = loaded[known[0]]
    return ".".join(taken), loaded, left


def named(found: Mapping[str, Weights], key: str) -> dict[str, Weights]:
    """The state dicts that a user's key names: one, all below it, or the weights whose own names begin with it.

    Raises UserError, without the file's name, if there is none or if it is not clear which one.
    """
    if key in found:
        return {key: found[key]}
    below = {name: value for name, value in found.items() if name.startswith(f"{key}.")}
    if below:
        return below
    ends = [name for name in found if name.endswith(f".{key}")]
    groups: dict[str, Weights] = {}
    for name, value in found.items():
        prefix = key[len(name) + 1 :] if name and key.startswith(f"{name}.") else key
        group = {own: tensor for own, tensor in value.items() if own.startswith(f"{prefix}.")}
        if group:
            groups[f"{name}.{prefix}" if name else prefix] = {own[len(prefix) + 1 :]: t for own, t in group.items()}
    wanted = {name: found[name] for name in ends} or groups
    if len(wanted) == 1:
        return wanted
    if wanted:
        raise UserError(f"{key!r} may be {' or '.join(wanted)}; name one of them whole")
    has = [name for name in found if name]
    raise UserError(f"has no weights under {key!r}" + (f"; it has {some(has)}" if has else "; it is a bare state dict"))


def why_none(loaded: Any) -> str:
    """Why there is no state dict in what a file holds, without the file's name."""
    import torch

    name, loaded, _ = usual(loaded)
    if not isinstance(loaded, Mapping) or not loaded:
        kind = "nothing" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        return f"holds {kind}{' under ' + name if name else ''} where weights were expected; {RESAVE}"
    if not any(isinstance(value, torch.Tensor) for value in loaded.values()):
        return f"has no weights, only {some(map(str, loaded))}; {RESAVE}"
    key, value = next((k, v) for k, v in loaded.items() if not isinstance(k, str) or not isinstance(v, torch.Tensor))
    return f"{key!r} is a {type(value).__name__} where a tensor was expected; {RESAVE}"


def why_unsound(state_dict: Weights, size_bytes: int) -> str:
    """Which tensor cannot come out of a file of this size, "" if all can."""
    import torch

    for key, value in state_dict.items():
        # A few bytes can claim a tensor that no machine holds: strides of zero repeat one value for ever.
        if value.is_meta or value.layout != torch.strided or value.numel() * value.element_size() > size_bytes:
            return f"{key!r} has shape {tuple(value.shape)} but not as much data; {RESAVE}"
    return ""


# naming them as the model does


def forms(state_dict: Weights) -> Iterator[Form]:
    """The state dict as it is, and without one part after another of the prefix that all its keys share."""
    removed, notes = "", ()
    while True:
        state_dict, more = _without_additions(state_dict)
        notes += more
        yield Form(state_dict, removed, notes)
        parts = {key.partition(".")[0] for key in state_dict}
        if len(parts) != 1 or not all("." in key for key in state_dict):
            return
        removed += f"{(part := parts.pop())}."
        state_dict = {key[len(part) + 1 :]: value for key, value in state_dict.items()}


def unwrapped(state_dict: Weights) -> Form:
    """The state dict without what wrappers are known to put before every key: the form to compare in messages."""
    found = forms(state_dict)
    last = form = next(found)
    for form in found:
        if form.removed[len(last.removed) : -1] not in _WRAPPERS:
            return last
        last = form
    return form


def _without_additions(state_dict: Weights) -> tuple[Weights, tuple[str, ...]]:
    """The state dict without what profilers and averaging put beside weights, and what that was."""
    profiled = [key for key in state_dict if key.rpartition(".")[2] in _PROFILER and state_dict[key].numel() == 1]
    notes = [f"{len(profiled)} total_ops and total_params of a profiler dropped"] if profiled else []
    dropped = set(profiled)
    count = state_dict.get(_AVERAGE)
    if count is not None and count.numel() == 1 and len(state_dict) > 1:
        dropped.add(_AVERAGE)
        notes.append(f"averaged over {count.item():g} models")
    return {key: value for key, value in state_dict.items() if key not in dropped} if dropped else state_dict, (*notes,)


def completed(form: Form, own: Weights) -> Form:
    """The form with the counters of batch norms as `own` has them: missing ones added, floats made integers."""
    import torch

    state_dict = dict(form.state_dict)
    counters = [key for key, tensor in own.items() if _is_counter(key, tensor)]
    missing = [key for key in counters if key not in state_dict]
    cast = []
    for key in counters:
        value = state_dict.get(key, own[key])
        if key in missing or value.numel() != 1:
            continue
        if value.is_floating_point():
            cast.append(key)
            value = value if math.isfinite(value.item()) else torch.zeros(())  # half precision ends at 65504
        state_dict[key] = value.reshape(()).to(own[key].dtype)  # PyTorch 0.3 had no tensors without dimensions
    state_dict |= {key: own[key] for key in missing}
    notes = [f"{len(missing)} {_COUNTER} were missing"] if missing else []
    notes += [f"{len(cast)} {_COUNTER} were floats"] if cast else []
    return Form(state_dict, form.removed, (*form.notes, *notes))


def _is_counter(key: str, tensor: torch.Tensor) -> bool:
    return key.rpartition(".")[2] == _COUNTER and not tensor.is_floating_point() and not tensor.ndim


# do they fit?


def misfit(state_dict: Weights, own: Weights) -> str:
    """What is missing, unexpected or of another shape, if the state dict were loaded where `own` is; "" if nothing."""
    wrong = []
    if missing := [key for key in own if key not in state_dict]:
        wrong.append(f"{len(missing)} missing: {some(missing)}")
    if surplus := [key for key in state_dict if key not in own]:
        wrong.append(f"{len(surplus)} unexpected: {some(surplus)}")
    shapes = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in own.items()
        if key in state_dict and state_dict[key].shape != tensor.shape
    ]
    if shapes:
        wrong.append(f"{len(shapes)} of another shape: {some(shapes)}")
    return "; ".join(wrong)


def parts(state_dict: Weights, least: int) -> Iterator[tuple[str, Weights]]:
    """Every part of at least `least` weights whose names begin alike, by that prefix: one of several networks."""
    sizes: collections.Counter[str] = collections.Counter()
    for key in state_dict:
        names = key.split(".")
        sizes.update(".".join(names[:depth]) for depth in range(1, len(names)))
    for prefix, size in sizes.items():
        if least <= size < len(state_dict):
            begin = f"{prefix}."
            yield prefix, {key[len(begin) :]: value for key, value in state_dict.items() if key.startswith(begin)}


def are_equal(one: Weights, other: Weights) -> bool:
    """Whether two state dicts hold the same."""
    import torch

    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


def some(names: Iterable[str]) -> str:
    """The first few of many names."""
    names = list(names)
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
