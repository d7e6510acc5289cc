"""What all trainers do alike: the run over the steps, held-out figures, sample sheets, checkpoints.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from inversion_core.models.lpips import LPIPSSqueeze
from inversion_core.pictures import grid, to_image
from inversion_core.training.data import PictureSet
from inversion_core.training.identity import IdentityDistance
from inversion_core.training.jitter import varied
from inversion_core.training.loop import train
from inversion_core.training.options import TrainingOptions
from inversion_core.training.precision import autocast
from inversion_core.training.recording import Recorder
from inversion_core.training.run import RunFolder

O = TypeVar("O", bound=TrainingOptions)  # noqa: E741 (the options of a subclass)
MEASURED = 32
"""Held-out pictures behind the figures in the log."""


class BaseTrainer(ABC, Generic[O]):
    """A run: `run` goes on from the folder's checkpoint to the last step.

    A subclass makes its networks and optimizers, then calls `restore`.
    """

    title: ClassVar[str]

    def __init__(self, config: O, pictures: PictureSet, held_out: PictureSet, folder: RunFolder, *,
                 lpips: LPIPSSqueeze | None, identity: IdentityDistance | None,
                 device: str | torch.device):  # fmt: skip
        torch.manual_seed(config.seed)
        self.config, self.folder, self.device = config, folder, torch.device(device)
        self.pictures, self.held_out = pictures.to(self.device), held_out.to(self.device)
        self.lpips = None if lpips is None else lpips.to(self.device)
        self.identity = None if identity is None else identity.to(self.device)
        self.recorder = Recorder(self.device, is_on=config.records_steps)
        self.step = 0

    # -- what a subclass gives -------------------------------------------------------------------------------

    @property
    @abstractmethod
    def total_steps(self) -> int:
        """Steps of the whole run."""

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """What the checkpoint keeps, by name."""

    @abstractmethod
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Likewise."""

    @abstractmethod
    def learn(self, real_BCHW: Tensor) -> Mapping[str, Tensor]:
        """One step on a batch that is on the device; the losses by name. Random numbers are seeded already."""

    @abstractmethod
    def reconstruct(self, image_BCHW: Tensor) -> Tensor:
        """Pictures through the averaged encoder and the generator."""

    @abstractmethod
    def rows(self, real_BCHW: Tensor) -> list[Tensor]:
        """Rows of the sample sheet below the held-out pictures, each as long."""

    def batch_size_at(self, step: int) -> int:
        """Real pictures of a step."""
        return self.config.batch_size

    def compare(self) -> Mapping[str, float]:
        """Dear figures, as often as there are sample sheets."""
        return {}

    # -- the run ---------------------------------------------------------------------------------------------

    def run(self, *, until: int | None = None, sample_every: int = 500, stop_after_s: float = math.inf) -> None:
        """Train to the last step, or to `until`, or for so many seconds."""
        last = min(self.total_steps if until is None else until, self.total_steps)
        steps = itertools.count(self.step)
        batches = (self.pictures.batch(k, self.batch_size_at(k), self.config.seed) for k in steps)
        train(
            self, batches, until=last, sample_every=sample_every, stop_after_s=stop_after_s, title=self.title
        )  # fmt: skip

    def train_step(self, real_BCHW: Tensor) -> dict[str, Tensor]:
        """One step on pictures in [-1, 1]; the losses by name, still on the device."""
        torch.manual_seed(self.config.seed * 7_919 + self.step)  # a resumed run draws what an unbroken one draws
        return {name: value.detach() for name, value in self.learn(real_BCHW.to(self.device)).items()}

    def target(self, real_BCHW: Tensor) -> Tensor:
        """What is to be reconstructed in place of a real picture: encoder and loss see it, D sees the picture."""
        return varied(real_BCHW, self.config)

    def first_identity(self, batch: int) -> int | None:
        """Row of a step's batch that is the first with an identity term; None: none has one."""
        if self.identity is None or not self.config.identity_weight:
            return None
        first = -self.step * batch % self.config.identity_every
        return first if first < batch else None

    def identity_loss(self, image_BCHW: Tensor, target_BCHW: Tensor) -> dict[str, Tensor]:
        """The identity term by its name, or nothing: where it has no weight, and in steps without a row that has it."""
        weight, every, batch = self.config.identity_weight, self.config.identity_every, len(image_BCHW)
        first = self.first_identity(batch)
        if self.identity is None or first is None:
            return {}
        distance_B = self.identity(image_BCHW[first::every], target_BCHW[first::every])
        return {"identity": weight * every / batch * distance_B.sum()}

    def clip(self, encoder: nn.Module) -> None:
        """Shorten the encoder's gradient where it is longer than `encoder_clip`."""
        if self.config.encoder_clip:
            nn.utils.clip_grad_norm_(encoder.parameters(), self.config.encoder_clip)

    def autocast(self) -> AbstractContextManager[object]:
        """For the networks' forward passes: bfloat16 where the options say so."""
        return autocast(self.device, self.config.precision)

    # -- what a person looks at ------------------------------------------------------------------------------

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Distances of held-out pictures from their reconstructions: MSE in [-1, 1] and LPIPS."""
        real_BCHW = self.held_out.take(torch.arange(min(MEASURED, len(self.held_out))))
        figures = self.distances(self.reconstruct(real_BCHW), real_BCHW)
        return {name: round(float(value), 5) for name, value in figures.items()}

    def distances(self, image_BCHW: Tensor, real_BCHW: Tensor) -> dict[str, Tensor]:
        figures = {"held_out_mse": (image_BCHW - real_BCHW).square().mean()}
        if self.lpips is not None:
            figures["held_out_lpips"] = self.lpips(image_BCHW, real_BCHW).mean()
        if self.identity is not None:
            embeddings = (self.identity.embed(image_BCHW), self.identity.embed(real_BCHW))
            figures["held_out_identity"] = (embeddings[0] * embeddings[1]).sum(dim=1).mean()
        return figures

    @torch.no_grad()
    def sample(self, columns: int = 12) -> Path:
        """Write a sheet: held-out pictures, and below what the networks make."""
        columns = min(columns, len(self.held_out))
        real_BCHW = self.held_out.take(torch.arange(columns))
        rows = [real_BCHW, *self.rows(real_BCHW)]
        file = self.folder.path / f"sample-{self.step:07d}.png"
        grid([to_image(image) for row in rows for image in row.cpu()], columns).save(file)
        return file

    # -- keeping ---------------------------------------------------------------------------------------------

    def save(self) -> None:
        self.folder.save(self.modules(), self.optimizers(), self.facts())

    def facts(self) -> dict[str, Any]:
        """What the checkpoint keeps beside the weights."""
        return {"step": self.step, "config": dataclasses.asdict(self.config)}

    def restore(self) -> bool:
        """Go on from the folder's checkpoint; whether there is one."""
        facts = self.folder.load(self.modules(), self.optimizers())
        if facts is not None:
            self.step = int(facts["step"])
        return facts is not None
