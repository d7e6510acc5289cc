"""The runs themselves: every contender on every picture, each through the library's own `invert`.

Suffixes: N picture, B picture of a batch, T iteration from 0, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from inversion_core.benchmark.optimizers.comparison import Floats, best_so_far
from inversion_core.benchmark.optimizers.contenders import Contender
from inversion_core.course import course_of
from inversion_core.inverter import BestSteps, InvertConfig, invert
from inversion_core.packs import Pack
from inversion_core.progress import progress

FRAME_EVERY = 10
"""Iterations between two pictures of a strip, as in the paper's figures."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One contender on all pictures."""

    contender: Contender
    current_NT: Floats
    """Equation 1 of each iteration's own code; NaN once every picture of a batch has diverged, which ends the run."""
    frames: tuple[dict[int, Tensor], ...] = field(repr=False, default=())
    """Of the first pictures: iteration -> the best picture (3, H, W) up to it."""

    @property
    def best_NT(self) -> Floats:
        """The lowest loss up to each iteration: what the service keeps."""
        return best_so_far(self.current_NT)


def run_all(
    pack: Pack, target_NCHW: Tensor, everybody: Sequence[Contender], config: InvertConfig, *, batch: int, strips: int
) -> list[Run]:
    """Every contender from the same starts.

    Args:
        config: steps, start and seed; a random start is drawn with the seed plus the number of a batch's first
            picture, so no two pictures share one, and it is the same for all contenders.
        strips: first pictures whose frames are kept.
    """
    total = len(everybody) * len(target_NCHW) * (course_of(pack, config).total + 1)
    with progress(total=total, desc="inverting", unit="iteration") as bar:
        return [
            _run(pack, target_NCHW, each, config, batch=batch, strips=strips, tick=bar.update) for each in everybody
        ]


def _run(
    pack: Pack, target_NCHW: Tensor, contender: Contender, config: InvertConfig, *, batch: int, strips: int,
    tick: Callable[[int], object],
) -> Run:  # fmt: skip
    own, steps = contender.of(pack), course_of(pack, config).total
    current_NT = np.full((len(target_NCHW), steps + 1), np.nan)
    frames: list[dict[int, Tensor]] = [{} for _ in range(min(strips, len(target_NCHW)))]
    for first in range(0, len(target_NCHW), batch):
        target_BCHW, best = target_NCHW[first : first + batch], BestSteps()
        each = replace(config, seed=config.seed + first, optimizer=contender.name)
        for step in invert(own, target_BCHW, each):
            best.update(step)
            current_NT[first : first + batch, step.index] = step.loss_B.cpu().numpy()
            if step.index % FRAME_EVERY == 0 or step.index == steps:
                for index, kept in enumerate(frames[first : first + batch]):
                    kept[step.index] = best.image_BCHW[index].cpu()
            tick(len(target_BCHW))
    return Run(contender=contender, current_NT=current_NT, frames=tuple(frames))
