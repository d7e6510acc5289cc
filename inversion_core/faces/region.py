"""A square part of a photo around a face, turned upright and scaled: where a second look is taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from inversion_core.faces.alignment import reduced
from inversion_core.faces.cascade import GREY
from inversion_core.faces.face import Face
from inversion_core.faces.frame import Floats
from inversion_core.faces.mapping import from_quad, side

AROUND = 3.0
"""Side of the square, in sides of the face's box: enough for the box of a face that was seen in a wrong turn."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A square of the photo, seen turned."""

    quad: Floats
    """(4, 2): its corners in the photo; top left, bottom left, bottom right, top right as it is seen."""

    def seen(self, photo: Image.Image, px: int) -> Image.Image:
        """It, px by px; grey beyond the photo, as the cascade knows it."""
        patch, quad = reduced(photo, self.quad, factor=int(max(1, side(self.quad) // px)))
        return patch.transform(
            (px, px), Image.Transform.AFFINE, from_quad(quad, px), Image.Resampling.BICUBIC, fillcolor=GREY
        )

    def in_photo(self, face: Face, px: int) -> Face:
        """A face that was found in it, seen at px by px, where it is in the photo."""
        across, down = (self.quad[3] - self.quad[0]) / px, (self.quad[1] - self.quad[0]) / px

        def place(points: Floats) -> Floats:
            placed: Floats = self.quad[0] + points[:, :1] * across + points[:, 1:] * down
            return placed

        left, top, right, bottom = face.box
        (centre,) = place(np.array([[left + right, top + bottom]]) / 2)
        size = np.array([right - left, bottom - top]) * np.hypot(*across)
        if abs(across[1]) > abs(across[0]):  # lies on its side
            size = size[::-1]
        (x0, y0), (x1, y1) = (centre - size / 2).tolist(), (centre + size / 2).tolist()
        return Face(box=(x0, y0, x1, y1), landmarks=place(face.landmarks), score=face.score)


def region_around(box: tuple[float, float, float, float], degrees: float) -> Region:
    """The square around a face's box that shows a face upright whose roll is so many degrees, clockwise."""
    left, top, right, bottom = box
    centre = np.array([left + right, top + bottom]) / 2
    half = AROUND / 2 * max(right - left, bottom - top)
    angle = np.radians(degrees)
    across = half * np.array([np.cos(angle), np.sin(angle)])
    down = np.array([-across[1], across[0]])
    return Region(quad=np.stack([-across - down, -across + down, across + down, across - down]) + centre)
