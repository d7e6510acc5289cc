"""StyleGAN (Karras 2019), as IDInvert and our own packs have it."""

from inversion_core.models.generators.stylegan1 import idinvert, plain
from inversion_core.models.generators.stylegan1.config import GeneratorConfig
from inversion_core.models.generators.stylegan1.network import StyleGANGenerator

__all__ = ["GeneratorConfig", "StyleGANGenerator", "idinvert", "plain"]
