"""The schema of the settings: rules/config.schema.yaml, completed by what every backend declares about itself."""

from __future__ import annotations

from pathlib import Path

import yaml

from .. import backends
from ..backends.base import Backend
from ..core.provenance import Facts

FILE = Path(__file__).resolve().parents[3] / "rules" / "config.schema.yaml"
# The settings of how a backend runs on its host. No target can change them.
HOST = ("python", "set_env", "env")
GRAPH: Facts = {
    "description": (
        'The ONNX graph that its engines are made from: "reference" as the guide exports it, "fused" the same sMLPNet '
        "re-expressed for inference. Unless given, the one that the backend was measured to run faster; models that "
        "have no fused graph use the reference."
    ),
    "enum": ["reference", "fused"],
}
_TEXT: Facts = {"type": "string", "minLength": 1}


def whole() -> Facts:
    """The schema of a configuration file, the sections of all backends in it."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # written in C if PyYAML has it: eight times as fast
    schema: Facts = yaml.load(FILE.read_text(encoding="utf-8"), Loader=loader)
    settings = schema["properties"]
    settings["backends"]["properties"] = {backend.name: _section(backend) for backend in backends.every()}
    model = settings["models"]["additionalProperties"]["properties"]
    model |= {backend.ready_made: _ready_made(backend) for backend in backends.every() if backend.ready_made}
    return schema


def options(backend: Backend) -> Facts:
    """The schema of targets[].options: what a target may change of how the backend compiles."""
    return {
        "description": f"Options of compiling for {backend.name}; they replace those of backends.{backend.name}.",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: rule for name, rule in _options(backend).items() if name not in HOST},
    }


def has_graphs(backend: Backend) -> bool:
    """Whether its engines can be made from one or the other graph."""
    return backend.compiles_from == "onnx" or any(option.name == "graph" for option in backend.options)


def _section(backend: Backend) -> Facts:
    """The schema of backends.<name>."""
    rules: Facts = {
        "python": {"description": "Python that runs its engines; the one that runs Snakemake unless given.", **_TEXT},
        "set_env": {
            "description": "Script that sets up its host, sourced before each of its jobs. Nothing unless given.",
            **_TEXT,
        },
        "env": {
            "description": (
                "Variables of the environment that may change arithmetic, threads or kernels of its compiling, "
                "inference and measuring, such as OMP_WAIT_POLICY; all that are not listed are cleared."
            ),
            "type": "object",
            "propertyNames": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": ["string", "number"]},
        },
    }
    if has_graphs(backend):
        rules["graph"] = GRAPH
    kinds = [kind.name for kind in backend.devices]
    if len(kinds) > 1:
        about = f"Kind of device that its engines run on, for which its runtime must be built; {kinds[0]} unless given."
        rules["device"] = {"description": about, "enum": kinds}
    if any(kind.resource for kind in backend.devices):
        rules["devices"] = {
            "description": (
                "Numbers of this host's devices to infer on, as its runtime counts them, one shard each; the first "
                "one measures. Leave it out if a scheduler gives each job its device."
            ),
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "integer", "minimum": 0, "maximum": 255},
            **({"default": [0]} if backend.devices[0].resource else {}),
        }
    rules |= _options(backend)
    if backend.tells_state:
        rules["allow_busy_device"] = {
            "description": "Measure also if another process uses the device, or if it is not healthy.",
            "type": "boolean",
            "default": False,
        }
    section: Facts = {
        "description": f"Settings of {backend.name}.",
        "type": "object",
        "additionalProperties": False,
        "properties": rules,
    }
    # a backend without defaults of its own appears in the settings only if the user gives it some
    return {**section, "default": {}} if any("default" in rule for rule in _options(backend).values()) else section


def _options(backend: Backend) -> Facts:
    """The schemas of the options that the settings may give, by name."""
    rules: Facts = {option.name: option.schema() for option in backend.options if option.setting}
    if further := backend.passes_on:
        rules[further.name] = {
            "description": further.help,
            "type": "object",
            "propertyNames": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
            "additionalProperties": {"type": ["string", "integer"]},
            "default": {},
        }
    return rules


def _ready_made(backend: Backend) -> Facts:
    """The schema of models.<name>.<ready_made>."""
    return {
        "description": (
            f"Ready-made engines of {backend.name} by batch size, as paths or URLs. They take the place of compiling, "
            "and are checked when they are opened. Batch sizes without one are compiled."
        ),
        "type": "object",
        "propertyNames": {"type": "string", "pattern": "^[1-9][0-9]{0,3}$"},
        "additionalProperties": {"$ref": "#/$defs/source"},
    }
