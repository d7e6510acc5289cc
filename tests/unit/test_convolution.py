"""Every way of a convolution is the usual one, forwards and backwards, and taken only where it is asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.models import GeneratorConfig, StyleGANGenerator, convolution, winograd
from inversion_core.models import serving as served
from inversion_core.models.convolution import (
    UP,
    Alike,
    How,
    Kept,
    Nnpack,
    Product,
    Products,
    ProductsUp,
    conv1x1,
    conv3x3,
    convolve,
    products_pay,
    turned,
    upsample,
    upsampling_pays,
    way_of,
)
from inversion_core.models.serving import serving

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def fast_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU where it pays, whatever this one is."""
    if not torch.backends.nnpack.is_available():
        pytest.skip("this torch has no NNPACK")
    monkeypatch.setattr(convolution, "winograd_pays", lambda **_: True)
    monkeypatch.setattr(convolution, "products_pay", lambda: True)
    monkeypatch.setattr(convolution, "upsampling_pays", lambda: True)


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


def way3x3(x_BCHW: Tensor, weight: Tensor, bias_O: Tensor | None = None) -> type | None:
    return kind_of(x_BCHW, weight, bias_O, How(padding=1))


def way_up(x_BCHW: Tensor, kernel: Tensor) -> type | None:
    return kind_of(x_BCHW, kernel, None, UP)


def kind_of(x_BCHW: Tensor, weight: Tensor, bias_O: Tensor | None, how: How) -> type | None:
    way = way_of(x_BCHW, weight, bias_O, how)
    return None if way is None else type(way)


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).detach().abs().max() / expected.detach().abs().max()) < 1e-4


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("make", [parts, wide_parts])
def test_it_is_the_same_convolution_with_the_same_gradient(
    make: Callable[[], tuple[Tensor, Tensor, Tensor]], has_bias: bool
) -> None:
    x, weight, bias = make()
    bias_or_none = bias if has_bias else None
    plain, fast = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = F.conv2d(plain, weight, bias_or_none, padding=1)
    with serving():
        assert way3x3(fast, weight, bias_or_none) is (Products if make is wide_parts else Nnpack)
        found = conv3x3(fast, weight, bias_or_none)
        found.square().sum().backward()
    expected.square().sum().backward()
    assert close(found, expected)
    assert not torch.equal(found, expected), "another algorithm rounds otherwise"
    assert close(fast.grad, plain.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [parts, wide_parts])
def test_neighbours_do_not_even_change_the_rounding(make: Callable[[int], tuple[Tensor, Tensor, Tensor]]) -> None:
    x, weight, bias = make(3)
    with serving():
        assert torch.equal(conv3x3(x, weight, bias)[1:2], conv3x3(x[1:2], weight, bias))


def test_it_is_the_usual_one_wherever_it_does_not_serve() -> None:
    x, weight, bias = parts(1)
    assert way3x3(x, weight, bias) is None, "nobody asked"
    assert torch.equal(conv3x3(x, weight, bias), F.conv2d(x, weight, bias, padding=1))
    with serving():
        assert way3x3(x, weight, bias) is Nnpack
        assert way3x3(x, weight.clone().requires_grad_(), bias) is None, "training"
        assert way3x3(x, weight, bias.clone().requires_grad_()) is None, "training"
        assert way3x3(x.double(), weight.double(), bias.double()) is None
        assert way3x3(x[..., :16, :16], weight, bias) is None, "small"
        assert way3x3(*wide((12, 16))) is None, "small for any"
        assert way3x3(*wide((16, 18))) is None, "no whole number of tiles, and too small for the other form"
        assert way3x3(x[:, :3], weight[:, :3], bias) is None, "few channels"
        with torch.autocast("cpu", torch.bfloat16):
            assert way3x3(x, weight, bias) is None
    assert way3x3(x, weight, bias) is None, "no more"


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("sides", [(16, 16), (16, 20), (20, 24)])
def test_up_sampling_is_the_same_with_the_same_gradient(batch: int, sides: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(0)
    x, kernel = torch.randn(batch, 180, *sides, generator=draw), torch.randn(180, 182, 4, 4, generator=draw) / 30
    plain, fast = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = F.conv_transpose2d(plain, kernel, stride=2, padding=1)
    with serving():
        assert way_up(fast, kernel) is ProductsUp
        found = upsample(fast, kernel)
        found.square().sum().backward()
        assert torch.equal(upsample(x[-1:], kernel)[0], found[-1]), "neighbours do not even change the rounding"
    expected.square().sum().backward()
    assert close(found, expected)
    assert not torch.equal(found, expected), "another algorithm rounds otherwise"
    assert close(fast.grad, plain.grad)  # type: ignore[arg-type]


def test_up_sampling_is_the_usual_one_wherever_it_does_not_serve() -> None:
    x, kernel = torch.randn(1, 180, 16, 16), torch.randn(180, 180, 4, 4)
    assert way_up(x, kernel) is None, "nobody asked"
    with serving():
        assert way_up(x, kernel) is ProductsUp
        assert way_up(x, kernel.clone().requires_grad_()) is None, "training"
        assert way_up(x.bfloat16(), kernel.bfloat16()) is None
        assert way_up(x[..., :12, :12], kernel) is None, "small"
        assert way_up(torch.randn(1, 180, 18, 18), kernel) is None, "no whole number of tiles"
        assert way_up(x[:, :90], kernel[:90]) is None, "few channels"
        plain = F.conv_transpose2d(x[:, :90], kernel[:90], stride=2, padding=1)
        assert torch.equal(upsample(x[:, :90], kernel[:90]), plain)


def small_parts(batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    weight, kernel = torch.randn(136, 128, 3, 3, generator=draw) / 30, torch.randn(128, 136, 4, 4, generator=draw) / 30
    return torch.randn(batch, 128, 8, 6, generator=draw), weight, torch.randn(136, generator=draw), kernel


Call = Callable[[Tensor], Tensor]


def assert_same_map(ours: Call, torchs: Call, x: Tensor) -> Tensor:
    """Forwards and backwards; returns what ours makes."""
    plain, fast = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = torchs(plain)
    with serving():
        found = ours(fast)
        found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.grad, plain.grad, rtol=1e-4, atol=1e-4)
    return found


@pytest.mark.parametrize("batch", [1, 3])
def test_a_kept_kernel_convolves_as_ever(batch: int) -> None:
    x, weight, bias, kernel = small_parts(batch)
    halving = torch.randn(136, 128, 4, 4, generator=torch.Generator().manual_seed(1)) / 40
    calls: list[tuple[Call, Call]] = [
        (lambda x: conv3x3(x, weight, bias), lambda x: F.conv2d(x, weight, bias, padding=1)),
        (lambda x: conv3x3(x, weight), lambda x: F.conv2d(x, weight, padding=1)),
        (lambda x: upsample(x, kernel), lambda x: F.conv_transpose2d(x, kernel, stride=2, padding=1)),
        (
            lambda x: convolve(x, halving, bias, stride=2, padding=1),
            lambda x: F.conv2d(x, halving, bias, stride=2, padding=1),
        ),
    ]
    for ours, torchs in calls:
        assert assert_same_map(ours, torchs, x).is_contiguous()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_one_pixel_at_a_time_is_a_product(batch: int, layout: torch.memory_format) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 12, 9, 7, generator=draw).to(memory_format=layout)
    weight, bias = torch.randn(5, 12, 1, 1, generator=draw) / 3, torch.randn(5, generator=draw)
    assert_same_map(lambda x: convolve(x, weight, bias), lambda x: F.conv2d(x, weight, bias), x)
    assert_same_map(lambda x: convolve(x, weight), lambda x: F.conv2d(x, weight), x)
    assert_same_map(lambda x: conv1x1(x, weight, bias), lambda x: F.conv2d(x, weight, bias), x)
    torch.testing.assert_close(conv1x1(x, weight, bias), F.conv2d(x, weight, bias), rtol=1e-4, atol=1e-5)
    with serving():
        assert kind_of(x, weight, bias, How()) is Product
        assert kind_of(x, weight, bias, How(stride=2)) is not Product


@pytest.mark.parametrize("batch", [2, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("is_alike", [True, False])
def test_the_usual_one_is_itself_whole_or_image_by_image(
    batch: int, layout: torch.memory_format, is_alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "_tried", lambda *_: is_alike)
    monkeypatch.setattr(served, "_is_alike", {})
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 12, 10, 6, generator=draw).to(memory_format=layout)
    weight, bias = torch.randn(8, 12, 3, 3, generator=draw) / 10, torch.randn(8, generator=draw)
    grouped, kernel = torch.randn(8, 3, 3, 3, generator=draw) / 5, torch.randn(12, 8, 4, 4, generator=draw) / 14
    with serving():
        assert kind_of(x, weight, bias, How(padding=1)) is Alike
        assert kind_of(x[:1], weight, bias, How(padding=1)) is None, "one is torch's own affair"
    calls: list[tuple[Call, Call]] = [
        (lambda x: conv3x3(x, weight, bias), lambda x: F.conv2d(x, weight, bias, padding=1)),
        (
            lambda x: convolve(x, grouped, stride=2, padding=1, groups=4),
            lambda x: F.conv2d(x, grouped, None, 2, 1, groups=4),
        ),
        (lambda x: upsample(x, kernel), lambda x: F.conv_transpose2d(x, kernel, stride=2, padding=1)),
    ]
    for ours, torchs in calls:
        assert_same_map(ours, torchs, x)


def test_a_kernel_is_kept_for_small_frozen_ones_alone() -> None:
    x, weight, bias, kernel = small_parts(1)
    assert way3x3(x, weight) is None, "nobody asked"
    with serving():
        assert way3x3(x, weight, bias) is Kept
        assert way_up(x, kernel) is Kept
        assert way3x3(x, weight.clone().requires_grad_()) is None
        assert way3x3(x, weight, bias.clone().requires_grad_()) is None
        assert way3x3(x.bfloat16(), weight.bfloat16()) is None
        assert way3x3(torch.randn(1, 128, 9, 8), weight) is None, "large"
        assert way3x3(x[:, :64], weight[:, :64]) is None, "few channels"
        halves = torch.randn(1, 128, 16, 16), torch.randn(136, 128, 4, 4), None
        assert kind_of(*halves, How(stride=2, padding=1)) is Kept, "8 px afterwards"
        assert way_up(torch.randn(1, 128, 16, 16), kernel) is None, "16 px before"


def test_a_kept_kernel_follows_a_change() -> None:
    x, weight, _, kernel = small_parts(1)
    with serving():
        conv3x3(x, weight)
        upsample(x, kernel)
        weight.mul_(2)
        kernel.mul_(2)
        torch.testing.assert_close(conv3x3(x, weight), F.conv2d(x, weight, padding=1), rtol=1e-4, atol=1e-4)
        plain = F.conv_transpose2d(x, kernel, stride=2, padding=1)
        torch.testing.assert_close(upsample(x, kernel), plain, rtol=1e-4, atol=1e-4)


def test_a_torch_without_the_products_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not products_pay.__wrapped__()
    assert not upsampling_pays.__wrapped__()
    x, weight, _, _ = small_parts(1)
    with serving():
        assert way3x3(x, weight) is None


@pytest.mark.parametrize("is_up", [False, True])
def test_the_transpose_is_one_to_rounding(is_up: bool) -> None:
    """<A x, y> = <x, A' y>, for any x and y."""
    draw = torch.Generator().manual_seed(1)
    there, back = (winograd.upsample, winograd.upsample_back) if is_up else (winograd.convolve, winograd.convolve_back)
    weight = torch.randn(*((24, 36, 4, 4) if is_up else (36, 24, 3, 3)), generator=draw)
    x = torch.randn(1, 24, 16, 20, generator=draw)
    y = torch.randn(1, 36, *((32, 40) if is_up else (16, 20)), generator=draw)
    forth = (there(x, weight).double() * y).sum()
    torch.testing.assert_close(forth, (x.double() * back(y, weight)).sum(), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("side", [16, 20])
def test_a_form_is_made_once_for_a_size_and_again_after_a_change(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    plain_init = winograd._Form.__init__

    def counted(form: winograd._Form, form_GOI: Tensor, tiles: int) -> None:
        made.append(tiles)
        plain_init(form, form_GOI, tiles)

    monkeypatch.setattr(winograd._Form, "__init__", counted)
    x, weight = torch.randn(1, 8, side, 16), torch.randn(8, 8, 3, 3)
    first = winograd.convolve(x, weight)
    winograd.convolve(x, weight)
    assert made == [side]
    weight.mul_(2)
    torch.testing.assert_close(winograd.convolve(x, weight), 2 * first)
    assert made == [side, side]


def test_a_kernel_is_turned_once_and_again_after_a_change() -> None:
    _, weight, _ = parts()
    first = turned(weight)
    assert turned(weight) is first
    weight.mul_(2)
    torch.testing.assert_close(turned(weight), 2 * first)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_generator_has_the_same_gradient(batch: int) -> None:
    """All forms and their layouts together: 16 and 32 px by products, up-sampling between them, 64 px by NNPACK."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        resolution=64, channels=(32, 32, 360, 360, 96), z_dim=8, w_dim=8, mapping_layers=1, mapping_dim=8
    )
    generator = StyleGANGenerator(config)
    nn.init.normal_(generator.synthesis.get_parameter("layers.0.const"))  # of a flat one AdaIN leaves only rounding
    generator.freeze()
    w_BLD = torch.randn(batch, config.num_layers, 8)
    goal = torch.randn(batch, 3, 64, 64)

    def picture_and_gradient() -> tuple[Tensor, Tensor]:
        w = w_BLD.clone().requires_grad_()
        image = generator.synthesis(w)
        return image.detach(), torch.autograd.grad((image - goal).square().mean(), w)[0]

    image, grad = picture_and_gradient()
    with serving():
        fast_image, fast_grad = picture_and_gradient()
    assert not torch.equal(fast_image, image)
    assert close(fast_image, image)
    assert (fast_grad - grad).norm() < 2e-3 * grad.norm()
