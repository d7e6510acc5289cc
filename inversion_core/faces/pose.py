"""Where a face looks, as far as five landmarks say."""

from __future__ import annotations

import numpy as np

from inversion_core.faces.frame import Floats


def nose_aside(landmarks: Floats) -> float:
    """How far the tip of the nose lies from the middle of eyes and mouth, along the line of the eyes: above 0 towards
    the picture's right, in distances of the eyes. `landmarks` are (5, 2), as `Face.landmarks`.
    """
    eye_left, eye_right, nose, mouth_left, mouth_right = np.asarray(landmarks, dtype=np.float64)
    across = eye_right - eye_left
    middle = (eye_left + eye_right + mouth_left + mouth_right) / 4
    return float((nose - middle) @ across) / max(float(across @ across), 1e-9)
