"""Changes of the real pictures before they are reconstructed, against overfitting on few of them: small ones of
place and light (`jitter`), another surrounding (`surround`), and what makes another person: another shape (`warp`)
and parts of other faces (`exchange`).

Beside `augment`, which shows D changes that it must not learn: here the autoencoder is to draw the changed picture,
so the changes stay within what photographs of aligned faces do by themselves. Place and light are chosen for each
picture on its own, on the device, and the host waits for nothing.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.loss import pixel_centres
from inversion_core.training.augment import colour, move, turn
from inversion_core.training.options import Variety

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
WARP_POINTS = 6
"""Along each axis: between two of them lie 0.4 of the 2 that a side is long, about an eye with its brow."""
LARGEST_WARP = 0.07
"""By which such a point moves along each axis, in those coordinates: 3.5 % of the side."""
SYMMETRIC_SHARE = 0.5
"""Of the bent pictures, those whose halves are bent alike, as most faces are even."""
COARSE_POINTS = 6
"""Along each axis: what of a face these can say is its light and its skin's colour, and stays when parts change."""
PARTS = (
    ("inner face", (0.0, 0.15), (0.5, 0.6), 0.5),
    ("eyes", (0.0, -0.1), (0.52, 0.2), 0.35),
    ("nose", (0.0, 0.15), (0.2, 0.3), 0.35),
    ("mouth", (0.0, 0.45), (0.33, 0.2), 0.35),
)
"""Of an aligned face: centre and half axes, x and y from -1 to 1 over the picture, and the share of the changed faces
that have it of another. The later ones lie upon the first."""
PART_EDGE = 0.35
"""Width of the passage into a part, as a share of the half axes."""
FACE_CENTRE = (0.0, 0.05)
"""Of an aligned face, x and y from -1 to 1 over the picture; with its neck and hair."""
FACE_RADII = ((0.6, 1.0), (0.8, 1.25))
"""Ranges of the half axes of what stays of a picture in another surrounding: from the bare face to nearly all."""
EDGE = 0.15
"""Width of the passage into the surrounding, as a share of the half axes."""
WALL_SHARE = 0.7
"""Of the surroundings, those that are a wall of one colour, as in a studio; the others are another picture's."""
LARGEST_FALL = 0.2
"""By which a wall's light differs from its mean at the picture's edges, of the half range 1."""


def varied(image_BCHW: Tensor, variety: Variety) -> Tensor:
    """All changes, each as often as `variety` says; pictures (B, C, H, W) in [-1, 1]."""
    other_BCHW = warp(exchange(image_BCHW, variety.exchange_probability), variety.warp_probability)
    return jitter(surround(other_BCHW, variety.surround_probability), variety.jitter_probability)


def jitter(image_BCHW: Tensor, probability: float) -> Tensor:
    """Move and light pictures in [-1, 1] a little, each with `probability`; at 0 the very tensor that was given."""
    if probability == 0:
        return image_BCHW
    batch, device = len(image_BCHW), image_BCHW.device
    moved_BCHW = move(image_BCHW, _similarity(batch, probability, device))
    contrast_B3, brightness_B3 = _light(batch, probability, device)
    lit_BCHW = colour(moved_BCHW, torch.diag_embed(1 + contrast_B3), brightness_B3[..., None])
    return lit_BCHW.clamp(-1, 1)


def warp(image_BCHW: Tensor, probability: float) -> Tensor:
    """Bend pictures by a smooth random field, each with `probability`; at 0 the very tensor that was given.

    Eyes come nearer, a jaw grows wider, a nose longer: the face of somebody else. A thousand people are few to learn
    from what sets people apart; whom an encoder draws well is who looks like one of them.
    """
    if probability == 0:
        return image_BCHW
    batch, device = len(image_BCHW), image_BCHW.device
    field_B2PP = LARGEST_WARP * _uniform(batch, 2 * WARP_POINTS**2, device).view(batch, 2, WARP_POINTS, WARP_POINTS)
    mirrored_B2PP = torch.stack([-field_B2PP[:, 0], field_B2PP[:, 1]], dim=1).flip(3)
    is_even_B111, is_bent_B111 = (
        torch.rand(batch, 1, 1, 1, device=device) < share for share in (SYMMETRIC_SHARE, probability)
    )
    field_B2PP = torch.where(is_even_B111, (field_B2PP + mirrored_B2PP) / math.sqrt(2), field_B2PP)
    field_B2PP = torch.where(is_bent_B111, field_B2PP, 0.0)
    field_B2HW = F.interpolate(field_B2PP, size=image_BCHW.shape[2:], mode="bicubic", align_corners=True)
    return move(image_BCHW, torch.eye(2, 3, device=device).expand(batch, 2, 3), field_B2HW)


def exchange(image_BCHW: Tensor, probability: float) -> Tensor:
    """Give aligned faces in [-1, 1] parts of other ones of the batch, or of their mirror images, each with
    `probability`; at 0 the very tensor that was given.

    An encoder that sees a thousand faces often enough knows each by its hair, and draws the eyes that it remembers with
    it. Here eyes, nose, mouth or all of them come from somebody else; light and skin stay, so that no seam shows.
    """
    if probability == 0:
        return image_BCHW
    batch, side, device = len(image_BCHW), image_BCHW.shape[-1], image_BCHW.device
    coarse_BCHW = F.interpolate(F.adaptive_avg_pool2d(image_BCHW, COARSE_POINTS), size=(side, side), mode="bicubic")
    fine_BCHW = image_BCHW - coarse_BCHW
    changed_BCHW = fine_BCHW
    is_changed_B111 = torch.rand(batch, 1, 1, 1, device=device) < probability
    first_B = torch.arange(batch, device=device)
    for _, centre, radii, share in PARTS:
        other_B = (first_B + torch.randint(1, max(batch, 2), (batch,), device=device)) % batch
        is_mirrored_B111, is_taken_B111 = (torch.rand(batch, 1, 1, 1, device=device) < s for s in (0.5, share))
        others_BCHW = fine_BCHW.index_select(0, other_B)
        others_BCHW = torch.where(is_mirrored_B111, others_BCHW.flip(-1), others_BCHW)
        taken_B1HW = torch.where(is_taken_B111, _ellipse(side, centre, radii, PART_EDGE, device), 0.0)
        changed_BCHW = changed_BCHW + taken_B1HW * (others_BCHW - changed_BCHW)
    return torch.where(is_changed_B111, (coarse_BCHW + changed_BCHW).clamp(-1, 1), image_BCHW)


def surround(image_BCHW: Tensor, probability: float) -> Tensor:
    """Put aligned faces in [-1, 1] before a wall or before what is behind another of the pictures, each with
    `probability`; at 0 the very tensor that was given.

    Few sets of pictures have the plain walls of passport and studio photographs. An encoder that never saw one takes
    the wall for a part of the person.
    """
    if probability == 0:
        return image_BCHW
    batch, device = len(image_BCHW), image_BCHW.device
    wall_BCHW = _walls(batch, image_BCHW.shape[-1], device)
    is_wall_B111 = torch.rand(batch, 1, 1, 1, device=device) < WALL_SHARE
    behind_BCHW = torch.where(is_wall_B111, wall_BCHW, image_BCHW.roll(1, dims=0).flip(-1))
    is_changed_B111 = torch.rand(batch, 1, 1, 1, device=device) < probability
    stays_B1HW = torch.where(is_changed_B111, _face_masks(batch, image_BCHW.shape[-1], device), 1.0)
    return behind_BCHW + stays_B1HW * (image_BCHW - behind_BCHW)


def _face_masks(batch: int, side: int, device: torch.device) -> Tensor:
    """What stays: (B, 1, H, W), 1 over the face to 0 at the edges, by the edge of an ellipse drawn for each picture."""
    radii = [low + (high - low) * torch.rand(batch, 1, 1, 1, device=device) for low, high in FACE_RADII]
    return _ellipse(side, FACE_CENTRE, radii, EDGE, device)


def _ellipse(
    side: int, centre: tuple[float, float], radii: Sequence[Tensor | float], edge: float, device: torch.device
) -> Tensor:
    """1 within, 0 without: (H, W), or (B, 1, H, W) where the half axes along x and y are (B, 1, 1, 1)."""
    at = pixel_centres(side, device)
    across, down = (
        ((axis - middle) / radius) ** 2 for axis, middle, radius in zip((at, at[:, None]), centre, radii, strict=True)
    )
    return torch.sigmoid((1 - (across + down).sqrt()) * 4 / edge)


def _walls(batch: int, side: int, device: torch.device) -> Tensor:
    """(B, 3, H, W) of one colour each, or one grey, lighter towards one side."""
    colour_B3 = _uniform(batch, 3, device)
    is_grey_B1 = torch.rand(batch, 1, device=device) < GREY_SHARE
    colour_B3 = torch.where(is_grey_B1, colour_B3[:, :1], colour_B3)
    fall_B2 = _uniform(batch, 2, device) * LARGEST_FALL
    at = pixel_centres(side, device)
    light_BHW = fall_B2[:, 0, None, None] * at + fall_B2[:, 1, None, None] * at[:, None]
    return (colour_B3[..., None, None] + light_BHW[:, None]).clamp(-1, 1)


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
