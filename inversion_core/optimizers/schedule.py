"""The learning rate over a run: a warm-up, then a cosine (docs/math.md, equation 3c).

Suffixes: B image, L style layer, D latent w. Where detail moves, its C, H and W are in the place of L and D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Factor of the learning rate at each update. It depends on an image's own count and on nothing else,
    so images that joined a batch at different times, and runs that were resumed, get the right one."""

    warmup_steps: int = 0
    """Updates until the full rate is reached, in equal parts; a short run takes half of itself at most."""
    final_factor: float = 1.0
    """Factor at the last update and after it; 1 keeps the rate constant."""
    total_steps: int | None = None
    """Updates of the whole run; None: not known, and there is no cosine."""

    def __post_init__(self) -> None:
        if type(self.warmup_steps) is not int or self.warmup_steps < 0:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; it must be a whole number, 0 or more")
        if not 0 <= self.final_factor <= 1:
            raise ValueError(f"final_factor is {self.final_factor}; it must be from 0 to 1")
        if self.total_steps is not None and self.total_steps < 0:
            raise ValueError(f"total_steps is {self.total_steps}; it must be 0 or more, or None")

    def reduced(self) -> Schedule:
        """The same factors without `total_steps`, where that changes none: runs of different length are then equal."""
        is_whole = self.total_steps is None or self.warmup_steps <= self.total_steps // 2
        return replace(self, total_steps=None) if self.final_factor == 1 and is_whole else self

    def factor_B(self, count_B: Tensor) -> Tensor:
        """Factor of the update that is an image's `count_B`-th, counted from 1."""
        warmup = self.warmup_steps if self.total_steps is None else min(self.warmup_steps, self.total_steps // 2)
        rise_B = (count_B / max(warmup, 1)).clamp(max=1.0)
        if self.total_steps is None:
            return rise_B
        done_B = ((count_B - warmup) / max(self.total_steps - warmup, 1)).clamp(0.0, 1.0)
        return rise_B * (self.final_factor + (1 - self.final_factor) * (1 + torch.cos(math.pi * done_B)) / 2)


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """What the classic optimizers have in common: a learning rate with a schedule."""

    learning_rate: float
    """Step size alpha, at the top of the schedule."""
    schedule: Schedule = Schedule()
    """The rate over the run; the standard is constant."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")

    def rate_B11(self, count_B: Tensor, w_BLD: Tensor) -> Tensor:
        """alpha of the update that is an image's `count_B`-th, for tensors of this kind."""
        return beside((self.learning_rate * self.schedule.factor_B(count_B)).to(w_BLD.dtype), w_BLD)


def new_count(w_BLD: Tensor) -> Tensor:
    """Updates done so far, for each image: 0. In float64, since 1 - beta2^t in float32 is wrong in its fifth digit."""
    return torch.zeros(len(w_BLD), device=w_BLD.device, dtype=torch.float64)


def beside(number_B: Tensor, x_BLD: Tensor) -> Tensor:
    """One number for each image, in a shape that `x_BLD` can be multiplied by: (B, 1, ...)."""
    return number_B.view(-1, *[1] * (x_BLD.ndim - 1))
