"""Where a face looks, as far as five landmarks say."""

from __future__ import annotations

import numpy as np

from inversion_core.faces.frame import Floats, ffhq_quad


def nose_aside(landmarks: Floats) -> float:
    """How far the tip of the nose lies from the middle of eyes and mouth, along the line of the eyes: above 0 towards
    the picture's right, in distances of the eyes. `landmarks` are (5, 2), as `Face.landmarks`.
    """
    eye_left, eye_right, nose, mouth_left, mouth_right = np.asarray(landmarks, dtype=np.float64)
    across = eye_right - eye_left
    middle = (eye_left + eye_right + mouth_left + mouth_right) / 4
    return float((nose - middle) @ across) / max(float(across @ across), 1e-9)


def roll_deg(landmarks: Floats) -> float:
    """How far the face is turned in the picture's plane, clockwise, from -180 to 180: the tilt of its crop."""
    top_left, _, _, top_right = ffhq_quad(landmarks)
    across, down = top_right - top_left
    return float(np.degrees(np.arctan2(down, across)))


def is_plausible(landmarks: Floats) -> bool:
    """Whether the landmarks (5, 2) may be a face's: in its own frame the eyes lie above the mouth, left is left, the
    nose is between, and no distance is out of all proportion. Loose: profiles and open mouths are faces.
    """
    origin, (top_left, bottom_left, _, top_right) = landmarks[:2].mean(axis=0), ffhq_quad(landmarks)
    frame = np.stack([top_right - top_left, bottom_left - top_left])
    side = max(float(np.hypot(*frame[0])), 1e-9)
    eye_left, eye_right, nose, mouth_left, mouth_right = (landmarks - origin) @ frame.T / side**2
    below = (mouth_left + mouth_right)[1] / 2
    return bool(
        eye_left[0] < eye_right[0]
        and mouth_left[0] < mouth_right[0]
        and min(mouth_left[1], mouth_right[1]) > max(eye_left[1], eye_right[1])
        and -0.1 * below < nose[1] < 1.1 * below
        and abs(nose[0]) < 0.25
        and 0.15 < below < 0.4
    )
