"""The settings of a sweep: checked against rules/config.schema.yaml, completed with its defaults."""

from __future__ import annotations

import copy
import difflib
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from .. import backends
from ..core.cli import UserError

SCHEMA = Path(__file__).resolve().parents[3] / "rules" / "config.schema.yaml"


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


def complete(config: dict[str, Any], origin: str) -> dict[str, Any]:
    """A checked copy of `config` with every default filled in. `origin` names the file in errors.

    Raises UserError for the first thing that is wrong: the key, what it holds, what was expected.
    """
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    settings = copy.deepcopy(config)
    _write_out_batch_sizes(settings)
    errors = sorted(_Validator(schema).iter_errors(settings), key=lambda error: list(map(str, error.path)))
    if errors:
        raise UserError(f"{origin}: {_explain(errors[0])}")
    _fill(settings, schema)
    try:
        _check_meaning(settings)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from None
    return settings


def _write_out_batch_sizes(settings: Any) -> None:
    """Turn the batch sizes that are keys, which YAML reads as numbers, into texts: a schema knows no other keys."""
    models = settings.get("models") if isinstance(settings, dict) else None
    for model in models.values() if isinstance(models, dict) else ():
        if isinstance(model, dict) and isinstance(model.get("om"), dict):
            model["om"] = {str(batch): source for batch, source in model["om"].items()}


def devices(settings: dict[str, Any], backend: str) -> list[str]:
    """Every device that a backend may run on, by name: those that its settings list, else the one that it chooses."""
    entry = settings["backends"].get(backend, {})
    kind = entry.get("device", backends.load(backend).device.partition(":")[0])
    return ["cpu"] if kind == "cpu" else [f"{kind}:{number}" for number in entry.get("devices", [0])]


def fusible(model: dict[str, Any]) -> bool:
    """Whether there is a fused graph of a model of the settings: of an sMLPNet that starts from a checkpoint."""
    return model["model_name"].startswith("smlpnet_") and "checkpoint" in model


def use_this_interpreter() -> None:
    """Let jobs find, as `python`, the interpreter that runs Snakemake, be its environment activated or not.

    Jobs of a cluster begin with that interpreter's path, which Snakemake does not quote.
    """
    from snakemake_interface_executor_plugins.executors.real import RealExecutor

    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command, plain = RealExecutor.format_job_exec, f"{sys.executable} -m snakemake"
    quoted = f"{shlex.quote(sys.executable)} -m snakemake"
    RealExecutor.format_job_exec = lambda executor, job: command(executor, job).replace(plain, quoted)


def use_store(settings: dict[str, Any]) -> None:
    """Let jobs find the shared store, if there is one, as scripts/share.py looks for it: setting it reruns nothing."""
    if "store" in settings:
        os.environ["SMLP_STORE"] = os.path.abspath(settings["store"])


def _explain(error: jsonschema.ValidationError) -> str:
    """One line for a person: where, what, what instead."""
    where = ".".join(map(str, error.absolute_path)) or "top level"
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in known)
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
            return _explain(inner[0])
        return f"{where}: {error.instance!r} is neither a path or URL nor a mapping with the key 'source'"
    if "propertyNames" in error.absolute_schema_path:
        return f"{where}: the name {error.instance!r} is not a text of only letters, digits, '.', '_' and '-'"
    return f"{where}: {error.message}; {_meaning(error.schema)}"


def _meaning(schema: dict[str, Any]) -> str:
    return " ".join(schema.get("description", "see rules/config.schema.yaml").split())


def _fill(value: Any, schema: dict[str, Any]) -> None:
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


def _check_meaning(settings: dict[str, Any]) -> None:
    """What a schema cannot say; also resolves the defaults that depend on other keys."""
    sizes = settings["batch_sizes"]
    for size in sizes:
        if sizes.count(size) > 1:
            raise UserError(f"batch_sizes: {size} is listed twice; list every batch size once")
    dataset = settings["dataset"]
    if ("root" in dataset) == ("demo" in dataset):
        raise UserError("dataset: give either root (a folder of images) or demo (made by the run itself)")
    for index, target in enumerate(settings["targets"]):
        if target["backend"] not in backends.names():
            near = difflib.get_close_matches(target["backend"], backends.names(), n=1, cutoff=0.0)
            raise UserError(
                f"targets.{index}: backend {target['backend']!r} is not known; did you mean {near[0]!r}? "
                f"Known: {', '.join(backends.names())}"
            )
        known = backends.load(target["backend"]).precisions
        target.setdefault("precision", known[0])
        if target["precision"] not in known:
            raise UserError(
                f"targets.{index}: backend {target['backend']!r} has no precision {target['precision']!r}; "
                f"it has {', '.join(known)}"
            )
        if settings["targets"].count(target) > 1:
            raise UserError(f"targets.{index}: {target['backend']} {target['precision']} is listed twice")
    for name in settings["backends"]:
        if name not in backends.names():
            raise UserError(f"backends.{name}: is not known; known: {', '.join(backends.names())}")
        if "devices" in settings["backends"][name] and devices(settings, name) == ["cpu"]:
            raise UserError(f"backends.{name}.devices: this backend runs on the cpu; remove it")
    fused = [name for name, backend in settings["backends"].items() if backend.get("graph") == "fused"]
    on_ascend = [target for target in settings["targets"] if target["backend"] == "ascend"]
    for name, model in settings["models"].items():
        if ("checkpoint" in model) == ("onnx" in model):
            raise UserError(f"models.{name}: give either checkpoint or onnx, the file to start from")
        if name == dataset["name"] and "demo" in dataset:
            raise UserError(
                f"models.{name}: is also the name of the demo dataset, which stands in the same folder; rename it"
            )
        model.setdefault("model_name", name)
        family = "smlpnet_tiny" if model["model_name"].startswith("smlpnet_") else model["model_name"]
        model.setdefault("transform", family)
        for key in ("checkpoint", "onnx"):
            if isinstance(model.get(key), str):
                model[key] = {"source": model[key]}
        if "om" in model:
            if len(on_ascend) != 1:
                raise UserError(f"models.{name}.om: whose files are they? List exactly one ascend target")
            model["om"] = {
                int(batch): {"source": source} if isinstance(source, str) else source
                for batch, source in model["om"].items()
            }
        if model.get("checkpoint", {}).get("source") == "demo" and "demo" not in dataset:
            raise UserError(
                f"models.{name}: a demo checkpoint needs the demo dataset; give the path of your checkpoint"
            )
        if fused and not fusible(model):
            raise UserError(
                f"backends.{fused[0]}.graph: models.{name} has no fused graph, only sMLPNets from a checkpoint have; "
                "set graph: reference, or leave it out"
            )
        for target in settings["targets"]:
            if "onnx" in model and backends.load(target["backend"]).compiles_from != "onnx":
                raise UserError(
                    f"models.{name}: starts from an ONNX file, but backend {target['backend']!r} needs a checkpoint; "
                    "remove that target or give a checkpoint"
                )
