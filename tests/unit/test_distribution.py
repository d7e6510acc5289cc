"""KID and FID against their definitions, written out slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inversion_core.benchmark.distribution import fid, kid


def features(count: int, shift: float = 0.0, seed: int = 0, width: int = 8) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).abs() + shift


def slow_kid(a: Tensor, b: Tensor) -> float:
    def kernel(x: Tensor, y: Tensor) -> float:
        return float((x.double() @ y.double() / len(x) + 1) ** 3)

    within = [
        sum(kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / (len(x) * (len(x) - 1))
        for x in (a, b)
    ]
    between = sum(kernel(x, y) for x in a for y in b) / (len(a) * len(b))
    return within[0] + within[1] - 2 * between


def test_kid_is_the_unbiased_estimate_over_all_pairs() -> None:
    a, b = features(13), features(9, 0.3, seed=1)
    assert kid(a, b, blocks=3).value == pytest.approx(slow_kid(a, b), rel=1e-6)


def test_kid_is_about_0_for_one_distribution_and_its_error_is_honest() -> None:
    estimates = [kid(features(60, seed=2 * k), features(80, seed=2 * k + 1)) for k in range(60)]
    values = torch.tensor([estimate.value for estimate in estimates])
    errors = torch.tensor([estimate.error for estimate in estimates])
    assert values.mean().abs() < 3 * values.std() / 60**0.5  # unbiased: not always above 0
    assert (values < 0).any()
    assert 0.5 < errors.mean() / values.std() < 2.0


def test_kid_sees_a_shift() -> None:
    near, far = (kid(features(100), features(100, shift, seed=1)) for shift in (0.1, 0.5))
    assert far.value > near.value > 0
    assert far.value > 4 * far.error


def test_fid_of_known_gaussians() -> None:
    """Of one set, its double is |m|^2 + tr C away: the root of the product is 2 C."""
    a = features(200)
    centred = (a - a.mean(dim=0)).double()
    trace = float((centred.T @ centred).trace() / 199)
    assert fid(a, a) == pytest.approx(0, abs=1e-9)
    assert fid(a, 2 * a) == pytest.approx(float(a.double().mean(dim=0).square().sum()) + trace, rel=1e-6)
    assert fid(a, a + 3) == pytest.approx(9 * 8, rel=1e-6)


def test_fid_bears_fewer_pictures_than_features() -> None:
    a, b = features(5, width=64), features(7, 0.2, seed=1, width=64)
    assert 0 < fid(a, b) < 1000
    assert fid(a, b) == pytest.approx(fid(b, a), rel=1e-6)


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        kid(features(3), features(50))
    with pytest.raises(ValueError, match="at least 2"):
        fid(features(1), features(50))
