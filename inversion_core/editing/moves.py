"""Moving codes along a direction.

Suffixes: B image, L style layer, D latent w.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from inversion_core.packs.directions import Direction


def move(w_BLD: Tensor, direction: Direction, strength: float | Sequence[float] | Tensor) -> Tensor:
    """Move codes along a direction: w + strength d (docs/math.md, equation 8).

    The strength is not clipped; `direction.spec.range` is the range in which pictures stay plausible. The input is not
    modified.

    Args:
        w_BLD: codes (B, L, D).
        strength: one number for all images, or one per image (B,), in units of `direction.spec.unit`.
    Returns:
        new codes (B, L, D) with dtype and device of `w_BLD`.
    Raises:
        TypeError: `direction` is not a Direction; look a name up with `pack.directions[name]`.
        ValueError: the codes do not have this pack's shape, or the strengths are not finite or not 1 or B numbers.
    """
    if not isinstance(direction, Direction):
        raise TypeError(f"direction is {direction!r}; pass one of a pack, such as pack.directions['smile']")
    if w_BLD.ndim != 3 or w_BLD.shape[1:] != direction.step_LD.shape:
        raise ValueError(
            f"codes have shape {tuple(w_BLD.shape)}; direction {direction.spec.name} moves (B, "
            f"{', '.join(map(str, direction.step_LD.shape))})"
        )
    strength_B = torch.as_tensor(strength, dtype=w_BLD.dtype, device=w_BLD.device)
    if strength_B.ndim > 1 or strength_B.numel() not in (1, len(w_BLD)) or not strength_B.isfinite().all():
        raise ValueError(f"strength is {strength}; give one finite number, or one for each of {len(w_BLD)} images")
    return w_BLD + strength_B.reshape(-1, 1, 1) * direction.step_LD.to(w_BLD)
