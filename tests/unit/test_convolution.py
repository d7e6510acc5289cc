"""Winograd's convolutions are the usual ones, forwards and backwards, and only where they are asked for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.models import convolution
from inversion_core.models.convolution import conv3x3, fast_convolutions, is_fast, turned

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def fast_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU where it pays, whatever this one is."""
    if not torch.backends.nnpack.is_available():
        pytest.skip("this torch has no NNPACK")
    monkeypatch.setattr(convolution, "winograd_pays", lambda: True)


def parts(
    batch: int = 2, channels: tuple[int, int] = (48, 56), side: tuple[int, int] = (33, 40)
) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels[0], *side, generator=draw)
    return x, torch.randn(channels[1], channels[0], 3, 3, generator=draw) / 20, torch.randn(channels[1], generator=draw)


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).detach().abs().max() / expected.detach().abs().max()) < 1e-4


@pytest.mark.parametrize("has_bias", [True, False])
def test_it_is_the_same_convolution_with_the_same_gradient(has_bias: bool) -> None:
    x, weight, bias = parts()
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


def test_neighbours_do_not_even_change_the_rounding() -> None:
    x, weight, bias = parts(batch=3)
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
        assert not is_fast(x[:, :3], weight[:, :3], bias), "few channels"
        with torch.autocast("cpu", torch.bfloat16):
            assert not is_fast(x, weight, bias)
    assert not is_fast(x, weight, bias), "no more"


def test_a_kernel_is_turned_once_and_again_after_a_change() -> None:
    _, weight, _ = parts()
    first = turned(weight)
    assert turned(weight) is first
    weight.mul_(2)
    torch.testing.assert_close(turned(weight), 2 * first)
