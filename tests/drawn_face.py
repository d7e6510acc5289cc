"""A face of nobody: drawn with ellipses, and enough of a face for the detector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

SKIN, HAIR, EYE, LIPS = (215, 170, 145), (50, 35, 30), (240, 235, 230), (170, 80, 80)
SUPERSAMPLING = 4
# Centre and radii of each ellipse in units of the head's square, its centre at (0, 0).
ELLIPSES = [
    (0.0, -0.07, 0.30, 0.36, HAIR),
    (0.0, 0.03, 0.24, 0.32, SKIN),
    *(
        (side * 0.1, y, rx, ry, colour)
        for side in (-1, 1)
        for y, rx, ry, colour in [
            (-0.09, 0.065, 0.025, (70, 50, 40)),
            (-0.078, 0.065, 0.025, SKIN),
            (-0.03, 0.045, 0.022, EYE),
            (-0.03, 0.021, 0.021, HAIR),
        ]
    ),
    (0.0, 0.02, 0.02, 0.07, (225, 182, 158)),
    (0.0, 0.085, 0.045, 0.022, (180, 130, 110)),
    (0.0, 0.075, 0.045, 0.022, SKIN),
    (0.0, 0.185, 0.085, 0.03, LIPS),
]
LANDMARKS = np.array([[-0.1, -0.03], [0.1, -0.03], [0.0, 0.07], [-0.08, 0.185], [0.08, 0.185]])
"""Left eye, right eye, nose, left and right corner of the mouth, in the same units."""


def draw_face(
    size: tuple[int, int] = (256, 256), head_px: float = 256, centre: tuple[float, float] | None = None
) -> Image.Image:
    """A picture with one drawn face whose head fills a square of head_px around `centre` (none: the middle)."""
    picture = Image.new("RGB", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), (150, 160, 170))
    draw = ImageDraw.Draw(picture)
    x0, y0 = centre or (size[0] / 2, size[1] / 2)
    for x, y, rx, ry, colour in ELLIPSES:
        corners = (x0 + (x - rx) * head_px, y0 + (y - ry) * head_px, x0 + (x + rx) * head_px, y0 + (y + ry) * head_px)
        draw.ellipse(tuple(SUPERSAMPLING * corner for corner in corners), fill=colour)
    return picture.resize(size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(head_px / 150))


def drawn_landmarks(head_px: float, centre: tuple[float, float]) -> npt.NDArray[np.float64]:
    """(5, 2): where they are in a picture of `draw_face`."""
    return np.array(centre) + LANDMARKS * head_px
