"""Random faces of a pack beside real ones: KID and FID on features of networks given by path, and a sheet for the eye.

Suffixes: B image, N picture, F feature, Z latent z, C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from inversion_core.benchmark.distribution import fid, kid
from inversion_core.benchmark.features import ABOUT, Embed
from inversion_core.packs import Pack
from inversion_core.pictures import grid, to_image
from inversion_core.training.data import PictureSet

CHUNK = 50
SHEET_SIDE = 8
SHEET_PSI = 0.7


@dataclass(frozen=True, kw_only=True)
class SamplesConfig:
    """What is drawn and compared."""

    count: int = 2000
    """Samples of each psi, and at most as many training pictures."""
    psis: tuple[float, ...] = (1.0, 0.7)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 4 or not self.psis:
            raise ValueError(f"count is {self.count}, psi {self.psis}; at least 4 samples and one psi are needed")


@torch.no_grad()
def measure_samples(
    out: Path,
    pack: Pack,
    training: PictureSet,
    held_out: PictureSet,
    embeds: Mapping[str, Embed],
    config: SamplesConfig,
) -> str:
    """Write samples.json and samples.png into `out`; returns a table. `embeds` as `features.embedders` gives them.

    Raises:
        ValueError: the pictures are not of the pack's size, or too few.
    """
    if training.pictures_NCHW.shape[-1] != pack.resolution:
        raise ValueError(f"the pictures have {training.pictures_NCHW.shape[-1]} px; {pack.name} has {pack.resolution}")
    index_N = torch.randperm(len(training), generator=torch.Generator().manual_seed(config.seed))
    real = _embed((training.take(part).to(pack.device) for part in index_N[: 2 * config.count].split(CHUNK)), embeds)
    half = min(len(training), 2 * config.count) // 2
    references = {
        "held_out": _embed(_held_out(held_out, pack), embeds),
        "training": {name: each_NF[: config.count] for name, each_NF in real.items()},
    }
    halves = [{name: each_NF[part] for name, each_NF in real.items()} for part in (slice(half), slice(half, None))]
    rows = {"training, two halves": _distances(*halves)}
    rows |= {"training, held_out": _distances(references["training"], references["held_out"])}
    for psi in config.psis:
        fake = _embed(_samples(pack, psi, config), embeds)
        rows |= {f"psi {psi:g}, {name}": _distances(fake, each) for name, each in references.items()}
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "pack": f"{pack.name} {pack.version}",
        "features": {name: ABOUT[name] for name in embeds},
        "kid": "unbiased, polynomial kernel (x.y / F + 1)^3, all pairs; error: jackknife over 10 blocks",
        "config": dataclasses.asdict(config), "command": "inversion " + " ".join(sys.argv[1:]),
    }  # fmt: skip
    (out / "samples.json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    _sheet(pack).save(out / "samples.png")
    return "\n".join(_line(name, row) for name, row in rows.items())


Features = Mapping[str, Tensor]
"""(N, F) of the same pictures, by the name of what made them."""


def _embed(pictures: Iterable[Tensor], embeds: Mapping[str, Embed]) -> Features:
    parts = [[embed(image_BCHW) for embed in embeds.values()] for image_BCHW in pictures]
    return {name: torch.cat(column) for name, column in zip(embeds, zip(*parts, strict=True), strict=True)}


def _distances(a: Features, b: Features) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, a_NF in a.items():
        b_NF = b[name]
        estimate = kid(a_NF, b_NF)
        row |= {f"kid_{name}": estimate.value, f"kid_{name}_error": estimate.error, f"fid_{name}": fid(a_NF, b_NF)}
        row |= {"pictures": len(a_NF), "against": len(b_NF)}
    return row


def _samples(pack: Pack, psi: float, config: SamplesConfig) -> Iterator[Tensor]:
    draw = torch.Generator().manual_seed(config.seed)
    for z_BZ in torch.randn(config.count, pack.z_dim, generator=draw).to(pack.device).split(CHUNK):
        yield pack.synthesize(pack.generator.map(z_BZ, psi=psi))


def _held_out(pictures: PictureSet, pack: Pack) -> Iterator[Tensor]:
    for index_N in torch.arange(len(pictures)).split(CHUNK):
        yield pictures.take(index_N).to(pack.device)


def _sheet(pack: Pack) -> Image.Image:
    """Seeds 0 to 63, each with a generator of its own, so that a face keeps its seed whatever is drawn beside it."""
    seeds = [torch.Generator().manual_seed(seed) for seed in range(SHEET_SIDE**2)]
    z_BZ = torch.cat([torch.randn(1, pack.z_dim, generator=seed) for seed in seeds]).to(pack.device)
    image_BCHW = pack.synthesize(pack.generator.map(z_BZ, psi=SHEET_PSI))
    return grid([to_image(image) for image in image_BCHW.cpu()], SHEET_SIDE)


def _line(name: str, row: dict[str, float]) -> str:
    kinds = [key.removeprefix("fid_") for key in row if key.startswith("fid_")]
    figures = (
        f"kid_{kind} {row[f'kid_{kind}']:.5f} +- {row[f'kid_{kind}_error']:.5f}  fid_{kind} {row[f'fid_{kind}']:.2f}"
        for kind in kinds
    )
    return f"{name:24} {'  '.join(figures)}  ({row['pictures']:g} against {row['against']:g})"
