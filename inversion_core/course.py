"""How an inversion goes: so many updates of w, and after them so many of detail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inversion_core.errors import OptionInvalid
from inversion_core.latents import Latent, detail_shape

if TYPE_CHECKING:
    from inversion_core.options import InvertConfig
    from inversion_core.packs import Pack

STEPS_WITHOUT_DETAIL = 100
"""Updates of w where nobody says, and no detail follows."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """Options and pack put together."""

    num_steps: int
    """Updates of w."""
    detail_steps: int
    """Updates of detail after them."""
    detail_px: int | None
    """Where detail is added; None: no detail at all."""
    keeps_start: bool = False
    """Detail goes on from that of the start."""

    @property
    def total(self) -> int:
        """All updates."""
        return self.num_steps + self.detail_steps


def course_of(pack: Pack, config: InvertConfig, start: Latent | None = None) -> Course:
    """What `config` means for this pack.

    A start that has detail keeps its w where nobody says otherwise. Where w moves, its detail is left behind, since it
    belongs to the code.

    Raises:
        OptionInvalid: the pack has no layer for `config.detail_px`, or the start has detail of another size.
    """
    has_start = start is not None and start.detail_BCHW is not None and not config.num_steps
    detail_steps = pack.detail.steps if config.detail_steps is None else config.detail_steps
    num_steps = config.num_steps
    if num_steps is None:
        num_steps = 0 if has_start else pack.detail.after if detail_steps else STEPS_WITHOUT_DETAIL
    if not detail_steps and not has_start:
        return Course(num_steps=num_steps, detail_steps=0, detail_px=None)
    detail_px = _detail_px(pack, config, start if has_start else None)
    return Course(num_steps=num_steps, detail_steps=detail_steps, detail_px=detail_px, keeps_start=has_start)


def _detail_px(pack: Pack, config: InvertConfig, start: Latent | None) -> int:
    own_px = None if start is None or start.detail_BCHW is None else start.detail_BCHW.shape[-1]
    if own_px is not None and config.detail_px not in (None, own_px):
        raise OptionInvalid(f"detail_px is {config.detail_px}, and the start has detail at {own_px} px; leave it out")
    px = own_px or config.detail_px or pack.detail.px
    try:
        detail_shape(pack.manifest.generator, px)
    except ValueError as error:
        raise OptionInvalid(f"detail_px is {px}: {error}") from error
    return px
