"""Gradient descent with and without momentum (docs/math.md, equation 3a).

Suffixes: B image, L style layer, D latent w. Where detail moves, its C, H and W are in the place of L and D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from inversion_core.latents import Latent
from inversion_core.optimizers.evaluation import Evaluation
from inversion_core.optimizers.schedule import Scheduled, new_count


class MomentumState(NamedTuple):
    """Velocity and the number of updates, each image's own."""

    velocity_BLD: Tensor
    """Sum u of the gradients, older ones weighted down."""
    count_B: Tensor
    """Updates done."""


@dataclass(frozen=True, kw_only=True)
class SGD(Scheduled):
    """Equal to torch.optim.SGD; "stochastic" by name only, since the gradient here is exact."""

    learning_rate: float = 20.0
    """Step size; large, since the loss is a mean over all pixels and its gradients are small."""
    momentum: float = 0.0
    """Weight mu of the past (Polyak 1964); 0 is plain gradient descent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must be in [0, 1)")

    def init(self, latent: Latent) -> MomentumState:
        return MomentumState(torch.zeros_like(latent.free), new_count(latent.free))

    def step(self, latent: Latent, evaluation: Evaluation, state: MomentumState) -> tuple[Latent, MomentumState]:
        w_BLD, grad_BLD = latent.free, evaluation.grad
        state = MomentumState(self.momentum * state.velocity_BLD + grad_BLD, state.count_B + 1)
        w_BLD = w_BLD - self.rate_B11(state.count_B, w_BLD) * self._direction(grad_BLD, state)
        return latent.with_free(w_BLD), state

    def _direction(self, grad_BLD: Tensor, state: MomentumState) -> Tensor:
        return state.velocity_BLD


@dataclass(frozen=True, kw_only=True)
class NAG(SGD):
    """Nesterov's accelerated gradient (1983), in the form of Sutskever 2013: torch.optim.SGD(nesterov=True)."""

    learning_rate: float = 16.0
    momentum: float = 0.9
    """Weight mu of the past."""

    def _direction(self, grad_BLD: Tensor, state: MomentumState) -> Tensor:
        return grad_BLD + self.momentum * state.velocity_BLD
