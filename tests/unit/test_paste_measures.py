"""What a benchmark says of an edit that was put into its photo."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_face import draw_face
from PIL import Image, ImageFilter

from inversion_core.benchmark.pasting import fine_energy

pytestmark = pytest.mark.unit

QUAD = np.array([(0.0, 0.0), (0.0, 400.0), (400.0, 400.0), (400.0, 0.0)])


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 6, (400, 400, 1))
    drawn = np.asarray(draw_face((400, 400), head_px=360), dtype=np.float64)
    return Image.fromarray((drawn + noise).round().clip(0, 255).astype(np.uint8))


def test_fine_energy_is_1_where_every_pore_is_left(photo: Image.Image) -> None:
    assert fine_energy(photo, photo, QUAD) == 1
    shaded = Image.fromarray((np.asarray(photo) // 2 + 40).astype(np.uint8))
    assert fine_energy(photo, shaded, QUAD) < 0.5
    assert fine_energy(photo, photo.filter(ImageFilter.GaussianBlur(3)), QUAD) < 0.2
    flat = Image.new("RGB", photo.size, "grey")
    assert fine_energy(flat, flat, QUAD) == 1
    with pytest.raises(ValueError, match="beside"):
        fine_energy(photo, photo, QUAD + 1000)
