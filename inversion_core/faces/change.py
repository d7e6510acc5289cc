"""What an edit changes in an aligned crop: which way things move, and what is different once they have moved.

The photo is warped as the face moves, so its pores and hairs move along; what then still differs between the two
renders is coarse, and is added. With the render before b, the one after a, the flow f and the photo p:

    result(x) = p(x + f) + m (a(x) - b(x + f))

within the mask m, which scales the flow too: nothing moves where nothing changes. Where the warped render before has
not got the structure of the one after (teeth that were not there), the photo's own structure gives way to the render's.

Suffixes: H W height and width, C channel (RGB), 2 x and y.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inversion_core.flow import GREY, flow_between

Pixels = npt.NDArray[np.float32]
_GREY = np.array(GREY, dtype=np.float32)

SMALLEST_PX = 256
"""Smaller renders are enlarged to this side first: flow and masks want finer steps than 128 px."""
RIM = 0.08
"""Width of the ramp at the crop's rim, as a share of its side."""
FACE = (0.5, 0.56, 0.32, 0.40)
"""Centre and radii of the face in an FFHQ-aligned crop: within it little changes count, beyond it they are spill."""
FACE_EDGE = 0.35
"""How far beyond its radii the ellipse fades, as a share of them."""
COUNTS_IN_FACE, COUNTS_BEYOND = (1.0, 4.0), (6.0, 18.0)
"""From no part to full part of the mask: mean change nearby, in levels of 255."""
NEARBY = 0.02
"""Over how much of the crop's side changes are averaged (a Gaussian's sigma)."""
STILL, MOVES = 0.0008, 0.0025
"""Flow that is none, and that is all there, as a share of the crop's side: below, it is noise and would blur."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """An edit in the coordinates of the crop; all of px by px, float32."""

    mask_HW: Pixels
    """1 where the edit counts, exactly 0 where the photo stays."""
    flow_HW2: Pixels
    """For each place, how far away it was before, as a share of the crop's side."""
    keep_HW: Pixels
    """How much of the photo stays below what is added, 0 to 1."""
    add_HWC: Pixels
    """What is added to it, in levels of 255."""

    @property
    def px(self) -> int:
        return int(self.mask_HW.shape[0])


def change_between(before_HWC: Pixels, after_HWC: Pixels, mask_HW: Pixels | None = None) -> Change:
    """The change from one render to another, both square and of one size, in levels from 0 to 255.

    Args:
        mask_HW: where the edit may count, 0 to 1, of any size; None: where the renders differ.
    """
    before_HWC, after_HWC = (_of_size(each, max(SMALLEST_PX, each.shape[0])) for each in (before_HWC, after_HWC))
    px = before_HWC.shape[0]
    mask_HW = mask_between(before_HWC, after_HWC) if mask_HW is None else _given(mask_HW, px)
    flow_HW2 = flow_between(before_HWC @ _GREY, after_HWC @ _GREY, px)
    length_HW = np.hypot(*np.moveaxis(flow_HW2, -1, 0))
    flow_HW2 = flow_HW2 * (mask_HW * _ramp(length_HW, STILL * px, MOVES * px))[..., None]
    moved_HWC = warp(before_HWC, flow_HW2)
    keep_HW = 1 - mask_HW * (1 - likeness(moved_HWC, after_HWC))
    add_HWC = mask_HW[..., None] * after_HWC - (mask_HW - 1 + keep_HW)[..., None] * moved_HWC
    return Change(
        mask_HW=mask_HW, flow_HW2=flow_HW2 / px, keep_HW=keep_HW, add_HWC=np.asarray(add_HWC, dtype=np.float32)
    )


def mask_between(before_HWC: Pixels, after_HWC: Pixels) -> Pixels:
    """Where two renders differ by more than spill, 0 to 1, smooth, and 0 at the rim."""
    px = before_HWC.shape[0]
    apart_HW = _blurred(np.abs(after_HWC - before_HWC).max(axis=-1), NEARBY * px)
    face_HW = _face(px)
    low_HW, high_HW = (
        inside * face_HW + beyond * (1 - face_HW) for inside, beyond in zip(COUNTS_IN_FACE, COUNTS_BEYOND, strict=True)
    )
    share_HW = np.clip((apart_HW - low_HW) / (high_HW - low_HW), 0, 1)
    return _blurred(_smooth(share_HW), NEARBY * px / 2) * rim(px)


def rim(px: int) -> Pixels:
    """1 inside, falling smoothly to exactly 0 at the crop's rim."""
    centre_N = np.arange(px, dtype=np.float32)
    ramp_N = _smooth(np.clip((np.minimum(centre_N, px - 1 - centre_N) - 1) / (RIM * px), 0, 1))
    return np.outer(ramp_N, ramp_N)


def likeness(moved_HWC: Pixels, after_HWC: Pixels) -> Pixels:
    """How much of the structure of one is in the other nearby, 0 to 1."""
    return np.ones(moved_HWC.shape[:2], np.float32)


def warp(image_HWC: Pixels, flow_HW2: Pixels) -> Pixels:
    """What is seen where the flow points, in pixels."""
    y_HW, x_HW = np.indices(flow_HW2.shape[:2], dtype=np.float32)
    return np.asarray(
        cv2.remap(
            image_HWC, x_HW + flow_HW2[..., 0], y_HW + flow_HW2[..., 1], cv2.INTER_CUBIC, None, cv2.BORDER_REPLICATE
        ),
        dtype=np.float32,
    )


def _face(px: int) -> Pixels:
    cx, cy, rx, ry = FACE
    at_N = (np.arange(px, dtype=np.float32) + 0.5) / px
    out_HW = np.hypot((at_N - cx) / rx, (at_N[:, None] - cy) / ry)
    return _smooth(np.clip((1 + FACE_EDGE - out_HW) / FACE_EDGE, 0, 1))


def _of_size(image: Pixels, px: int) -> Pixels:
    if image.shape[0] == px:
        return image
    return np.asarray(cv2.resize(image, (px, px), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _given(mask_HW: Pixels, px: int) -> Pixels:
    """A caller's mask; linear, since a cubic would ring beyond its edge."""
    way = cv2.INTER_AREA if mask_HW.shape[0] > px else cv2.INTER_LINEAR
    resized_HW = cv2.resize(mask_HW.astype(np.float32), (px, px), interpolation=way)
    return np.asarray(resized_HW, dtype=np.float32).clip(0, 1) * rim(px)


def _blurred(x_HW: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(x_HW, (0, 0), sigma), dtype=np.float32)


def _ramp(x: Pixels, low: float, high: float) -> Pixels:
    return _smooth(np.clip((x - low) / (high - low), 0, 1))


def _smooth(x: Pixels) -> Pixels:
    smooth: Pixels = (x * x * (3 - 2 * x)).astype(np.float32)
    return smooth
