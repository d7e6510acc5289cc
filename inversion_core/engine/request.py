"""What a caller hands in: one picture and what to do with it.

Suffixes: L style layer, D latent w, C channel, H W height and width; 1 a batch of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from inversion_core.engine.stop import StopRules
from inversion_core.errors import OptionInvalid
from inversion_core.inverter import Checkpoint, InvertConfig
from inversion_core.packs import Pack
from inversion_core.packs.pack import check_values


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One inversion; it ends as `invert` would with the same arguments, or earlier by a stop rule."""

    pack: Pack
    target_CHW: Tensor
    """Picture in [-1, 1], at the pack's resolution."""
    config: InvertConfig = field(default_factory=InvertConfig)
    rules: StopRules = field(default_factory=StopRules)
    start_LD: Tensor | None = None
    """Code to start from, in place of `config.start`."""
    mask_HW: Tensor | None = None
    """1 where the pictures must agree, 0 where anything goes."""
    resume: Checkpoint | None = None
    """Goes on after this Step of a batch of one; its own Step comes again first."""
    losses_before: Sequence[tuple[int, float]] = ()
    """Index and loss of the Steps before `resume`; the plateau rule goes on from them."""
    frame_every: int | None = 1
    """A frame at each so many updates, at the first Step and at the last; None: no frames."""
    priority: int = 0
    """A step higher is like having come `EngineConfig.aging_s` earlier."""

    def __post_init__(self) -> None:
        side = self.pack.resolution
        if self.target_CHW.shape != (3, side, side):
            raise ValueError(
                f"the picture has shape {tuple(self.target_CHW.shape)}; pack {self.pack.name} takes (3, {side}, {side})"
            )
        check_values(self.target_CHW)
        if self.mask_HW is not None and self.mask_HW.shape != (side, side):
            raise ValueError(f"the mask has shape {tuple(self.mask_HW.shape)}; it must be ({side}, {side})")
        if self.start_LD is not None:
            self.pack.check_codes(self.start_LD[None])
        if self.frame_every is not None and self.frame_every < 1:
            raise OptionInvalid(f"frame_every is {self.frame_every}; it must be 1 or more, or None")

    def wants_frame(self, index: int, *, is_last: bool) -> bool:
        """Whether the Step after `index` updates has a frame."""
        return self.frame_every is not None and (is_last or index % self.frame_every == 0)
