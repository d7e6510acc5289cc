"""A mix with another code: {"mix": {"seed": 7}, "amount": 0.5, "layers": [4, 9]}."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from inversion_core.editing.codes import Code, parse_code
from inversion_core.editing.fields import Fields
from inversion_core.editing.kinds.base import Edit, Scene, parse_shared

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MixEdit(Edit):
    """w + amount (v - w), with v the other code. Without layers, amount 1 is the other face."""

    KEY: ClassVar[str] = "mix"

    mix: Code
    amount: float = 1.0
    """From 0, which changes nothing, to 1, the other's code."""

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        mix = parse_code(f"{fields.where}.mix", fields.take("mix"))
        return cls(mix=mix, amount=fields.number("amount", 0, 1, default=1.0), **parse_shared(fields))

    @property
    def is_neutral(self) -> bool:
        return self.amount == 0

    def own_json(self) -> dict[str, Any]:
        return {"mix": self.mix.to_json()} | ({"amount": self.amount} if self.amount != 1 else {})

    def moved(self, scene: Scene, w_BLD: Tensor) -> Tensor:
        other_BLD = scene.resolve(self.mix).w_BLD.to(w_BLD).expand_as(w_BLD)
        return other_BLD if self.amount == 1 else w_BLD + self.amount * (other_BLD - w_BLD)
