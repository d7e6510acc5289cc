"""The generator against definitions written out plainly."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from inversion_core.models import GeneratorConfig, StyleGANGenerator
from inversion_core.models.generators.stylegan1.network import StyleLayer, adain
from tests.published import naive_adain


def small(resolution: int, **options: object) -> StyleGANGenerator:
    count = int(math.log2(resolution)) - 1
    torch.manual_seed(resolution)
    config = GeneratorConfig(
        resolution=resolution, channels=(4,) * count, z_dim=6, w_dim=5, mapping_dim=7, mapping_layers=2, **options  # type: ignore[arg-type]
    )  # fmt: skip
    return StyleGANGenerator(config).eval()


@pytest.mark.parametrize("resolution", [8, 16, 32, 64, 128, 256, 512, 1024])
def test_every_power_of_two_makes_pictures_and_gradients(resolution: int) -> None:
    generator = small(resolution)
    z = torch.randn(1, 6)
    w = generator.map(z).detach().requires_grad_()
    assert w.shape == (1, 2 * (int(math.log2(resolution)) - 1), 5)
    image = generator.synthesis(w)
    assert image.shape == (1, 3, resolution, resolution)
    (grad,) = torch.autograd.grad(image.square().mean(), w)
    assert grad.isfinite().all()
    assert (grad.abs().sum(dim=(0, 2)) > 0).all(), "every style layer has a say"


@pytest.mark.parametrize("resolution", [0, 4, 12, 96, 2048])
def test_other_resolutions_are_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match="power of two from 8 to 1024"):
        GeneratorConfig(resolution=resolution, channels=(4,) * 7)


def test_a_channel_plan_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="channels has 2 entries"):
        GeneratorConfig(resolution=32, channels=(4, 4))


@pytest.mark.parametrize("fused", [True, False], ids=["transposed convolution", "nearest and convolution"])
def test_up_sampling_is_nearest_then_convolution_then_blur(fused: bool) -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(resolution=8, channels=(3, 2), w_dim=5, fused_from=8 if fused else 16)
    layer = StyleLayer(config, 2)
    x = torch.randn(2, 3, 4, 4)
    weight = layer.weight * math.sqrt(2 / (3 * 9))
    # A transposed convolution goes through its kernel the other way round.
    weight = weight.flip(2, 3) if fused else weight
    wide = torch.stack([torch.stack([x, x], -1).flatten(-2)] * 2, -2).flatten(-3, -2)  # each pixel four times
    blur = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    expected = F.conv2d(F.conv2d(wide, weight, padding=1).flatten(0, 1)[:, None], blur[None, None], padding=1)
    torch.testing.assert_close(layer._convolve(x), expected.view(2, 2, 8, 8), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shared", [True, False], ids=["the constant, one for all", "a picture each"])
def test_adain_is_its_definition_forwards_and_backwards(batch: int, shared: bool) -> None:
    torch.manual_seed(1)
    x = torch.randn(1 if shared else batch, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    style = torch.randn(batch, 8, dtype=torch.float64, requires_grad=True)
    ours, plain = adain(x, style), naive_adain(x, style)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)
    seed = torch.randn_like(ours)
    for mine, theirs in zip(
        torch.autograd.grad(ours, (x, style), seed), torch.autograd.grad(plain, (x, style), seed), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("grad_order", [torch.contiguous_format, torch.channels_last])
def test_adain_does_not_care_how_pictures_lie_in_memory(
    batch: int, order: torch.memory_format, grad_order: torch.memory_format
) -> None:
    x, grad, style = torch.randn(batch, 6, 8, 8), torch.randn(batch, 6, 8, 8), torch.randn(batch, 12)
    plain = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(naive_adain(plain, style), plain, grad)
    ours = x.clone(memory_format=order).requires_grad_()
    y = adain(ours, style)
    torch.testing.assert_close(y, naive_adain(plain, style), rtol=1e-4, atol=1e-5)
    (found,) = torch.autograd.grad(y, ours, grad.contiguous(memory_format=grad_order))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    generator = small(32)
    w = generator.map(torch.randn(3, 6))
    together = generator.synthesis(w)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], generator.synthesis(w[i : i + 1]), rtol=1e-4, atol=1e-5)


def test_truncation_draws_towards_the_mean_layer_by_layer() -> None:
    generator = small(16, truncation_psi=0.5, truncation_layers=2)
    generator.truncation.w_avg_D.fill_(1.0)
    z = torch.randn(2, 6)
    free, cut = generator.map(z, psi=1.0), generator.map(z)
    torch.testing.assert_close(cut[:, :2], 1 + 0.5 * (free[:, :2] - 1))
    torch.testing.assert_close(cut[:, 2:], free[:, 2:])
    torch.testing.assert_close(generator.map(z, psi=0.0), torch.ones(2, 6, 5))


def test_a_w_for_each_layer_or_one_for_all() -> None:
    one, each = small(16), small(16, w_per_layer=True)
    z = torch.randn(2, 6)
    assert (one.map(z, psi=1.0).diff(dim=1) == 0).all()
    assert (each.map(z, psi=1.0).diff(dim=1) != 0).any(dim=2).all()


def test_the_length_of_z_does_not_matter() -> None:
    generator, z = small(8), torch.randn(2, 6)
    torch.testing.assert_close(generator.map(z), generator.map(7 * z), rtol=1e-4, atol=1e-6)
