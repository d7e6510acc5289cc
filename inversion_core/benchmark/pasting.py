"""How much of a photo's own detail an edit leaves it.

Suffixes: H W height and width, C channel (RGB).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from inversion_core.faces.area import FACE
from inversion_core.faces.frame import Floats
from inversion_core.faces.mapping import side, through, to_quad

Pixels = npt.NDArray[np.float32]

FINE = 1 / 340
"""Sigma of the Gaussian above which the fine band is, as a share of the crop: what a 128 px render cannot hold."""


def fine_energy(photo: Image.Image, edited: Image.Image, quad: Floats) -> float:
    """Energy of the finest band inside the face, edited to photo: 1 where every pore is still there.

    Args:
        edited: the photo after the edit, of the same size.
        quad: (4, 2), the face's crop in the photo.
    """
    quad = np.asarray(quad, dtype=np.float64)
    sigma = max(FINE * side(quad), 0.8)
    inside_HW = _inside(photo.size, quad)
    if not inside_HW.any():
        raise ValueError(f"the face of the quad {quad.tolist()} lies beside the picture")
    before, after = (float(np.square(_fine(image, sigma)[inside_HW]).sum()) for image in (photo, edited))
    return after / before if before else 1.0


def _inside(size: tuple[int, int], quad: Floats) -> npt.NDArray[np.bool_]:
    """The photo's pixels within the face's ellipse."""
    cx, cy, rx, ry = FACE
    at_HW2 = np.stack(np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5), axis=-1)
    in_crop_HW2 = through(to_quad(quad, 1), at_HW2)
    inside_HW: npt.NDArray[np.bool_] = np.hypot((in_crop_HW2[..., 0] - cx) / rx, (in_crop_HW2[..., 1] - cy) / ry) <= 0.9
    return inside_HW


def _fine(image: Image.Image, sigma: float) -> Pixels:
    pixels_HWC = np.asarray(image.convert("RGB"), dtype=np.float32)
    return np.asarray(pixels_HWC - cv2.GaussianBlur(pixels_HWC, (0, 0), sigma), dtype=np.float32)
