"""The measures of pictures: what they must give for any pictures, known values, and slow implementations beside them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inversion_core.benchmark import metrics
from inversion_core.pictures import to_image

pytestmark = pytest.mark.unit

SYMMETRIC = [metrics.mse, metrics.psnr_db, metrics.psnr_signed_db, metrics.ssim]
seeds = st.integers(0, 2**31)


def noise(seed: int, count: int = 2, px: int = 16, spread: float = 0.5) -> Tensor:
    """Pictures of random pixels, some of them beyond [-1, 1]."""
    return spread * torch.randn(count, 3, px, px, generator=torch.Generator().manual_seed(seed))


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_a_picture_is_equal_to_itself(seed: int) -> None:
    picture = noise(seed)
    assert metrics.mse(picture, picture).tolist() == [0, 0]
    assert metrics.psnr_db(picture, picture).tolist() == [math.inf] * 2
    assert metrics.psnr_signed_db(picture, picture).tolist() == [math.inf] * 2
    assert metrics.ssim(picture, picture).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("metric", SYMMETRIC)
@given(seeds)
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_two_does_not_count_and_neighbours_do_not(metric: object, seed: int) -> None:
    assert callable(metric)
    a, b = noise(seed, 3), noise(seed + 1, 3)
    both = metric(a, b)
    assert both.shape == (3,)
    assert both.tolist() == pytest.approx(metric(b, a).tolist())
    assert both[1:2].tolist() == pytest.approx(metric(a[1:2], b[1:2]).tolist())


@given(seeds, st.floats(0.05, 0.4), st.floats(1.3, 3))
@settings(max_examples=20, deadline=None)
def test_more_noise_is_worse(seed: int, little: float, factor: float) -> None:
    picture = noise(seed, 1, 24, 0.3)
    near, far = (picture + amount * noise(seed + 1, 1, 24, 1.0) for amount in (little, little * factor))
    assert metrics.mse(near, picture) < metrics.mse(far, picture)
    for metric in SYMMETRIC[1:]:
        assert metric(near, picture) > metric(far, picture)
    assert -1 <= metrics.ssim(far, picture).item() < 1


def test_known_values() -> None:
    grey = torch.zeros(1, 3, 16, 16)
    assert metrics.mse(grey + 0.2, grey).item() == pytest.approx(0.04)
    assert metrics.psnr_signed_db(grey + 0.2, grey).item() == pytest.approx(20), "10 log10(4 / 0.04)"
    black, white = grey - 1, grey + 1
    assert metrics.psnr_db(black, white).item() == pytest.approx(0), "as far as can be"
    one_level = black + 2 / 255
    assert metrics.psnr_db(one_level, black).item() == pytest.approx(48.1308, abs=1e-4), "20 log10(255)"
    # Flat pictures: only the luminance term is left, with C1 = 2.55^2.
    assert metrics.ssim(black, white).item() == pytest.approx(6.5025 / (255**2 + 6.5025))


def test_8_bit_measures_see_what_a_file_holds() -> None:
    picture = noise(3, 1) * 3
    stored = np.asarray(to_image(picture))
    assert (metrics.levels(picture)[0].permute(1, 2, 0).numpy() == stored).all()
    almost = picture.clamp(-1, 1) + 1e-6
    assert metrics.psnr_db(almost, picture).item() == math.inf, "clipped and rounded away"
    assert metrics.psnr_signed_db(almost, picture).item() < math.inf
    assert metrics.levels(torch.full((1, 3, 1, 1), torch.nan)).unique().tolist() == [128]


def slow_ssim(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Wang 2004, eq. 6 to 8 and 13 to 15, window by window, with the weighted sums written out."""
    grid = np.arange(-5, 6)
    weight = np.exp(-(grid[:, None] ** 2 + grid[None, :] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
            var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
            cov = (weight * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            values.append(luminance * (2 * cov + c2) / (var_a + var_b + c2))
    return float(np.mean(values))


def luma(picture_1CHW: Tensor) -> npt.NDArray[np.float64]:
    rgb = np.asarray(to_image(picture_1CHW), dtype=np.float64)
    return rgb[..., 0] * 0.299 + rgb[..., 1] * 0.587 + rgb[..., 2] * 0.114


@pytest.mark.parametrize("seed", [0, 1])
def test_ssim_against_windows_one_by_one(seed: int) -> None:
    a = noise(seed, 1, 17)[..., :14]
    b = 0.7 * a + 0.3 * noise(seed + 9, 1, 17)[..., :14]
    assert metrics.ssim(a, b).item() == pytest.approx(slow_ssim(luma(a), luma(b)), abs=1e-9)


def test_psnr_against_numpy() -> None:
    a, b = noise(5, 1), noise(6, 1)
    difference = np.asarray(to_image(a), dtype=float) - np.asarray(to_image(b), dtype=float)
    assert metrics.psnr_db(a, b).item() == pytest.approx(20 * np.log10(255 / np.sqrt((difference**2).mean())))


def test_cosine() -> None:
    a_BD = torch.tensor([[1.0, 0], [1, 0], [2, 0], [3, 4]])
    b_BD = torch.tensor([[0.0, 5], [-1, 0], [7, 0], [4, 3]])
    assert metrics.cosine(a_BD, b_BD).tolist() == pytest.approx([0, -1, 1, 0.96])


@pytest.mark.parametrize("metric", SYMMETRIC)
@pytest.mark.parametrize("shapes", [((1, 3, 16, 16), (2, 3, 16, 16)), ((1, 1, 16, 16),) * 2, ((3, 16, 16),) * 2])
def test_wrong_shapes_are_refused(metric: object, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match="pictures have shapes"):
        metric(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


def test_ssim_of_a_tiny_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="11 px"):
        metrics.ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))
