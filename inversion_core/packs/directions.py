"""Editing directions of a pack: what pack.json says of each, and its tensor from directions.safetensors.

Suffixes: L style layer, D latent w.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from inversion_core.packs.manifest import PackManifest
    from inversion_core.packs.reader import Reader

DIRECTIONS_FILE = "directions.safetensors"
"""One (L, D) tensor for each direction, under its name."""
STRENGTH_LIMIT = 3.0
"""No range goes beyond this many steps, either way."""
DIRECTION_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, kw_only=True)
class DirectionSpec:
    """What pack.json says of one direction."""

    name: str
    """What programs call it: small letters, digits and dashes."""
    label: str
    """What people call it; it names what a positive strength does."""
    range: tuple[float, float]
    """Lowest and highest strength at which pictures stay plausible, within -3 to 3 and around 0."""
    unit: str
    """What one step is."""
    source: str
    """What it was made of, and how."""
    held_out_r2: float | None = None
    """R^2 of the linear model of the attribute on pictures that it has not seen; None: not measured."""
    side_effects: Mapping[str, float] = field(default_factory=dict)
    """Other direction -> what one step does to its attribute, in its steps; only what was measured on pictures."""

    def __post_init__(self) -> None:
        if not DIRECTION_NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}; use up to 32 small letters, digits and '-'")
        if not self.label:
            raise ValueError("label is empty; say what a positive strength does")
        low, high = self.range
        if not -STRENGTH_LIMIT <= low <= 0 <= high <= STRENGTH_LIMIT or low == high:
            raise ValueError(
                f"range is {low} to {high}; it must hold 0 and more, within {-STRENGTH_LIMIT:g} to {STRENGTH_LIMIT:g}"
            )
        if self.held_out_r2 is not None and not -math.inf < self.held_out_r2 <= 1:
            raise ValueError(f"held_out_r2 is {self.held_out_r2}; it must be at most 1, or null")
        if self.name in self.side_effects or not all(math.isfinite(value) for value in self.side_effects.values()):
            raise ValueError("side_effects must be finite numbers, for directions other than its own")


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One direction, ready to use: `inversion_core.editing.move` adds multiples of `step_LD` to codes."""

    spec: DirectionSpec
    step_LD: Tensor
    """What a strength of 1 adds to a code."""

    def __post_init__(self) -> None:
        if self.step_LD.ndim != 2:
            raise ValueError(f"step_LD has shape {tuple(self.step_LD.shape)}; it must be (L, D)")


def spec_fields(spec: DirectionSpec) -> dict[str, Any]:
    """What `read_spec` reads; side effects only where there are any, since programs of before do not know them."""
    fields = dataclasses.asdict(spec)
    return fields if spec.side_effects else {key: value for key, value in fields.items() if key != "side_effects"}


def read_spec(reader: Reader) -> DirectionSpec:
    """One entry of the list "directions".

    Raises:
        PackInvalid: a key is missing, unknown or wrong.
    """
    low, high = reader.numbers("range", 2)
    values = {key: reader.text(key) for key in ("name", "label", "unit", "source")}
    r2 = reader.number("held_out_r2") if reader.has("held_out_r2") else None
    side_effects: dict[str, float] = {}
    if reader.states("side_effects"):
        section = reader.section("side_effects")
        side_effects = {name: section.number(name) for name in section.every_key()}
    reader.end()
    try:
        return DirectionSpec(**values, range=(low, high), held_out_r2=r2, side_effects=side_effects)
    except ValueError as error:
        key, _, what = str(error).partition(" ")
        raise reader.fault(key, what) from error


def direction_shapes(manifest: PackManifest) -> dict[str, torch.Size]:
    """Name -> shape of each direction."""
    return {spec.name: torch.Size((manifest.num_layers, manifest.w_dim)) for spec in manifest.directions}


def check_steps(manifest: PackManifest, steps: Mapping[str, Tensor]) -> None:
    """ValueError where tensors and manifest disagree about names or shapes."""
    expected = direction_shapes(manifest)
    if set(steps) != set(expected):
        raise ValueError(
            f"the manifest has the directions {sorted(expected)}, and tensors are given for {sorted(steps)}"
        )
    for name, step_LD in steps.items():
        if step_LD.shape != expected[name]:
            raise ValueError(f"direction {name} has shape {tuple(step_LD.shape)}; {tuple(expected[name])} is needed")
