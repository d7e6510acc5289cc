"""Edits do not ask which architecture a generator has."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from inversion_core.editing import apply_edits, parse_edits
from inversion_core.editing.directions.computed import ganspace, sefa
from inversion_core.latents import Latent, detail_shape, plain_pictures
from inversion_core.models.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from inversion_core.packs import Pack
from tests.tiny import tiny_pack

pytestmark = pytest.mark.unit

CONFIG = StyleGAN2Config(
    resolution=16, channels=(8, 8, 4), z_dim=10, w_dim=12, mapping_layers=2, mapping_dim=14, truncation_layers=6
)


@pytest.fixture(scope="module")
def pack() -> Pack:
    first = tiny_pack()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = StyleGAN2Generator(CONFIG)
    manifest = dataclasses.replace(first.manifest, generator=CONFIG)
    return Pack(manifest, generator=generator, perceptual=first.perceptual, encoder=first.encoder)


@pytest.mark.parametrize("px", [8, 16])
def test_a_mask_leaves_the_rest_of_the_picture(pack: Pack, px: int) -> None:
    draw = torch.Generator().manual_seed(0)
    w_BLD = pack.mean_codes(1) + torch.randn(1, 6, 12, generator=draw)
    latent = Latent(w_BLD=w_BLD, detail_BCHW=torch.randn(1, *detail_shape(CONFIG, px), generator=draw))
    edit = {"truncate": -1, "mask": {"box": [-1, -1, 0.5, 2], "feather": 0.0}}
    before, edited = pack.synthesize(latent), pack.synthesize(apply_edits(pack, latent, parse_edits([edit])))
    everywhere = pack.synthesize(apply_edits(pack, latent, parse_edits([{"truncate": -1}])))
    torch.testing.assert_close(edited[..., 8:], before[..., 8:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(edited[..., :8], everywhere[..., :8], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("px", [4, 8, 16])
def test_the_picture_of_a_code_by_way_of_its_features_is_the_same(pack: Pack, px: int) -> None:
    w_BLD = pack.mean_codes(2) + torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain_pictures(pack.generator, w_BLD, px), pack.synthesize(w_BLD))


def test_directions_without_labels_move_the_picture(pack: Pack) -> None:
    w_BLD = pack.mean_codes(1)
    for direction in (*sefa(pack, 2), *ganspace(pack, 2)):
        moved = pack.synthesize(w_BLD + direction.step_LD)
        assert (moved - pack.synthesize(w_BLD)).abs().mean() > 1e-4
