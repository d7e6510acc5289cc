"""The square that FFHQ's alignment cuts out around five landmarks (Karras 2019, appendix A). Arithmetic alone.

A quad is a (4, 2) array of the crop's corners in the upright photo: top left, bottom left, bottom right,
top right. A face's is a square, turned and scaled; a caller's own may be any convex one. Coordinates are
continuous and in pixels: the pixel in column i covers [i, i + 1), so a whole picture is the quad (0, 0),
(0, H), (W, H), (W, 0).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def ffhq_quad(landmarks: Floats) -> Floats:
    """The square that FFHQ's alignment cuts out, from five landmarks (5, 2) -> (4, 2).

    x is half the crop's side along the eyes, y the same at a right angle to it, c the centre.
    """
    eye_left, eye_right, _, mouth_left, mouth_right = np.asarray(landmarks, dtype=np.float64)
    eyes, mouth = (eye_left + eye_right) / 2, (mouth_left + mouth_right) / 2
    eye_to_eye, eye_to_mouth = eye_right - eye_left, mouth - eyes
    x = eye_to_eye - _quarter_turn(eye_to_mouth)
    x *= max(2.0 * np.hypot(*eye_to_eye), 1.8 * np.hypot(*eye_to_mouth)) / max(np.hypot(*x), 1e-9)
    y = _quarter_turn(x)
    c = eyes + 0.1 * eye_to_mouth
    return np.stack([c - x - y, c - x + y, c + x + y, c + x - y])


def _quarter_turn(v: Floats) -> Floats:
    """Clockwise as seen on the screen: right becomes down, down becomes left."""
    return np.array([-v[1], v[0]])
