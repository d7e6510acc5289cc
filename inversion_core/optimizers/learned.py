"""The paper's learned optimizer, as written: a network turns Adam's update and the code into a better update.

Source: Kang, Kim and Cho, "Fast StyleGAN inversion using a learnable optimizer", equation 2, figure 2 and
algorithm 1 (docs/math.md, equation 3). Trained by `inversion train optimizer`.

Suffixes: B image, L style layer, D latent w, I O input and output features of a layer.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inversion_core.latents import Latent
from inversion_core.models.layers import leaky_relu
from inversion_core.models.serving import alike, is_serving
from inversion_core.optimizers.adam import Adam, AdamState
from inversion_core.optimizers.evaluation import Evaluation

MLP_DEPTH = 4
"""Fully connected layers of each of the three parts of g (figure 2)."""


@dataclass(frozen=True, kw_only=True)
class LearnedConfig:
    """Architecture of g."""

    num_layers: int
    """Number L of style layers; each has weights of its own."""
    w_dim: int
    hidden: int = 128
    """Width of the hidden layers."""
    learning_rate: float = 0.01
    """Step size alpha of the Adam whose update goes in; the paper's is 0.01."""
    beta1: float = 0.9
    """That Adam's decay of the gradient's mean. The paper states none; 0.9 is Adam's own. g makes steps twenty times
    Adam's, and the longer those are the sooner an old gradient leads astray
    (docs/experiments/2026-11-29-adam-momentum-in-learned.md)."""

    def __post_init__(self) -> None:
        if min(self.num_layers, self.w_dim, self.hidden) < 1:
            raise ValueError("num_layers, w_dim and hidden must be at least 1")
        self.adam()  # which refuses what it cannot be

    def adam(self) -> Adam:
        """The Adam whose update goes in."""
        return Adam(learning_rate=self.learning_rate, beta1=self.beta1)


class LayerwiseLinear(nn.Module):
    """A fully connected layer for each style layer, all of them in one batched matrix product."""

    def __init__(self, num_layers: int, in_features: int, out_features: int):
        super().__init__()
        bound = 1 / math.sqrt(in_features)  # torch.nn.Linear's initialisation
        self.weight_LIO = nn.Parameter(torch.empty(num_layers, in_features, out_features).uniform_(-bound, bound))
        self.bias_L1O = nn.Parameter(torch.empty(num_layers, 1, out_features).uniform_(-bound, bound))

    def forward(self, x_LBI: Tensor) -> Tensor:
        return layerwise(x_LBI, self.weight_LIO, self.bias_L1O)


def layerwise(x_LBI: Tensor, weight_LIO: Tensor, bias_L1O: Tensor | None = None) -> Tensor:
    """Each style layer's own matrix product and, where there is one, bias. While serving each image is rounded as if it
    were alone, in what follows too: its numbers lie side by side, for a sum over them goes by how they lie."""
    if not is_serving(x_LBI, weight_LIO, bias_L1O):
        return _layerwise(x_LBI, weight_LIO, bias_L1O)
    y_BLO = alike(
        lambda x_BLI: _layerwise(x_BLI.transpose(0, 1), weight_LIO, bias_L1O).transpose(0, 1).contiguous(),
        ("layerwise", weight_LIO.shape, weight_LIO.stride(), bias_L1O is None),
        x_LBI.transpose(0, 1),
    )
    return y_BLO.transpose(0, 1)


def _layerwise(x_LBI: Tensor, weight_LIO: Tensor, bias_L1O: Tensor | None) -> Tensor:
    return torch.bmm(x_LBI, weight_LIO) if bias_L1O is None else torch.baddbmm(bias_L1O, x_LBI, weight_LIO)


class LayerwiseMLP(nn.Module):
    """MLP_DEPTH fully connected layers with leaky ReLU between them, for each style layer on its own."""

    def __init__(self, num_layers: int, in_features: int, hidden: int, out_features: int):
        super().__init__()
        widths = [in_features, *[hidden] * (MLP_DEPTH - 1), out_features]
        self.layers = nn.ModuleList(LayerwiseLinear(num_layers, i, o) for i, o in itertools.pairwise(widths))

    def forward(self, x_LBI: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x_LBI = leaky_relu(layer(x_LBI))
        y_LBO: Tensor = last(x_LBI)
        return y_LBO


class UpdateNetwork(nn.Module):
    """g of figure 2: f(grad) and w each pass an MLP, their outputs together a third; the result scales f(grad).

    The update goes in divided by alpha, so about 1 in size as the code is: that only rescales the first layer's
    weights. The last layer starts at weight 0 and bias 1, so an untrained g is Adam.
    """

    def __init__(self, config: LearnedConfig):
        super().__init__()
        self.config = config
        layers, dim, hidden = config.num_layers, config.w_dim, config.hidden
        self.update_mlp = LayerwiseMLP(layers, dim, hidden, hidden)
        self.code_mlp = LayerwiseMLP(layers, dim, hidden, hidden)
        self.joint_mlp = LayerwiseMLP(layers, 2 * hidden, hidden, dim)
        last = self.joint_mlp.layers[-1]
        assert isinstance(last, LayerwiseLinear)
        nn.init.zeros_(last.weight_LIO)
        nn.init.ones_(last.bias_L1O)

    def forward(self, update_BLD: Tensor, w_BLD: Tensor) -> Tensor:
        """Adam's update (B, L, D) at the code w (B, L, D), both as they are, to the update that is made."""
        update_LBH = self.update_mlp((update_BLD / self.config.learning_rate).transpose(0, 1))
        code_LBH = self.code_mlp(w_BLD.transpose(0, 1))
        factor_LBD = self.joint_mlp(torch.cat([update_LBH, code_LBH], dim=2))
        scaled_BLD: Tensor = factor_LBD.transpose(0, 1) * update_BLD
        return scaled_BLD


class Learned:
    """w + g(f(grad), w): equation 3. State is Adam's; no image sees another.

    The result is differentiable in g's weights where those ask for it: training unrolls this very step.
    """

    def __init__(self, network: UpdateNetwork):
        self.network = network
        self._adam = network.config.adam()

    def init(self, latent: Latent) -> AdamState:
        return self._adam.init(latent)

    def step(self, latent: Latent, evaluation: Evaluation, state: AdamState) -> tuple[Latent, AdamState]:
        update_BLD, state = self._adam.update(evaluation.grad, state)
        w_BLD = latent.w_BLD
        return latent.with_free(w_BLD + self.network(update_BLD, w_BLD)), state
