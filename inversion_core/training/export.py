"""From a run's folder to a pack: averaged weights, the discriminator's trunk as F, calibrated loss weight and rate.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inversion_core.errors import PackInvalid
from inversion_core.inverter import BestSteps, InvertConfig, invert
from inversion_core.models import (
    DiscriminatorConfig,
    DiscriminatorFeatures,
    Encoder,
    EncoderConfig,
    GeneratorConfig,
    StyleGANGenerator,
)
from inversion_core.packs import Pack, PackManifest, PerceptualSpec, save_pack
from inversion_core.training.data import PictureSet
from inversion_core.training.run import CHECKPOINT, read_checkpoint, tensors_below

PERCEPTUAL_SHARE = 1 / 3
"""Perceptual term at the encoder's start, as a share of the pixel term: about what lambda_vgg gives with VGG-16."""
ADAM_RATES = (0.01, 0.02, 0.04, 0.08)
"""Rates tried on held-out pictures."""


def assemble(
    run: Path, *, name: str, version: str, description: str, licence: str, provenance: str, until_px: int = 16
) -> Pack:
    """Build a pack in memory from a generator run's checkpoint; loss weight and rate are still to be calibrated.

    Args:
        until_px: size of the feature map of the discriminator that is compared.
    Raises:
        PackInvalid: there is no checkpoint of a generator run.
    """
    tensors, facts = read_checkpoint(run / CHECKPOINT)
    if facts is None or not any(key.startswith("g_ema/") for key in tensors):
        raise PackInvalid(f"{run} holds no generator run; make one with: inversion train generator DATA --out {run}")
    config = facts["config"]
    generator_config = _restore(GeneratorConfig, config["generator"])
    encoder_config = _restore(EncoderConfig, config["encoder"])
    discriminator_config = _restore(DiscriminatorConfig, config["discriminator"])
    generator, encoder = StyleGANGenerator(generator_config), Encoder(encoder_config)
    generator.load_state_dict(tensors_below(tensors, "g_ema/"))
    encoder.load_state_dict(tensors_below(tensors, "e_ema/"))
    perceptual = DiscriminatorFeatures(discriminator_config, until_px)
    trunk = tensors_below(tensors, "d/trunk.")
    perceptual.trunk.load_state_dict({key: trunk[key] for key in perceptual.trunk.state_dict()})
    manifest = PackManifest(
        name=name, version=version, description=description, licence=licence, provenance=provenance,
        generator=generator_config, encoder=encoder_config,
        perceptual=PerceptualSpec(
            kind="discriminator",
            layer=f"trunk at {until_px} px",
            args={**dataclasses.asdict(discriminator_config), "until": until_px},
            note="A middle layer of the discriminator that was trained with this generator (feature matching): "
            "no ImageNet network can be shipped. `inversion pack use-imagenet-vgg` puts one in its place.",
        ),
    )  # fmt: skip
    return Pack(manifest, generator=generator, perceptual=perceptual, encoder=encoder)


def calibrate(pack: Pack, held_out: PictureSet, *, pictures: int = 8) -> tuple[Pack, Mapping[str, float]]:
    """The pack with its loss weight and Adam's rate set on held-out pictures, and what was measured.

    The weight makes the perceptual term PERCEPTUAL_SHARE of the pixel term at the encoder's start; the rate is
    the one of ADAM_RATES with the lowest median of the best loss in 100 steps.
    """
    target_BCHW = held_out.take(torch.arange(min(pictures, len(held_out))))
    pack = _with(pack, perceptual=dataclasses.replace(pack.manifest.perceptual, weight=_loss_weight(pack, target_BCHW)))
    losses = {f"adam {rate:g}": _best_loss(pack, target_BCHW, rate) for rate in ADAM_RATES}
    best_rate = min(ADAM_RATES, key=lambda rate: losses[f"adam {rate:g}"])
    return _with(pack, optimizers={"adam": {"learning_rate": best_rate}}), losses


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


@torch.no_grad()
def _loss_weight(pack: Pack, target_BCHW: Tensor) -> float:
    image_BCHW = pack.synthesize(pack.encode(target_BCHW))
    pixel = (image_BCHW - target_BCHW).square().mean()
    perceptual = (pack.features(image_BCHW) - pack.features(target_BCHW)).square().mean()
    return float(f"{PERCEPTUAL_SHARE * pixel / perceptual:.3g}")


def _best_loss(pack: Pack, target_BCHW: Tensor, rate: float) -> float:
    best = BestSteps()
    for step in invert(pack, target_BCHW, InvertConfig(num_steps=100, optimizer="adam", learning_rate=rate)):
        best.update(step)
    return float(best.loss_B.median())


def _with(pack: Pack, **changes: Any) -> Pack:
    manifest = dataclasses.replace(pack.manifest, **changes)
    assert isinstance(pack.perceptual, DiscriminatorFeatures)
    return Pack(manifest, generator=pack.generator, perceptual=pack.perceptual, encoder=pack.encoder)


def _restore(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
