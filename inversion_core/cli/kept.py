"""The files of one inverted photo: written at its end or where it was stopped, and read to go on."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError

from inversion_core.errors import OptionInvalid
from inversion_core.inverter import Checkpoint
from inversion_core.latents import Latent
from inversion_core.pictures import strip
from inversion_pictures.colours import bare

CODE, LOSSES, STRIP, RECONSTRUCTION = "latents.npy", "losses.csv", "strip.png", "reconstruction.png"
LATENT, CHECKPOINT = "latents.safetensors", "checkpoint.safetensors"
GAP_PX = 2


class Row(NamedTuple):
    """A line of losses.csv."""

    step: int
    loss: float
    pixel: float
    perceptual: float


@dataclass(kw_only=True)
class Best:
    """The best step so far; its latent, loss and picture belong together."""

    index: int
    loss: float
    latent: Latent
    """A batch of one, in host memory."""
    image: Image.Image


@dataclass
class Frames:
    """The aligned picture, then the pictures on the way."""

    images: list[Image.Image]


@dataclass(kw_only=True)
class Kept:
    """What there is of one photo."""

    frames: Frames
    rows: list[Row] = field(default_factory=list)
    best_so_far: Best | None = None
    checkpoint: Checkpoint | None = None
    """Where it was stopped; None before that, and where it is done."""

    @property
    def is_done(self) -> bool:
        return self.best_so_far is not None and self.checkpoint is None

    @property
    def best(self) -> Best:
        assert self.best_so_far is not None
        return self.best_so_far

    def improves(self, loss: float) -> bool:
        """Whether a step of this loss is the best so far; the first one is, even if it is not finite."""
        return self.best_so_far is None or loss < self.best.loss or (
            not math.isfinite(self.best.loss) and math.isfinite(loss)
        )  # fmt: skip

    def take(self, index: int, loss: float, latent: Latent, image: Image.Image) -> None:
        self.best_so_far = Best(index=index, loss=loss, latent=latent, image=image)

    def write(self, folder: Path, checkpoint: Checkpoint | None) -> None:
        """Write every file; `checkpoint` where it was stopped, None where it is done."""
        folder.mkdir(parents=True, exist_ok=True)
        bare(self.frames.images[0]).save(folder / "aligned.png")
        self.best.image.save(folder / RECONSTRUCTION)
        with (folder / LOSSES).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([Row._fields, *self.rows])
        strip([*self.frames.images, self.best.image], GAP_PX).save(folder / STRIP)
        np.save(folder / CODE, self.best.latent.w_BLD[0].numpy())
        if self.best.latent.detail_BCHW is None:
            (folder / LATENT).unlink(missing_ok=True)
        else:
            (folder / LATENT).write_bytes(self.best.latent.to_bytes())
        if checkpoint is None:
            (folder / CHECKPOINT).unlink(missing_ok=True)
        else:
            (folder / CHECKPOINT).write_bytes(checkpoint.to_bytes())


def read_kept(folder: Path) -> Kept | None:
    """What an earlier run wrote, None where there is nothing.

    Raises:
        OptionInvalid: a file is missing or damaged.
    """
    if not (folder / CODE).exists():
        return None
    try:
        rows = _rows(folder / LOSSES)
        best = min(rows, key=lambda row: row.loss if math.isfinite(row.loss) else math.inf)
        kept = Kept(frames=Frames(_frames(folder / STRIP)), rows=rows, checkpoint=_checkpoint(folder / CHECKPOINT))
        kept.take(best.step, best.loss, _latent(folder), _picture(folder / RECONSTRUCTION))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise OptionInvalid(f"{folder} cannot be gone on from ({error}). Leave --resume out to begin anew") from error
    return kept


def _rows(file: Path) -> list[Row]:
    with file.open(newline="", encoding="utf-8") as lines:
        return [
            Row(int(row["step"]), float(row["loss"]), float(row["pixel"]), float(row["perceptual"]))
            for row in csv.DictReader(lines)
        ]


def _latent(folder: Path) -> Latent:
    if (folder / LATENT).exists():
        return Latent.from_bytes((folder / LATENT).read_bytes())
    return Latent(w_BLD=torch.from_numpy(np.load(folder / CODE, allow_pickle=False))[None])


def _picture(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _frames(file: Path) -> list[Image.Image]:
    """The pictures of a strip but the last, which is the reconstruction."""
    whole = _picture(file)
    side = whole.height
    return [whole.crop((left, 0, left + side, side)) for left in range(0, whole.width - side, side + GAP_PX)]


def _checkpoint(file: Path) -> Checkpoint | None:
    return Checkpoint.from_bytes(file.read_bytes()) if file.exists() else None
