"""Optimizers on plain tensors: a code (or detail) and its gradient in, the next one out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inversion_core.latents import Latent
from inversion_core.optimizers import Evaluation, Look


def latent_of(free: Tensor) -> Latent:
    """A latent whose free part this is: codes (B, L, D), or detail (B, C, H, W)."""
    if free.ndim == 3:
        return Latent(w_BLD=free)
    return Latent(w_BLD=free.new_zeros(len(free), 2, 3), detail_BCHW=free)


def begun(optimizer: Any, free: Tensor) -> Any:
    """The state before the first update."""
    return optimizer.init(latent_of(free))


def stepped(
    optimizer: Any, free: Tensor, grad: Tensor, state: Any, *, loss_B: Tensor | None = None, look: Look | None = None
) -> tuple[Tensor, Any]:
    """One update; the loss is 1 where the caller does not care."""
    loss_B = free.new_ones(len(free)) if loss_B is None else loss_B
    found = Evaluation(loss_B=loss_B, image_BCHW=torch.zeros(len(free), 3, 4, 4), grad=grad, look=look)
    latent, state = optimizer.step(latent_of(free), found, state)
    return latent.free, state
