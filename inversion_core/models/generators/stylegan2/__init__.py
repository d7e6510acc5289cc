"""StyleGAN2 (Karras 2020, "skip" generators), as NVIDIA and many others publish it."""

from inversion_core.models.generators.stylegan2 import layouts, plain
from inversion_core.models.generators.stylegan2.config import StyleGAN2Config
from inversion_core.models.generators.stylegan2.network import StyleGAN2Generator

__all__ = ["StyleGAN2Config", "StyleGAN2Generator", "layouts", "plain"]
