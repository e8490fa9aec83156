"""The schema of the settings, and the sections that backends declare."""

import jsonschema
import pytest

from smlp import backends
from smlp.backends.base import Option
from smlp.core.cli import UserError
from smlp.workflow import schema, settings

WHOLE = schema.whole()
SECTIONS = WHOLE["properties"]["backends"]["properties"]
SMALL = {
    "models": {"mine": {"checkpoint": "x.pth", "model_name": "test_resnet"}},
    "dataset": {"name": "data", "root": "/data"},
    "targets": [{"backend": "pytorch"}],
}


def complete(backend, section):
    return settings.complete({**SMALL, "backends": {backend: section}}, "sweep.yaml")["backends"][backend]


def leaves(schema, where=""):
    """(path, schema) of every setting: every entry of a `properties`."""
    for part in (schema, schema.get("items"), schema.get("additionalProperties")):
        for key, inner in (part or {}).get("properties", {}).items() if isinstance(part, dict) else ():
            yield f"{where}.{key}", inner
            yield from leaves(inner, f"{where}.{key}")
    for inner in schema.get("oneOf", ()):
        yield from leaves(inner, where)


def test_every_setting_has_a_description():
    found = [*leaves(WHOLE), *leaves(WHOLE["$defs"]["source"], "source")]
    model = leaves(WHOLE["properties"]["models"]["additionalProperties"], ".models")
    names = {path for path, _ in (*found, *model)}
    assert {".batch_sizes", ".dataset.demo.seed", ".targets.backend", "source.md5", ".models.transform"} <= names
    assert [path for path, inner in found if len(inner.get("description", "")) < 8] == []


def test_every_default_is_itself_valid():
    for path, inner in leaves(WHOLE):
        if "default" in inner:
            assert not list(settings._Validator(inner).iter_errors(inner["default"])), path


def test_every_option_that_a_backend_declares_is_a_setting_of_it():
    for backend in backends.every():
        declared = {option.name for option in backend.options if option.setting}
        declared |= {backend.passes_on.name} if backend.passes_on else set()
        assert declared <= SECTIONS[backend.name]["properties"].keys()
        hidden = {option.name for option in backend.options if not option.setting}
        assert not hidden - {"device", "graph"} & SECTIONS[backend.name]["properties"].keys()


def test_a_backend_has_the_settings_that_something_consumes():
    keys = {name: set(section["properties"]) for name, section in SECTIONS.items()}
    common = {"python", "set_env", "env"}
    assert keys["pytorch"] == common
    assert keys["openvino"] == common | {"graph"}
    assert keys["onnxruntime"] == common | {"graph", "device", "devices", "allow_busy_device"}
    assert keys["aotinductor"] == common | {
        *("graph", "device", "devices", "autotune", "cuda_graph", "allow_busy_device"),
    }
    assert keys["tensorrt"] == common | {"graph", "devices", "trtexec", "workspace_mib", "allow_busy_device"}
    own = {"soc_version", "op_precision_ini", "aipp_config", "fusion_switch_file", "atc_options"}
    assert keys["ascend"] == common | own | {"graph", "devices", "allow_busy_device"}


@pytest.mark.parametrize("value", [True, False, "true", "false"])
def test_a_boolean_option_is_a_boolean_of_yaml_or_its_text(value):
    assert complete("aotinductor", {"cuda_graph": value})["cuda_graph"] == value


@pytest.mark.parametrize(
    ("backend", "section", "message"),
    [
        ("aotinductor", {"cuda_graph": "yes"}, "backends.aotinductor.cuda_graph: 'yes' is not one of"),
        ("aotinductor", {"cuda_graph": 1}, "backends.aotinductor.cuda_graph: 1 is not one of"),
        ("tensorrt", {"workspace_mib": 0}, "backends.tensorrt.workspace_mib: 0 is less than the minimum of 1"),
        ("tensorrt", {"workspace_mib": "1"}, "backends.tensorrt.workspace_mib: '1' is not of type 'integer'"),
        ("ascend", {"soc_version": "a b"}, "backends.ascend.soc_version: 'a b' does not match"),
        ("ascend", {"atc_options": {"x": [1]}}, "backends.ascend.atc_options.x: [1] is not of type"),
        ("ascend", {"devices": []}, "backends.ascend.devices: [] should be non-empty"),
        ("openvino", {"graph": "fast"}, "backends.openvino.graph: 'fast' is not one of ['reference', 'fused']"),
        ("pytorch", {"graph": "fused"}, "backends.pytorch: unknown key 'graph'; did you mean"),
        ("onnxruntime", {"devices": [0]}, "backends.onnxruntime.devices: this backend runs on the cpu; remove it"),
        ("onnxrutime", {}, "backends.onnxrutime: is not known; known: aotinductor, ascend"),
    ],
)
def test_a_wrong_setting_of_a_backend_is_named(backend, section, message):
    with pytest.raises(UserError) as error:
        complete(backend, section)
    assert str(error.value).startswith(f"sweep.yaml: {message}")


def test_defaults_are_those_that_the_backend_declares():
    assert complete("ascend", {"soc_version": "S", "devices": [3]}) == {
        "soc_version": "S",
        "devices": [3],
        "op_precision_ini": "resources/op_precision.ini",
        "atc_options": {},
        "allow_busy_device": False,
    }


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        (Option("a", "what", "boolean"), {"enum": [True, False, "true", "false"]}),
        (Option("a", "what", "integer", minimum=2, default=4), {"type": "integer", "minimum": 2, "default": 4}),
        (Option("a", "what", choices=("x", "y")), {"type": "string", "minLength": 1, "enum": ["x", "y"]}),
        (Option("a", "what", "file", pattern="^x"), {"type": "string", "minLength": 1, "pattern": "^x"}),
    ],
)
def test_an_option_states_its_schema(option, rule):
    assert option.schema() == {"description": "what", **rule}


@pytest.mark.parametrize("value", [{"OMP NUM": 1}, {"A": True}, {"A": None}, {"A": ["1"]}, "A=1"])
def test_variables_are_names_with_a_text_or_a_number(value):
    section = {**SECTIONS["pytorch"], "additionalProperties": True}
    assert not jsonschema.Draft202012Validator(section).is_valid({"env": value})
    assert jsonschema.Draft202012Validator(section).is_valid({"env": {"A": "x", "B": 1, "C": 0.5}})
