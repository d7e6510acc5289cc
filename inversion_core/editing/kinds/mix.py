"""A mix with another code: {"mix": {"seed": 7}, "amount": 0.5, "layers": [4, 9]}."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from inversion_core.editing.codes import Code, parse_code
from inversion_core.editing.fields import Fields
from inversion_core.editing.kinds.base import Edit, Scene, Sources, parse_shared

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MixEdit(Edit):
    """w + amount (v - w), with v the other code. Without layers, amount 1 is the other face."""

    KEY: ClassVar[str] = "mix"
    AMOUNT: ClassVar[str] = "amount"

    mix: Code
    amount: float = 1.0
    """From 0, which changes nothing, to 1, the other's code."""

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        mix = parse_code(f"{fields.where}.mix", fields.take("mix"))
        return cls(mix=mix, amount=fields.number("amount", 0, 1, default=1.0), **parse_shared(fields))

    def own_json(self) -> dict[str, Any]:
        return {"mix": self.mix.to_json()} | ({"amount": self.amount} if self.amount != 1 else {})

    def moved(self, scene: Scene, w_BLD: Tensor) -> Tensor:
        other_BLD = scene.resolve(self.mix).w_BLD.to(w_BLD).expand_as(w_BLD)
        return other_BLD if self.amount == 1 else w_BLD + self.amount * (other_BLD - w_BLD)

    def sources(self, scene: Scene, sources: Sources) -> Sources:
        """Of the other's detail as much as of its code, counted over the style layers on which detail lies."""
        share = self.amount * self._share_below(scene)
        kept = [(latent, before * (1 - share)) for latent, before in sources]
        return [*kept, (scene.resolve(self.mix), share)] if share else sources

    def _share_below(self, scene: Scene) -> float:
        from inversion_core.latents import detail_layer  # it needs PyTorch, which reading does not

        below = detail_layer(scene.pack.manifest.generator, scene.pack.detail.px) + 1
        first, last = self.layers or (0, below - 1)
        return max(0, min(last + 1, below) - first) / below
