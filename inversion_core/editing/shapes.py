"""Masks of local edits, as plain data in coordinates of the aligned picture, 0 to 1 from its upper left corner.

{"ellipse": [cx, cy, rx, ry]} | {"box": [x0, y0, x1, y1]} | {"polygon": [[x, y], ...]}

with "feather" (how soft the edge is, as a share of the side; default 0.05) and "outside": true for everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inversion_core.editing.fields import Fields, shown

FEATHER, MOST_FEATHER = 0.05, 0.5
MOST_POINTS = 256
ELLIPSE_POINTS = 128
LOW, HIGH = -1.0, 2.0
"""A shape may reach beyond the picture."""

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Mask:
    """A part of the aligned picture, with a soft edge."""

    shape: str
    """One of SHAPES."""
    numbers: tuple[float, ...]
    """What the shape is made of, flat."""
    feather: float = FEATHER
    """Half of the width of the edge, as a share of the picture's side."""
    outside: bool = False
    """Everything but the shape."""

    @property
    def corners(self) -> tuple[Point, ...]:
        """The shape's outline."""
        return SHAPES[self.shape].corners(self.numbers)

    def to_json(self) -> dict[str, Any]:
        written = SHAPES[self.shape].to_json(self.numbers)
        feather = {"feather": self.feather} if self.feather != FEATHER else {}
        return {self.shape: written} | feather | ({"outside": True} if self.outside else {})


@dataclass(frozen=True)
class Shape:
    """How one kind of shape is read, drawn and written."""

    parse: Callable[[Fields, str], tuple[float, ...]]
    corners: Callable[[tuple[float, ...]], tuple[Point, ...]]
    to_json: Callable[[tuple[float, ...]], list[Any]]


def parse_mask(where: str, data: object) -> Mask:
    """Check a mask; `where` is named in messages.

    Raises:
        OptionInvalid: it is not one.
    """
    fields = Fields(where, data)
    kind = fields.one_of(tuple(SHAPES))
    numbers = SHAPES[kind].parse(fields, kind)
    feather = fields.number("feather", 0, MOST_FEATHER, default=FEATHER)
    outside = fields.boolean("outside", default=False)
    fields.end()
    return Mask(shape=kind, numbers=numbers, feather=feather, outside=outside)


def _parse_ellipse(fields: Fields, key: str) -> tuple[float, ...]:
    numbers = fields.numbers(key, 4, LOW, HIGH)
    if min(numbers[2:]) <= 0:
        raise fields.fault(key, f"is {shown(list(numbers))}; its radii, the last two, must be above 0")
    return numbers


def _parse_box(fields: Fields, key: str) -> tuple[float, ...]:
    numbers = x0, y0, x1, y1 = fields.numbers(key, 4, LOW, HIGH)
    if x0 >= x1 or y0 >= y1:
        raise fields.fault(key, f"is {shown(list(numbers))}; give left, top, right, bottom")
    return numbers


def _parse_polygon(fields: Fields, key: str) -> tuple[float, ...]:
    points = fields.take(key)
    if not isinstance(points, list | tuple) or not 3 <= len(points) <= MOST_POINTS:
        raise fields.fault(key, f"is {shown(points)}; give 3 to {MOST_POINTS} points [x, y]")
    flat: list[float] = []
    for index, point in enumerate(points):
        if not isinstance(point, list | tuple) or len(point) != 2:
            raise fields.fault(f"{key}[{index}]", f"is {shown(point)}; give a point [x, y]")
        flat += [fields.a_number(f"{key}[{index}]", each, LOW, HIGH) for each in point]
    return tuple(flat)


def _pairs(numbers: tuple[float, ...]) -> tuple[Point, ...]:
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _ellipse_corners(numbers: tuple[float, ...]) -> tuple[Point, ...]:
    cx, cy, rx, ry = numbers
    turns = (2 * math.pi * index / ELLIPSE_POINTS for index in range(ELLIPSE_POINTS))
    return tuple((cx + rx * math.cos(turn), cy + ry * math.sin(turn)) for turn in turns)


def _box_corners(numbers: tuple[float, ...]) -> tuple[Point, ...]:
    x0, y0, x1, y1 = numbers
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


SHAPES: Mapping[str, Shape] = {
    "ellipse": Shape(_parse_ellipse, _ellipse_corners, list),
    "box": Shape(_parse_box, _box_corners, list),
    "polygon": Shape(_parse_polygon, _pairs, lambda numbers: [list(point) for point in _pairs(numbers)]),
}
"""The kinds of shapes: a further one is an entry here."""
