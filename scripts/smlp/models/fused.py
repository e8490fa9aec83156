"""The same sMLPNet re-expressed for inference: less data moved, the same mathematics.

What changes, and why nothing else does:

- One layout throughout, (N, H, W, C): the layer norm and every linear layer read memory in order, and the
  permutes around both axes' mixing are gone.
- The batch norm behind a depthwise convolution goes into its weights. The one before it cannot: it reads the
  residual stream, and a GELU follows; it becomes one multiply-add. The last one commutes with the mean over
  the positions and goes into the head.
- fuse(concat[t, h, w]) = F0·t + F1·h + F2·w, and a product over channels commutes with one over positions.
  So one product makes [F0·t, F1·t, F2·t], the second part is mixed along W, the third along H, and the three
  are added: no concatenation, and the biases of both mixings become one constant map, added once.

Everything is folded in float64 and then rounded once to the model's dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.cli import UserError
from .smlpnet import SMLPNet


def fuse(model: nn.Module, stencil: bool = False) -> nn.Module:
    """The inference form of `model`, an SMLPNet, in its dtype: float (N, 3, S, S) -> logits (N, classes).

    stencil: write the depthwise convolutions as nine shifted products, for compilers that make one kernel of
    such a sum and what surrounds it; otherwise they stay convolutions. Raises UserError for other models.
    """
    if not isinstance(model, SMLPNet):
        raise UserError(
            f"graph 'fused' is made for smlpnet_tiny, _small and _base, not for {type(model).__name__}; "
            "set graph: reference for this model"
        )
    dtype = model.mlp_head[0].weight.dtype
    return _Fused(model, stencil).to(dtype).eval().requires_grad_(False)


class _Fused(nn.Module):
    def __init__(self, model: SMLPNet, stencil: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        token_mix, channel_mix = iter(model.token_mix), iter(model.channel_mix)
        for embedding, depth in zip(model.to_patch_embedding, model.depths):
            blocks = [_Block(next(token_mix), next(channel_mix), stencil) for _ in range(depth)]
            self.stages.append(nn.Sequential(_Embedding(embedding[0]), *blocks))
        scale, shift = _affine(model.batch_norm)
        head = model.mlp_head[0]
        self.head = _linear(head.weight.double() * scale, head.bias.double() + head.weight.double() @ shift)

    def forward(self, x: Tensor) -> Tensor:
        # every later tensor inherits this layout: its permuted view is contiguous as (N, H, W, C)
        x = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((1, 2)))


class _Embedding(nn.Module):
    """Patch embedding, (N, H, W, C) -> (N, H / step, W / step, C')."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class _Block(nn.Module):
    """Token mixing and channel mixing with their residuals, (N, S, S, C) -> (N, S, S, C)."""

    def __init__(self, token_mix: nn.Sequential, channel_mix: nn.Sequential, stencil: bool) -> None:
        super().__init__()
        local, mixing = token_mix[0].conv_merge, token_mix[1]
        self.scale, self.shift = map(nn.Parameter, _affine(local.BN))
        scale, shift = _affine(mixing.BN)
        kernels = local.Conv.weight.double() * scale[:, None, None, None]
        self.local = (_Stencil if stencil else _Depthwise)(kernels, shift)
        own, along_w, along_h = mixing.fuse.weight.double()[:, :, 0, 0].chunk(3, dim=1)
        self.fuse = _linear(torch.cat([own, along_w, along_h]))
        self.mix_w = nn.Parameter(mixing.proj_h.weight.double()[:, :, 0, 0])
        self.mix_h = nn.Parameter(mixing.proh_w.weight.double()[:, :, 0, 0])
        # (S, S, C): what the biases of both mixings become behind `fuse`
        self.bias = nn.Parameter(
            mixing.proj_h.bias.double()[None, :, None] * along_w.sum(1)
            + mixing.proh_w.bias.double()[:, None, None] * along_h.sum(1)
        )
        self.norm = channel_mix[1]
        self.up, self.down = channel_mix[2].net[0], channel_mix[2].net[3]

    def forward(self, x: Tensor) -> Tensor:
        size_px, _, channels = self.bias.shape
        mixed = self.fuse(F.gelu(self.local(F.gelu(x * self.scale + self.shift))))
        own, along_w, along_h = mixed.split(channels, dim=-1)
        rows = along_h.reshape(-1, size_px, size_px * channels)
        along_h = (self.mix_h @ rows).reshape(-1, size_px, size_px, channels)
        x = x + own + self.bias + self.mix_w @ along_w + along_h
        return x + self.down(F.gelu(self.up(self.norm(x))))


class _Depthwise(nn.Module):
    """Depthwise 3x3 convolution with bias on (N, S, S, C)."""

    def __init__(self, kernels: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.kernels, self.bias = nn.Parameter(kernels), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x.permute(0, 3, 1, 2), self.kernels, self.bias, padding=1, groups=len(self.bias))
        return x.permute(0, 2, 3, 1)


class _Stencil(nn.Module):
    """The same as a sum of nine shifted products."""

    def __init__(self, kernels: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.taps = nn.Parameter(kernels[:, 0].permute(1, 2, 0).contiguous())  # (3, 3, C)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        padded = F.pad(x, (0, 0, 1, 1, 1, 1))
        total = self.bias
        for row in range(3):
            for column in range(3):
                total = total + padded[:, row : row + height, column : column + width] * self.taps[row, column]
        return total


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A batch norm in evaluation mode as (scale, shift), float64 (C,) each."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    layer.weight = nn.Parameter(weight)
    if bias is not None:
        layer.bias = nn.Parameter(bias)
    return layer
