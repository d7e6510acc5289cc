"""The packs that are timed: those that have a name, and one of random weights in IDInvert's size."""

from __future__ import annotations

import torch
from torch import nn

from inversion_core.models import Encoder, EncoderConfig, GeneratorConfig, StyleGANGenerator, VGG16Features
from inversion_core.models.perceptual import IMAGENET_MEAN_BGR
from inversion_core.packs import Pack, PackManifest, PerceptualSpec, load_pack

RANDOM_256 = "random-256"


def pack_named(name: str | None, device: str = "cpu") -> Pack:
    """A pack by name or folder, the default one, or RANDOM_256. Raises: PackNotFound, PackInvalid."""
    return random_pack_256(device) if name == RANDOM_256 else load_pack(name, device)


def random_pack_256(device: str = "cpu") -> Pack:
    """IDInvert's architecture at 256 px with random weights: what an iteration costs does not hang on their values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = StyleGANGenerator(GeneratorConfig(w_per_layer=True, final_tanh=True))
        nn.init.normal_(generator.synthesis.get_parameter("layers.0.const"))  # of a flat one AdaIN leaves only rounding
        encoder, vgg = Encoder(EncoderConfig()), VGG16Features()
    spec = PerceptualSpec(kind="vgg16", layer="relu4_3", args={"mean_bgr": list(IMAGENET_MEAN_BGR)})
    manifest = PackManifest(
        name=RANDOM_256, version="0", generator=generator.config, encoder=encoder.config, perceptual=spec
    )
    return Pack(manifest, generator=generator, perceptual=vgg, encoder=encoder, device=device)
