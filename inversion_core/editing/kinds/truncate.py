"""Truncation, towards the pack's average face: {"truncate": 0.7}."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from inversion_core.editing.fields import Fields
from inversion_core.editing.kinds.base import Edit, Scene, parse_shared

if TYPE_CHECKING:
    from torch import Tensor

LOWEST_PSI, HIGHEST_PSI = -2.0, 2.0


@dataclass(frozen=True, kw_only=True)
class TruncateEdit(Edit):
    """w_avg + psi (w - w_avg) (Karras 2019, appendix B)."""

    KEY: ClassVar[str] = "truncate"
    AMOUNT: ClassVar[str] = "psi"
    NEUTRAL: ClassVar[float] = 1.0

    psi: float
    """1 changes nothing, 0 is the average face, beyond 1 is a caricature, below 0 an opposite."""

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(psi=fields.number(cls.KEY, LOWEST_PSI, HIGHEST_PSI), **parse_shared(fields))

    def own_json(self) -> dict[str, Any]:
        return {self.KEY: self.psi}

    def moved(self, scene: Scene, w_BLD: Tensor) -> Tensor:
        w_avg_BLD = scene.pack.mean_codes(len(w_BLD)).to(w_BLD)
        return w_avg_BLD + self.psi * (w_BLD - w_avg_BLD)
