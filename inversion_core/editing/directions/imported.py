"""Directions of others as directions of a pack. Suffixes: L style layer, D latent w."""

from __future__ import annotations

from pathlib import Path

from inversion_core.editing.directions.computed import SAMPLES, UNIT, deviation
from inversion_core.editing.directions.foreign import Layers, read_foreign
from inversion_core.editing.domain import random_codes
from inversion_core.errors import OptionInvalid
from inversion_core.packs import Direction, DirectionSpec, Pack

UNITS = ("file", "deviation")
RANGE = (-3.0, 3.0)
"""What most projects show of theirs; nobody has measured it here."""


def import_directions(pack: Pack, file: Path, *, name: str | None = None, layers: Layers | None = None,
                      unit: str = "file") -> list[Direction]:  # fmt: skip
    """The directions of a file of another project.

    Args:
        name: instead of the file's; several get numbers behind it.
        layers: the first and last style layer that they move.
        unit: "file": a strength of 1 is the vector as it is in the file, of unit norm or not; "deviation": one standard
            deviation of random codes along it, so that strengths of directions compare.
    Raises:
        OptionInvalid: the file cannot be read, or does not fit the pack; no such unit; or the name is none.
    """
    if unit not in UNITS:
        raise OptionInvalid(f"unit is {unit!r}; there are {', '.join(UNITS)}")
    steps = read_foreign(file, pack.num_layers, pack.w_dim, layers)
    w_NLD = random_codes(pack, SAMPLES) if unit == "deviation" else None
    found = []
    for index, (own_name, step_LD) in enumerate(steps.items()):
        called = own_name if name is None else name if len(steps) == 1 else f"{name}-{index}"
        scale = 1.0 if w_NLD is None else deviation(w_NLD, step_LD)
        told = f"the vector in the file, of norm {step_LD.norm():.3g}" if w_NLD is None else UNIT
        try:
            spec = DirectionSpec(name=called, label=called, range=RANGE, unit=told, source=f"file {file.name}")
        except ValueError as error:
            raise OptionInvalid(str(error)) from error
        found.append(Direction(spec=spec, step_LD=(scale * step_LD).to(pack.device)))
    return found
