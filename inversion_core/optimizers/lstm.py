"""`learned-lstm`: one small recurrent network, the same for every coordinate of the code, turns gradients into steps.

Source: Andrychowicz et al., "Learning to learn by gradient descent by gradient descent" (2016), section 2.1 and
appendix A: two LSTM layers of width 20, gradients as logarithm and sign with p = 10, outputs times 0.1. Their network
is trained on the sum of the losses along 20 steps, with the gradients it is given taken as constants; so is this one
(docs/math.md, equations 3d and 9).

Two things are otherwise. The gradient is first multiplied by a constant: our loss is a mean over pixels, and soon
nearly all of its gradient lies below exp(-p), where the logarithm tells nothing any more. And the last layer starts at
0: an untrained network stays where it is, where a random one would walk about.

Suffixes: B image, L style layer, D latent w, N coordinates of all images, K LSTM layer, H its width, F input feature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from inversion_core.latents import Latent
from inversion_core.models.serving import is_serving
from inversion_core.optimizers.evaluation import Evaluation

LARGEST = 1e30
"""Largest size of a gradient that is believed, after its scaling; float32 ends not far above."""


@dataclass(frozen=True, kw_only=True)
class LSTMConfig:
    """Architecture of the network. It has no weights for single layers or coordinates: it fits codes of any shape."""

    num_layers: int
    """Number L of style layers; the weights do not depend on it."""
    w_dim: int
    """As `num_layers`."""
    hidden: int = 20
    """Width of each LSTM layer."""
    depth: int = 2
    """Number of LSTM layers."""
    log_range: float = 10.0
    """p: gradients down to exp(-p) are seen by their logarithm, smaller ones as they are."""
    gradient_scale: float = 1e4
    """Factor of the gradient before that; about what makes a sum over pixels of our mean."""
    output_scale: float = 0.1
    """Factor of the network's output; small, so that learning begins with small steps."""

    def __post_init__(self) -> None:
        if min(self.num_layers, self.w_dim, self.hidden, self.depth) < 1:
            raise ValueError("num_layers, w_dim, hidden and depth must be at least 1")
        for name in ("log_range", "gradient_scale", "output_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")


class LSTMState(NamedTuple):
    """What the LSTM remembers of each coordinate."""

    hidden_BLDKH: Tensor
    """Output h of each LSTM layer."""
    cell_BLDKH: Tensor
    """Its memory c."""


class CoordinateLSTM(nn.Module):
    """m of equation 3d: the gradient of one coordinate and the memory of it to its step and a new memory."""

    def __init__(self, config: LSTMConfig):
        super().__init__()
        self.config = config
        self.lstm = nn.LSTM(2, config.hidden, num_layers=config.depth)
        self.output = nn.Linear(config.hidden, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, grad_BLD: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """The gradient (B, L, D), as it is, to the update (B, L, D), and the state after it."""
        feature_NF = self.preprocess(grad_BLD).flatten(0, 2)
        hidden_KNH, cell_KNH = (each.flatten(0, 2).transpose(0, 1).contiguous() for each in state)
        output_1NH, (hidden_KNH, cell_KNH) = self.lstm(feature_NF[None], (hidden_KNH, cell_KNH))
        update_BLD: Tensor = self.config.output_scale * self.output(output_1NH).view_as(grad_BLD)
        shape = grad_BLD.shape
        hidden_BLDKH, cell_BLDKH = (each.transpose(0, 1).unflatten(0, shape) for each in (hidden_KNH, cell_KNH))
        return update_BLD, LSTMState(hidden_BLDKH, cell_BLDKH)

    def preprocess(self, grad_BLD: Tensor) -> Tensor:
        """Appendix A: (log|g| / p, sign g) where |g| >= exp(-p), else (-1, exp(p) g); stacked to (B, L, D, 2)."""
        p = self.config.log_range
        grad_BLD = (self.config.gradient_scale * grad_BLD).nan_to_num(nan=0.0).clamp(-LARGEST, LARGEST)
        size_BLD = grad_BLD.abs().clamp(min=math.exp(-p))  # of 0 there is no logarithm
        sign_BLD = (math.exp(p) * grad_BLD).clamp(-1.0, 1.0)
        return torch.stack([size_BLD.log() / p, sign_BLD], dim=3)


class LearnedLSTM:
    """w + m(grad, state): equation 3d. Every coordinate has a state of its own, so no image sees another.

    The result is differentiable in the network's weights, through update and state, where those ask for it.
    """

    def __init__(self, network: CoordinateLSTM):
        self.network = network

    def init(self, latent: Latent) -> LSTMState:
        config, w_BLD = self.network.config, latent.w_BLD
        zero_BLDKH = w_BLD.new_zeros(*w_BLD.shape, config.depth, config.hidden)
        return LSTMState(zero_BLDKH, zero_BLDKH)

    def step(self, latent: Latent, evaluation: Evaluation, state: LSTMState) -> tuple[Latent, LSTMState]:
        grad_BLD = evaluation.grad
        if is_serving(grad_BLD, self.network.output.weight):  # each image to the same bits, and sooner on a CPU
            rows = [self.network(grad_BLD[i : i + 1], _row(state, i)) for i in range(len(grad_BLD))]
            update_BLD = torch.cat([update_1LD for update_1LD, _ in rows])
            state = LSTMState(*(torch.cat(each) for each in zip(*(state for _, state in rows), strict=True)))
        else:
            update_BLD, state = self.network(grad_BLD, state)
        return latent.with_free(latent.w_BLD + update_BLD), state


def _row(state: LSTMState, row: int) -> LSTMState:
    return LSTMState(*(each[row : row + 1] for each in state))
