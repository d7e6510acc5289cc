"""What a quad must be to be a crop: plain geometry, the same for whoever takes one in and for whoever cuts it out.

A quad is four corners in the photo: top left, bottom left, bottom right, top right. y points down.
"""

from __future__ import annotations

import math

from inversion_worker.contract.faces import QUAD_TEXT, Point, Quad

MIN_SIDE = 8.0
"""Shortest side of a quad, px."""
MAX_ASPECT = 4.0
"""Its longest side, in shortest ones."""
MIN_SINE = 0.25
"""Sine of each of its angles: they lie between 15 and 165 degrees."""
MAX_COORDINATE = 1e6
"""Farthest that a corner may lie from the photo's corner, px."""


def quad_fault(quad: Quad) -> str | None:
    """Why it can be no crop of any photo, in words; None for one that can."""
    if not all(math.isfinite(part) and abs(part) <= MAX_COORDINATE for corner in quad for part in corner):
        return f"every coordinate must be a number between -{MAX_COORDINATE:g} and {MAX_COORDINATE:g}"
    sides = [_minus(quad[(index + 1) % 4], quad[index]) for index in range(4)]
    lengths = [math.hypot(*side) for side in sides]
    if min(lengths) < MIN_SIDE:
        return f"its shortest side has {min(lengths):.1f} px, the least is {MIN_SIDE:g}"
    turns = [_cross(sides[index - 1], sides[index]) / (lengths[index - 1] * lengths[index]) for index in range(4)]
    if all(turn > 0 for turn in turns):
        return f"its corners go the wrong way round, so the face would be mirrored; send {QUAD_TEXT}"
    if not all(turn < 0 for turn in turns):
        return f"it is not convex, or its corners are not in the order {QUAD_TEXT}"
    if max(lengths) > MAX_ASPECT * min(lengths) or max(turns) > -MIN_SINE:
        return "it is too far from a square: the longest side may be four times the shortest, angles 15 to 165 degrees"
    return None


def share_inside(quad: Quad, width: float, height: float) -> float:
    """How much of a convex quad lies within a photo of this size, 0 to 1."""
    whole = _area(list(quad))
    polygon = list(quad)
    for axis, edge, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
        polygon = _clipped(polygon, axis, edge, sign)
    return _area(polygon) / whole if whole else 0.0


def _clipped(polygon: list[Point], axis: int, edge: float, sign: int) -> list[Point]:
    """What lies on one side of a straight line (Sutherland and Hodgman 1974)."""
    found: list[Point] = []
    for index, point in enumerate(polygon):
        before = polygon[index - 1]
        depth, depth_before = sign * (point[axis] - edge), sign * (before[axis] - edge)
        if (depth >= 0) != (depth_before >= 0):
            share = depth_before / (depth_before - depth)
            step = _minus(point, before)
            found.append((before[0] + share * step[0], before[1] + share * step[1]))
        if depth >= 0:
            found.append(point)
    return found


def _area(polygon: list[Point]) -> float:
    return abs(sum(_cross(polygon[index - 1], point) for index, point in enumerate(polygon))) / 2


def _minus(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1]


def _cross(a: Point, b: Point) -> float:
    return a[0] * b[1] - a[1] * b[0]
