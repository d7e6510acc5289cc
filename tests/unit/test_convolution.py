"""Winograd's convolutions are the usual ones, forwards and backwards, and only where they are asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.models import convolution
from inversion_core.models.convolution import as_products, conv3x3, fast_convolutions, is_fast, turned
from inversion_core.models.winograd import convolve, convolve_back, form_of

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def fast_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU where it pays, whatever this one is."""
    if not torch.backends.nnpack.is_available():
        pytest.skip("this torch has no NNPACK")
    monkeypatch.setattr(convolution, "winograd_pays", lambda **_: True)
    monkeypatch.setattr(convolution, "products_pay", lambda: True)


def parts(
    batch: int = 2, channels: tuple[int, int] = (48, 56), side: tuple[int, int] = (33, 40)
) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels[0], *side, generator=draw)
    return x, torch.randn(channels[1], channels[0], 3, 3, generator=draw) / 20, torch.randn(channels[1], generator=draw)


def wide(side: tuple[int, int], batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    return parts(batch, (360, 362), side)


def wide_parts(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """For the form of our own."""
    return wide((16, 20), batch)


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).detach().abs().max() / expected.detach().abs().max()) < 1e-4


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("make", [parts, wide_parts])
def test_it_is_the_same_convolution_with_the_same_gradient(
    make: Callable[[], tuple[Tensor, Tensor, Tensor]], has_bias: bool
) -> None:
    x, weight, bias = make()
    assert as_products(x, weight) is (make is wide_parts)
    bias_or_none = bias if has_bias else None
    plain, fast = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = F.conv2d(plain, weight, bias_or_none, padding=1)
    with fast_convolutions():
        assert is_fast(fast, weight, bias_or_none)
        found = conv3x3(fast, weight, bias_or_none)
        found.square().sum().backward()
    expected.square().sum().backward()
    assert close(found, expected)
    assert not torch.equal(found, expected), "another algorithm rounds otherwise"
    assert close(fast.grad, plain.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [parts, wide_parts])
def test_neighbours_do_not_even_change_the_rounding(make: Callable[[int], tuple[Tensor, Tensor, Tensor]]) -> None:
    x, weight, bias = make(3)
    with fast_convolutions():
        assert torch.equal(conv3x3(x, weight, bias)[1:2], conv3x3(x[1:2], weight, bias))


def test_it_is_the_usual_one_wherever_it_does_not_serve() -> None:
    x, weight, bias = parts()
    assert not is_fast(x, weight, bias), "nobody asked"
    assert torch.equal(conv3x3(x, weight, bias), F.conv2d(x, weight, bias, padding=1))
    with fast_convolutions():
        assert is_fast(x, weight, bias)
        assert not is_fast(x, weight.clone().requires_grad_(), bias), "training"
        assert not is_fast(x, weight, bias.clone().requires_grad_()), "training"
        assert not is_fast(x.double(), weight.double(), bias.double())
        assert not is_fast(x[..., :16, :16], weight, bias), "small"
        assert not is_fast(*wide((12, 16))), "small for any"
        assert not is_fast(*wide((16, 18))), "no whole number of tiles, and too small for the other form"
        assert not is_fast(x[:, :3], weight[:, :3], bias), "few channels"
        with torch.autocast("cpu", torch.bfloat16):
            assert not is_fast(x, weight, bias)
    assert not is_fast(x, weight, bias), "no more"


def test_the_transpose_is_one_to_rounding() -> None:
    """<conv x, y> = <x, back y>, for any x and y."""
    x, weight, _ = wide_parts(1)
    y = torch.randn(362, 16, 20, generator=torch.Generator().manual_seed(1))
    there = (convolve(x[0], weight).double() * y).sum()
    back = (x[0].double() * convolve_back(y, weight)).sum()
    torch.testing.assert_close(there, back, rtol=1e-4, atol=1e-2)


def test_a_form_is_made_once_and_again_after_a_change() -> None:
    _, weight, _ = wide_parts()
    first = form_of(weight)
    assert form_of(weight) is first
    weight.mul_(2)
    torch.testing.assert_close(form_of(weight), 2 * first)


def test_a_kernel_is_turned_once_and_again_after_a_change() -> None:
    _, weight, _ = parts()
    first = turned(weight)
    assert turned(weight) is first
    weight.mul_(2)
    torch.testing.assert_close(turned(weight), 2 * first)
