"""The four networks: generator G, encoder E, perceptual network F and discriminator D. Pure modules, no files."""

from inversion_core.models.detail import DetailPredictor, DetailPredictorConfig
from inversion_core.models.discriminator import Discriminator, DiscriminatorConfig
from inversion_core.models.encoder import Encoder, EncoderConfig
from inversion_core.models.generators import Architecture, Generator, build_generator
from inversion_core.models.generators.stylegan1 import GeneratorConfig, StyleGANGenerator
from inversion_core.models.perceptual import DiscriminatorFeatures, NoFeatures, PerceptualNetwork, VGG16Features

__all__ = [
    "Architecture",
    "DetailPredictor",
    "DetailPredictorConfig",
    "Discriminator",
    "DiscriminatorConfig",
    "DiscriminatorFeatures",
    "Encoder",
    "EncoderConfig",
    "Generator",
    "GeneratorConfig",
    "NoFeatures",
    "PerceptualNetwork",
    "StyleGANGenerator",
    "VGG16Features",
    "build_generator",
]
