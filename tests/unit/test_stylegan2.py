"""StyleGAN2: the public networks' numbers, from every layout that can express them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from inversion_core.errors import PackInvalid
from inversion_core.latents import Latent, base_features, detail_shape, synthesize
from inversion_core.models.generators.reading import Beside
from inversion_core.models.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from inversion_core.models.generators.stylegan2 import layouts as them
from inversion_core.models.generators.stylegan2.plain import plain_synthesis
from inversion_core.models.serving import serving
from inversion_core.models.source import Source
from tests import stylegan2_files as files

PSI = 0.7


class Golden(NamedTuple):
    """What the public code makes of the recipe, to six digits."""

    recipe: files.Recipe
    params: int
    w: tuple[float, float]
    image: tuple[float, float, float]
    without_noise: float
    pixel: tuple[float, float, float]


TINY = Golden(
    files.TINY, 44_958, (0.356922, 0.751116), (0.192788, 1.515725, 7.58761), 0.212425, (-0.86100, 0.16197, 0.23526)
)
SMALL = Golden(
    files.SMALL, 300_104, (0.285114, 0.743953), (0.982846, 1.058357, 6.51342), 0.769565, (0.64843, -0.04972, 0.54268)
)


def read(state: dict[str, Tensor], **options: object) -> StyleGAN2Generator:
    found = them.read_generator(Source(Path("g.pt"), state), Beside(**options))  # type: ignore[arg-type]
    assert found is not None
    assert isinstance(found.generator, StyleGAN2Generator)
    return found.generator.requires_grad_(False).eval()


def generator(recipe: files.Recipe = files.TINY) -> StyleGAN2Generator:
    return read(files.nvidia(recipe))


@pytest.mark.parametrize("golden", [TINY, SMALL], ids=["tiny16", "small64"])
def test_golden_values(golden: Golden) -> None:
    network = generator(golden.recipe)
    assert sum(p.numel() for p in network.parameters()) == golden.params
    bound = 1e-5 * golden.image[2]
    w_BLD = network.map(files.latents(golden.recipe), psi=PSI)
    assert (w_BLD.mean().item(), w_BLD.std().item()) == pytest.approx(golden.w, abs=2e-6)
    image_BCHW = network.synthesis(w_BLD)
    found = image_BCHW.mean().item(), image_BCHW.std().item(), image_BCHW.abs().max().item()
    assert found == pytest.approx(golden.image, abs=bound)
    assert image_BCHW[0, :, 0, 0].tolist() == pytest.approx(golden.pixel, abs=bound)
    for layer in network.synthesis.convolutions:
        layer.noise_strength.zero_()
    assert network.synthesis(w_BLD).mean().item() == pytest.approx(golden.without_noise, abs=bound)


@pytest.mark.parametrize("recipe", [files.TINY, files.SMALL], ids=["tiny16", "small64"])
@pytest.mark.parametrize("layout", ["rosinality", "mmgeneration", "genforce", "tensorflow"])
def test_every_layout_gives_the_same_pictures(layout: str, recipe: files.Recipe) -> None:
    state = files.nvidia(recipe)
    mean_D = state["mapping.w_avg"] if layout in ("rosinality", "mmgeneration") else None
    theirs = getattr(files, layout)(state)
    other = read({key: torch.as_tensor(value) for key, value in theirs.items()}, mean_D=mean_D)
    first, second = (network.synthesis(network.map(files.latents(recipe))) for network in (generator(recipe), other))
    assert (first - second).abs().max() <= 1e-5 * first.abs().max()


def test_an_up_convolution_that_is_not_turned_shows() -> None:
    state = files.genforce(files.nvidia(files.TINY))
    state["synthesis.layer1.weight"] = state["synthesis.layer1.weight"].flip(2, 3)
    first, second = (
        network.synthesis(network.map(files.latents(files.TINY))) for network in (generator(), read(state))
    )
    assert (first - second).abs().max() > 1e-2 * first.abs().max()


@pytest.mark.parametrize("layout", them.LAYOUTS, ids=lambda layout: layout.what)
def test_there_and_back_is_exact(layout: them.Layout) -> None:
    network = generator()
    for layer in (*network.synthesis.convolutions, *network.synthesis.to_rgbs):
        layer.style.bias.copy_((layer.style.bias * 64).round() / 64)  # so that less 1, and more 1, is itself
    state = them.write_state(network, layout)
    back = read(state, mean_D=None if layout.mean else network.truncation.w_avg_D)
    assert back.config == network.config
    for key, value in network.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key


@pytest.mark.parametrize("clamp", [0.0, 2.0])
def test_folded_plain_and_unfolded_are_one(clamp: float) -> None:
    network = read(files.nvidia(files.SMALL), conv_clamp=clamp)
    w_BLD = network.map(files.latents(files.SMALL))
    plain_BCHW, unfolded_BCHW = plain_synthesis(network.synthesis, w_BLD), network.synthesis(w_BLD)
    folded_BCHW = network.freeze().synthesis(w_BLD)
    for other_BCHW in (unfolded_BCHW, folded_BCHW):
        assert (other_BCHW - plain_BCHW).abs().max() <= 1e-5 * plain_BCHW.abs().max()
    unclamped_BCHW = generator(files.SMALL).synthesis(w_BLD)
    assert torch.equal(unfolded_BCHW, unclamped_BCHW) == (clamp == 0)


def test_while_serving_an_image_is_rounded_as_if_alone() -> None:
    network = generator(files.SMALL).freeze()
    w_BLD = network.map(torch.randn(3, 64, generator=torch.Generator().manual_seed(1)))

    def image_and_gradient(w_BLD: Tensor) -> tuple[Tensor, Tensor]:
        w_BLD = w_BLD.clone().requires_grad_()
        image_BCHW = network.synthesis(w_BLD)
        (grad_BLD,) = torch.autograd.grad(image_BCHW.square().sum(), w_BLD)
        return image_BCHW.detach(), grad_BLD

    with serving():
        together = image_and_gradient(w_BLD)
        for row in range(3):
            alone = image_and_gradient(w_BLD[row : row + 1])
            assert torch.equal(alone[0][0], together[0][row])
            assert torch.equal(alone[1][0], together[1][row])
    outside = image_and_gradient(w_BLD)
    for one, other in zip(together, outside, strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def test_which_row_of_a_code_reaches_which_layer() -> None:
    network = generator(files.SMALL)
    w_BLD = network.map(files.latents(files.SMALL))[:1]
    for row in range(network.config.num_layers):
        changed_BLD = w_BLD.clone()
        changed_BLD[:, row] += 1
        for stop in range(1, network.config.num_layers + 1):
            is_same = torch.equal(*(network.synthesis.features(w, stop=stop) for w in (w_BLD, changed_BLD)))
            assert is_same == (stop <= row)


def test_truncation_with_cutoff() -> None:
    network = generator()
    z_BZ = files.latents(files.TINY)
    full_BLD, half_BLD = network.map(z_BZ, psi=1.0), network.map(z_BZ, psi=0.5, cutoff=2)
    w_avg_D = network.w_avg_D
    assert torch.equal(half_BLD[:, 2:], full_BLD[:, 2:])
    assert torch.allclose(half_BLD[:, :2], w_avg_D + 0.5 * (full_BLD[:, :2] - w_avg_D))


@pytest.mark.parametrize("px", [4, 8, 16])
def test_detail_at_every_size(px: int) -> None:
    network = generator()
    w_BLD = network.map(files.latents(files.TINY))
    shape = detail_shape(network.config, px)
    base_BCHW = base_features(network, w_BLD, px)
    zero = Latent(w_BLD=w_BLD, detail_BCHW=torch.zeros(2, *shape))
    assert torch.equal(synthesize(network, zero, base_BCHW), network.synthesis(w_BLD))
    some = Latent(w_BLD=w_BLD, detail_BCHW=torch.ones(2, *shape))
    assert torch.equal(synthesize(network, some), synthesize(network, some, base_BCHW))
    assert not torch.equal(synthesize(network, some), network.synthesis(w_BLD))


def test_classes() -> None:
    state = files.nvidia(files.TINY)
    state["mapping.embed.weight"], state["mapping.embed.bias"] = torch.randn(32, 3), torch.randn(32)
    state["mapping.fc0.weight"] = 100 * torch.randn(32, 64)
    first, second = read(dict(state), label=0), read(dict(state), label=2)
    assert (first.config.labels, first.config.embed_dim, first.config.z_dim) == (3, 32, 32)
    z_BZ = files.latents(files.TINY)
    embedded_1E = (state["mapping.embed.weight"][:, 2] / np.sqrt(3) + state["mapping.embed.bias"])[None]
    x = torch.cat([v / v.square().mean(1, keepdim=True).add(1e-8).sqrt() for v in (z_BZ, embedded_1E.expand(2, -1))], 1)
    for i in range(2):
        weight, bias = state[f"mapping.fc{i}.weight"], state[f"mapping.fc{i}.bias"]
        y = x @ weight.T * (0.01 / np.sqrt(weight.shape[1])) + 0.01 * bias
        x = torch.where(y > 0, y, 0.2 * y) * np.sqrt(2)
    assert torch.allclose(second.map(z_BZ, psi=1.0)[:, 3], x, atol=1e-5)
    assert not torch.allclose(first.map(z_BZ), second.map(z_BZ))
    with pytest.raises(PackInvalid, match="label is 3"):
        read(dict(state), label=3)


@pytest.mark.parametrize(("width", "params"), [(1, 24_767_458), (2, 30_034_338)])
def test_published_widths_at_256_px(width: int, params: int) -> None:
    channels = tuple(min(16384 * width // px, 512) for px in (4, 8, 16, 32, 64, 128, 256))
    with torch.device("meta"):
        network = StyleGAN2Generator(StyleGAN2Config(resolution=256, channels=channels, truncation_layers=14))
    assert sum(p.numel() for p in network.parameters()) == params
    assert network.config.num_layers == 14


REFUSED = {
    "StyleGAN3": ("synthesis.input.freqs", "StyleGAN3.*not supported yet"),
    "resnet": ("synthesis.b8.skip.weight", "'resnet'.*not supported"),
    "orig": ("synthesis/ToRGB_lod0/weight", "'orig'.*not supported"),
}


@pytest.mark.parametrize(("key", "words"), REFUSED.values(), ids=list(REFUSED))
def test_other_architectures_are_refused_by_name(key: str, words: str) -> None:
    with pytest.raises(PackInvalid, match=words):
        read(files.nvidia(files.TINY) | {key: torch.zeros(1)})


def test_faults_name_file_and_key() -> None:
    state = files.nvidia(files.TINY)
    for key in ("mapping.fc1.bias", "synthesis.b8.conv0.affine.weight", "synthesis.b16.torgb.bias"):
        with pytest.raises(PackInvalid, match=rf"g\.pt.*{key}.*missing"):
            read({name: value for name, value in state.items() if name != key})
        with pytest.raises(PackInvalid, match=rf"g\.pt.*{key}.*shape"):
            read(state | {key: torch.zeros(3, 5, 5)})
    with pytest.raises(PackInvalid, match=r"'synthesis\.more' is unknown"):
        read(state | {"synthesis.more": torch.zeros(1)})
    with pytest.raises(PackInvalid, match=r"another filter than \(1, 3, 3, 1\)"):
        read(state | {"synthesis.b8.resample_filter": torch.ones(4, 4) / 16})
    only_last = {k: v for k, v in state.items() if ".torgb." not in k or ".b16." in k}
    with pytest.raises(PackInvalid, match="'orig'"):
        read(only_last)


def test_a_file_without_noise_or_mean_says_so() -> None:
    state = files.rosinality(files.nvidia(files.TINY), noises=False)
    first, second = (them.read_generator(Source(Path("g.pt"), dict(state))) for _ in range(2))
    assert first is not None
    assert second is not None
    assert [note.split(":")[0] for note in first.notes] == ["the file has no noise", "the file has no mean w"]
    for key, value in first.generator.state_dict().items():
        assert torch.equal(value, second.generator.state_dict()[key])
    mean_D = first.generator.mapping(torch.randn(10_000, 32)).mean(dim=(0, 1))
    assert torch.allclose(first.generator.w_avg_D, mean_D, atol=0.1)


def test_configurations_that_cannot_be() -> None:
    config = StyleGAN2Config()
    assert (config.num_layers, len(config.layer_px)) == (18, 18)
    for change, words in (
        ({"resolution": 512}, "channels has 9 entries"), ({"label": 1}, "label is 1"), ({"labels": 3}, "embed_dim is 0"),
        ({"conv_clamp": -1.0}, "conv_clamp is -1"), ({"w_dim": 0}, "must be at least 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            dataclasses.replace(config, **change)  # type: ignore[arg-type]
