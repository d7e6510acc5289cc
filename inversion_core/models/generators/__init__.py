"""Generators, one folder for each architecture. To add one, write its folder and enter it in `ARCHITECTURES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from inversion_core.models.generators.base import Architecture, Generator, Synthesis
from inversion_core.models.generators.stylegan1 import GeneratorConfig, StyleGANGenerator
from inversion_core.models.generators.stylegan1.plain import plain_synthesis as plain_synthesis1
from inversion_core.models.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from inversion_core.models.generators.stylegan2.plain import plain_synthesis as plain_synthesis2

__all__ = ["ARCHITECTURES", "DEFAULT_KIND", "Architecture", "Generator", "Synthesis", "build_generator"]


class Room(NamedTuple):
    """What an architecture consists of."""

    config: type[Any]
    """Its configuration, an `Architecture`."""
    network: type[Any]
    """Its network, a `Generator` that is made from the configuration."""
    plain: Callable[[Synthesis, Tensor], Tensor]
    """Its synthesis as anybody would write it first, for comparison."""


ARCHITECTURES: Mapping[str, Room] = {
    GeneratorConfig.kind: Room(GeneratorConfig, StyleGANGenerator, plain_synthesis1),
    StyleGAN2Config.kind: Room(StyleGAN2Config, StyleGAN2Generator, plain_synthesis2),
}
"""By the key "kind" of a pack's generator."""
DEFAULT_KIND = GeneratorConfig.kind
"""That of packs which state none: they are older than the second architecture."""


def build_generator(config: Architecture) -> Generator:
    """The network of a configuration, with weights yet to be filled in."""
    network: Generator = ARCHITECTURES[config.kind].network(config)
    return network
