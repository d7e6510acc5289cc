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
import numpy.typing as npt

from inversion_core.faces.person import person_in
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
FAINT = 1 / 512
"""Less of the mask than this is none."""
STILL, MOVES = 0.0008, 0.0025
"""Flow that is none, and that is all there, as a share of the crop's side: below, it is noise and would blur."""
WINDOW = 0.014
"""Over how much of the crop's side structure is compared (a Gaussian's sigma)."""
ALIKE = (0.1, 0.6)
"""Correlation of the renders that is no likeness, and that is all."""
CONTRAST = (0.15, 0.5)
"""Contrast of the render after, as a share of the one before, that is none and that is enough."""
STAYS = (0.4, 0.95)
"""How much of a person a pixel must be to be seen before the background, from not at all to wholly."""
FLAT = 4.0
"""Contrast, in levels of 255, below which skin counts as alike."""
SPILL = (0.2, 0.07, 0.025)
"""From how far away uncovered background is filled, as shares of the crop's side (Gaussians' sigmas)."""
ENOUGH = 0.2
"""Share of background nearby that is enough to fill from."""
AROUND = 0.012
"""How far the mask reaches beyond a person, as a share of the crop's side."""
ANOTHER = (15.0, 40.0)
"""Mean difference nearby, in levels of 255, from which on a place shows something else."""
OUTLINE = 0.02
"""Half of the width of a blurred outline, as a share of the crop's side."""
SURE = 0.6
"""Share of the face that must be seen as a person; else the background is not known, and all of the crop may change."""


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
    before_person_HW, after_person_HW = _people(before_HWC, after_HWC)
    after_HWC = _without_spill(before_HWC, after_HWC, before_person_HW, after_person_HW)
    if mask_HW is None:
        mask_HW = mask_between(before_HWC, after_HWC) * _around(np.maximum(before_person_HW, after_person_HW))
    else:
        mask_HW = _given(mask_HW, px)
    mask_HW = np.where(mask_HW < FAINT, np.float32(0), mask_HW)
    flow_HW2 = flow_between(before_HWC @ _GREY, after_HWC @ _GREY, px)
    length_HW = np.hypot(*np.moveaxis(flow_HW2, -1, 0))
    flow_HW2 = flow_HW2 * (mask_HW * _ramp(length_HW, STILL * px, MOVES * px))[..., None]
    moved_HWC = warp(before_HWC, flow_HW2)
    like_HW, after_HWC = _outlined(
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
    apart_HW = _blurred(np.abs(after_HWC - before_HWC).max(axis=-1), NEARBY * px)
    face_HW = _face(px)
    low_HW, high_HW = (
        inside * face_HW + beyond * (1 - face_HW) for inside, beyond in zip(COUNTS_IN_FACE, COUNTS_BEYOND, strict=True)
    )
    share_HW = np.clip((apart_HW - low_HW) / (high_HW - low_HW), 0, 1)
    return _blurred(_smooth(share_HW), NEARBY * px / 2) * rim(px)


def _people(before_HWC: Pixels, after_HWC: Pixels) -> tuple[Pixels, Pixels]:
    """Where the person is in either render; everywhere, if the face is not even seen as one."""
    found = person_in(before_HWC), person_in(after_HWC)
    face_HW = _face(before_HWC.shape[0]) > 0.9
    if min(float(each[face_HW].mean()) for each in found) < SURE:
        return np.ones_like(found[0]), np.ones_like(found[1])
    before_HW, after_HW = found
    apart_HW = _blurred(np.abs(after_HWC - before_HWC).mean(axis=-1), WINDOW * before_HWC.shape[0])
    same_HW = likeness(before_HWC, after_HWC) * (1 - _ramp(apart_HW, *ANOTHER))
    return before_HW, after_HW + (before_HW - after_HW) * same_HW  # loose hair is seen now in one and now in the other


def _without_spill(before_HWC: Pixels, after_HWC: Pixels, before_person_HW: Pixels, after_person_HW: Pixels) -> Pixels:
    """The render after, on the background of the one before; what the edit uncovers of it is filled from around."""
    behind_HW = 1 - _ramp(_around(before_person_HW), 0.02, 0.5)
    filled_HWC = before_HWC.mean(axis=(0, 1), dtype=np.float32)
    for share in SPILL:  # from afar, and then nearer where something is near
        sigma = share * before_HWC.shape[0]
        weight_HW1 = _blurred(behind_HW, sigma)[..., None]
        near_HWC = _blurred(behind_HW[..., None] * before_HWC, sigma) / np.maximum(weight_HW1, 1e-6)
        filled_HWC = filled_HWC + (near_HWC - filled_HWC) * np.minimum(weight_HW1 / ENOUGH, 1)
    behind_HWC = filled_HWC + (before_HWC - filled_HWC) * behind_HW[..., None]
    stays_HW1 = _ramp(after_person_HW, *STAYS)[..., None]
    return np.asarray(behind_HWC + (after_HWC - behind_HWC) * stays_HW1, dtype=np.float32)


def _outlined(
    like_HW: Pixels, moved_HWC: Pixels, after_HWC: Pixels, moved_person_HW: Pixels, after_person_HW: Pixels
) -> tuple[Pixels, Pixels]:
    """Likeness and render after, with the photo's outline of the person where both renders have it nearby.

    The renders' outlines are blurred, each in its own way: their difference along them would be a bright or dark seam.
    """
    px = like_HW.shape[0]
    reach = OUTLINE * px
    inside_HW = _eroded(np.minimum(moved_person_HW, after_person_HW), reach)
    behind_HW = _eroded(1 - np.maximum(moved_person_HW, after_person_HW), reach)
    apart_HW = (np.abs(moved_person_HW - after_person_HW) > 0.5).astype(np.float32)
    apart_HW = _dilated(_eroded(apart_HW, reach / 2), 2 * reach)
    add_HWC = after_HWC - moved_HWC
    (inner_HWC, near_inner_HW), (outer_HWC, near_outer_HW) = (
        _near(add_HWC, weight_HW, reach) for weight_HW in (inside_HW, behind_HW)
    )
    along_HW = (1 - inside_HW - behind_HW).clip(0, 1) * (1 - apart_HW) * near_inner_HW * near_outer_HW
    along_HW = _blurred(along_HW, reach / 3)
    smooth_HWC = outer_HWC + (inner_HWC - outer_HWC) * moved_person_HW[..., None]
    return (
        like_HW + (1 - like_HW) * along_HW,
        after_HWC + (smooth_HWC - add_HWC) * along_HW[..., None],
    )


def _near(x_HWC: Pixels, weight_HW: Pixels, sigma: float) -> tuple[Pixels, Pixels]:
    """The mean of what has weight nearby, and whether there is enough of it, 0 to 1."""
    near_HW = _blurred(weight_HW, sigma)
    mean_HWC = _blurred(x_HWC * weight_HW[..., None], sigma) / np.maximum(near_HW, 1e-3)[..., None]
    return np.asarray(mean_HWC, dtype=np.float32), _ramp(near_HW, 0.01, 0.05)


def _dilated(x_HW: Pixels, reach: float) -> Pixels:
    size = 2 * round(reach) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(x_HW, kernel), dtype=np.float32)


def _eroded(x_HW: Pixels, reach: float) -> Pixels:
    return 1 - _dilated(1 - x_HW, reach)


def _around(person_HW: Pixels) -> Pixels:
    """The person and a soft margin."""
    sigma = AROUND * person_HW.shape[0]
    return _blurred(_dilated(person_HW, 2 * sigma), sigma)


def rim(px: int) -> Pixels:
    """1 inside, falling smoothly to exactly 0 at the crop's rim."""
    centre_N = np.arange(px, dtype=np.float32)
    ramp_N = _smooth(np.clip((np.minimum(centre_N, px - 1 - centre_N) - 1) / (RIM * px), 0, 1))
    return np.outer(ramp_N, ramp_N)


def likeness(moved_HWC: Pixels, after_HWC: Pixels) -> Pixels:
    """How much the structure of one is that of the other nearby, 0 to 1: by correlation, whatever the colours."""
    sigma = WINDOW * moved_HWC.shape[0]
    x_HW, y_HW = moved_HWC @ _GREY, after_HWC @ _GREY
    mean_x, mean_y = _blurred(x_HW, sigma), _blurred(y_HW, sigma)
    variance_x, variance_y = (
        np.maximum(_blurred(each * each, sigma) - mean * mean, 0) for each, mean in ((x_HW, mean_x), (y_HW, mean_y))
    )
    covariance = _blurred(x_HW * y_HW, sigma) - mean_x * mean_y
    alike_HW = (covariance + FLAT**2) / (np.sqrt(variance_x * variance_y) + FLAT**2)
    contrast_HW = np.asarray((np.sqrt(variance_y) + FLAT) / (np.sqrt(variance_x) + FLAT), dtype=np.float32)
    likeness_HW: Pixels = _ramp(alike_HW, *ALIKE) * _ramp(contrast_HW, *CONTRAST)
    return likeness_HW


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
