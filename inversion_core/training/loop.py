"""The loop that every trainer shares: steps, means into the log, sample pictures, checkpoints, a progress bar."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from inversion_core.progress import progress
from inversion_core.training.run import RunFolder


class Trainer(Protocol):
    """What the loop needs of a trainer."""

    step: int
    """Steps done."""
    folder: RunFolder

    def train_step(self, real_BCHW: Tensor) -> Mapping[str, Tensor]:
        """One step on a batch in [-1, 1]; the losses by name, on whatever device."""
        ...

    def measure(self) -> Mapping[str, float]:
        """Cheap figures by name, for each row of the log."""
        ...

    def compare(self) -> Mapping[str, float]:
        """Dear figures by name, as often as there are sample pictures."""
        ...

    def sample(self) -> Path:
        """Write a sheet of pictures."""
        ...

    def save(self) -> None:
        """Write the checkpoint."""
        ...


class Means:
    """Means of the losses since the last row. They stay on the device, so that the host need not wait each step."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            self._values.setdefault(name, []).append(value)

    def take(self) -> dict[str, float]:
        """The means, each over the steps that had this loss; begins anew."""
        means = {name: round(float(torch.stack(values).mean()), 5) for name, values in self._values.items()}
        self._values.clear()
        return means


def train(
    trainer: Trainer,
    batches: Iterator[Tensor],
    *,
    until: int,
    save_every_s: float = 120.0,
    log_every: int = 50,
    sample_every: int = 500,
    stop_after_s: float = math.inf,
    title: str = "training",
) -> None:
    """Go on from `trainer.step` to step `until`; `batches` starts where the trainer stands.

    After `stop_after_s` it ends sooner, with its checkpoint written: a machine may be lent for so long.
    """
    started = saved_at = time.monotonic()
    means = Means()
    with progress(total=until, initial=trainer.step, unit="step", desc=title) as bar:
        while trainer.step < until and time.monotonic() - started < stop_after_s:
            means.add(trainer.train_step(next(batches)))
            trainer.step += 1
            bar.update()
            row: dict[str, float] = {}
            if trainer.step % log_every == 0:
                row |= trainer.measure()
                row |= (losses := means.take())
                bar.set_postfix(losses, refresh=False)
            if trainer.step % sample_every == 0:
                trainer.sample()
                row |= trainer.compare()
            if row:
                trainer.folder.log({"step": trainer.step, **row})
            if time.monotonic() - saved_at > save_every_s:
                trainer.save()
                saved_at = time.monotonic()
    trainer.save()
    trainer.sample()
