"""Small changes of the real pictures before they are reconstructed, against overfitting on few of them.

Beside `augment`, which shows D changes that it must not learn: here the autoencoder is to draw the changed picture,
so the changes stay within what photographs of aligned faces do by themselves. Place and light are chosen for each
picture on its own, on the device, and the host waits for nothing.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inversion_core.training.augment import colour, move, turn

LARGEST_ANGLE = 0.1
"""Radians."""
LARGEST_SCALE = 0.08
"""By which the factor differs from 1."""
LARGEST_SHIFT = 0.03
"""Share of the side, along each axis."""
LARGEST_CONTRAST = 0.15
"""By which the factor of a channel differs from 1."""
LARGEST_BRIGHTNESS = 0.075
"""Added to a channel, of the half range 1."""
GREY_SHARE = 0.5
"""Of the changes of colour, those that change all channels alike: light without a tint."""


def jitter(image_BCHW: Tensor, probability: float) -> Tensor:
    """Move and light pictures in [-1, 1] a little, each with `probability`; at 0 the very tensor that was given."""
    if probability == 0:
        return image_BCHW
    batch, device = len(image_BCHW), image_BCHW.device
    moved_BCHW = move(image_BCHW, _similarity(batch, probability, device))
    contrast_B3, brightness_B3 = _light(batch, probability, device)
    lit_BCHW = colour(moved_BCHW, torch.diag_embed(1 + contrast_B3), brightness_B3[..., None])
    return lit_BCHW.clamp(-1, 1)


def _similarity(batch: int, probability: float, device: torch.device) -> Tensor:
    """Maps (B, 2, 3) of a turn, a scale and a shift, all three or none."""
    is_moved_B1 = torch.rand(batch, 1, device=device) < probability
    drawn_B4 = torch.where(is_moved_B1, _uniform(batch, 4, device), torch.zeros(batch, 4, device=device))
    scale_B11 = (1 + drawn_B4[:, 0] * LARGEST_SCALE)[:, None, None]
    shift_B21 = drawn_B4[:, 2:, None] * 2 * LARGEST_SHIFT  # the side is 2 long in the map's coordinates
    return torch.cat([scale_B11 * turn(drawn_B4[:, 1] * LARGEST_ANGLE), shift_B21], dim=2)


def _light(batch: int, probability: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """What is added to the factor 1 of each channel, and to the channel; (B, 3) each."""
    drawn_B6 = _uniform(batch, 6, device)
    grey_B6 = torch.cat([drawn_B6[:, k : k + 1].expand(batch, 3) for k in (0, 3)], dim=1)  # no index: that would wait
    drawn_B6 = torch.where(torch.rand(batch, 1, device=device) < GREY_SHARE, grey_B6, drawn_B6)
    is_lit_B1 = torch.rand(batch, 1, device=device) < probability
    contrast_B3, brightness_B3 = torch.where(is_lit_B1, drawn_B6, torch.zeros_like(drawn_B6)).split(3, dim=1)
    return contrast_B3 * LARGEST_CONTRAST, brightness_B3 * LARGEST_BRIGHTNESS


def _uniform(batch: int, count: int, device: torch.device) -> Tensor:
    return torch.rand(batch, count, device=device) * 2 - 1
