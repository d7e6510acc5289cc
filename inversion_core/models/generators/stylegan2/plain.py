"""StyleGAN2's synthesis as its public code writes it: a weight for each image, in one grouped convolution.

For comparison, in speed and in numbers, never for use. Suffixes as in `network.py`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.models.generators.base import Synthesis
from inversion_core.models.generators.stylegan2.network import (
    RGB,
    ModulatedConvolution,
    StyleGAN2Synthesis,
    ToRGB,
    fir,
)
from inversion_core.models.layers import EPSILON


def plain_synthesis(synthesis: Synthesis, w_BLD: Tensor) -> Tensor:
    """`StyleGAN2Synthesis.forward` in separate operations; equal up to rounding."""
    assert isinstance(synthesis, StyleGAN2Synthesis)
    x, image = synthesis.const.repeat(len(w_BLD), 1, 1, 1), None
    for index, w_BD in enumerate(w_BLD.unbind(1)):
        if index % 2:
            skip = _to_rgb(synthesis.to_rgbs[index // 2], x, w_BD)
            image = skip if image is None else image + skip
            if index == len(synthesis.convolutions):
                return image
            image = F.conv_transpose2d(image, fir(RGB).to(image), stride=2, padding=1, groups=RGB)
        x = _convolution(synthesis.convolutions[index], x, w_BD)
    raise AssertionError("the last style layer returns")


def _to_rgb(layer: torch.nn.Module, x_BCHW: Tensor, w_BD: Tensor) -> Tensor:
    assert isinstance(layer, ToRGB)
    style_BI = F.linear(w_BD, layer.style.weight * layer.style.weight_scale, layer.style.bias)
    weight_BOI = layer.weight[None, :, :, 0, 0] * (style_BI / math.sqrt(layer.weight.shape[1]))[:, None]
    y = torch.einsum("boi,bihw->bohw", weight_BOI, x_BCHW) + layer.bias[:, None, None]
    return y.clamp(-layer.clamp, layer.clamp) if layer.clamp else y


def _convolution(layer: torch.nn.Module, x_BCHW: Tensor, w_BD: Tensor) -> Tensor:
    assert isinstance(layer, ModulatedConvolution)
    batch, channels = len(x_BCHW), layer.weight.shape[0]
    style_BI = F.linear(w_BD, layer.style.weight * layer.style.weight_scale, layer.style.bias)
    weight_BOIHW = layer.weight[None] * style_BI[:, None, :, None, None]
    weight_BOIHW = weight_BOIHW * torch.rsqrt(weight_BOIHW.square().sum(dim=(2, 3, 4), keepdim=True) + EPSILON)
    x_1CHW = x_BCHW.reshape(1, -1, *x_BCHW.shape[2:])
    if layer.upsamples:
        weight_CIHW = weight_BOIHW.transpose(1, 2).flatten(0, 1)
        x_1CHW = F.conv_transpose2d(x_1CHW, weight_CIHW, stride=2, groups=batch)
        x_1CHW = F.conv2d(x_1CHW, fir(batch * channels).to(x_1CHW), padding=1, groups=batch * channels)
    else:
        x_1CHW = F.conv2d(x_1CHW, weight_BOIHW.flatten(0, 1), padding=1, groups=batch)
    x = x_1CHW.view(batch, channels, *x_1CHW.shape[2:])
    x = x + layer.noise_HW * layer.noise_strength
    x = F.leaky_relu(x + layer.bias[:, None, None], 0.2) * math.sqrt(2)
    return x.clamp(-layer.clamp, layer.clamp) if layer.clamp else x
