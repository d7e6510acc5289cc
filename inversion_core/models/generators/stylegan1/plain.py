"""StyleGAN's synthesis as anybody would write it first: for comparison, in speed and in numbers, never for use.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.models.generators.base import Synthesis
from inversion_core.models.generators.stylegan1.network import StyleLayer, SynthesisNetwork
from inversion_core.models.layers import EPSILON, leaky_relu


def plain_synthesis(synthesis: Synthesis, w_BLD: Tensor) -> Tensor:
    """`SynthesisNetwork.forward` in separate operations; equal up to rounding."""
    assert isinstance(synthesis, SynthesisNetwork)
    x_BCHW: Tensor | None = None
    for index, layer in enumerate(synthesis.layers):
        assert isinstance(layer, StyleLayer)
        x_BCHW = _plain_layer(layer, x_BCHW, w_BLD[:, index])
    image_BCHW: Tensor = synthesis.to_rgb(x_BCHW)
    return image_BCHW.tanh() if synthesis.final_tanh else image_BCHW


def _plain_layer(layer: StyleLayer, x_BCHW: Tensor | None, w_BD: Tensor) -> Tensor:
    x = layer.const.repeat(len(w_BD), 1, 1, 1) if x_BCHW is None else _plain_convolution(layer, x_BCHW)
    x = x + layer.noise_HW * layer.noise_strength.view(1, -1, 1, 1)
    x = leaky_relu(x + layer.bias.view(1, -1, 1, 1))
    x = x - x.mean(dim=(2, 3), keepdim=True)
    x = x / torch.sqrt((x**2).mean(dim=(2, 3), keepdim=True) + EPSILON)
    style_B2C11 = (F.linear(w_BD, layer.style.weight) * layer.style.weight_scale + layer.style.bias).view(
        len(w_BD), 2, -1, 1, 1
    )
    return x * (style_B2C11[:, 0] + 1) + style_B2C11[:, 1]


def _plain_convolution(layer: StyleLayer, x_BCHW: Tensor) -> Tensor:
    if not layer.upsamples:
        return F.conv2d(x_BCHW, layer.weight, padding=1) * layer.weight_scale
    if layer.is_fused:
        k = F.pad((layer.weight * layer.weight_scale).transpose(0, 1), (1, 1, 1, 1))
        k = k[..., 1:, 1:] + k[..., :-1, 1:] + k[..., 1:, :-1] + k[..., :-1, :-1]
        x = F.conv_transpose2d(x_BCHW, k, stride=2, padding=1)
    else:
        x = (
            F.conv2d(F.interpolate(x_BCHW, scale_factor=2, mode="nearest"), layer.weight, padding=1)
            * layer.weight_scale
        )
    return F.conv2d(x, layer.blur_kernel, padding=1, groups=x.shape[1])
