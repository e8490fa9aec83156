"""The targets of a sweep: what an entry that lists values stands for, and what a variant may change."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .. import backends
from ..backends.base import Backend
from ..core.cli import UserError
from . import schema

# What the settings say, as YAML has it.
Settings = dict[str, Any]

_OVERRIDES = ("opset_version", "graph", "options")
# Names of folders beside those of variants: results/measure/…/imported, <infer.import>/…/bs<batch>.
_TAKEN = re.compile(r"imported|bs\d+|shard-\d+")


@dataclasses.dataclass(frozen=True)
class Target:
    """One column of the tables.

    variant: its name, "" for a plain target. None: as export and backends.<backend> say.
    """

    backend: str
    precision: str
    variant: str = ""
    opset_version: int | None = None
    graph: str | None = None
    options: Settings = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, entry: Settings) -> Target:
        """The target that an expanded entry of the settings states."""
        values = {key: value for key, value in entry.items() if key != "name"}
        return cls(variant=entry.get("name", ""), **values)

    def __str__(self) -> str:
        return " ".join(word for word in (self.backend, self.precision, self.variant) if word)


class Cell(NamedTuple):
    """One engine of a sweep: a row of the tables. variant: "" for a plain target."""

    model: str
    backend: str
    precision: str
    variant: str
    batch: int

    @classmethod
    def of(cls, wildcards: Any) -> Cell:
        """The engine that the wildcards of a job name; {variant} is "" or "/<name>"."""
        variant = wildcards.variant.removeprefix("/")
        return cls(wildcards.model, wildcards.backend, wildcards.precision, variant, int(wildcards.batch))

    @property
    def place(self) -> str:
        """Its folder below the folder of a stage."""
        return "/".join(part for part in (self.model, self.backend, self.precision, self.variant) if part)


def expanded(entry: Settings) -> list[Settings]:
    """The targets that an entry of the settings stands for: one per combination of the values that it lists.

    A variant that has no name, or comes of a list, is called by what it changes.
    """
    keys = sorted(_flat(entry), key=lambda item: _OVERRIDES.index(item[0][0]) if item[0][0] in _OVERRIDES else -1)
    choices = [value if isinstance(value, list) else [value] for _, value in keys]
    is_listed = any(isinstance(value, list) for path, value in keys if path[0] in _OVERRIDES)
    found = []
    for values in itertools.product(*choices):
        target: Settings = {}
        words = [target_name] if (target_name := entry.get("name")) else []
        for (path, _), value in zip(keys, values):
            _put(target, path, value)
            if path[0] in _OVERRIDES and (is_listed or not target_name):
                words.append(_word(path, value))
        target.pop("name", None)
        found.append({"name": "-".join(words), **target} if words else target)
    return found


def text(value: object) -> str:
    """A value of the settings as a command takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def check(target: Target, where: str, settings: Settings) -> None:
    """Raise UserError for a variant that changes what its backend or a model has not, or whose name is taken."""
    backend = backends.load(target.backend)
    if target.opset_version is not None and backend.compiles_from != "onnx":
        raise UserError(f"{where}.opset_version: backend {backend.name!r} starts from no ONNX file; remove it")
    if target.graph is not None and not schema.has_graphs(backend):
        raise UserError(f"{where}.graph: backend {backend.name!r} has no choice of graphs; remove it")
    for option in backend.options:
        if option.name in target.options and option.precisions and target.precision not in option.precisions:
            raise UserError(
                f"{where}.options.{option.name}: is for precision {' or '.join(option.precisions)} and not for "
                f"{target.precision!r}; remove it"
            )
    if _TAKEN.fullmatch(target.variant) or target.variant == settings["dataset"]["name"]:
        raise UserError(f"{where}: the name {target.variant!r} is taken by other folders of results; choose another")
    for name, model in settings["models"].items():
        if target.opset_version is not None and "onnx" in model:
            raise UserError(
                f"{where}.opset_version: models.{name} starts from an ONNX file, which has its opset; remove it, or "
                "give a checkpoint"
            )
        if target.graph == "fused" and not fusible(model):
            raise UserError(f"{where}.graph: {no_fused_graph(name)}")


def fusible(model: Settings) -> bool:
    """Whether there is a fused graph of a model of the settings: of an sMLPNet that starts from a checkpoint."""
    return model["model_name"].startswith("smlpnet_") and "checkpoint" in model


def no_fused_graph(model: str) -> str:
    """What an error says about a model that has none."""
    return (
        f"models.{model} has no fused graph, only sMLPNets from a checkpoint have; "
        "set graph: reference, or leave it out"
    )


def merged(known: Settings, target: Target, backend: Backend) -> Settings:
    """What the settings say about a backend, and in its place what a target says."""
    found = {**known, **target.options}
    if (further := backend.passes_on) and further.name in found:
        found[further.name] = {**known.get(further.name, {}), **target.options.get(further.name, {})}
    return found


def _flat(entry: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of everything in nested mappings."""
    for key, value in entry.items():
        if isinstance(value, dict):
            yield from _flat(value, (*above, key))
        else:
            yield (*above, key), value


def _put(entry: Settings, path: tuple[str, ...], value: object) -> None:
    *above, last = path
    for key in above:
        entry = entry.setdefault(key, {})
    entry[last] = value


def _word(path: tuple[str, ...], value: object) -> str:
    """What a name says about a value that a variant changes."""
    words = {"opset_version": f"opset{value}", "graph": str(value)}
    word = words.get(path[0]) or f"{path[-1]}_{text(value)}"
    return re.sub("[^A-Za-z0-9._-]+", "-", word)
