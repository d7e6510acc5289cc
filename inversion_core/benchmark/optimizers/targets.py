"""The pictures that are inverted: photographs, and the held-out part of training archives.

Suffixes: N picture, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inversion_core.benchmark.optimizers.config import OptimizersConfig
from inversion_core.benchmark.photos import find_photos, load_subjects
from inversion_core.errors import OptionInvalid
from inversion_core.packs import Pack
from inversion_core.pictures import to_tensor
from inversion_core.training.data import load_pictures

ARCHIVE_SUFFIX = ".npz"


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Pictures at the pack's resolution, in [-1, 1]."""

    names: tuple[str, ...]
    picture_NCHW: Tensor
    skipped: tuple[str, ...] = ()
    """Photographs that could not be used."""


def load_targets(paths: Sequence[Path], pack: Pack, config: OptimizersConfig) -> Targets:
    """Read photographs, folders of them and archives of `inversion train data`, in this order.

    Raises:
        OptionInvalid: a folder has no picture; an archive is none, too small, or of another size than the pack's.
        NoFaceFound, PictureInvalid: none of the photographs can be used.
    """
    archives = [path for path in paths if path.suffix == ARCHIVE_SUFFIX]
    photos = [path for path in paths if path.suffix != ARCHIVE_SUFFIX]
    parts = [_photos(photos, pack, config)] if photos else []
    parts += [_archive(path, pack, config) for path in archives]
    return Targets(
        names=tuple(name for part in parts for name in part.names),
        picture_NCHW=torch.cat([part.picture_NCHW for part in parts]),
        skipped=tuple(name for part in parts for name in part.skipped),
    )


def _photos(paths: Sequence[Path], pack: Pack, config: OptimizersConfig) -> Targets:
    files = find_photos(paths)[: config.limit]
    subjects, skipped = load_subjects(files, pack.resolution, align=config.align, landmarks=False)
    pictures = torch.cat([to_tensor(subject.aligned) for subject in subjects])
    return Targets(names=tuple(each.name for each in subjects), picture_NCHW=pictures, skipped=tuple(skipped))


def _archive(path: Path, pack: Pack, config: OptimizersConfig) -> Targets:
    _, held_out = load_pictures(path, held_out=config.held_out)
    if (side_px := held_out.pictures_NCHW.shape[-1]) != pack.resolution:
        raise OptionInvalid(f"{path} has pictures of {side_px} px; pack {pack.name} needs {pack.resolution}")
    count = min(config.limit or len(held_out), len(held_out))
    index_N = torch.linspace(0, len(held_out) - 1, count).long()
    return Targets(names=tuple(held_out.names[i] for i in index_N), picture_NCHW=held_out.take(index_N))
