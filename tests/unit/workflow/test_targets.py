"""Variants of targets: what entries that list values stand for, their names, and what they may change."""

import pytest

from smlp.core.cli import UserError
from smlp.workflow import settings, targets

FUSIBLE = {"model_name": "smlpnet_tiny", "checkpoint": "tiny.pth"}


def complete(*entries, models=None, **more):
    """The targets of complete settings."""
    config = {"models": models or {"mine": FUSIBLE}, "dataset": {"name": "data", "root": "/data"}, **more}
    return settings.complete({**config, "targets": list(entries)}, "sweep.yaml")["targets"]


def refusal(*entries, **more):
    with pytest.raises(UserError) as error:
        complete(*entries, **more)
    message = str(error.value)
    assert message.startswith("sweep.yaml: ") and "\n" not in message
    return message.removeprefix("sweep.yaml: ")


ORT = {"backend": "onnxruntime", "precision": "fp32"}
AOTI = {"backend": "aotinductor", "precision": "fp32"}
ASCEND = {"backend": "ascend", "precision": "fp16"}


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        (ORT, [""]),
        ({**ORT, "name": "mine"}, ["mine"]),
        ({**ORT, "opset_version": 17}, ["opset17"]),
        ({**ORT, "graph": "reference"}, ["reference"]),
        ({**ORT, "graph": "reference", "opset_version": 17}, ["opset17-reference"]),
        ({**AOTI, "options": {"cuda_graph": True}}, ["cuda_graph_true"]),
        ({**AOTI, "options": {"cuda_graph": "true"}}, ["cuda_graph_true"]),
        ({**ORT, "name": "old", "opset_version": 11, "graph": "fused"}, ["old"]),
        ({**ORT, "opset_version": [11, 17]}, ["opset11", "opset17"]),
        ({**ORT, "opset_version": [17]}, ["opset17"]),
        ({**ORT, "name": "ort", "opset_version": [11, 17]}, ["ort-opset11", "ort-opset17"]),
        (
            {**ORT, "name": "ort", "opset_version": [11, 17], "graph": "fused"},
            ["ort-opset11-fused", "ort-opset17-fused"],
        ),
        (
            {**ORT, "graph": ["reference", "fused"], "opset_version": [11, 17]},
            ["opset11-reference", "opset11-fused", "opset17-reference", "opset17-fused"],
        ),
        ({**AOTI, "options": {"cuda_graph": [True, False]}}, ["cuda_graph_true", "cuda_graph_false"]),
        ({**ASCEND, "options": {"atc_options": {"a": [1, 2], "b": "x"}}}, ["a_1-b_x", "a_2-b_x"]),
        ({**ASCEND, "options": {"aipp_config": "my files/a.config"}}, ["aipp_config_my-files-a.config"]),
    ],
)
def test_a_variant_is_called_by_its_name_or_by_what_it_changes(entry, names):
    found = complete(entry)
    assert [target.get("name", "") for target in found] == names
    assert all(("name" in target) == bool(name) for target, name in zip(found, names))
    assert complete(*found) == found


def test_a_list_stands_for_the_product_of_all_lists():
    entry = {"backend": "onnxruntime", "precision": ["fp32", "int8"], "opset_version": [11, 17]}
    found = complete(entry)
    assert [(target["precision"], target["opset_version"]) for target in found] == [
        ("fp32", 11),
        ("fp32", 17),
        ("int8", 11),
        ("int8", 17),
    ]
    assert entry == {"backend": "onnxruntime", "precision": ["fp32", "int8"], "opset_version": [11, 17]}


def test_precisions_in_a_list_are_plain_targets():
    assert complete({"backend": "openvino", "precision": ["fp32", "int8"]}) == [
        {"backend": "openvino", "precision": "fp32"},
        {"backend": "openvino", "precision": "int8"},
    ]
    named = complete({"name": "mine", "backend": "openvino", "precision": ["fp32", "int8"]})
    assert [target["name"] for target in named] == ["mine", "mine"]


def test_the_same_name_may_be_given_to_several_backends():
    found = complete(ORT, {**ORT, "opset_version": 17}, {"backend": "openvino", "opset_version": 17})
    assert [str(targets.Target.of(target)) for target in found] == [
        "onnxruntime fp32",
        "onnxruntime fp32 opset17",
        "openvino fp32 opset17",
    ]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{**ORT, "name": "a b"}], "targets.0.name: 'a b' does not match"),
        ([{**ORT, "name": "imported"}], "targets.0: the name 'imported' is taken by other folders of results"),
        ([{**ORT, "name": "bs8"}], "targets.0: the name 'bs8' is taken"),
        ([{**ORT, "name": "data"}], "targets.0: the name 'data' is taken"),
        (
            [{**ORT, "name": "x", "opset_version": 12}, {**ORT, "name": "x", "opset_version": 17}],
            "targets.1: onnxruntime fp32 x is listed twice; give every variant a name of its own",
        ),
        ([{**ORT, "opset_version": [12, 17]}, {**ORT, "opset_version": 17}], "targets.1: onnxruntime fp32 opset17 is"),
        ([{**ORT, "opset_version": 17}] * 2, "targets.0: onnxruntime fp32 opset17 is listed twice"),
        ([{"backend": "openvino", "precision": ["fp32", "fp32"]}], "targets.0: openvino fp32 is listed twice"),
        (
            [{"backend": "openvino", "precision": ["fp32", "fp8"]}],
            "targets.0: backend 'openvino' has no precision 'fp8'",
        ),
        ([{**ORT, "opset_version": 19}], "targets.0.opset_version: 19 is greater than the maximum of 18"),
        ([{**ORT, "opset_version": [17, 8]}], "targets.0.opset_version.1: 8 is less than the minimum of 9"),
        ([{**ORT, "opset_version": []}], "targets.0.opset_version: [] should be non-empty"),
        ([{**AOTI, "opset_version": 17}], "targets.0.opset_version: backend 'aotinductor' starts from no ONNX file;"),
        ([{**ORT, "graph": "fast"}], "targets.0.graph: 'fast' is not one of ['reference', 'fused']"),
        ([{"backend": "pytorch", "graph": "fused"}], "targets.0.graph: backend 'pytorch' has no choice of graphs;"),
        (
            [{**AOTI, "options": {"cuda_grap": True}}],
            "targets.0.options: unknown key 'cuda_grap'; did you mean 'cuda_graph'? Known: autotune, cuda_graph",
        ),
        ([{**AOTI, "options": {"cuda_graph": 3}}], "targets.0.options.cuda_graph: 3 is not one of [True, False,"),
        (
            [{**AOTI, "options": {"cuda_graph": []}}],
            "targets.0.options: a list is empty; give it a value, or remove it",
        ),
        ([{**AOTI, "options": 3}], "targets.0.options: 3 is not of type 'object'"),
        ([{**ORT, "options": {"x": 1}}], "targets.0.options: unknown key 'x'; it has none, remove it"),
        # where an engine runs is not how it is made
        ([{**ASCEND, "options": {"python": "x"}}], "targets.0.options: unknown key 'python'; did you mean"),
        (
            [{**ASCEND, "options": {"op_precision_ini": "x"}}],
            "targets.0.options.op_precision_ini: is for precision high and not for 'fp16'; remove it",
        ),
        ([{**ASCEND, "options": {"atc_options": {"--x": 1}}}], "targets.0.options.atc_options: the name '--x'"),
    ],
)
def test_a_wrong_variant_is_named_with_its_fix(entries, message):
    assert refusal(*entries).startswith(message)


@pytest.mark.parametrize(
    ("model", "entry", "message"),
    [
        (
            {"model_name": "test_resnet", "checkpoint": "x.pth"},
            {**ORT, "graph": "fused"},
            "targets.0.graph: models.mine has no fused graph, only sMLPNets from a checkpoint have;",
        ),
        (
            {"model_name": "test_resnet", "onnx": "x.onnx"},
            {**ORT, "opset_version": 17},
            "targets.0.opset_version: models.mine starts from an ONNX file, which has its opset; remove it",
        ),
    ],
)
def test_a_variant_that_a_model_cannot_have(model, entry, message):
    assert refusal(entry, models={"mine": model}).startswith(message)


def test_ready_made_engines_are_of_one_target():
    model = {**FUSIBLE, "om": {1: "x.om"}}
    message = refusal({**ASCEND, "name": ["a", "b"][0]}, ASCEND, models={"mine": model})
    assert message == "models.mine.om: whose files are they? List exactly one ascend target"
    assert complete({**ASCEND, "name": "quick"}, models={"mine": model})[0]["name"] == "quick"


def test_values_as_commands_take_them():
    assert [targets.text(value) for value in (True, False, "true", 7, "A b")] == ["true", "false", "true", "7", "A b"]
