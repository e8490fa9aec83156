"""Our sMLPNets are the published ones, number by number; every other timm model is there by its name."""

import numpy as np
import pytest
import torch

from smlp.core.cli import UserError
from smlp.models import architectures
from smlp.models.architectures import timm  # which it makes importable on every build of torch

VARIANTS = ["smlpnet_tiny", "smlpnet_small", "smlpnet_base"]


def small(**arguments):
    """An sMLPNet as timm makes it, too small to be slow."""
    arguments = {"dim": 8, "depths": (1, 1, 1, 1), "img_size": 32, "num_classes": 5, **arguments}
    return timm.create_model("smlpnet_tiny", **arguments).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_the_reference_implementation(variant, golden, golden_weights):
    model = architectures.create(variant).double()
    model.load_state_dict(golden_weights(golden.state_dicts[variant]["state_dict"], torch.float64), strict=True)
    with torch.inference_mode():
        logits = model(torch.from_numpy(golden.images(2, "golden"))).numpy()
    expected = golden.logits[variant]
    assert np.abs(logits - expected).max() < 1e-9 * np.abs(expected).max()


@pytest.mark.parametrize("variant", VARIANTS)
def test_keys_shapes_and_parameters_are_those_of_the_published_checkpoints(variant, golden):
    model = architectures.create(variant)
    expected = golden.state_dicts[variant]
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == expected["state_dict"]
    assert sum(parameter.numel() for parameter in model.parameters()) == expected["parameters"]
    assert not model.training


@pytest.mark.parametrize("num_classes", [1, 10])
def test_the_number_of_classes_can_be_chosen(num_classes):
    model = architectures.create("smlpnet_tiny", num_classes)
    assert model.get_classifier()[0].weight.shape == (num_classes, 640)
    assert model.num_classes == num_classes


def test_the_classifier_can_be_reset():
    model = small()
    images = torch.rand(2, 3, 32, 32)
    features = model.forward_features(images)
    before = [parameter.clone() for name, parameter in model.named_parameters() if "mlp_head" not in name]
    model.reset_classifier(3)
    assert model(images).shape == (2, 3)
    assert model.num_classes == 3
    after = [parameter for name, parameter in model.named_parameters() if "mlp_head" not in name]
    assert all(torch.equal(one, other) for one, other in zip(before, after))
    assert torch.equal(model.forward_features(images), features)


def test_features_and_head_make_the_whole():
    model = small()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        features = model.forward_features(images)
        pooled = model.forward_head(features, pre_logits=True)
        assert features.shape == (2, 64, 1, 1)
        assert pooled.shape == (2, model.num_features)
        assert torch.equal(model.forward_head(features), model(images))
        assert torch.equal(model.mlp_head(pooled), model(images))


def test_an_image_does_not_depend_on_its_neighbours():
    model = small()
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        alone = torch.cat([model(images[i : i + 1]) for i in range(3)])
        assert torch.allclose(model(images), alone, atol=1e-5)


def test_stochastic_depth_is_for_training_only():
    model = small(drop_path_rate=0.5)
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(images), model(images))
    rates = [module.drop_prob for module in model.modules() if isinstance(module, timm.layers.DropPath)]
    assert max(rates) == pytest.approx(0.5)


@pytest.mark.parametrize("img_size", [100, (64, 32)])
def test_an_impossible_image_size_is_refused(img_size):
    with pytest.raises(ValueError, match="img_size"):
        small(img_size=img_size)


def test_timm_knows_how_to_preprocess_for_ours():
    for variant in VARIANTS:
        config = timm.data.resolve_data_config(pretrained_cfg=timm.models.get_pretrained_cfg(variant).to_dict())
        assert config["input_size"] == (3, 224, 224)
        assert (config["interpolation"], config["crop_pct"], config["crop_mode"]) == ("bicubic", 0.875, "center")
        assert (config["mean"], config["std"]) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_other_timm_models_are_made_by_name(name):
    model = architectures.create(name, 4)
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 160, 160)).shape == (1, 4)
    assert not model.training


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("smlpnet_tny", "smlpnet_tiny"),
        ("resnet5O", "resnet50"),
        ("smlp_small", "smlpnet_small"),
        ("resnet18.no_tag", "resnet18"),
    ],
)
def test_an_unknown_name_names_near_ones(name, near):
    with pytest.raises(UserError, match=f"model '{name}' is not known to timm .*; did you mean .*{near}"):
        architectures.create(name)


def test_a_name_unlike_all_others_is_refused_without_a_guess():
    with pytest.raises(UserError, match="model '%' is not known") as error:
        architectures.require_known("%")
    assert "did you mean" not in str(error.value)


def test_models_for_export_have_no_fused_attention():
    def fused(model):
        return [module.fused_attn for module in model.modules() if hasattr(module, "fused_attn")]

    with architectures.exportable():
        assert not any(fused(architectures.create("test_vit")))
    assert all(fused(architectures.create("test_vit")))


def test_an_unknown_tag_leads_to_the_tags_that_there_are():
    with pytest.raises(
        UserError,
        match=r"model 'resnet50.a1_in' is not .*; did you mean resnet50\.a1_in1k or .*lists all tags$",
    ) as error:
        architectures.require_known("resnet50.a1_in")
    named = str(error.value).split("did you mean ")[1].split("?")[0].split(" or ")
    assert len(named) == 3 and set(named) <= set(timm.list_pretrained("resnet50.*"))
    with pytest.raises(UserError, match=r"has no weights of vit_base_patch16_18x2_224, so leave \.z out"):
        architectures.require_known("vit_base_patch16_18x2_224.z")
    architectures.require_known("resnet50.a1_in1k")
