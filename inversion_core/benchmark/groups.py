"""Whom a pack reconstructs less well: held-out pictures, by people's ratings of them and by pose.

The pictures are those that training held out, so the split must be the same: `load_pictures` with the same number.
Suffixes: B image, N picture, C channel, H W height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inversion_core.benchmark.grouping import pick, yaw_deg
from inversion_core.benchmark.groups_report import Values, write_report
from inversion_core.benchmark.methods import ADAM, method_names, run_methods
from inversion_core.benchmark.quality import Distance, load_distance, picture_measures
from inversion_core.errors import OptionInvalid
from inversion_core.faces import FaceDetector
from inversion_core.packs import Pack, load_pack
from inversion_core.pictures import to_image
from inversion_core.progress import progress
from inversion_core.training.data import PictureSet, load_pictures
from inversion_core.training.rating_table import Table, read_ratings

RATINGS = ("age", "gender", "skin-color", "hair-color", "weight", "happy", "asian", "black", "white")
"""Columns that are taken of a table that has them, where none are named."""
POSE = "pose"


@dataclass(frozen=True, kw_only=True)
class GroupsConfig:
    """What is measured, and on what."""

    by: tuple[str, ...] = ()
    """Columns of the ratings; none takes those of `RATINGS` that are there."""
    folder: str = "images"
    """Folder in the archive whose pictures are numbered as the ratings are."""
    held_out: int = 96
    """As in training: with another number the pictures may have been trained on."""
    steps: int = 100
    """Updates."""
    optimizers: tuple[str, ...] = (ADAM,)
    """Those of the pack that are measured."""
    lpips: Path | None = None
    """LPIPS squeeze weights (`inversion_core.models.lpips`); None leaves the measure out."""
    batch: int = 8
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise OptionInvalid(f"batch is {self.batch}; it must be at least 1")
        if self.held_out < 1:
            raise OptionInvalid(f"held-out is {self.held_out}; it must be at least 1")


def measure_groups(
    pack_name: str | Path | None, data: Path, ratings: Path, out: Path, config: GroupsConfig | None = None
) -> str:
    """Invert the held-out pictures and write groups.json and groups.md into `out`; returns the text of the latter.

    Raises:
        PackNotFound, PackInvalid: as `load_pack`; the LPIPS file is broken.
        OptionInvalid: archive, ratings and pack do not go together.
    """
    config = config or GroupsConfig()
    pack = load_pack(pack_name, device=config.device)
    method_names(pack, [config.steps], config.optimizers)
    lpips = load_distance(config.lpips, pack)
    table = read_ratings(ratings)
    pictures = _held_out(data, config.held_out, pack)
    picked = pick(pictures.names, table, config.folder)
    pictures_NCHW = pictures.take(torch.tensor(list(picked)))
    columns = {by: [ratings_of[by] for ratings_of in picked.values()] for by in _columns(config.by, table)}
    columns[POSE] = poses(pictures_NCHW)
    values = measure(pack, pictures_NCHW, lpips, config)
    return write_report(out, pack, columns, values, held_out=config.held_out)


def poses(pictures_NCHW: Tensor) -> list[float]:
    """How far each face is turned to a side, in degrees; NaN where no face is found."""
    detector = FaceDetector()
    found = [detector.detect(to_image(picture)) for picture in progress(pictures_NCHW, desc="poses", unit="picture")]
    return [abs(yaw_deg(faces[0].landmarks)) if faces else math.nan for faces in found]


def _held_out(data: Path, count: int, pack: Pack) -> PictureSet:
    _, held_out = load_pictures(data, held_out=count)
    if (size := held_out.pictures_NCHW.shape[-1]) != pack.resolution:
        raise OptionInvalid(f"{data} has pictures of {size} px; pack {pack.name} needs {pack.resolution}")
    return held_out


def _columns(by: Sequence[str], table: Table) -> list[str]:
    there = list(next(iter(table.values()), {}))
    if missing := [name for name in by if name not in there]:
        raise OptionInvalid(f"the ratings have no column {', '.join(missing)}; there are: {', '.join(there)}")
    return list(by) or [name for name in RATINGS if name in there]


def measure(pack: Pack, pictures_NCHW: Tensor, lpips: Distance | None, config: GroupsConfig) -> Values:
    """Each method's measures of each picture."""
    values: Values = {}
    total = len(pictures_NCHW) * len(config.optimizers) * (config.steps + 1)
    with progress(total=total, desc="inverting", unit="step") as bar:
        for target_BCHW in pictures_NCHW.split(config.batch):
            target_BCHW = target_BCHW.to(pack.device)

            def tick(count: int = len(target_BCHW)) -> None:
                bar.update(count)

            for result in run_methods(pack, target_BCHW, [config.steps], optimizers=config.optimizers, tick=tick):
                for name, column in picture_measures(result.image_BCHW, target_BCHW, lpips).items():
                    values.setdefault(result.method, {}).setdefault(name, []).extend(column)
    return values
