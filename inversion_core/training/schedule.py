"""Learning rates over a run, and moving averages of weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def rate_factor(step: int, length: int, *, warmup_steps: int, final: float) -> float:
    """Factor of the rate at `step` of `length`: warm-up, constant, then a cosine to `final` from the middle on."""
    warmup = min(1.0, (step + 1) / max(1, warmup_steps))
    decay = min(1.0, max(0.0, 2 * step / max(1, length) - 1))
    return warmup * (final + (1 - final) * (1 + math.cos(math.pi * decay)) / 2)


def set_rates(optimizer: torch.optim.Optimizer, phase: str, factor: float) -> None:
    """Set each group's rate to `factor` times the one that it has under the name of the phase.

    On CUDA the rate is a tensor that stays where it is: a recorded step reads it anew each time.
    """
    for group in optimizer.param_groups:
        rate = factor * group[phase]
        device = group["params"][0].device
        if device.type != "cuda":
            group["lr"] = rate
        elif isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = torch.full((), rate, device=device)


@torch.no_grad()
def move_average(average: nn.Module, live: nn.Module, *, batch: int, images: float, half_life: float) -> None:
    """Move the averaged weights towards the live ones; buffers are copied.

    Args:
        images: seen before this step.
        half_life: in images. Early in a run it is a twentieth of the images seen, so that noise is forgotten.
    """
    half_life = min(half_life, max(1.0, images * 0.05))
    weight = 1 - 0.5 ** (batch / half_life)
    torch._foreach_lerp_([*average.parameters()], [*live.parameters()], weight)
    if buffers := [*average.buffers()]:
        torch._foreach_copy_(buffers, [*live.buffers()])
