"""Generators, one folder for each architecture. To add one, write its folder and enter it in `ARCHITECTURES`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from inversion_core.models.generators import stylegan1, stylegan2
from inversion_core.models.generators.base import Architecture, Generator, Synthesis
from inversion_core.models.generators.reading import Beside, Found
from inversion_core.models.generators.stylegan1 import GeneratorConfig, StyleGANGenerator
from inversion_core.models.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from inversion_core.models.source import Source

__all__ = [
    "ARCHITECTURES",
    "DEFAULT_KIND",
    "Architecture",
    "Beside",
    "Found",
    "Generator",
    "Synthesis",
    "build_generator",
]


class Room(NamedTuple):
    """What an architecture consists of."""

    config: type[Any]
    """Its configuration, an `Architecture`."""
    network: type[Any]
    """Its network, a `Generator` that is made from the configuration."""
    plain: Callable[[Synthesis, Tensor], Tensor]
    """Its synthesis as anybody would write it first, for comparison."""
    recognised: Callable[[Iterable[str]], str | None]
    """What published generator keys are of, for people; None: none of this architecture."""
    refused: Callable[[Iterable[str]], str | None]
    """What keys are of that is known and cannot be drawn with, and what to do; else None."""
    read: Callable[[Source, Beside], Found | None]
    """The generator of a published state dict; None: it is not of this architecture."""


ARCHITECTURES: Mapping[str, Room] = {
    GeneratorConfig.kind: Room(
        GeneratorConfig, StyleGANGenerator, stylegan1.plain.plain_synthesis, stylegan1.idinvert.recognised,
        stylegan1.idinvert.refused, stylegan1.idinvert.read_generator,
    ),
    StyleGAN2Config.kind: Room(
        StyleGAN2Config, StyleGAN2Generator, stylegan2.plain.plain_synthesis, stylegan2.layouts.recognised,
        stylegan2.layouts.refused, stylegan2.layouts.read_generator,
    ),
}  # fmt: skip
"""By the key "kind" of a pack's generator."""
DEFAULT_KIND = GeneratorConfig.kind
"""That of packs which state none: they are older than the second architecture."""


def build_generator(config: Architecture) -> Generator:
    """The network of a configuration, with weights yet to be filled in."""
    network: Generator = ARCHITECTURES[config.kind].network(config)
    return network
