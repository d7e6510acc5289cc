"""Pictures in groups: by people's ratings of them, and by how far the face is turned. No network here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inversion_core.errors import OptionInvalid
from inversion_core.faces.frame import Floats
from inversion_core.faces.pose import nose_aside
from inversion_core.training.rating_table import Table

THIRDS = ("low", "middle", "high")
LEAST_PICTURES = 6
EYES_BY_NOSE = 1.7
"""Distance of the pupils by how far the tip of the nose stands out before them: about 63 by 37 mm in adults."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A third of the pictures, by one rating."""

    by: str
    third: str
    """One of THIRDS."""
    members: tuple[int, ...]
    """Indices of its pictures."""
    lowest: float
    """Least rating in it."""
    highest: float


def _number(name: str) -> int | None:
    """The number in a name such as images/0017.jpg; None where the stem is no number."""
    stem = Path(name).stem
    return int(stem) if stem.isascii() and stem.isdigit() else None


def pick(names: Sequence[str], table: Table, folder: str) -> dict[int, dict[str, float]]:
    """Index -> ratings of the pictures of `folder` that have some.

    Raises:
        OptionInvalid: too few for thirds.
    """
    numbers = {i: _number(name) for i, name in enumerate(names) if Path(name).parent.name == folder}
    picked = {i: table[key] for i, key in numbers.items() if key is not None and key in table}
    if len(picked) < LEAST_PICTURES:
        raise OptionInvalid(
            f"only {len(picked)} of the {len(names)} held-out pictures lie in a folder {folder!r} and have ratings; "
            f"at least {LEAST_PICTURES} are needed. Hold out as many as in training, or name the right folder"
        )
    return picked


def yaw_deg(landmarks: Floats) -> float:
    """Roughly how far a face is turned, from five landmarks (5, 2): above 0 towards the picture's right.

    Of a head turned by t the eyes lie E cos t apart, and the tip of the nose, P before them, moves P sin t aside.
    """
    return math.degrees(math.atan(EYES_BY_NOSE * nose_aside(landmarks)))


def thirds(by: str, ratings: Sequence[float]) -> list[Group]:
    """The pictures in three groups of nearly one size, by rating; those without one are in none."""
    column = np.asarray(ratings, dtype=np.float64)
    order = np.argsort(column, kind="stable")[: int(np.isfinite(column).sum())]  # NaN sorts last
    if len(order) < len(THIRDS):
        return []
    return [
        Group(
            by=by,
            third=third,
            members=tuple(int(i) for i in sorted(part)),
            lowest=float(column[part[0]]),
            highest=float(column[part[-1]]),
        )
        for third, part in zip(THIRDS, np.array_split(order, len(THIRDS)), strict=True)
    ]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rho over the pairs without NaN, ties at their mean rank; None where one of the two is constant."""
    pairs = np.array([(x, y) for x, y in zip(a, b, strict=True) if not (math.isnan(x) or math.isnan(y))])
    if len(pairs) < 2 or (pairs.min(axis=0) == pairs.max(axis=0)).any():
        return None
    return float(np.corrcoef(_ranks(pairs[:, 0]), _ranks(pairs[:, 1]))[0, 1])


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[inverse]
    return ranks
