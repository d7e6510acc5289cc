"""Losses that more than one trainer uses. Suffixes: B image, C channel, H W height and width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.loss import pixel_centres
from inversion_core.models.lpips import LPIPSSqueeze
from inversion_core.training.options import TrainingOptions

FACE_ROWS = (17 / 64, 55 / 64)
FACE_COLUMNS = (13 / 64, 51 / 64)
"""Brows to chin and cheek to cheek where FFHQ's alignment (equation 7) puts them, as shares of the side."""
FACE_PX = 112
"""Side to which the face is enlarged for LPIPS, whose first layers halve a picture three times."""


def picture_distance(
    image_BCHW: Tensor, target_BCHW: Tensor, lpips: LPIPSSqueeze | None, options: TrainingOptions
) -> Tensor:
    """Equation 6's reconstruction term; a scalar. Without an LPIPS network only its first part."""
    difference_BCHW = (image_BCHW - target_BCHW).abs()
    if options.face_weight:
        difference_BCHW = difference_BCHW * face_map(image_BCHW.shape[-1], options.face_weight, image_BCHW.device)
    distance = 2 * difference_BCHW.mean()
    if lpips is None:
        return distance
    if options.lpips_weight:
        distance = distance + options.lpips_weight * lpips(image_BCHW, target_BCHW).mean()
    if options.face_lpips_weight:
        distance = distance + options.face_lpips_weight * lpips(face(image_BCHW), face(target_BCHW)).mean()
    return distance


def face_map(side: int, amplitude: float, device: torch.device | None = None) -> Tensor:
    """Weights (H, W) of mean 1: a hill with a flat top over the inner face of an aligned picture. Inversions have a
    hill of their own, `inversion_core.loss.focus_map`."""
    at = pixel_centres(side, device)
    x_W, y_H1 = at, at[:, None]
    radius_HW = (x_W / 0.45) ** 2 + ((y_H1 - 0.12) / 0.5) ** 2
    map_HW = 0.5 + amplitude * torch.exp(-(radius_HW**2))
    return map_HW / map_HW.mean()


def face(image_BCHW: Tensor) -> Tensor:
    """The inner face alone, brought to `FACE_PX`."""
    side = image_BCHW.shape[-1]
    (top, bottom), (left, right) = ([round(share * side) for share in edges] for edges in (FACE_ROWS, FACE_COLUMNS))
    crop_BCHW = image_BCHW[:, :, top:bottom, left:right]
    shrinks = crop_BCHW.shape[-1] > FACE_PX
    return F.interpolate(crop_BCHW, size=FACE_PX, mode="bilinear", align_corners=False, antialias=shrinks)
