"""Person and background of two renders: where either is, background kept as it was, and the outline between them.

Suffixes: H W height and width, C channel (RGB).
"""

from __future__ import annotations

import numpy as np

from inversion_core.faces.area import face_area
from inversion_core.faces.maps import Pixels, blurred, dilated, eroded, ramp
from inversion_core.faces.person import person_in
from inversion_core.faces.structure import WINDOW, likeness

SURE = 0.6
"""Share of the face that must be seen as a person; else the background is not known, and all of the crop may change."""
ANOTHER = (15.0, 40.0)
"""Mean difference nearby, in levels of 255, from which on a place shows something else."""
AROUND = 0.012
"""How far the mask reaches beyond a person, as a share of the crop's side."""
SPILL = (0.2, 0.07, 0.025)
"""From how far away uncovered background is filled, as shares of the crop's side (Gaussians' sigmas)."""
ENOUGH = 0.2
"""Share of background nearby that is enough to fill from."""
STAYS = (0.4, 0.95)
"""How much of a person a pixel must be to be seen before the background, from not at all to wholly."""
OUTLINE = 0.02
"""Half of the width of a blurred outline, as a share of the crop's side."""


def people(before_HWC: Pixels, after_HWC: Pixels) -> tuple[Pixels, Pixels]:
    """Where the person is in either render; everywhere, if the face is not even seen as one."""
    found = person_in(before_HWC), person_in(after_HWC)
    face_HW = face_area(before_HWC.shape[0]) > 0.9
    if min(float(each[face_HW].mean()) for each in found) < SURE:
        return everywhere(before_HWC.shape[0])
    before_HW, after_HW = found
    apart_HW = blurred(np.abs(after_HWC - before_HWC).mean(axis=-1), WINDOW * before_HWC.shape[0])
    same_HW = likeness(before_HWC, after_HWC) * (1 - ramp(apart_HW, *ANOTHER))
    return before_HW, after_HW + (before_HW - after_HW) * same_HW  # loose hair is seen now in one and now in the other


def everywhere(px: int) -> tuple[Pixels, Pixels]:
    """No background in either render."""
    return np.ones((px, px), np.float32), np.ones((px, px), np.float32)


def around(person_HW: Pixels) -> Pixels:
    """The person and a soft margin."""
    sigma = AROUND * person_HW.shape[0]
    return blurred(dilated(person_HW, 2 * sigma), sigma)


def without_spill(before_HWC: Pixels, after_HWC: Pixels, before_person_HW: Pixels, after_person_HW: Pixels) -> Pixels:
    """The render after, on the background of the one before; what the edit uncovers of it is filled from around."""
    behind_HW = 1 - ramp(around(before_person_HW), 0.02, 0.5)
    filled_HWC = before_HWC.mean(axis=(0, 1), dtype=np.float32)
    for share in SPILL:  # from afar, and then nearer where something is near
        sigma = share * before_HWC.shape[0]
        weight_HW1 = blurred(behind_HW, sigma)[..., None]
        near_HWC = blurred(behind_HW[..., None] * before_HWC, sigma) / np.maximum(weight_HW1, 1e-6)
        filled_HWC = filled_HWC + (near_HWC - filled_HWC) * np.minimum(weight_HW1 / ENOUGH, 1)
    behind_HWC = filled_HWC + (before_HWC - filled_HWC) * behind_HW[..., None]
    stays_HW1 = ramp(after_person_HW, *STAYS)[..., None]
    return np.asarray(behind_HWC + (after_HWC - behind_HWC) * stays_HW1, dtype=np.float32)


def outlined(
    like_HW: Pixels, moved_HWC: Pixels, after_HWC: Pixels, moved_person_HW: Pixels, after_person_HW: Pixels
) -> tuple[Pixels, Pixels]:
    """Likeness and render after, with the photo's outline of the person where both renders have it nearby.

    The renders' outlines are blurred, each in its own way: their difference along them would be a bright or dark seam.
    """
    px = like_HW.shape[0]
    reach = OUTLINE * px
    inside_HW = eroded(np.minimum(moved_person_HW, after_person_HW), reach)
    behind_HW = eroded(1 - np.maximum(moved_person_HW, after_person_HW), reach)
    apart_HW = (np.abs(moved_person_HW - after_person_HW) > 0.5).astype(np.float32)
    apart_HW = dilated(eroded(apart_HW, reach / 2), 2 * reach)
    add_HWC = after_HWC - moved_HWC
    (inner_HWC, near_inner_HW), (outer_HWC, near_outer_HW) = (
        _near(add_HWC, weight_HW, reach) for weight_HW in (inside_HW, behind_HW)
    )
    along_HW = (1 - inside_HW - behind_HW).clip(0, 1) * (1 - apart_HW) * near_inner_HW * near_outer_HW
    along_HW = blurred(along_HW, reach / 3)
    smooth_HWC = outer_HWC + (inner_HWC - outer_HWC) * moved_person_HW[..., None]
    return (
        like_HW + (1 - like_HW) * along_HW,
        after_HWC + (smooth_HWC - add_HWC) * along_HW[..., None],
    )


def _near(x_HWC: Pixels, weight_HW: Pixels, sigma: float) -> tuple[Pixels, Pixels]:
    """The mean of what has weight nearby, and whether there is enough of it, 0 to 1."""
    near_HW = blurred(weight_HW, sigma)
    mean_HWC = blurred(x_HWC * weight_HW[..., None], sigma) / np.maximum(near_HW, 1e-3)[..., None]
    return np.asarray(mean_HWC, dtype=np.float32), ramp(near_HW, 0.01, 0.05)
