"""What every kind of edit has in common.

Suffixes: B image, L style layer, D latent w.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from inversion_core.editing.codes import MOST_LAYERS, Code
from inversion_core.editing.fields import Fields
from inversion_core.editing.shapes import Mask, parse_mask
from inversion_core.errors import OptionInvalid

if TYPE_CHECKING:
    from torch import Tensor

    from inversion_core.latents import Latent
    from inversion_core.packs import Pack
    from inversion_core.packs.directions import Direction

Layers = tuple[int, int]
"""First and last style layer, inclusive, from 0."""


Sources = Sequence[tuple["Latent", float]]
"""Latents whose detail is carried along, and the share of each."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What an edit may look up while it is applied."""

    pack: Pack
    directions: Mapping[str, Direction]
    resolve: Callable[[Code], Latent]
    """A code as a latent of one image."""


@dataclass(frozen=True, kw_only=True)
class Edit(ABC):
    """One object of an edit list. Pure data, without PyTorch; `apply` is pure too."""

    KEY: ClassVar[str]
    """The key of the JSON object that no other kind has."""
    AMOUNT: ClassVar[str]
    """The field that says how strong the edit is."""
    NEUTRAL: ClassVar[float] = 0.0
    """The strength that changes nothing."""

    layers: Layers | None = None
    """Only these layers change; None: all."""
    mask: Mask | None = None
    """Only this part of the picture changes; None: all."""

    @classmethod
    @abstractmethod
    def parse(cls, fields: Fields) -> Self:
        """Read the object's keys. Raises OptionInvalid."""

    @property
    def is_neutral(self) -> bool:
        """Whether it changes nothing, whatever it is applied to."""
        return self.size == self.NEUTRAL

    @abstractmethod
    def own_json(self) -> dict[str, Any]:
        """The keys that only this kind has."""

    @abstractmethod
    def moved(self, scene: Scene, w_BLD: Tensor) -> Tensor:
        """Codes after the edit, without regard to layers and mask. Raises OptionInvalid where the pack cannot."""

    def check(self, scene: Scene, where: str) -> None:
        """Refuse what this pack does not have. Raises OptionInvalid."""
        if self.layers is not None and self.layers[1] >= scene.pack.num_layers:
            raise OptionInvalid(
                f"{where}.layers is {list(self.layers)}; pack {scene.pack.name} has the layers 0 to "
                f"{scene.pack.num_layers - 1}"
            )

    def apply(self, scene: Scene, w_BLD: Tensor) -> Tensor:
        """New codes (B, L, D); the input stays as it is."""
        moved_BLD = self.moved(scene, w_BLD)
        if self.layers is None:
            return moved_BLD
        first, last = self.layers
        result_BLD = w_BLD.clone()
        result_BLD[:, first : last + 1] = moved_BLD[:, first : last + 1]
        return result_BLD

    def sources(self, scene: Scene, sources: Sources) -> Sources:
        """Whose detail the result has, and what share of it, given whose it had before."""
        return sources

    @property
    def size(self) -> float:
        """How strong it is; `NEUTRAL` changes nothing."""
        return float(getattr(self, self.AMOUNT))

    def at(self, amount: float) -> Self:
        """The same edit of another strength."""
        change: dict[str, Any] = {self.AMOUNT: amount}
        return dataclasses.replace(self, **change)

    def to_json(self) -> dict[str, Any]:
        shared: dict[str, Any] = {} if self.layers is None else {"layers": list(self.layers)}
        if self.mask is not None:
            shared["mask"] = self.mask.to_json()
        return self.own_json() | shared


def parse_shared(fields: Fields) -> dict[str, Any]:
    """`layers` and `mask`, as arguments of a kind."""
    layers: Layers | None = None
    if fields.has("layers"):
        value = fields.take("layers")
        if (
            not isinstance(value, list | tuple)
            or len(value) != 2
            or not all(type(each) is int for each in value)
            or not 0 <= value[0] <= value[1] < MOST_LAYERS
        ):
            raise fields.fault("layers", "must be the first and the last layer, counted from 0, such as [4, 9]")
        layers = (value[0], value[1])
    mask = parse_mask(f"{fields.where}.mask", fields.take("mask")) if fields.has("mask") else None
    return {"layers": layers, "mask": mask}
