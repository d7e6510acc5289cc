"""Crops by any convex quad: where its corners come to lie, and the way back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inversion_core.faces import align, crop_mask, paste_back
from inversion_core.faces.mapping import from_quad, side, to_quad

pytestmark = pytest.mark.unit

Floats = npt.NDArray[np.float64]
SQUARE = np.array([(20.0, 10.0), (20.0, 70.0), (80.0, 70.0), (80.0, 10.0)])
TRAPEZIUM = np.array([(30.0, 20.0), (10.0, 90.0), (100.0, 80.0), (70.0, 20.0)])
UNIT = np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)])
"""Corners of the square, in the order of a quad's."""


def through(place: tuple[float, ...], points: Floats) -> Floats:
    """Points (N, 2) through a map as Pillow takes it."""
    a, b, c, d, e, f, g, h = (*place, 0.0, 0.0)[:8]
    u, v = points.T
    found: Floats = np.stack([a * u + b * v + c, d * u + e * v + f], axis=1) / (g * u + h * v + 1)[:, None]
    return found


def gradient(size: tuple[int, int]) -> Image.Image:
    """Red rises to the right and green downwards: a pixel says where it was."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=-1).round().astype(np.uint8))


@pytest.mark.parametrize("quad", [SQUARE, TRAPEZIUM])
def test_a_quads_corners_become_the_squares(quad: Floats) -> None:
    np.testing.assert_allclose(through(from_quad(quad, 64), 64 * UNIT), quad, atol=1e-9)
    np.testing.assert_allclose(through(to_quad(quad, 64), quad), 64 * UNIT, atol=1e-9)


@given(st.lists(st.floats(-14, 14), min_size=8, max_size=8))
def test_so_do_those_of_any_convex_quad(shifts: list[float]) -> None:
    quad = SQUARE + np.array(shifts).reshape(4, 2)
    np.testing.assert_allclose(through(from_quad(quad, 64), 64 * UNIT), quad, atol=1e-3)
    np.testing.assert_allclose(through(to_quad(quad, 64), quad), 64 * UNIT, atol=1e-3)


def test_squares_stay_affine_and_their_side_is_their_own() -> None:
    assert len(from_quad(SQUARE, 64)) == len(to_quad(SQUARE, 64)) == 6
    assert len(from_quad(TRAPEZIUM, 64)) == len(to_quad(TRAPEZIUM, 64)) == 8
    assert side(SQUARE) == 60
    assert side(TRAPEZIUM) == pytest.approx(np.hypot(90, 10))


def test_the_crop_shows_what_lies_under_the_quad() -> None:
    crop = np.asarray(align(gradient((120, 100)), TRAPEZIUM, 40).image, dtype=np.float64)
    u, v = np.meshgrid(np.arange(2, 38) + 0.5, np.arange(2, 38) + 0.5)
    wanted = through(from_quad(TRAPEZIUM, 40), np.stack([u.ravel(), v.ravel()], axis=1))
    seen = crop[2:38, 2:38, :2].reshape(-1, 2)
    assert np.abs(seen - wanted).max() < 1.5


def test_a_mask_is_cut_out_likewise() -> None:
    mask = Image.new("L", (120, 100), 0)
    mask.paste(255, (0, 0, 120, 40))
    cut = np.asarray(crop_mask(mask, TRAPEZIUM, 40))
    assert cut[:5, 5:35].min() == 255
    assert cut[-5:].max() == 0


def test_pasted_back_it_is_where_it_was() -> None:
    photo = gradient((120, 100))
    there_and_back = paste_back(photo, align(photo, TRAPEZIUM, 128).image, TRAPEZIUM)
    assert np.abs(np.asarray(there_and_back, float) - np.asarray(photo, float)).max() < 4  # steps of two, from rounding
    lime = paste_back(photo, Image.new("RGB", (64, 64), "lime"), TRAPEZIUM)
    assert lime.getpixel((55, 50)) == (0, 255, 0)
    assert lime.getpixel((12, 20)) == photo.getpixel((12, 20))  # within its box, and beside it
