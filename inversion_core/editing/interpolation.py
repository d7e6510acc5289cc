"""Between two latents, and between two edit lists, as a row of latents: one for each frame of a film.

Suffixes: B image, L style layer, D latent w.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from inversion_core.editing.apply import Resolve, apply_edits
from inversion_core.editing.domain import centre
from inversion_core.editing.edits import Edit
from inversion_core.editing.follow import gathered, without_detail
from inversion_core.errors import OptionInvalid
from inversion_core.latents import Latent
from inversion_core.packs import Pack
from inversion_core.packs.directions import Direction

Way = Literal["linear", "spherical"]
WAYS = get_args(Way)
MOST_FRAMES = 600
PARALLEL = 1e-2
"""Vectors with a smaller angle, in radians, are interpolated linearly: their arc has no direction."""


def between_latents(pack: Pack, one: Latent, other: Latent, share: float, way: Way = "linear") -> Latent:
    """The latent at `share` of the way: 0 is `one`, 1 is `other`, both to the bit.

    Detail of both is carried to the face in between and faded over.

    Args:
        way: "linear", or "spherical" about the mean code: as far from the average face as the two are.
    Raises:
        OptionInvalid: there is no such way, or their details have different sizes.
        ValueError: the latents are not of this pack, or not of the same number of images.
    """
    if way not in WAYS:
        raise OptionInvalid(f"way is {way!r}; there are {', '.join(WAYS)}")
    one, other = pack.check_latent(one), pack.check_latent(other)
    if len(one) != len(other):
        raise ValueError(f"the latents have {len(one)} and {len(other)} images; give as many of each")
    if share in (0, 1):
        return other if share else one
    centre_1LD = centre(pack)
    mix = torch.lerp if way == "linear" else slerp
    w_BLD = centre_1LD + mix(one.w_BLD - centre_1LD, other.w_BLD - centre_1LD, share)
    return gathered(pack, [(one, 1 - share), (other, share)], w_BLD)


def slerp(one_BLD: Tensor, other_BLD: Tensor, share: float) -> Tensor:
    """Along the arc between vectors, each layer for itself; lengths are interpolated linearly (Shoemake 1985)."""
    length_BL1, other_length_BL1 = (x.norm(dim=-1, keepdim=True) for x in (one_BLD, other_BLD))
    unit_BLD, other_unit_BLD = (x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12) for x in (one_BLD, other_BLD))
    angle_BL1 = (unit_BLD * other_unit_BLD).sum(-1, keepdim=True).clamp(-1, 1).acos()
    sine_BL1 = angle_BL1.sin()
    on_arc_BLD = ((1 - share) * angle_BL1).sin() * unit_BLD + (share * angle_BL1).sin() * other_unit_BLD
    arc_BLD = on_arc_BLD / sine_BL1 * torch.lerp(length_BL1, other_length_BL1, share)
    has_arc_BL1 = (sine_BL1 > PARALLEL) & (length_BL1 > 0) & (other_length_BL1 > 0)
    return torch.where(has_arc_BL1, arc_BLD, torch.lerp(one_BLD, other_BLD, share))


def path(pack: Pack, latents: Sequence[Latent], frames: int, way: Way = "linear") -> Iterator[Latent]:
    """`frames` latents from the first to the last, evenly spread, by way of all in between.

    Raises:
        OptionInvalid: too few or too many frames, fewer than two latents, or as `between_latents`.
    """
    if len(latents) < 2:
        raise OptionInvalid(f"an interpolation needs at least two codes; {len(latents)} given")
    check_frames(frames, least=len(latents))
    legs = list(pairwise(latents))
    for index in range(frames):
        place = index * len(legs) / (frames - 1)
        leg = min(int(place), len(legs) - 1)
        yield between_latents(pack, *legs[leg], place - leg, way)


def between_edits(one: Sequence[Edit], other: Sequence[Edit], share: float) -> tuple[Edit, ...]:
    """The edit list at `share` of the way. Edits that both lists have change their strength; the others fade."""
    merged: list[Edit] = []
    rest = list(other)
    for edit in one:
        place = next((place for place, each in enumerate(rest) if _same_but_for_strength(edit, each)), None)
        if place is None:
            merged.append(edit.at(_mean(edit.size, edit.NEUTRAL, share)))
            continue
        merged += [each.at(_mean(each.NEUTRAL, each.size, share)) for each in rest[:place]]
        merged.append(edit.at(_mean(edit.size, rest[place].size, share)))
        rest = rest[place + 1 :]
    return (*merged, *(each.at(_mean(each.NEUTRAL, each.size, share)) for each in rest))


def edit_path(pack: Pack, latent: Latent, one: Sequence[Edit], other: Sequence[Edit], frames: int,
              resolve: Resolve | None = None, directions: Mapping[str, Direction] | None = None,
              ) -> Iterator[Latent]:  # fmt: skip
    """`frames` latents, from the edits `one` to the edits `other`.

    Raises:
        OptionInvalid: too few or too many frames, or as `apply_edits`.
    """
    check_frames(frames, least=2)
    before_BCHW = without_detail(pack, latent)  # every frame starts from it
    for index in range(frames):
        edits = between_edits(one, other, index / (frames - 1))
        yield apply_edits(pack, latent, edits, resolve, directions=directions, before_BCHW=before_BCHW)


def _same_but_for_strength(one: Edit, other: Edit) -> bool:
    return type(one) is type(other) and one.at(one.NEUTRAL) == other.at(other.NEUTRAL)


def _mean(one: float, other: float, share: float) -> float:
    return one if share == 0 else other if share == 1 else one + share * (other - one)


def check_frames(frames: int, least: int) -> None:
    """Raises OptionInvalid where they are too few or too many."""
    if not least <= frames <= MOST_FRAMES:
        raise OptionInvalid(f"frames is {frames}; give from {least} to {MOST_FRAMES}")
