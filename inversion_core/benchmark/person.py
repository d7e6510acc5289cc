"""How much of an edit's change lies in the background.

Suffixes: H W height and width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inversion_core.faces.person import person_in

SURE = 0.5
"""More of a pixel than this is the person's: then it is."""


def person_mask(image: Image.Image) -> NDArray[np.bool_]:
    """(H, W), true where an aligned picture shows the person: face, hair and clothes."""
    return np.asarray(person_in(np.asarray(image.convert("RGB"), np.float32)) > SURE)


def changed_background(before: Image.Image, after: Image.Image) -> float:
    """Share of the change that lies where neither picture has the person; NaN where nothing changed."""
    change_HW = np.abs(np.asarray(after, np.float64) - np.asarray(before, np.float64)).sum(axis=2)
    total = change_HW.sum()
    if not total:
        return float("nan")
    outside_HW = ~(person_mask(before) | person_mask(after))
    return float(change_HW[outside_HW].sum() / total)
