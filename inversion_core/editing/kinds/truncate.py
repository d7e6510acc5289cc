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
    """c + psi (w - c) (Karras 2019, appendix B), about the mean c of the codes of random faces, not of w."""

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
        from inversion_core.editing.domain import centre  # it needs PyTorch, which reading does not

        centre_1LD = centre(scene.pack).to(w_BLD)
        return centre_1LD + self.psi * (w_BLD - centre_1LD)
