"""What an architecture reads from published files: its generator, with what lies beside the tensors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from inversion_core.models.generators.base import Generator


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What is known of a generator and is not among its tensors."""

    mean_D: Tensor | None = None
    """The mean w, where the file holds it elsewhere."""
    conv_clamp: float = 0.0
    """Largest absolute value after a layer, of networks trained in float16; 0: no limit."""
    label: int = 0
    """The class to draw, of class-conditional networks."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A generator that was read."""

    generator: Generator
    what: str
    """What the file is, for people."""
    ignored: tuple[str, ...] = ()
    """Keys that a picture does not need."""
    notes: tuple[str, ...] = ()
    """What a person should know of it."""
