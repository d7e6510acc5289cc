"""From a run's folder to a pack: averaged weights, and as F the discriminator's trunk or another pack's network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch

from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.models import (
    DiscriminatorConfig,
    DiscriminatorFeatures,
    Encoder,
    EncoderConfig,
    GeneratorConfig,
    StyleGANGenerator,
)
from inversion_core.packs import Pack, PackManifest, PerceptualSpec, load_networks, read_manifest, save_pack
from inversion_core.training.growing import is_fading
from inversion_core.training.options import architecture
from inversion_core.training.run import CHECKPOINT, read_checkpoint, tensors_below


def assemble(
    run: Path, *, name: str, version: str, description: str, licence: str, provenance: str, until_px: int = 16,
    features_from: Path | None = None, device: str | torch.device = "cpu",
) -> Pack:  # fmt: skip
    """Build a pack in memory from a generator run's checkpoint; loss weight and rates are still to be calibrated.

    Args:
        until_px: size of the feature map of the discriminator that is compared.
        features_from: a pack's folder whose perceptual network is taken in place of the run's discriminator.
    Raises:
        PackInvalid: there is no checkpoint of a generator run, or the other pack is broken.
        OptionInvalid: the run is growing, and its new layers have not wholly come in; it had a projected critic and
            no other pack was given; or that pack is for larger pictures or its network is no discriminator's.
    """
    tensors, facts = read_checkpoint(run / CHECKPOINT)
    if facts is None or not any(key.startswith("g_ema/") for key in tensors):
        raise PackInvalid(f"{run} holds no generator run; make one with: inversion train generator DATA --out {run}")
    if is_fading(tensors):
        raise OptionInvalid(
            f"{run} is growing, and {facts.get('fade') or 0:.0%} of its fade is done: a pack has no place for the old "
            f"layers that still make part of the pictures. Let the fade end, with the same `inversion train generator` "
            f"that it was begun with, and export it then"
        )
    config = facts["config"]
    generator_config = architecture(GeneratorConfig, config["generator"])
    encoder_config = architecture(EncoderConfig, config["encoder"])
    discriminator_config = architecture(DiscriminatorConfig, config["discriminator"])
    generator, encoder = StyleGANGenerator(generator_config), Encoder(encoder_config)
    generator.load_state_dict(tensors_below(tensors, "g_ema/"))
    encoder.load_state_dict(tensors_below(tensors, "e_ema/"))
    trunk = tensors_below(tensors, "d/trunk.")
    if features_from is not None:
        perceptual, spec = _features_of(features_from, generator_config.resolution)
    elif trunk:
        perceptual = DiscriminatorFeatures(discriminator_config, until_px)
        perceptual.trunk.load_state_dict({key: trunk[key] for key in perceptual.trunk.state_dict()})
        spec = PerceptualSpec(
            kind="discriminator",
            layer=f"trunk at {until_px} px",
            args={**dataclasses.asdict(discriminator_config), "until": until_px},
            note="A middle layer of the discriminator that was trained with this generator (feature matching): "
            "no ImageNet network can be shipped. `inversion pack use-imagenet-vgg` puts one in its place.",
        )
    else:
        raise OptionInvalid(
            f"{run} had a projected critic, of which no perceptual network can be made; take that of a pack of "
            f"{generator_config.resolution} px, or of fewer, with --features-from PACK"
        )
    manifest = PackManifest(
        name=name, version=version, description=description, licence=licence, provenance=provenance,
        generator=generator_config, encoder=encoder_config,
        perceptual=spec,
    )  # fmt: skip
    return Pack(manifest, generator=generator, perceptual=perceptual, encoder=encoder, device=device)


def _features_of(folder: Path, resolution: int) -> tuple[DiscriminatorFeatures, PerceptualSpec]:
    """The perceptual network of a pack, and what its manifest says of it."""
    manifest = read_manifest(folder)
    if manifest.resolution > resolution:
        raise OptionInvalid(f"pack {manifest.name} is for {manifest.resolution} px, the run only for {resolution} px")
    perceptual = load_networks(folder, ("perceptual",))["perceptual"]
    if not isinstance(perceptual, DiscriminatorFeatures):
        raise OptionInvalid(
            f"the perceptual network of pack {manifest.name} is of kind {manifest.perceptual.kind!r}: only a "
            f"discriminator's can be taken along; for VGG there is `inversion pack use-imagenet-vgg`"
        )
    note = f"That of pack {manifest.name} {manifest.version}, trained with its generator. {manifest.perceptual.note}"
    return perceptual, dataclasses.replace(manifest.perceptual, note=note)


def write(
    pack: Pack,
    out: Path,
    *,
    half: bool = True,
    extra_files: Mapping[str, bytes | Path] | None = None,
    overwrite: bool = False,
) -> None:
    """Save the pack as a folder."""
    assert isinstance(pack.perceptual, DiscriminatorFeatures)
    save_pack(
        out, pack.manifest, generator=pack.generator, encoder=pack.encoder, perceptual=pack.perceptual,
        half=half, extra_files=extra_files, overwrite=overwrite,
    )  # fmt: skip
