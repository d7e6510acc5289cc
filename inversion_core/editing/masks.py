"""Masks as pictures.

Suffixes: H W height and width, E edge of an outline.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inversion_core.editing.shapes import Mask, Point

FINER = 4
"""Drawn this many times larger, so that edges are smooth."""


def draw(mask: Mask, px: int) -> Tensor:
    """The mask (px, px) in [0, 1], float32: 1 in the shape, exactly 0 further than the feather from it."""
    side = px * FINER
    drawn_HW = inside(mask.corners, side).astype(np.float32)
    if (reach := round(mask.feather * side)) > 0:
        drawn_HW = _softened(drawn_HW, reach)
    small_HW = drawn_HW.reshape(px, FINER, px, FINER).mean(axis=(1, 3)).clip(0, 1)
    return torch.from_numpy(1 - small_HW if mask.outside else small_HW)


def inside(corners: Sequence[Point], side: int) -> NDArray[np.bool_]:
    """Which pixel centres (side, side) lie inside an outline in coordinates from 0 to 1, by the even-odd rule."""
    x0_E1, y0_E1 = np.array(corners, dtype=np.float64).T[:, :, None] * side - 0.5  # pixel centres at whole numbers
    x1_E1, y1_E1 = np.roll(x0_E1, -1, axis=0), np.roll(y0_E1, -1, axis=0)
    y_H = np.arange(side)
    edge, row = np.nonzero((y0_E1 <= y_H) != (y1_E1 <= y_H))
    share = (row - y0_E1[edge, 0]) / (y1_E1 - y0_E1)[edge, 0]
    crossing = x0_E1[edge, 0] + share * (x1_E1 - x0_E1)[edge, 0]
    turns_HW = np.zeros((side, side + 1), np.int32)
    np.add.at(turns_HW, (row, np.ceil(crossing).clip(0, side).astype(np.int64)), 1)
    return np.asarray(turns_HW.cumsum(axis=1)[:, :side] % 2 == 1)


def _softened(drawn_HW: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """An edge that runs over `reach` pixels on either side; beyond the rim the mask goes on as at the rim."""
    padded_HW = cv2.copyMakeBorder(drawn_HW, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    size = 2 * reach + 1
    soft_HW = cv2.GaussianBlur(padded_HW, (size, size), reach / 2)
    return np.asarray(soft_HW, dtype=np.float32)[reach:-reach, reach:-reach]
