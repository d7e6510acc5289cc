"""The four networks: generator G, encoder E, perceptual network F and discriminator D. Pure modules, no files."""

from inversion_core.models.discriminator import Discriminator, DiscriminatorConfig
from inversion_core.models.encoder import Encoder, EncoderConfig
from inversion_core.models.generator import GeneratorConfig, StyleGANGenerator
from inversion_core.models.perceptual import DiscriminatorFeatures, PerceptualNetwork, VGG16Features

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "DiscriminatorFeatures",
    "Encoder",
    "EncoderConfig",
    "GeneratorConfig",
    "PerceptualNetwork",
    "StyleGANGenerator",
    "VGG16Features",
]
