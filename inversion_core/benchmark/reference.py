"""The inversion loop as the public IDInvert code writes it: for comparison, in speed and in numbers, never for use.

Written anew from its description, over our weights: the mathematics is ours, the way of computing is theirs.
The target's features are computed at every step; gradients of all weights are computed too and pile up unread;
each term goes to the host at every step; scale, noise, bias and instance norm are separate operations.

`is_frozen` is the plain loop that anybody would write first who knows that weights need no gradients here: they are
frozen, the target's features are computed once, and only the loss goes to the host; the operations are the same.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.models import DiscriminatorFeatures
from inversion_core.models.generator import StyleLayer, SynthesisNetwork
from inversion_core.models.layers import EPSILON, leaky_relu
from inversion_core.packs import Pack

N = TypeVar("N", bound=nn.Module)


class ReferenceLoop:
    """The loop for one picture, on copies of a pack's networks."""

    def __init__(
        self,
        pack: Pack,
        target_1CHW: Tensor,
        start_1LD: Tensor,
        *,
        learning_rate: float,
        regulariser_weight: float = 0.0,
        is_frozen: bool = False,
    ):
        def copied(network: N) -> N:
            return copy.deepcopy(network).requires_grad_(not is_frozen)

        self._synthesis: SynthesisNetwork = copied(pack.generator.synthesis)
        self._perceptual = copied(pack.perceptual)
        if isinstance(self._perceptual, DiscriminatorFeatures):
            self._perceptual.unfold()
        self._encoder = copied(pack.encoder) if pack.encoder is not None and regulariser_weight else None
        self._target_features = self._perceptual(target_1CHW.to(pack.device)) if is_frozen else None
        self._perceptual_weight, self._regulariser_weight = pack.perceptual_weight, regulariser_weight
        self._target_1CHW = target_1CHW.to(pack.device)
        self.w_1LD = start_1LD.to(pack.device).clone().requires_grad_(True)
        self._optimizer = torch.optim.Adam([self.w_1LD], lr=learning_rate)

    def step(self) -> float:
        """One iteration; returns the loss before its update."""
        image_1CHW = plain_synthesis(self._synthesis, self.w_1LD)
        pixel = torch.mean((self._target_1CHW - image_1CHW) ** 2)
        loss, log = pixel, self._said("pixel", pixel)
        target_features = self._target_features
        if target_features is None:
            target_features = self._perceptual(self._target_1CHW)
        perceptual = torch.mean((target_features - self._perceptual(image_1CHW)) ** 2)
        loss = loss + perceptual * self._perceptual_weight
        log += self._said("perceptual", perceptual)
        if self._encoder is not None:
            regulariser = torch.mean((self.w_1LD - self._encoder(image_1CHW)) ** 2)
            loss = loss + regulariser * self._regulariser_weight
            log += self._said("regulariser", regulariser)
        value = float(loss.detach().cpu().numpy())
        self._optimizer.zero_grad()
        loss.backward()  # the weights' gradients are never cleared, as there
        self._optimizer.step()
        return value

    def _said(self, name: str, term: Tensor) -> str:
        """What the reference writes after each term, which waits for the device."""
        return "" if self._target_features is not None else f"{name} {term.detach().cpu().numpy():.3f} "


def plain_synthesis(synthesis: SynthesisNetwork, w_BLD: Tensor) -> Tensor:
    """`SynthesisNetwork.forward` in separate operations; equal up to rounding."""
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
