"""A request to the engine: one picture and its options.

Suffixes: L style layer, D latent w, C channel, H W height and width; 1 a batch of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from inversion_core.engine.stop import StopRules
from inversion_core.errors import OptionInvalid
from inversion_core.inverter import Checkpoint, InvertConfig
from inversion_core.latents import Latent
from inversion_core.packs import Pack
from inversion_core.packs.pack import check_values


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One inversion. The result is that of `invert` with the same arguments, unless a stop rule ends it earlier."""

    pack: Pack
    target_CHW: Tensor
    """Picture in [-1, 1] at the pack's resolution."""
    config: InvertConfig = field(default_factory=InvertConfig)
    rules: StopRules = field(default_factory=StopRules)
    start_LD: Latent | Tensor | None = None
    """Code to start from, instead of `config.start`; or a latent, a batch of one."""
    mask_HW: Tensor | None = None
    """1 where the result must match the picture, 0 where it is free."""
    resume: Checkpoint | None = None
    """Continue from this checkpoint of a batch of one. Its own Step comes again first."""
    losses_before: Sequence[tuple[int, float]] = ()
    """Index and loss of the Steps before `resume`, for the plateau rule."""
    frame_every: int | None = 1
    """Make a frame every N updates, and at the first and last Step. None: no frames."""
    priority: int = 0
    """Each level is a head start of `EngineConfig.aging_s` in the queue."""

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
            self._checked_start()
        if self.frame_every is not None and self.frame_every < 1:
            raise OptionInvalid(f"frame_every is {self.frame_every}; it must be 1 or more, or None")

    @property
    def start(self) -> Latent | None:
        """`start_LD` as a latent on the pack's device."""
        return None if self.start_LD is None else self._checked_start()

    def _checked_start(self) -> Latent:
        given = self.start_LD
        assert given is not None
        latent = self.pack.check_latent(given[None] if isinstance(given, Tensor) else given)
        if len(latent) != 1:
            raise ValueError(f"the start has {len(latent)} images; a request has one")
        return latent

    def wants_frame(self, index: int, *, is_last: bool) -> bool:
        """Whether the Step after `index` updates should have a frame."""
        return self.frame_every is not None and (is_last or index % self.frame_every == 0)
