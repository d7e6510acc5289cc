"""Conditioned moves: a direction that leaves the attributes of others as they are (docs/math.md, equation 8).

Suffixes: L style layer, D latent w, K held direction, P a flat code (L x D).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from inversion_core.packs import Pack
from inversion_core.packs.directions import Direction


def held_fixed(pack: Pack, name: str, hold: Sequence[str], directions: Mapping[str, Direction]) -> Direction:
    """The direction `name`, made orthogonal to those in `hold`."""
    direction = directions[name]
    if not hold:
        return direction
    held_KP = torch.stack([directions[each].step_LD.flatten() for each in hold]).double()
    step_P = direction.step_LD.flatten().double()
    share_K = torch.linalg.lstsq(held_KP.T, step_P[:, None], driver="gelsd").solution[:, 0]
    kept_LD = (step_P - share_K @ held_KP).view_as(direction.step_LD).to(direction.step_LD)
    return dataclasses.replace(direction, step_LD=kept_LD)
