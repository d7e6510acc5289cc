"""The two kinds of critic, and which of them a trainer has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from inversion_core.errors import OptionInvalid
from inversion_core.models import DiscriminatorConfig
from inversion_core.models.lpips import LPIPSSqueeze
from inversion_core.training.adversary import Adversary
from inversion_core.training.options import TrainingOptions
from inversion_core.training.projected import ProjectedAdversary

STYLEGAN, PROJECTED = CRITICS = ("stylegan", "projected")
Critic = Adversary | ProjectedAdversary


def make_critic(
    kind: str, discriminator: DiscriminatorConfig | None, options: TrainingOptions, *, lpips: LPIPSSqueeze | None,
    rate: float, autocast: Callable[[], AbstractContextManager[object]], device: str | torch.device,
) -> Critic:  # fmt: skip
    """A critic that has learned nothing yet; `discriminator` is for StyleGAN's alone, `lpips` for the projected one.

    Raises:
        OptionInvalid: what the kind needs is missing.
    """
    if kind == PROJECTED:
        if lpips is None:
            raise OptionInvalid("a projected critic looks through SqueezeNet; give its weights with --lpips FILE")
        return ProjectedAdversary(options, lpips=lpips, rate=rate, autocast=autocast, device=device)
    if discriminator is None:
        raise OptionInvalid("StyleGAN's critic needs the configuration of a discriminator")
    return Adversary(discriminator, options, rate=rate, autocast=autocast, device=device)


def check_critic(kind: str) -> None:
    """ValueError where there is no critic of this name."""
    if kind not in CRITICS:
        raise ValueError(f"critic is {kind!r}; it must be one of {', '.join(CRITICS)}")
