"""Training pictures: one packed archive of uint8 squares, split by likeness into training and held-out parts.

Suffixes: N picture, C channel, H W height and width, F number in a thumbnail.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from inversion_core.errors import OptionInvalid, PictureInvalid
from inversion_core.picture_files import find_pictures
from inversion_core.pictures import load_photo
from inversion_core.progress import progress
from inversion_pictures.reading import ANY_SIZE

MIN_SIZE_PX = 8
"""Smallest side of a training picture."""
THUMBNAIL_PX = 16
TWIN_CORRELATION = 0.87
"""Pictures whose colour thumbnails, less the mean picture, correlate more than this are one group: twins stay on one
side of the split. On One Million Impressions this joins all versions of one face, and a tenth of the faces to another
(docs/experiments/2026-11-22-split-by-likeness.md)."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What became of the pictures below some folders."""

    count: int
    """Pictures in the archive."""
    broken: tuple[Path, ...]
    """Files that cannot be read; each was named on stderr."""


def pack_pictures(folders: Sequence[Path], out: Path, size_px: int) -> Packed:
    """Write every picture below `folders`, upright and in sRGB, as squares of `size_px`, into one .npz archive.

    Raises:
        OptionInvalid: a folder is not there or has no picture, or the size is none.
        PictureInvalid: none of the pictures can be read.
    """
    if size_px < MIN_SIZE_PX:
        raise OptionInvalid(f"the size is {size_px} px; it must be at least {MIN_SIZE_PX} px")
    if out.is_dir():
        raise OptionInvalid(f"{out} is a folder; name the archive, such as {out / 'pictures.npz'}")
    files = [file for folder in folders for file in find_pictures(folder)]
    squares, names, broken = [], [], []
    for file in progress(files, desc="reading", unit="picture"):
        try:
            squares.append(_load_square(file, size_px))
        except PictureInvalid as error:
            print(f"skipped {file}: {error}", file=sys.stderr)
            broken.append(file)
            continue
        names.append(f"{file.parent.name}/{file.name}")
    if not squares:
        raise PictureInvalid(f"None of the {len(files)} pictures can be read; the reason stands with each.")
    pictures_NHWC = np.stack(squares)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, pictures_NHWC=pictures_NHWC, names=np.array(names), group_N=likeness_groups(pictures_NHWC))
    return Packed(count=len(squares), broken=tuple(broken))


def _load_square(file: Path, size_px: int) -> NDArray[np.uint8]:
    square = ImageOps.fit(load_photo(file, ANY_SIZE), (size_px, size_px), Image.Resampling.LANCZOS)
    return np.asarray(square)


def likeness_groups(pictures_NHWC: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number the groups of pictures that are alike: connected by a thumbnail correlation above TWIN_CORRELATION.

    The mean picture is taken away first: all aligned faces are alike, and what counts is what sets one apart. A
    mirrored twin is a twin, since training mirrors.
    """
    thumbs_NF = _thumbnails(pictures_NHWC)
    mirrored_NF = _thumbnails(pictures_NHWC[:, :, ::-1])
    mean_F = (thumbs_NF + mirrored_NF).mean(axis=0) / 2
    thumbs_NF, mirrored_NF = _unit(thumbs_NF - mean_F), _unit(mirrored_NF - mean_F)
    alike = np.maximum(thumbs_NF @ thumbs_NF.T, thumbs_NF @ mirrored_NF.T) > TWIN_CORRELATION
    np.fill_diagonal(alike, True)
    group_N = np.arange(len(thumbs_NF))
    while True:  # each picture takes the smallest number among its like, until nothing changes
        smallest = np.where(alike, group_N[None, :], len(thumbs_NF)).min(axis=1)
        if (smallest == group_N).all():
            return group_N
        group_N = smallest


def _thumbnails(pictures_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    pictures = (Image.fromarray(np.ascontiguousarray(picture)) for picture in pictures_NHWC)
    return np.stack([np.asarray(p.resize((THUMBNAIL_PX,) * 2), np.float32).ravel() for p in pictures])


def _unit(x_NF: NDArray[np.float32]) -> NDArray[np.float32]:
    length_N1 = np.linalg.norm(x_NF, axis=1, keepdims=True)
    unit_NF: NDArray[np.float32] = x_NF / (length_N1 + 1e-6)
    return unit_NF


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures in memory, as uint8 (N, 3, H, W)."""

    pictures_NCHW: Tensor
    weight_N: Tensor
    """How often each is drawn: 1 / sqrt(size of its likeness group), so thirty pictures of one person count as six."""
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures_NCHW)

    def to(self, device: str | torch.device) -> PictureSet:
        """The same with the pictures on a device, as uint8; what is drawn does not depend on where they lie."""
        return dataclasses.replace(self, pictures_NCHW=self.pictures_NCHW.to(device))

    def take(self, index_N: Tensor) -> Tensor:
        """The pictures at these indices as float32 in [-1, 1], where the pictures lie; the host does not wait."""
        return self.pictures_NCHW[index_N.to(self.pictures_NCHW.device, non_blocking=True)].float() / 127.5 - 1

    def batch(self, number: int, size: int, seed: int) -> Tensor:
        """Pictures in [-1, 1], drawn by weight and mirrored at random; the same for the same number and seed."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        picked = self.take(torch.multinomial(self.weight_N, size, replacement=True, generator=generator))
        mirrored = torch.rand(size, 1, 1, 1, generator=generator) < 0.5
        return torch.where(mirrored.to(picked.device, non_blocking=True), picked.flip(3), picked)


def load_pictures(archive: Path, *, held_out: int, seed: int = 0) -> tuple[PictureSet, PictureSet]:
    """Read an archive and split it by likeness group: (training, held-out), the latter at least `held_out` pictures.

    Raises:
        OptionInvalid: the archive is not one of `inversion train data`, or too small for the split.
    """
    pictures, names, group_N = _read_archive(archive)
    order = np.random.default_rng(seed).permutation(np.unique(group_N))
    sizes = np.array([(group_N == g).sum() for g in order])
    small = order[sizes <= max(2, held_out // 20)]  # no single person may fill the held-out part
    chosen = small[: int(np.searchsorted(np.cumsum([(group_N == g).sum() for g in small]), held_out)) + 1]
    is_held_out = np.isin(group_N, chosen)
    if is_held_out.sum() < held_out or is_held_out.all():
        raise OptionInvalid(f"{archive} has {len(pictures)} pictures: too few to hold out {held_out}")

    def subset(mask: NDArray[np.bool_]) -> PictureSet:
        tensor = torch.from_numpy(np.ascontiguousarray(pictures[mask].transpose(0, 3, 1, 2)))
        _, inverse, counts = np.unique(group_N[mask], return_inverse=True, return_counts=True)
        weight_N = torch.from_numpy(1 / np.sqrt(counts[inverse]))
        return PictureSet(pictures_NCHW=tensor, weight_N=weight_N, names=tuple(names[mask].tolist()))

    return subset(~is_held_out), subset(is_held_out)


def _read_archive(archive: Path) -> tuple[NDArray[np.uint8], NDArray[np.str_], NDArray[np.int64]]:
    try:
        with archive.open("rb") as file, np.load(file, allow_pickle=False) as content:
            return content["pictures_NHWC"], content["names"], content["group_N"]
    except (ValueError, KeyError, EOFError, BadZipFile, AttributeError, TypeError) as error:  # or a bare .npy
        raise OptionInvalid(
            f"{archive} is no picture archive; make one with: inversion train data FOLDER --out {archive}"
        ) from error
