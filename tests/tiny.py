"""A pack of random weights that is built in milliseconds: 16 px, 6 style layers, w of 12."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from inversion_core.models import (
    DiscriminatorConfig,
    DiscriminatorFeatures,
    Encoder,
    EncoderConfig,
    GeneratorConfig,
    StyleGANGenerator,
)
from inversion_core.packs import Pack, PackManifest, PerceptualSpec, save_pack
from inversion_core.training.data import PictureSet, pack_pictures

GENERATOR = GeneratorConfig(
    resolution=16, channels=(16, 12, 8), z_dim=10, w_dim=12, mapping_dim=14, mapping_layers=3, final_tanh=True
)
ENCODER = EncoderConfig(resolution=16, w_dim=12, channels_base=4, channels_max=8, batch_norm=False)
DISCRIMINATOR = DiscriminatorConfig(resolution=16, channels=(8, 6, 4))


def tiny_pack(*, has_encoder: bool = True, seed: int = 0) -> Pack:
    """The pack; the same seed gives the same weights, and the global random state stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = StyleGANGenerator(GENERATOR)
        generator.truncation.w_avg_D.normal_(std=0.1)
        encoder = Encoder(ENCODER) if has_encoder else None
        perceptual = DiscriminatorFeatures(DISCRIMINATOR, until=8)
    spec = PerceptualSpec(
        kind="discriminator",
        layer="trunk at 8 px",
        args={**dataclasses.asdict(DISCRIMINATOR), "until": 8},
        weight=0.1,
    )
    manifest = PackManifest(
        name="tiny",
        version="1",
        generator=GENERATOR,
        encoder=ENCODER if has_encoder else None,
        perceptual=spec,
    )
    return Pack(manifest, generator=generator, perceptual=perceptual, encoder=encoder)


def rough_pack() -> Pack:
    """The tiny pack with a constant that is not flat: of a flat one AdaIN keeps nothing but rounding, made large."""
    pack = tiny_pack()
    pack.generator.synthesis.layers[0].const.normal_(generator=torch.Generator().manual_seed(0))
    return pack


def save_networks(folder: Path, pack: Pack, *, overwrite: bool = False) -> None:
    """Write a pack's networks and manifest as a pack folder."""
    networks = {"generator": pack.generator, "perceptual": pack.perceptual, "encoder": pack.encoder}
    save_pack(folder, pack.manifest, **networks, overwrite=overwrite)  # type: ignore[arg-type]


def noise_archive(folder: Path, random: np.random.Generator, count: int = 24) -> Path:
    """An archive of 16 px pictures of noise, `folder`/data.npz; they lie in `folder`/images, numbered from 1."""
    (folder / "images").mkdir()
    for i in range(1, count + 1):
        pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i:04d}.png")
    pack_pictures([folder / "images"], folder / "data.npz", 16)
    return folder / "data.npz"


def tiny_targets(count: int = 3, seed: int = 1) -> torch.Tensor:
    """Pictures (count, 3, 16, 16) that the tiny generator can make."""
    z_BZ = torch.randn(count, GENERATOR.z_dim, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        pack = tiny_pack()
        return pack.synthesize(pack.map(z_BZ))


def noise_pictures(side: int = 16) -> PictureSet:
    """24 pictures of noise, all equally likely; the same each time."""
    draw = torch.Generator().manual_seed(0)
    return PictureSet(
        pictures_NCHW=torch.randint(0, 256, (24, 3, side, side), generator=draw, dtype=torch.uint8),
        weight_N=torch.ones(24).double(),
        names=tuple(map(str, range(24))),
    )
