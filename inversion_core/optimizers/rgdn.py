"""`learned-rgdn`: gradient descent in which networks, the same at every step, adapt, complete and scale the gradient.

Source: Gong et al., "Learning Deep Gradient Descent Optimization for Image Deconvolution" (2020), the recurrent
gradient descent network. There x is a picture, and x - D(H(grad of the data term) + R(x)) is its next estimate: H
adapts the gradient, R stands for the gradient of an unknown prior, D scales what comes of both. The three share their
weights over all steps, and every step's estimate is compared with the truth. It has no memory but the estimate itself.

Adapted from pictures to W+ codes (docs/math.md, equation 3e):

- Their units are stacks of convolutions. A code has no neighbourhoods, so each is fully connected, one for each style
  layer, as deep as the parts of the paper's network; 6 convolutions were needed to see a wide patch, and a dense layer
  sees everything.
- Each unit is a residual, 0 at first, so that an untrained network is gradient descent.
- The data term's gradient is that of equation 1, and its size is another for each pack, layer and picture, where
  theirs was of pictures in [0, 1]. So it is divided by the mean size that it had at the picture's first step.
- No batch norm: no image may see another.

Suffixes: B image, L style layer, D latent w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from inversion_core.latents import Latent
from inversion_core.optimizers.evaluation import Evaluation
from inversion_core.optimizers.learned import LayerwiseLinear, LayerwiseMLP

LARGEST = 100.0
"""Most that a gradient's element counts, in mean sizes of the first one's; at the start at most D can occur."""
SMALLEST = 1e-30
"""Least size that a gradient is divided by."""


@dataclass(frozen=True, kw_only=True)
class RGDNConfig:
    """Architecture of the three units."""

    num_layers: int
    """Number L of style layers; each has weights of its own."""
    w_dim: int
    hidden: int = 128
    """Width of the units' hidden layers."""
    learning_rate: float = 0.005
    """Size of the first step that an untrained network makes, mean over a layer's coordinates; a factor of all."""

    def __post_init__(self) -> None:
        if min(self.num_layers, self.w_dim, self.hidden) < 1:
            raise ValueError("num_layers, w_dim and hidden must be at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")


class RGDNState(NamedTuple):
    """What an image's gradients are measured by."""

    size_BL1: Tensor
    """Mean |gradient| of each style layer at the first step; 0 where there was none yet."""


class GradientUnit(nn.Module):
    """The gradient and the code to the update: -alpha D(H(grad) + R(w)), for each style layer on its own."""

    def __init__(self, config: RGDNConfig):
        super().__init__()
        self.config = config
        self.adaptor = self._unit()  # H
        self.prior = self._unit()  # R
        self.scaler = self._unit()  # D

    def _unit(self) -> LayerwiseMLP:
        config = self.config
        unit = LayerwiseMLP(config.num_layers, config.w_dim, config.hidden, config.w_dim)
        last = unit.layers[-1]
        assert isinstance(last, LayerwiseLinear)
        nn.init.zeros_(last.weight_LIO)
        nn.init.zeros_(last.bias_L1O)
        return unit

    def forward(self, grad_BLD: Tensor, w_BLD: Tensor) -> Tensor:
        """The gradient (B, L, D), about 1 in size at the start, at the code w (B, L, D), to the update (B, L, D)."""
        grad_LBD, w_LBD = grad_BLD.transpose(0, 1), w_BLD.transpose(0, 1)
        direction_LBD = grad_LBD + self.adaptor(grad_LBD) + self.prior(w_LBD)
        scaled_LBD = direction_LBD + self.scaler(direction_LBD)
        update_BLD: Tensor = -self.config.learning_rate * scaled_LBD.transpose(0, 1)
        return update_BLD


class LearnedRGDN:
    """Equation 3e. The network is the same at every step; no image sees another.

    The result is differentiable in the network's weights, through code and update, where those ask for it.
    """

    def __init__(self, network: GradientUnit):
        self.network = network

    def init(self, latent: Latent) -> RGDNState:
        w_BLD = latent.w_BLD
        return RGDNState(w_BLD.new_zeros(*w_BLD.shape[:2], 1))

    def step(self, latent: Latent, evaluation: Evaluation, state: RGDNState) -> tuple[Latent, RGDNState]:
        w_BLD, grad_BLD = latent.w_BLD, evaluation.grad
        now_BL1 = grad_BLD.abs().mean(dim=2, keepdim=True)
        size_BL1 = torch.where(state.size_BL1 > 0, state.size_BL1, now_BL1)
        relative_BLD = (grad_BLD / size_BL1.clamp(min=SMALLEST)).nan_to_num(nan=0.0).clamp(-LARGEST, LARGEST)
        return latent.with_free(w_BLD + self.network(relative_BLD, w_BLD)), RGDNState(size_BL1)
