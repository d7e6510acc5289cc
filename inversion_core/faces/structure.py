"""Whether one render has the structure of another.

Suffixes: H W height and width, C channel (RGB).
"""

from __future__ import annotations

import numpy as np

from inversion_core.faces.area import mouth_area
from inversion_core.faces.maps import Pixels, blurred, ramp
from inversion_core.flow import GREY

GREY_3 = np.array(GREY, dtype=np.float32)
WINDOW = 0.014
"""Over how much of the crop's side structure is compared (a Gaussian's sigma)."""
ALIKE = (0.1, 0.6)
"""Correlation of the renders that is no likeness, and that is all."""
CONTRAST = (0.15, 0.5)
"""Contrast of the render after, as a share of the one before, that is none and that is enough."""
OFF = (10.0, 20.0)
"""Difference of structure at the mouth, in levels of 255, that is none and that is too much: lips are no teeth."""
SHADE = 0.025
"""What is coarser than this, as a share of the crop's side, is shade and not structure (a Gaussian's sigma)."""
FLAT = 4.0
"""Contrast, in levels of 255, below which skin counts as alike."""


def likeness(moved_HWC: Pixels, after_HWC: Pixels) -> Pixels:
    """How much the structure of one is that of the other nearby, 0 to 1: by correlation, whatever the colours."""
    sigma = WINDOW * moved_HWC.shape[0]
    x_HW, y_HW = moved_HWC @ GREY_3, after_HWC @ GREY_3
    mean_x, mean_y = blurred(x_HW, sigma), blurred(y_HW, sigma)
    variance_x, variance_y = (
        np.maximum(blurred(each * each, sigma) - mean * mean, 0) for each, mean in ((x_HW, mean_x), (y_HW, mean_y))
    )
    covariance = blurred(x_HW * y_HW, sigma) - mean_x * mean_y
    alike_HW = (covariance + FLAT**2) / (np.sqrt(variance_x * variance_y) + FLAT**2)
    contrast_HW = np.asarray((np.sqrt(variance_y) + FLAT) / (np.sqrt(variance_x) + FLAT), dtype=np.float32)
    off_HWC = _coarse_detail(after_HWC) - contrast_HW.clip(0.25, 2)[..., None] * _coarse_detail(moved_HWC)
    off_HW = blurred(np.abs(off_HWC).mean(axis=-1, dtype=np.float32), 0.7 * sigma) * mouth_area(moved_HWC.shape[0])
    likeness_HW: Pixels = ramp(alike_HW, *ALIKE) * ramp(contrast_HW, *CONTRAST) * (1 - ramp(off_HW, *OFF))
    return likeness_HW


def _coarse_detail(image_HWC: Pixels) -> Pixels:
    """What is finer than a mouth."""
    return image_HWC - blurred(image_HWC, SHADE * image_HWC.shape[0])
