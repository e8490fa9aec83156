"""The settings of a sweep: checked against their schema, completed with its defaults."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Mapping
from typing import Any

import jsonschema

from .. import backends
from ..core import hub
from ..core.cli import UserError
from ..core.provenance import Facts
from ..models.preprocessing import Spec
from . import schema as schemas
from . import targets
from .hosts import devices
from .targets import Settings, Target

# For JSON 8.0 is an integer, but a path bs8.0 and a flag --batch_size 8.0 are none; YAML has .nan and .inf besides.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda checker, value: type(value) is int,
            "number": lambda checker, value: type(value) in (int, float) and math.isfinite(value),
        }
    ),
)


def complete(config: Settings, origin: str) -> Settings:
    """A checked copy of `config` with every default filled in and every target written out. `origin` names the file.

    Raises UserError for the first thing that is wrong: the key, what it holds, what was expected.
    """
    schema = schemas.whole()
    settings = copy.deepcopy(config)
    _write_out_batch_sizes(settings)
    try:
        _check(settings, schema)
        _fill(settings, schema)
        _check_meaning(settings)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from None
    return settings


def _check(value: Any, schema: Facts, where: str = "") -> None:
    """Raise UserError for the first thing in `value`, the setting `where`, that the schema forbids."""
    errors = sorted(_Validator(schema).iter_errors(value), key=lambda error: list(map(str, error.path)))
    if errors:
        raise UserError(_explain(errors[0], where))


def _write_out_batch_sizes(settings: Any) -> None:
    """Turn the batch sizes that are keys, which YAML reads as numbers, into texts: a schema knows no other keys."""
    models = settings.get("models") if isinstance(settings, dict) else None
    for model in models.values() if isinstance(models, dict) else ():
        for key in ready_made():
            if isinstance(model, dict) and isinstance(model.get(key), dict):
                model[key] = {str(batch): source for batch, source in model[key].items()}


def ready_made() -> dict[str, str]:
    """The keys of a model that name ready-made engines -> the backend whose they are."""
    return {backend.ready_made: backend.name for backend in backends.every() if backend.ready_made}


def _explain(error: jsonschema.ValidationError, above: str = "") -> str:
    """One line for a person: where, what, what instead."""
    where = ".".join([*([above] if above else []), *map(str, error.absolute_path)]) or "top level"
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in known)
        if not known:
            return f"{where}: unknown key {unknown!r}; it has none, remove it"
        near = difflib.get_close_matches(str(unknown), known, n=1, cutoff=0.0)
        return f"{where}: unknown key {unknown!r}; did you mean {near[0]!r}? Known: {', '.join(known)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{where}: key {missing!r} is missing; {_meaning(error.schema['properties'].get(missing, {}))}"
    if error.validator == "oneOf":  # a source: a text, or a mapping whose own error says more
        inner = [
            inner for inner in error.context if isinstance(error.instance, dict) and list(inner.schema_path)[0] == 1
        ]
        if inner:
            return _explain(inner[0], above)
        return f"{where}: {error.instance!r} is neither a path or URL nor a mapping with the key 'source'"
    if "propertyNames" in error.absolute_schema_path:
        return f"{where}: the name {error.instance!r} is not a text of only letters, digits, '.', '_' and '-'"
    return f"{where}: {error.message}; {_meaning(error.schema)}"


def _meaning(schema: Mapping[str, Any]) -> str:
    return " ".join(schema.get("description", "see rules/config.schema.yaml").split())


def _fill(value: Any, schema: Mapping[str, Any]) -> None:
    """Write the schema's defaults into `value`, in the schema's order of keys."""
    if isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            if "default" in inner:
                value.setdefault(key, copy.deepcopy(inner["default"]))
            if key in value:
                _fill(value[key], inner)
        if isinstance(schema.get("additionalProperties"), dict):
            for inner_value in value.values():
                _fill(inner_value, schema["additionalProperties"])
    elif isinstance(value, list):
        for item in value:
            _fill(item, schema.get("items", {}))


def _check_meaning(settings: Settings) -> None:
    """What a schema cannot say; also resolves the defaults that depend on other keys."""
    sizes = settings["batch_sizes"]
    for size in sizes:
        if sizes.count(size) > 1:
            raise UserError(f"batch_sizes: {size} is listed twice; list every batch size once")
    dataset = settings["dataset"]
    if ("root" in dataset) == ("demo" in dataset):
        raise UserError("dataset: give either root (a folder of images) or demo (made by the run itself)")
    for index, entry in enumerate(settings["targets"]):
        _check_target(settings, index, entry)
    for name, section in settings["backends"].items():
        if name not in backends.names():
            raise UserError(f"backends.{name}: is not known; known: {', '.join(backends.names())}")
        if "devices" in section and devices(settings, name) == ["cpu"]:
            raise UserError(f"backends.{name}.devices: this backend runs on the cpu; remove it")
    for name, model in settings["models"].items():
        _complete_model(settings, name, model)
    settings["targets"] = _written_out(settings)
    for name, model in settings["models"].items():
        _check_model(settings, name, model)


def _check_target(settings: Settings, index: int, entry: Settings) -> None:
    """An entry of `targets` by itself; its precision is the backend's first unless given."""
    if entry["backend"] not in backends.names():
        near = difflib.get_close_matches(entry["backend"], backends.names(), n=1, cutoff=0.0)
        raise UserError(
            f"targets.{index}: backend {entry['backend']!r} is not known; did you mean {near[0]!r}? "
            f"Known: {', '.join(backends.names())}"
        )
    known = backends.load(entry["backend"]).precisions
    entry.setdefault("precision", known[0])
    for precision in entry["precision"] if isinstance(entry["precision"], list) else [entry["precision"]]:
        if precision not in known:
            raise UserError(
                f"targets.{index}: backend {entry['backend']!r} has no precision {precision!r}; "
                f"it has {', '.join(known)}"
            )
    written = targets.expanded(entry)
    if not written:
        raise UserError(f"targets.{index}.options: a list is empty; give it a value, or remove it")
    if settings["targets"].count(entry) > 1:
        raise UserError(f"targets.{index}: {Target.of(written[0])} is listed twice")


def _written_out(settings: Settings) -> list[Settings]:
    """Every target by itself, those that entries stand for by lists too."""
    found: dict[tuple[str, str, str], Settings] = {}
    for index, entry in enumerate(settings["targets"]):
        where = f"targets.{index}"
        options = schemas.options(backends.load(entry["backend"]))
        for written in targets.expanded(entry):
            if "graph" in written:
                _check(written["graph"], schemas.GRAPH, f"{where}.graph")
            _check(written.get("options", {}), options, f"{where}.options")
            target = Target.of(written)
            targets.check(target, where, settings)
            if (target.backend, target.precision, target.variant) in found:
                raise UserError(f"{where}: {target} is listed twice; give every variant a name of its own")
            found[target.backend, target.precision, target.variant] = written
    return list(found.values())


def _complete_model(settings: Settings, name: str, model: Settings) -> None:
    """The defaults of a model, and its files written as mappings."""
    if ("checkpoint" in model) == ("onnx" in model):
        raise UserError(f"models.{name}: give either checkpoint or onnx, the file to start from")
    if name == settings["dataset"]["name"] and "demo" in settings["dataset"]:
        raise UserError(f"models.{name}: is also the name of the demo dataset, which is in the same folder; rename it")
    for key in ("checkpoint", "onnx"):
        if isinstance(model.get(key), str):
            model[key] = {"source": model[key]}
        source = model.get(key, {}).get("source", "")
        if source.startswith(hub.PREFIX):
            try:
                hub.parse(source)
            except UserError as error:
                raise UserError(f"models.{name}.{key}: {error}") from None
    source = model.get("checkpoint", {}).get("source", "")
    if published := hub.published_name(source):
        _complete_published(name, model, published)
    model.setdefault("model_name", name)
    family = "smlpnet_tiny" if model["model_name"].startswith("smlpnet_") else model["model_name"]
    model.setdefault("transform", family)


def _complete_published(name: str, model: Settings, published: str) -> None:
    """The name of a model whose checkpoint states its name and tag: each tag has a preprocessing of its own."""
    architecture = published.partition(".")[0]
    given, _, tag = model.get("model_name", architecture).partition(".")
    if given != architecture:
        raise UserError(
            f"models.{name}: checkpoint has the weights of {published}, and model_name is {model['model_name']}; "
            "leave model_name out"
        )
    if not tag:  # all tags of ours have the same
        model["model_name"] = architecture if architecture.startswith("smlpnet_") else published


def _check_model(settings: Settings, name: str, model: Settings) -> None:
    """A model together with the rest of the settings."""
    try:
        Spec.read(model["transform"], model["model_name"])
    except UserError as error:
        raise UserError(f"models.{name}.transform: {error}") from None
    for key, owner in ready_made().items():
        if key in model:
            if [target["backend"] for target in settings["targets"]].count(owner) != 1:
                raise UserError(f"models.{name}.{key}: whose files are they? List exactly one {owner} target")
            model[key] = {
                int(batch): {"source": source} if isinstance(source, str) else source
                for batch, source in model[key].items()
            }
    if model.get("checkpoint", {}).get("source") == "demo" and "demo" not in settings["dataset"]:
        raise UserError(f"models.{name}: a demo checkpoint needs the demo dataset; give the path of your checkpoint")
    if model.get("checkpoint", {}).get("source") == "demo" and "key" in model["checkpoint"]:
        raise UserError(f"models.{name}.checkpoint.key: a demo checkpoint holds one model's weights; remove it")
    for backend, section in settings["backends"].items():
        if section.get("graph") == "fused" and not targets.fusible(model):
            raise UserError(f"backends.{backend}.graph: {targets.no_fused_graph(name)}")
    for target in settings["targets"]:
        if "onnx" in model and backends.load(target["backend"]).compiles_from != "onnx":
            raise UserError(
                f"models.{name}: starts from an ONNX file, but backend {target['backend']!r} needs a checkpoint; "
                "remove that target or give a checkpoint"
            )
