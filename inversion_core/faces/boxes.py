"""Arithmetic on boxes: (N, 4) float arrays of left, top, right, bottom in pixels. No network, no picture."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def overlaps(box: Floats, boxes: Floats, by: Literal["union", "smaller"] = "union") -> Floats:
    """Overlap of one box (4,) with each of `boxes` (N, 4), as a share of their union or of the smaller of the two."""
    size = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = size.clip(0).prod(axis=1)
    area, areas = (box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    whole = np.minimum(area, areas) if by == "smaller" else area + areas - shared
    share: Floats = shared / np.maximum(whole, np.finfo(np.float64).tiny)
    return share


def suppress(
    boxes: Floats, scores: Floats, most: float, by: Literal["union", "smaller"] = "union"
) -> npt.NDArray[np.intp]:
    """Non-maximum suppression: indices of the boxes that stay, best first.

    A box goes when it overlaps a better one that stays by more than `most`.
    """
    order = np.argsort(-scores, kind="stable")
    keep: list[int] = []
    while len(order):
        best, order = order[0], order[1:]
        keep.append(int(best))
        order = order[overlaps(boxes[best], boxes[order], by) <= most]
    return np.array(keep, dtype=np.intp)


def shift(boxes: Floats, offsets: Floats) -> Floats:
    """Move each edge by its offset (N, 4), in units of the box's own width and height."""
    size = boxes[:, 2:] - boxes[:, :2]
    shifted: Floats = boxes + offsets * np.concatenate([size, size], axis=1)
    return shifted


def proper(boxes: Floats) -> npt.NDArray[np.bool_]:
    """(N,) whether a box is at least a pixel wide and high: a network may shift an edge past its opposite."""
    is_proper: npt.NDArray[np.bool_] = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= 1
    return is_proper


def square(boxes: Floats) -> Floats:
    """The square of the longer side around each box's centre."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], axis=1)
