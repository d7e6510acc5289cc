"""Optical flow between two renders of a face: which way things moved.

Suffixes: H W height and width, 2 x and y.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FLOW_PX = 256
"""Side of the pictures between which the flow is found; smaller and larger ones are resized."""
SMOOTH_PX = 15
"""The flow is averaged over squares of this side, at FLOW_PX: single wrong vectors tear skin."""
GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey pictures that it takes."""
CONTRAST = 2.0
TILES = 8
"""CLAHE's limit and its tiles a side: the same contrast in dark hair as on bright skin."""

Grey = NDArray[np.float32]


def flow_between(before_HW: Grey, after_HW: Grey, px: int) -> NDArray[np.float32]:
    """For each place of the picture after, how far away it was before: (px, px, 2), in pixels of `px`.

    Args:
        before_HW: a square picture in levels from 0 to 255, of any size; so is `after_HW`.
    """
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow_HW2 = method.calc(_even(after_HW), _even(before_HW), None)  # type: ignore[call-overload]  # its stubs know no None
    flow_HW2 = cv2.blur(flow_HW2, (SMOOTH_PX, SMOOTH_PX))
    way = cv2.INTER_AREA if px < FLOW_PX else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(flow_HW2, (px, px), interpolation=way) * (px / FLOW_PX), dtype=np.float32)


def _even(grey_HW: Grey) -> NDArray[np.uint8]:
    """As 8-bit grey of FLOW_PX, with even contrast."""
    way = cv2.INTER_AREA if grey_HW.shape[0] > FLOW_PX else cv2.INTER_CUBIC
    resized_HW = cv2.resize(grey_HW, (FLOW_PX, FLOW_PX), interpolation=way)
    rounded_HW = np.clip(np.rint(resized_HW), 0, 255).astype(np.uint8)
    return np.asarray(cv2.createCLAHE(CONTRAST, (TILES, TILES)).apply(rounded_HW), dtype=np.uint8)
