"""Parts of an FFHQ-aligned crop, as maps.

Suffixes: H W height and width, N pixels along a side.
"""

from __future__ import annotations

import numpy as np

from inversion_core.faces.maps import Pixels, smooth

RIM = 0.08
"""Width of the ramp at the crop's rim, as a share of its side."""
FACE = (0.5, 0.56, 0.32, 0.40)
"""Centre and radii of the face in an FFHQ-aligned crop: within it little changes count, beyond it they are spill."""
MOUTH = (0.5, 0.75, 0.14, 0.08)
"""The same of the mouth."""
EDGE = 0.35
"""How far beyond its radii an ellipse fades, as a share of them."""


def face_area(px: int) -> Pixels:
    """1 in the face, fading to 0 around it."""
    return _ellipse(px, *FACE)


def mouth_area(px: int) -> Pixels:
    """1 where a mouth may be, also of a head that turns or laughs, fading to 0 around it."""
    return _ellipse(px, *MOUTH)


def _ellipse(px: int, cx: float, cy: float, rx: float, ry: float) -> Pixels:
    at_N = (np.arange(px, dtype=np.float32) + 0.5) / px
    out_HW = np.hypot((at_N - cx) / rx, (at_N[:, None] - cy) / ry)
    return smooth(np.clip((1 + EDGE - out_HW) / EDGE, 0, 1))


def rim(px: int) -> Pixels:
    """1 inside, falling smoothly to exactly 0 at the crop's rim."""
    centre_N = np.arange(px, dtype=np.float32)
    ramp_N = smooth(np.clip((np.minimum(centre_N, px - 1 - centre_N) - 1) / (RIM * px), 0, 1))
    return np.outer(ramp_N, ramp_N)
