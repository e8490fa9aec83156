"""The fused graph is the same network: in float64 to rounding, as ONNX with the names and opset of the other."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from smlp.core.cli import UserError
from smlp.models import architectures, onnx_costs, onnx_graph
from smlp.models.fused import fuse
from smlp.models.smlpnet import SMLPNet

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.fixture(scope="module")
def weights():
    import importlib.util

    spec = importlib.util.spec_from_file_location("deterministic_weights", GOLDEN / "deterministic_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fill(model, weights, salt):
    state = model.state_dict()
    for key, tensor in state.items():
        tensor.copy_(torch.from_numpy(np.asarray(weights.tensor(key, tuple(tensor.shape), salt))))
    return model.eval()


@pytest.fixture(scope="module")
def small(weights):
    """An sMLPNet of another size, float64; every one of its weights and statistics differs from its default."""
    return fill(SMLPNet(8, (2, 1, 1, 2), num_classes=7, img_size=96).double(), weights, "small")


@pytest.fixture(scope="module")
def images(weights):
    return torch.from_numpy(weights.images(2, "small", 96))


def difference(actual, expected):
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def test_agrees_with_the_golden_logits_in_float64(weights):
    model = fill(architectures.create("smlpnet_tiny").double(), weights, "golden")
    with torch.inference_mode():
        logits = fuse(model)(torch.from_numpy(weights.images(2, "golden"))).numpy()
    assert difference(logits, np.load(GOLDEN / "logits.npz")["smlpnet_tiny"]) < 1e-12


@pytest.mark.parametrize("stencil", [False, True])
def test_agrees_with_the_model_in_float64(small, images, stencil):
    with torch.inference_mode():
        assert difference(fuse(small, stencil)(images).numpy(), small(images).numpy()) < 1e-12


def test_each_image_is_computed_by_itself(small, images):
    fused = fuse(small)
    with torch.inference_mode():
        alone = torch.cat([fused(images[:1]), fused(images[1:])])
        assert difference(fused(images).numpy(), alone.numpy()) < 1e-12


def test_keeps_the_model_its_dtype_and_its_weights(small):
    before = {key: value.clone() for key, value in small.state_dict().items()}
    fused = fuse(small.float())
    assert {parameter.dtype for parameter in fused.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    small.double()
    assert all(torch.allclose(small.state_dict()[key], value) for key, value in before.items())


def test_onnx_has_the_same_ends_fewer_nodes_and_fewer_permutes(small, images, tmp_path):
    import onnxruntime

    path = {}
    for name, model in {"reference": small, "fused": fuse(small)}.items():
        path[name] = tmp_path / f"{name}.onnx"
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model.float(),
                (images.float(),),
                str(path[name]),
                opset_version=11,
                input_names=[onnx_graph.INPUT],
                output_names=[onnx_graph.OUTPUT],
                dynamic_axes={onnx_graph.INPUT: {0: "batch"}, onnx_graph.OUTPUT: {0: "batch"}},
                dynamo=False,
            )
    small.double()
    reference, fused = (onnx_graph.load(path[name]) for name in ("reference", "fused"))
    assert onnx_graph.opset(fused) == 11
    assert [value.name for value in (*onnx_graph.inputs(fused), *fused.graph.output)] == ["input", "output"]
    assert onnx_graph.batch(fused) is None and onnx_graph.shape(fused.graph.output[0])[1] == 7
    counts, before = onnx_graph.node_counts(fused), onnx_graph.node_counts(reference)
    assert "BatchNormalization" not in counts and "Concat" not in counts
    assert counts["Transpose"] < before["Transpose"]
    # three products over channels a block and two over positions; the same multiply-accumulates
    assert onnx_costs.macs(fused) == onnx_costs.macs(reference)
    with torch.inference_mode():
        expected = small(images).numpy()
    for size in (1, 2):
        fixed = onnx_graph.with_batch(fused, size).SerializeToString()
        session = onnxruntime.InferenceSession(fixed, providers=["CPUExecutionProvider"])
        logits = session.run(None, {"input": images[:size].float().numpy()})[0]
        assert difference(logits, expected[:size]) < 1e-5


def test_another_model_is_refused():
    with pytest.raises(UserError, match=r"not for VisionTransformer; set graph: reference"):
        fuse(architectures.create("test_vit"))
