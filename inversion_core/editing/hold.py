"""Conditioned moves: a direction that leaves the attributes of others as they are (docs/math.md, equation 8a).

Suffixes: L style layer, D latent w, H held direction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from inversion_core.packs.directions import Direction


def held_fixed(name: str, hold: Sequence[str], directions: Mapping[str, Direction]) -> Direction:
    """The direction `name` with as much of those in `hold` as undoes what it does to their attributes."""
    direction = directions[name]
    if not hold:
        return direction
    held = [directions[each] for each in hold]
    effect_HH = torch.tensor([[effect(of, on) for of in held] for on in held], dtype=torch.float64)
    effect_H1 = torch.tensor([[effect(direction, on)] for on in held], dtype=torch.float64)
    share_H = -torch.linalg.lstsq(effect_HH, effect_H1, driver="gelsd").solution[:, 0]
    step_LD = direction.step_LD.clone()
    for share, each in zip(share_H.tolist(), held, strict=True):
        step_LD += share * each.step_LD
    return dataclasses.replace(direction, step_LD=step_LD)


def effect(of: Direction, on: Direction) -> float:
    """What one unit of a direction does to the attribute of another, in that one's units.

    It is what was measured on pictures, where the pack tells it; otherwise the projection, which supposes that
    directions are unrelated attributes where they are orthogonal (Shen 2020, section 3.3).
    """
    if of.spec.name == on.spec.name:
        return 1.0
    if on.spec.name in of.spec.side_effects:
        return of.spec.side_effects[on.spec.name]
    on_LD = on.step_LD.double()
    return float((of.step_LD.double() * on_LD).sum() / on_LD.square().sum().clamp(min=1e-12))
