"""The loop that every trainer shares: steps, means into the log, sample pictures, checkpoints, a progress bar."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from torch import Tensor
from tqdm import tqdm

from inversion_core.training.run import RunFolder


class Trainer(Protocol):
    """What the loop needs of a trainer."""

    step: int
    """Steps done."""
    folder: RunFolder

    def train_step(self, real_BCHW: Tensor) -> dict[str, float]:
        """One step on a batch in [-1, 1]; the losses by name."""
        ...

    def measure(self) -> dict[str, float]:
        """Figures on held-out pictures by name."""
        ...

    def sample(self) -> Path:
        """Write a sheet of pictures."""
        ...

    def save(self) -> None:
        """Write the checkpoint."""
        ...


def train(
    trainer: Trainer,
    batches: Iterator[Tensor],
    *,
    until: int,
    save_every_s: float = 120.0,
    log_every: int = 50,
    sample_every: int = 500,
    title: str = "training",
) -> None:
    """Go on from `trainer.step` to step `until`; `batches` starts where the trainer stands."""
    saved_at = time.monotonic()
    sums: defaultdict[str, float] = defaultdict(float)
    count = 0
    with tqdm(total=until, initial=trainer.step, unit="step", desc=title, mininterval=1.0) as bar:
        while trainer.step < until:
            losses = trainer.train_step(next(batches))
            trainer.step += 1
            count += 1
            for name, value in losses.items():
                sums[name] += value
            bar.update()
            if trainer.step % log_every == 0:
                means = {name: round(value / count, 5) for name, value in sums.items()}
                trainer.folder.log({"step": trainer.step, **trainer.measure(), **means})
                bar.set_postfix(means, refresh=False)
                sums.clear()
                count = 0
            if trainer.step % sample_every == 0:
                trainer.sample()
            if time.monotonic() - saved_at > save_every_s:
                trainer.save()
                saved_at = time.monotonic()
    trainer.save()
    trainer.sample()
