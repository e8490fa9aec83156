"""A model that knows every class by its colour is right on every image, or the commands say why it is not scored."""

import json

import numpy as np
import pytest
from PIL import Image

from smlp.core.cli import UserError

MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))


def colours(count):
    """Colours far apart, one a class."""
    steps = range(20, 256, 24)
    grid = np.array([(red, green, blue) for red in steps for green in steps for blue in steps])
    return grid[np.random.default_rng(0).permutation(len(grid))[:count]]


def write_classifier(path, palette, background=False):
    """An ONNX file whose best score is that of the class whose colour the image has."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    known = (palette / 255 - MEAN) / STD
    weight, bias = 2 * known, -(known**2).sum(1)
    if background:
        weight, bias = np.vstack([np.zeros(3), weight]), np.hstack([-1e3, bias])
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["output"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", len(weight)])],
        [
            numpy_helper.from_array(weight.astype(np.float32), "weight"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


@pytest.fixture
def scored(tmp_path, load_command):
    """scored(palette, names, background=…, *flags): the figures; image i has colour i and the name names[i]."""

    def score(palette, names, *flags, background=False):
        for name, colour in names.items():
            path = tmp_path / "data" / "val" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (240, 230), tuple(map(int, palette[colour]))).save(path)
        write_classifier(tmp_path / "m.onnx", palette, background)
        bins, out, figures = (str(tmp_path / name) for name in ("bins", "out", "figures.json"))
        steps = {
            "preprocess": ["--data_root", tmp_path / "data", "--save_dir", bins, "--workers", 1, *flags],
            "infer": ["--model", tmp_path / "m.onnx", "--input", bins, "--output", out, "--output_dirname", "r"],
            "evaluate": ["--infer_result_dir", f"{out}/r", "--labels", bins, "--json", figures, "--model_label", "m"],
        }
        for command, words in steps.items():
            assert load_command(command).main(list(map(str, words))) == 0
        return json.loads((tmp_path / "figures.json").read_text())

    return score


def test_numbered_folders_mean_their_numbers(scored):
    found = scored(colours(12), {f"{number}/a.png": number for number in range(12)})
    assert (found["top1"], found["classes_scored"], found["num_classes"]) == (100, 12, 12)


def test_ten_of_a_thousand_classes_are_refused_until_their_names_are_known(scored, tmp_path):
    chosen = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    names = {f"n{10_000_000 + number}/a.png": number for number in chosen}
    with pytest.raises(UserError, match="has 10 class folders, but the engine .*m.onnx gives 1000 classes.*dataset.cl"):
        scored(colours(1000), names)
    (tmp_path / "names.txt").write_text("".join(f"n{10_000_000 + number}\n" for number in range(1000)))
    found = scored(colours(1000), names, "--classes", tmp_path / "names.txt")
    assert (found["top1"], found["classes_scored"], found["num_classes"]) == (100, 10, 1000)


def test_a_model_of_1001_classes_is_refused_until_its_background_is_known(scored, tmp_path):
    names = {f"{number}.png": number for number in range(0, 1000, 90)}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "val_label.txt").write_text("".join(f"{name} {number}\n" for name, number in names.items()))
    with pytest.raises(UserError, match="gives 1001 classes, one more than ImageNet has.*dataset.background_class: 0"):
        scored(colours(1000), names, background=True)
    found = scored(colours(1000), names, "--background_class", 0, background=True)
    assert (found["top1"], found["num_classes"]) == (100, 1001)


def test_a_model_that_is_never_right_is_scored_with_a_warning_that_names_the_causes(scored, tmp_path, capsys):
    """Imported labels of a manifest without a sidecar would not be refused: this is what then tells."""
    palette = colours(40)
    names = {f"{number}.png": number for number in range(39)}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "val_label.txt").write_text("".join(f"{name} {n + 1}\n" for name, n in names.items()))
    assert scored(palette, names)["top1"] == 0
    said = capsys.readouterr().err
    assert "warning: 0 % top-1 is too close to guessing, of 40 classes up to 5 % is; check labels (dataset.cl" in said
    assert "if every label were one lower, as if the label file counted from 1, it would be right on 100 %" in said
