"""Checkpoints: read without running their code, load completely or not at all.

A checkpoint may be a bare state dict, a training checkpoint that holds one under any name, or a safetensors file. The
names that its weights have may be those of a wrapper, or of a layout that timm turns into its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..core.cli import UserError
from ..core.provenance import Facts
from . import unpickling, weights
from .weights import Form

if TYPE_CHECKING:
    import torch

    from .weights import Weights

_KEY = "--key (in settings: models.<name>.checkpoint.key)"
_NAME = "--model_name (in settings: models.<name>.model_name)"


class _Fit(NamedTuple):
    """Weights that fit a model. name: the keys that lead to them, joined by dots."""

    name: str
    form: Form
    classes: int


def load_model(
    model_name: str, path: str | Path, num_classes: int | None = None, key: str | None = None
) -> tuple[torch.nn.Module, Facts]:
    """The model with the checkpoint's weights, in evaluation mode, and what the checkpoint is.

    num_classes: read from the checkpoint's head if None. key: what leads to the weights in a checkpoint that holds
    several, joined by dots; unless given, those are taken that training scripts use, or the only ones that fit.
    The facts: num_classes, parameters (a count), taken (which weights, in words).
    """
    from . import architectures

    architectures.require_known(model_name)
    models = _Models(model_name)
    try:
        found, note = _choose(models, path, num_classes, key)
        model = models.of(found.classes)
        load_into(model, found.form.state_dict)
    except UserError as error:
        message = str(error)
        raise UserError(message if message.startswith(f"{path}: ") else f"{path}: {message}") from None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return model.eval(), {"num_classes": found.classes, "parameters": parameters, "taken": note}


class _Models:
    """The model with heads of several sizes, each made once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._made: dict[int | None, torch.nn.Module] = {}

    def of(self, classes: int | None) -> torch.nn.Module:
        """The model with this many classes, its own number if None."""
        from . import architectures

        if classes not in self._made:
            self._made.clear()  # a large one fills the memory
            self._made[classes] = architectures.create(self.name, classes)
        return self._made[classes]


def _choose(models: _Models, path: str | Path, num_classes: int | None, key: str | None) -> tuple[_Fit, str]:
    """The weights in a file that fit the model, and a note that says which were taken and which left aside."""
    loaded = unpickling.read(path)
    every = weights.candidates(loaded)
    if not every:
        raise UserError(weights.why_none(loaded))
    size_bytes = Path(path).stat().st_size
    usual, _, passed_by = weights.usual(loaded)
    found = every if key is None else weights.named(every, key)
    first = usual if usual in found else max(found, key=lambda name: len(found[name]))
    if problem := weights.why_unsound(found[first], size_bytes):
        raise UserError(problem)
    sound = {name: value for name, value in found.items() if not weights.why_unsound(value, size_bytes)}
    # what training scripts use is not weighed against the rest
    fit = _fitting(models, first, sound[first], num_classes) if usual in found or len(sound) == 1 else None
    others: list[_Fit] = []
    if fit is None:
        fits = [_fitting(models, name, value, num_classes) for name, value in sound.items()]
        others = _different([one for one in fits if one is not None])
        if len(others) > 1:
            names = ", ".join(one.name for one in others)
            raise UserError(f"holds several weights that fit {models.name}: {names}; name one with {_KEY}")
        fit = others[0] if others else None
    reasons: list[str] = []
    if fit is None:
        fits = [_converted(models, name, value, num_classes, reasons) for name, value in sound.items()]
        fit = next((one for one in fits if one is not None), None)
    if fit is None:
        raise UserError(_explain(models, sound, first, num_classes, reasons))
    alike = [name for name, value in every.items() if 2 * len(value) >= len(fit.form.state_dict)]
    left = [name for name in dict.fromkeys([usual, *passed_by, *alike]) if name and name != fit.name]
    note = (fit.name or "bare state dict") + str(fit.form)
    return fit, note + (f"; {weights.some(left)} left aside" if left else "")


def _different(fits: list[_Fit]) -> list[_Fit]:
    """The first of those that hold the same weights under several names."""
    kept: list[_Fit] = []
    for fit in fits:
        if not any(weights.are_equal(fit.form.state_dict, other.form.state_dict) for other in kept):
            kept.append(fit)
    return kept


def _fitting(models: _Models, name: str, state_dict: Weights, num_classes: int | None) -> _Fit | None:
    """These weights in the form that fits the model; None if none does."""
    for form in weights.forms(state_dict):
        if fit := _complete(models, name, form, num_classes):
            return fit
    return None


def _complete(models: _Models, name: str, form: Form, num_classes: int | None) -> _Fit | None:
    """The form with what the model has besides, if it fits then."""
    from . import architectures

    classes = num_classes or head_classes(models.name, form.state_dict)
    if classes is None and architectures.classifiers(models.name):
        return None
    model = models.of(classes)
    own = model.state_dict()
    form = weights.completed(form, own)
    return None if weights.misfit(form.state_dict, own) else _Fit(name, form, classes or model.num_classes)


def _converted(
    models: _Models, name: str, state_dict: Weights, num_classes: int | None, reasons: list[str]
) -> _Fit | None:
    """As `_fitting`, of weights in another layout that timm turns into its own. Adds to `reasons` why not."""
    from . import layouts

    for form in weights.forms(state_dict):
        converted, why_not = layouts.by_timm(models.name, models.of(num_classes), form.state_dict)
        reasons += [why_not] if why_not and why_not not in reasons else []
        if converted is not None:
            named = Form(converted, form.removed, (*form.notes, "layout converted by timm"))
            if fit := _complete(models, name, named, num_classes):
                return fit
    return None


def head_classes(model_name: str, state_dict: Weights) -> int | None:
    """Number of classes, read from the layer of the checkpoint that timm calls the model's classifier, if it has it."""
    from . import architectures

    for name in architectures.classifiers(model_name):
        for key in (f"{name}.weight", f"{name}.bias"):
            if key in state_dict and state_dict[key].ndim:
                return len(state_dict[key])
    return None


def _explain(
    models: _Models, sound: Mapping[str, Weights], first: str, num_classes: int | None, reasons: list[str]
) -> str:
    """What does not fit, and what to set."""
    from . import family

    form = weights.unwrapped(sound[first])
    counted = head_classes(models.name, form.state_dict)
    model = models.of(num_classes or counted)
    own = model.state_dict()
    form = weights.completed(form, own)
    wrong = weights.misfit(form.state_dict, own)
    classes = num_classes or counted or model.num_classes
    under = f" under {first!r}" if first else ""
    advice: list[str] = []
    for name, state_dict in sound.items():
        for prefix, part in weights.parts(state_dict, least=len(own) // 2):
            if _complete(models, name, Form(part, "", ()), num_classes):
                advice.append(f"the part {'.'.join(filter(None, [name, prefix]))!r} fits, name it with {_KEY}")
    if num_classes and counted and counted != num_classes:
        advice.append(
            f"its head has {counted} classes, so leave out --num_classes (in settings: models.<name>.num_classes) or "
            "correct it"
        )
    if nearest := family.closest(models.name, form.state_dict):
        near, share = nearest
        degree = "fits it" if share == 1 else f"is closest ({share:.0%} of the weights)"
        advice.append(f"{near} {degree}, set {_NAME}")
    if not advice:
        advice.append(f"no model of that family is closer, check {_NAME}")
    if len(sound) > 1:
        advice.append(f"other weights in it: {weights.some(name for name in sound if name != first)}")
    advice += reasons
    return f"the weights{under} do not fit {models.name} with {classes} classes: keys {wrong}; {'; '.join(advice)}"


def load_into(model: torch.nn.Module, state_dict: Weights) -> None:
    """Load every weight, or raise UserError, without the file's name, that says which is of another type or not finite.

    state_dict: with the keys and shapes of the model.
    """
    import torch

    for key, tensor in model.state_dict().items():
        value = state_dict[key]
        if value.is_floating_point() != tensor.is_floating_point() or value.is_quantized:
            raise UserError(f"{key} is {value.dtype} where {tensor.dtype} was expected; {unpickling.RESAVE}")
        # in the model's own type, as which a large float64 may overflow
        bad = value.numel() - int(torch.isfinite(value.to(tensor.dtype)).sum())
        if bad:
            raise UserError(f"{key} has {bad} values that are NaN or infinite; use an earlier checkpoint")
    model.load_state_dict(state_dict, strict=True)
