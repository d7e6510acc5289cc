"""Between a square picture and a quad's place in another: affine where the quad is a parallelogram, else projective.

Heckbert 1989, section 2.2.3. Quads: see `frame`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from inversion_core.faces.frame import Floats

ROUNDING = 1e-6
"""How far from a parallelogram a quad may be to count as one, in sides."""

Map = tuple[float, ...]
"""As Pillow takes it, of 6 numbers or of 8: (a, b, c, d, e, f, g, h); the point (u, v) of the result shows
(au + bv + c, du + ev + f) / (gu + hv + 1)."""


def side(quad: Floats) -> float:
    """The longest side of a quad (4, 2)."""
    sides = np.hypot(*(np.roll(quad, -1, axis=0) - quad).T)
    top = float(sides[3])  # of a square, the same to the last digit however its sides are rounded
    return top if sides.max() <= top * (1 + ROUNDING) else float(sides.max())


def from_quad(quad: Floats, px: int) -> Map:
    """The map from a px by px square to the quad's place in the picture."""
    across, down = (quad[3] - quad[0]) / px, (quad[1] - quad[0]) / px
    if np.abs(_skew(quad)).max() <= ROUNDING * side(quad):
        return (across[0], down[0], quad[0, 0], across[1], down[1], quad[0, 1])
    return _as_map(_projection(quad, px))


def to_quad(quad: Floats, px: int) -> Map:
    """The inverse: from a place in the picture to the px by px square."""
    there = from_quad(quad, px)
    if len(there) == 8:
        return _as_map(np.linalg.inv(_projection(quad, px)).astype(np.float64))
    a, b, c, d, e, f = there
    linear = np.linalg.inv(np.array([[a, b], [d, e]]))
    offset = -linear @ np.array([c, f])
    return (linear[0, 0], linear[0, 1], offset[0], linear[1, 0], linear[1, 1], offset[1])


def through(place: Map, at_N2: Floats) -> Floats:
    """Points (..., 2) through a map."""
    a, b, c, d, e, f, g, h = (*place, 0.0, 0.0)[:8]
    u_N, v_N = at_N2[..., 0], at_N2[..., 1]
    found_N2: Floats = np.stack([a * u_N + b * v_N + c, d * u_N + e * v_N + f], axis=-1)
    return found_N2 if len(place) == 6 else found_N2 / (g * u_N + h * v_N + 1)[..., None]


def transformed(
    image: Image.Image, size: tuple[int, int], place: Map, resample: Image.Resampling = Image.Resampling.NEAREST
) -> Image.Image:
    """`image` seen through a map, in a picture of `size`; black, or zero, where it ends."""
    how = Image.Transform.AFFINE if len(place) == 6 else Image.Transform.PERSPECTIVE
    return image.transform(size, how, place, resample)


def _skew(quad: Floats) -> Floats:
    """What keeps a quad from being a parallelogram, (2,)."""
    skew: Floats = quad[0] - quad[3] + quad[2] - quad[1]
    return skew


def _projection(quad: Floats, px: int) -> Floats:
    """(3, 3): homogeneous coordinates in the square to those in the picture."""
    top_left, bottom_left, bottom_right, top_right = quad
    right, below, skew = top_right - bottom_right, bottom_left - bottom_right, _skew(quad)
    g, h = np.linalg.solve(np.stack([right, below], axis=1), skew)
    across = top_right - top_left + g * top_right
    down = bottom_left - top_left + h * bottom_left
    unit = np.array([[across[0], down[0], top_left[0]], [across[1], down[1], top_left[1]], [g, h, 1.0]])
    scaled: Floats = unit @ np.diag([1 / px, 1 / px, 1.0])
    return scaled


def _as_map(projection: Floats) -> Map:
    return tuple((projection / projection[2, 2]).flatten()[:8].tolist())
