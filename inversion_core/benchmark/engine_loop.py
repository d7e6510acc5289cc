"""The engine as something that a benchmark can step: the same iterations as in service, without a thread.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inversion_core.engine import EngineConfig, Precision, Request, Ticket
from inversion_core.engine.admission import check_in
from inversion_core.engine.core import Core
from inversion_core.inverter import InvertConfig
from inversion_core.packs import Pack

MANY_STEPS = 1_000_000


class EngineLoop:
    """Some pictures that are inverted together, an iteration at a time."""

    def __init__(self, pack: Pack, target_BCHW: Tensor, config: InvertConfig, *, slots: int | None = None,
                 precision: Precision = Precision.FLOAT32) -> None:  # fmt: skip
        """`slots`: how many are computed together, all of them if not said."""
        own = EngineConfig(slots=slots or len(target_BCHW), steps_ahead=2 * MANY_STEPS, turn_steps=MANY_STEPS,
                           precision=precision)  # fmt: skip
        self._core = Core(own)
        self._tickets: list[Ticket] = []
        for target_CHW in target_BCHW:
            ticket = Ticket(depth=2 * MANY_STEPS, wake=_nothing)
            request = Request(pack=pack, target_CHW=target_CHW, config=config, frame_every=None)
            self._core.waiting.add(check_in(request, ticket), priority=0, now_s=0.0)
            self._tickets.append(ticket)

    def step(self) -> list[float]:
        """One iteration; returns the losses before its update, of those who took part and in their order."""
        self._core.tick(self._core.pick())
        losses = []
        for ticket in self._tickets:
            if ticket.has_steps:
                losses.append(next(ticket).loss)
        return losses

    @property
    def is_ended(self) -> bool:
        return all(ticket.is_ended for ticket in self._tickets)


def own_pictures(pack: Pack, count: int) -> Tensor:
    """Pictures (count, 3, H, W) that the pack itself draws: others for each row, the same in each run."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        rows = [pack.synthesize(pack.map(torch.randn(1, pack.z_dim, generator=generator))) for _ in range(count)]
    return torch.cat(rows)


def _nothing() -> None:
    pass
