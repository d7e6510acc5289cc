"""Steps divided by the size of past gradients, each coordinate for itself (docs/math.md, equation 3a).

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


class AdagradState(NamedTuple):
    """Squares and the number of updates, each image's own."""

    sum_BLD: Tensor
    """Sum v of the gradient's squares."""
    count_B: Tensor
    """Updates done."""


@dataclass(frozen=True, kw_only=True)
class Adagrad(Scheduled):
    """Adagrad (Duchi 2011, with a diagonal matrix); equal to torch.optim.Adagrad."""

    learning_rate: float = 0.16
    epsilon: float = 1e-10

    def init(self, latent: Latent) -> AdagradState:
        return AdagradState(torch.zeros_like(latent.free), new_count(latent.free))

    def step(self, latent: Latent, evaluation: Evaluation, state: AdagradState) -> tuple[Latent, AdagradState]:
        w_BLD, grad_BLD = latent.free, evaluation.grad
        state = AdagradState(state.sum_BLD + grad_BLD.square(), state.count_B + 1)
        rate_B11 = self.rate_B11(state.count_B, w_BLD)
        return latent.with_free(w_BLD - rate_B11 * grad_BLD / (state.sum_BLD.sqrt() + self.epsilon)), state


class RMSPropState(NamedTuple):
    """Squares and the number of updates, each image's own."""

    square_BLD: Tensor
    """Moving average v of the gradient's squares."""
    count_B: Tensor
    """Updates done."""


@dataclass(frozen=True, kw_only=True)
class RMSProp(Scheduled):
    """RMSProp (Hinton's lecture 6e, 2012); equal to torch.optim.RMSprop."""

    learning_rate: float = 0.01
    decay: float = 0.99
    """Weight rho of the past."""
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay is {self.decay}; it must be in [0, 1)")

    def init(self, latent: Latent) -> RMSPropState:
        return RMSPropState(torch.zeros_like(latent.free), new_count(latent.free))

    def step(self, latent: Latent, evaluation: Evaluation, state: RMSPropState) -> tuple[Latent, RMSPropState]:
        w_BLD, grad_BLD = latent.free, evaluation.grad
        square_BLD = torch.lerp(state.square_BLD, grad_BLD.square(), 1 - self.decay)
        state = RMSPropState(square_BLD, state.count_B + 1)
        rate_B11 = self.rate_B11(state.count_B, w_BLD)
        return latent.with_free(w_BLD - rate_B11 * grad_BLD / (square_BLD.sqrt() + self.epsilon)), state
