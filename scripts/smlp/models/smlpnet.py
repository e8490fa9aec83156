"""sMLPNet tiny, small and base (arXiv 2109.05422), key-compatible with the published checkpoints.

"Sparse MLP for Image Recognition: Is Self-Attention Really Necessary?". Attribute names follow the keys of
the checkpoints of microsoft/SPACH (`proh_w` is spelt so there); what a module computes follows the paper.
"""

from __future__ import annotations

from typing import Any

import torch
from einops.layers.torch import Reduce
from torch import Tensor, nn

from . import _torchvision  # noqa: F401  (first: timm imports it)

# isort: split
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath, to_2tuple
from timm.models import PretrainedCfg, build_model_with_cfg, generate_default_cfgs, register_model

_SPACH_RELEASE = "https://github.com/microsoft/SPACH/releases/download/v1.0/"


class ConvMerge(nn.Module):
    """Local mixing: batch norm, GELU, depthwise 3x3 convolution. (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.BN = nn.BatchNorm2d(dim)
        self.Conv = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim, bias=False)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.Conv(self.act(self.BN(x)))


class SparseMLP(nn.Module):
    """Global mixing along each axis by itself. (N, C, S, S) -> (N, C, S, S).

    After batch norm and GELU, one SxS matrix mixes the positions of every row (along W), another those of
    every column (along H), each shared by all channels; a 1x1 convolution fuses both with the input.
    The matrices are stored as 1x1 convolutions over the axis that they mix, hence the permutes.
    """

    def __init__(self, dim: int, size_px: int) -> None:
        super().__init__()
        self.BN = nn.BatchNorm2d(dim)
        self.act = nn.GELU()
        self.proj_h = nn.Conv2d(size_px, size_px, kernel_size=1)
        self.proh_w = nn.Conv2d(size_px, size_px, kernel_size=1)
        self.fuse = nn.Conv2d(3 * dim, dim, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.BN(x))
        along_w = self.proj_h(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        along_h = self.proh_w(x.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
        return self.fuse(torch.cat([x, along_w, along_h], dim=1))


class ChannelMLP(nn.Module):
    """Two linear layers with a GELU between them, on the last axis. (..., C) -> (..., C)."""

    def __init__(self, dim: int, expansion: int) -> None:
        super().__init__()
        # the positions 0 and 3 are part of the checkpoints' keys: dropout was at 2 and 4
        self.net = nn.Sequential(
            nn.Linear(dim, expansion * dim), nn.GELU(), nn.Identity(), nn.Linear(expansion * dim, dim), nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class ChannelsLast(nn.Module):
    """(N, C, H, W) -> (N, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class ChannelsFirst(nn.Module):
    """(N, H, W, C) -> (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class SMLPNet(nn.Module):
    """sMLPNet: four stages of token-mixing and channel-mixing blocks, a batch norm, the mean, one linear layer.

    dim: channels of the first stage, doubled at each further one. depths: blocks a stage. img_size: side of the
    square input in pixels, a multiple of 32; the token-mixing matrices are made for it.
    Input: float (N, in_chans, img_size, img_size). Output: float (N, num_classes), logits.
    """

    def __init__(
        self,
        dim: int,
        depths: tuple[int, int, int, int],
        drop_path_rate: float = 0.0,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        expansion: int = 3,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = dim * 2 ** (len(depths) - 1)
        self.depths = depths
        height_px, width_px = to_2tuple(img_size)  # timm gives both sides
        if height_px != width_px or height_px % (patch_size * 2 ** (len(depths) - 1)):
            raise ValueError(f"img_size {img_size}: a square with a side of {patch_size * 2 ** (len(depths) - 1)}·n px")
        drop_path = torch.linspace(0, drop_path_rate, sum(depths)).tolist()
        self.to_patch_embedding = nn.ModuleList()
        self.token_mix = nn.ModuleList()
        self.channel_mix = nn.ModuleList()
        for stage, depth in enumerate(depths):
            width = dim * 2**stage
            size_px = height_px // patch_size // 2**stage
            step = patch_size if stage == 0 else 2
            before = in_chans if stage == 0 else width // 2
            self.to_patch_embedding.append(
                nn.Sequential(nn.Conv2d(before, width, kernel_size=step, stride=step, bias=False))
            )
            for _ in range(depth):
                rate = drop_path[len(self.token_mix)]
                self.token_mix.append(_TokenMix(width, size_px, rate))
                self.channel_mix.append(
                    nn.Sequential(
                        ChannelsLast(),
                        nn.LayerNorm(width),
                        ChannelMLP(width, expansion),
                        ChannelsFirst(),
                        DropPath(rate),
                    )
                )
        self.batch_norm = nn.BatchNorm2d(self.num_features)
        self.pool = Reduce("n c h w -> n c", "mean")
        self.mlp_head = nn.Sequential(nn.Linear(self.num_features, num_classes))

    def get_classifier(self) -> nn.Module:
        """timm's name for the head."""
        return self.mlp_head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one for `num_classes` classes."""
        self.num_classes = num_classes
        self.mlp_head = nn.Sequential(nn.Linear(self.num_features, num_classes))

    def forward_features(self, x: Tensor) -> Tensor:
        """Images -> last feature map, float (N, num_features, S, S), normalised."""
        block = 0
        for stage, depth in enumerate(self.depths):
            x = self.to_patch_embedding[stage](x)
            for _ in range(depth):
                x = x + self.token_mix[block](x)
                x = x + self.channel_mix[block](x)
                block += 1
        return self.batch_norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Feature map -> logits, or the pooled features (N, num_features) if `pre_logits`."""
        x = self.pool(x)
        return x if pre_logits else self.mlp_head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class _TokenMix(nn.Sequential):
    """Local, then global token mixing. Its batch norms are inside, before each of the two (keys `.0.` and `.1.`)."""

    def __init__(self, dim: int, size_px: int, drop_path: float) -> None:
        local = nn.Sequential()
        local.add_module("conv_merge", ConvMerge(dim))
        super().__init__(local, SparseMLP(dim, size_px), DropPath(drop_path))


def _cfg(url: str) -> PretrainedCfg:
    return PretrainedCfg(
        url=url,
        num_classes=1000,
        input_size=(3, 224, 224),
        fixed_input_size=True,
        pool_size=None,
        crop_pct=0.875,
        interpolation="bicubic",
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        first_conv="to_patch_embedding.0.0",
        classifier="mlp_head.0",
        license="mit",
    )


default_cfgs = generate_default_cfgs(
    {
        "smlpnet_tiny.ascend_in1k": _cfg(
            "https://ascend-pytorch-model-file.obs.cn-north-4.myhuaweicloud.com/"
            "%E9%AA%8C%E6%94%B6-%E6%8E%A8%E7%90%86/cv/classfication/sMLP/smlp_t.pth"
        ),
        "smlpnet_small.ms_in1k": _cfg(_SPACH_RELEASE + "smlp_s.pth"),
        "smlpnet_base.ms_in1k": _cfg(_SPACH_RELEASE + "smlp_b.pth"),
    }
)


def _create(variant: str, pretrained: bool, **arguments: Any) -> SMLPNet:
    return build_model_with_cfg(SMLPNet, variant, pretrained, **arguments)


@register_model
def smlpnet_tiny(pretrained: bool = False, **kwargs: Any) -> SMLPNet:
    """sMLPNet-T: 24.1 M parameters, 5.0 GMACs."""
    return _create("smlpnet_tiny", pretrained, **{"dim": 80, "depths": (2, 8, 14, 2), "drop_path_rate": 0.0, **kwargs})


@register_model
def smlpnet_small(pretrained: bool = False, **kwargs: Any) -> SMLPNet:
    """sMLPNet-S: 48.6 M parameters, 10.3 GMACs."""
    return _create(
        "smlpnet_small", pretrained, **{"dim": 96, "depths": (2, 10, 24, 2), "drop_path_rate": 0.2, **kwargs}
    )


@register_model
def smlpnet_base(pretrained: bool = False, **kwargs: Any) -> SMLPNet:
    """sMLPNet-B: 65.9 M parameters, 14.0 GMACs."""
    return _create(
        "smlpnet_base", pretrained, **{"dim": 112, "depths": (2, 10, 24, 2), "drop_path_rate": 0.3, **kwargs}
    )
