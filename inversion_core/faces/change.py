"""What an edit changes in an aligned crop: which way things move, and what is different once they have moved.

The photo is warped as the face moves, so its pores and hairs move along; what then still differs between the two
renders is coarse, and is added. With the render before b, the one after a, the flow f and the photo p:

    result(x) = p(x + f) + m (a(x) - b(x + f))

within the mask m, which scales the flow too: nothing moves where nothing changes. Three things are seen to:
- Background stays. A network tells the person from it, in either render; what an edit uncovers is filled from around.
- Where the render before, warped, has not got the structure of the one after (teeth that were not there), the photo's
  own structure gives way to the render's.
- Along the outline of the person the photo's own, sharp one is kept, and the difference is made smooth on either side.

Suffixes: H W height and width, C channel (RGB), 2 x and y.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from inversion_core.faces.area import face_area, rim
from inversion_core.faces.background import around, everywhere, outlined, people, without_spill
from inversion_core.faces.maps import Pixels, blurred, of_size, ramp, smooth, warp
from inversion_core.faces.structure import GREY_3, likeness
from inversion_core.flow import flow_between

SMALLEST_PX = 256
"""Smaller renders are enlarged to this side first: flow and masks want finer steps than 128 px."""
COUNTS_IN_FACE, COUNTS_BEYOND = (1.0, 4.0), (6.0, 18.0)
"""From no part to full part of the mask: mean change nearby, in levels of 255."""
NEARBY = 0.02
"""Over how much of the crop's side changes are averaged (a Gaussian's sigma)."""
FAINT = 1 / 512
"""Less of the mask than this is none."""
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
        mask_HW: where the edit counts, background or not, 0 to 1, of any size; None: where the person changes.
    """
    before_HWC, after_HWC = (of_size(each, max(SMALLEST_PX, each.shape[0])) for each in (before_HWC, after_HWC))
    px = before_HWC.shape[0]
    before_person_HW, after_person_HW = everywhere(px) if mask_HW is not None else people(before_HWC, after_HWC)
    after_HWC = without_spill(before_HWC, after_HWC, before_person_HW, after_person_HW)
    if mask_HW is None:
        mask_HW = mask_between(before_HWC, after_HWC) * around(np.maximum(before_person_HW, after_person_HW))
    else:
        mask_HW = _given(mask_HW, px)
    mask_HW = np.where(mask_HW < FAINT, np.float32(0), mask_HW)
    flow_HW2 = flow_between(before_HWC @ GREY_3, after_HWC @ GREY_3, px)
    length_HW = np.hypot(*np.moveaxis(flow_HW2, -1, 0))
    flow_HW2 = flow_HW2 * (mask_HW * ramp(length_HW, STILL * px, MOVES * px))[..., None]
    moved_HWC = warp(before_HWC, flow_HW2)
    like_HW, after_HWC = outlined(
        likeness(moved_HWC, after_HWC),
        moved_HWC,
        after_HWC,
        warp(before_person_HW, flow_HW2).clip(0, 1),
        after_person_HW,
    )
    keep_HW = 1 - mask_HW * (1 - like_HW)
    add_HWC = mask_HW[..., None] * after_HWC - (mask_HW - 1 + keep_HW)[..., None] * moved_HWC
    return Change(
        mask_HW=mask_HW, flow_HW2=flow_HW2 / px, keep_HW=keep_HW, add_HWC=np.asarray(add_HWC, dtype=np.float32)
    )


def mask_between(before_HWC: Pixels, after_HWC: Pixels) -> Pixels:
    """Where two renders differ by more than spill, 0 to 1, smooth, and 0 at the rim."""
    px = before_HWC.shape[0]
    apart_HW = blurred(np.abs(after_HWC - before_HWC).max(axis=-1), NEARBY * px)
    face_HW = face_area(px)
    low_HW, high_HW = (
        inside * face_HW + beyond * (1 - face_HW) for inside, beyond in zip(COUNTS_IN_FACE, COUNTS_BEYOND, strict=True)
    )
    share_HW = np.clip((apart_HW - low_HW) / (high_HW - low_HW), 0, 1)
    return blurred(smooth(share_HW), NEARBY * px / 2) * rim(px)


def _given(mask_HW: Pixels, px: int) -> Pixels:
    """A caller's mask; linear, since a cubic would ring beyond its edge."""
    way = cv2.INTER_AREA if mask_HW.shape[0] > px else cv2.INTER_LINEAR
    resized_HW = cv2.resize(mask_HW.astype(np.float32), (px, px), interpolation=way)
    return np.asarray(resized_HW, dtype=np.float32).clip(0, 1) * rim(px)
