"""Arithmetic of maps and pictures that the changes of a face are made of.

Suffixes: H W height and width, C channel, 2 x and y.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]


def blurred(x_HW: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(x_HW, (0, 0), sigma), dtype=np.float32)


def dilated(x_HW: Pixels, reach: float) -> Pixels:
    size = 2 * round(reach) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(x_HW, kernel), dtype=np.float32)


def eroded(x_HW: Pixels, reach: float) -> Pixels:
    return 1 - dilated(1 - x_HW, reach)


def ramp(x: Pixels, low: float, high: float) -> Pixels:
    return smooth(np.clip((x - low) / (high - low), 0, 1))


def smooth(x: Pixels) -> Pixels:
    smooth: Pixels = (x * x * (3 - 2 * x)).astype(np.float32)
    return smooth


def warp(image_HWC: Pixels, flow_HW2: Pixels) -> Pixels:
    """What is seen where the flow points, in pixels."""
    y_HW, x_HW = np.indices(flow_HW2.shape[:2], dtype=np.float32)
    return np.asarray(
        cv2.remap(
            image_HWC, x_HW + flow_HW2[..., 0], y_HW + flow_HW2[..., 1], cv2.INTER_CUBIC, None, cv2.BORDER_REPLICATE
        ),
        dtype=np.float32,
    )


def of_size(image: Pixels, px: int) -> Pixels:
    if image.shape[0] == px:
        return image
    return np.asarray(cv2.resize(image, (px, px), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
