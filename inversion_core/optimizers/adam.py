"""Adam (Kingma 2015, algorithm 1): the paper's baseline, and the f(grad) of its learned optimizer.

Suffixes: B image, L style layer, D latent w. Where detail moves, its C, H and W are in the place of L and D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from inversion_core.latents import Latent
from inversion_core.optimizers.evaluation import Evaluation
from inversion_core.optimizers.schedule import Scheduled, beside, new_count


class AdamState(NamedTuple):
    """Moments and the number of updates, each image's own."""

    mean_BLD: Tensor
    """Moving average m of the gradient."""
    square_BLD: Tensor
    """Moving average v of its square."""
    count_B: Tensor
    """Updates done."""


@dataclass(frozen=True, kw_only=True)
class Adam(Scheduled):
    """Equal to torch.optim.Adam on the same gradients, but pure and for each image on its own."""

    learning_rate: float = 0.01
    """Step size alpha; the paper's is 0.01."""
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError(f"beta1 and beta2 are {self.beta1} and {self.beta2}; they must be in [0, 1)")

    def init(self, latent: Latent) -> AdamState:
        zero_BLD = torch.zeros_like(latent.free)
        return AdamState(zero_BLD, zero_BLD, new_count(zero_BLD))

    def step(self, latent: Latent, evaluation: Evaluation, state: AdamState) -> tuple[Latent, AdamState]:
        update_BLD, state = self.update(evaluation.grad, state)
        return latent.with_free(latent.free + update_BLD), state

    def update(self, grad_BLD: Tensor, state: AdamState) -> tuple[Tensor, AdamState]:
        """What `step` adds: -alpha f(grad) of equation 3."""
        state = AdamState(
            torch.lerp(state.mean_BLD, grad_BLD, 1 - self.beta1),
            torch.lerp(state.square_BLD, grad_BLD.square(), 1 - self.beta2),
            state.count_B + 1,
        )
        count_B11 = beside(state.count_B, grad_BLD)
        mean_BLD = state.mean_BLD / (1 - self.beta1**count_B11).to(grad_BLD.dtype)
        square_BLD = state.square_BLD / (1 - self.beta2**count_B11).to(grad_BLD.dtype)
        rate_B11 = self.rate_B11(state.count_B, grad_BLD)
        return -rate_B11 * mean_BLD / (square_BLD.sqrt() + self.epsilon), state
