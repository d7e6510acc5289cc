"""Losses that more than one trainer uses. Suffixes: B image, C channel, H W height and width."""

from __future__ import annotations

from torch import Tensor

from inversion_core.models.lpips import LPIPSSqueeze


def picture_distance(
    image_BCHW: Tensor, target_BCHW: Tensor, lpips: LPIPSSqueeze | None, lpips_weight: float
) -> Tensor:
    """Twice the mean absolute difference, plus LPIPS where such a network is given; a scalar."""
    distance = 2 * (image_BCHW - target_BCHW).abs().mean()
    if lpips is None or lpips_weight == 0:
        return distance
    perceived_B: Tensor = lpips(image_BCHW, target_BCHW)
    return distance + lpips_weight * perceived_B.mean()
