"""A move along a direction: {"direction": "smile", "strength": 1.5, "hold": ["age"]}."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from inversion_core.editing.fields import Fields
from inversion_core.editing.kinds.base import Edit, Scene, parse_shared
from inversion_core.errors import OptionInvalid

if TYPE_CHECKING:
    from torch import Tensor

MOST_STRENGTH = 100.0
"""No strength goes beyond, either way. Steps of foreign directions may be short."""
MOST_NAME = 64
MOST_HELD = 16


@dataclass(frozen=True, kw_only=True)
class DirectionEdit(Edit):
    """w + strength d (docs/math.md, equation 8)."""

    KEY: ClassVar[str] = "direction"
    AMOUNT: ClassVar[str] = "strength"

    direction: str
    """A name among the pack's directions."""
    strength: float
    """In units of the direction; 0 changes nothing."""
    hold: tuple[str, ...] = ()
    """Other directions whose attributes must stay as they are."""

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        edit = cls(
            direction=fields.text("direction", MOST_NAME),
            strength=fields.number("strength", -MOST_STRENGTH, MOST_STRENGTH),
            hold=fields.texts("hold", MOST_HELD, MOST_NAME),
            **parse_shared(fields),
        )
        if edit.direction in edit.hold:
            raise fields.fault("hold", f"names {edit.direction!r} itself; name others")
        return edit

    def own_json(self) -> dict[str, Any]:
        return {"direction": self.direction, "strength": self.strength} | (
            {"hold": list(self.hold)} if self.hold else {}
        )

    def check(self, scene: Scene, where: str) -> None:
        super().check(scene, where)
        for key, name in (("direction", self.direction), *(("hold", name) for name in self.hold)):
            if name not in scene.directions:
                known = ", ".join(scene.directions) or "no directions"
                raise OptionInvalid(f"{where}.{key} is {name!r}; pack {scene.pack.name} has {known}")

    def moved(self, scene: Scene, w_BLD: Tensor) -> Tensor:
        from inversion_core.editing.hold import held_fixed
        from inversion_core.editing.moves import move

        direction = held_fixed(self.direction, self.hold, scene.directions)
        return move(w_BLD, direction, self.strength)
