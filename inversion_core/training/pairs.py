"""Synthetic pairs for the training of optimizers: codes whose pictures the generator makes itself.

Suffixes: B image, Z latent z, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from inversion_core.packs import Pack
from inversion_core.training.data import PictureSet
from inversion_core.training.jitter import jitter

MAPPED_SHARE = 0.3
"""Of mixed targets, those whose code begins as a mapped z, as far again from the mean as WIDENED."""
WIDENED = 1.5
LARGEST_BLEND = 0.5
"""Share of a third code."""
JITTERED = 0.8
"""Probability of each change of place and light."""
FOREIGN_SHARE = 0.3
"""Of pictures, those with a part of another picture."""
PICTURE_SHARE = 0.6
"""Of mixed targets, those that are real pictures, where the mixture has some."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """One batch."""

    w_BLD: Tensor
    """The truth: mapped z, with the pack's truncation."""
    target_BCHW: Tensor
    """Its pictures."""
    start_BLD: Tensor
    """Where the optimizer starts."""


def draw_pairs(pack: Pack, start: str, *, pairs: int, batch_size: int, seed: int, first: int = 0,
               mixture: Mixture | None = None) -> Iterator[Pairs]:  # fmt: skip
    """Endless batches of the same `pairs` pictures, from batch number `first` on; nothing depends on how it is reached.

    Picture k is that of the z drawn with seed (`seed`, k), so the set is never held in memory. Its random start is
    another mapped z; of start "any" the batches begin at the encoder's codes and there in turn. With a mixture the
    pictures are harder ones: then the batch is drawn as a whole.
    """
    batch = first
    while True:
        index_B = [(batch * batch_size + i) % pairs for i in range(batch_size)]
        own = start if start != "any" else ("encoder" if pack.has_encoder and batch % 2 == 0 else "random")
        yield _pairs(pack, own, index_B, seed) if mixture is None else _mixed(pack, own, index_B, seed, mixture)
        batch += 1


@torch.no_grad()
def _pairs(pack: Pack, start: str, index_B: list[int], seed: int) -> Pairs:
    z_B2Z = torch.stack([_draw(seed * 1_000_003 + k, pack.z_dim) for k in index_B]).to(pack.device)
    w_BLD = pack.map(z_B2Z[:, 0])
    target_BCHW = pack.synthesize(w_BLD)
    start_BLD = pack.encode(target_BCHW) if start == "encoder" else pack.map(z_B2Z[:, 1])
    return Pairs(w_BLD=w_BLD, target_BCHW=target_BCHW, start_BLD=start_BLD)


def _draw(seed: int, z_dim: int) -> Tensor:
    return torch.randn(2, z_dim, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Targets nearer to photographs than pictures of mapped z: a generator draws those best, and photographs worse.

    Codes are crossed over, blended and disturbed, and their pictures are moved, lit otherwise and given parts of
    others, so that no code draws them exactly. `Pairs.w_BLD` is then near the truth and not the truth.
    """

    codes_NLD: Tensor
    """Codes of pictures, such as an encoder finds them in those that the pack was trained on."""
    pictures: PictureSet | None = None
    """Those pictures, where some targets are to be pictures themselves; their codes are in the same order."""

    @cached_property
    def spread_L1(self) -> Tensor:
        """Mean standard deviation of a layer's elements."""
        return self.codes_NLD.std(0).mean(1, keepdim=True)


@torch.no_grad()
def mixture_of(pack: Pack, pictures: PictureSet, *, with_pictures: bool = False, batch_size: int = 32) -> Mixture:
    """A mixture of the encoder's codes of pictures; without an encoder, of mapped codes, as many."""
    if pack.has_encoder:
        parts = torch.arange(len(pictures)).split(batch_size)
        codes_NLD = torch.cat([pack.encode(pictures.take(part).to(pack.device)) for part in parts])
    else:
        z_NZ = torch.randn(len(pictures), pack.z_dim, generator=torch.Generator().manual_seed(0))
        codes_NLD = pack.map(z_NZ.to(pack.device))
    return Mixture(codes_NLD=codes_NLD, pictures=pictures if with_pictures else None)


def mixed_codes(pack: Pack, mixture: Mixture, *, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Endless batches (B, L, D) of the mixture's codes, mapped ones among them."""
    for number in itertools.count():
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed * 1_000_003 + number)  # of every device: codes are drawn where the pack lies
            w_BLD = _mixed_codes(pack, batch_size, mixture)
        yield w_BLD


@torch.no_grad()
def _mixed(pack: Pack, start: str, index_B: list[int], seed: int, mixture: Mixture) -> Pairs:
    with torch.random.fork_rng():  # `jitter` draws from the common generator, on the device
        torch.manual_seed(seed * 1_000_003 + index_B[0])
        w_BLD = _mixed_codes(pack, len(index_B), mixture)
        image_BCHW = pack.synthesize(w_BLD)
        if mixture.pictures is not None:
            image_BCHW, w_BLD = _with_pictures(image_BCHW, w_BLD, mixture, mixture.pictures)
        target_BCHW = _with_foreign_part(jitter(image_BCHW, JITTERED))
        if start == "encoder":
            start_BLD = pack.encode(target_BCHW)
        else:
            start_BLD = pack.map(torch.randn(len(index_B), pack.z_dim, device=pack.device))
    return Pairs(w_BLD=w_BLD, target_BCHW=target_BCHW, start_BLD=start_BLD)


def _with_pictures(image_BCHW: Tensor, w_BLD: Tensor, mixture: Mixture, pictures: PictureSet) -> tuple[Tensor, Tensor]:
    """Pictures of the set, mirrored or not, in the place of PICTURE_SHARE of the drawn ones; with their codes."""
    index_B = torch.randint(len(pictures), (len(image_BCHW),))
    real_BCHW = pictures.take(index_B).to(image_BCHW.device)
    is_mirrored_B111 = torch.rand(len(real_BCHW), 1, 1, 1, device=real_BCHW.device) < 0.5
    real_BCHW = torch.where(is_mirrored_B111, real_BCHW.flip(3), real_BCHW)
    is_real_B = torch.rand(len(real_BCHW), device=real_BCHW.device) < PICTURE_SHARE
    image_BCHW = torch.where(is_real_B[:, None, None, None], real_BCHW, image_BCHW)
    return image_BCHW, torch.where(is_real_B[:, None, None], mixture.codes_NLD[index_B.to(w_BLD.device)], w_BLD)


def _mixed_codes(pack: Pack, batch: int, mixture: Mixture) -> Tensor:
    """Two codes crossed over at a layer, blended with a third, and disturbed by up to the codes' spread."""

    def drawn() -> Tensor:
        return mixture.codes_NLD[torch.randint(len(mixture.codes_NLD), (batch,), device=pack.device)]

    def uniform() -> Tensor:
        return torch.rand(batch, 1, 1, device=pack.device)

    mean_BLD = pack.mean_codes(batch)
    mapped_BLD = mean_BLD + WIDENED * (pack.map(torch.randn(batch, pack.z_dim, device=pack.device)) - mean_BLD)
    w_BLD = torch.where(uniform() < MAPPED_SHARE, mapped_BLD, drawn())
    layer_L1 = torch.arange(pack.num_layers, device=pack.device)[:, None]
    w_BLD = torch.where(layer_L1 < 2 * pack.num_layers * uniform(), w_BLD, drawn())  # half of them stay whole
    w_BLD = torch.lerp(w_BLD, drawn(), LARGEST_BLEND * uniform())
    return w_BLD + uniform() * mixture.spread_L1 * torch.randn_like(w_BLD)


def _with_foreign_part(image_BCHW: Tensor) -> Tensor:
    """Some pictures go over into their neighbour's beyond a line at a third of the way from the middle."""
    batch, _, height, width = image_BCHW.shape
    y_HW, x_HW = torch.meshgrid(
        torch.linspace(-1, 1, height, device=image_BCHW.device),
        torch.linspace(-1, 1, width, device=image_BCHW.device),
        indexing="ij",
    )
    angle_B11 = 2 * torch.pi * torch.rand(batch, 1, 1, device=image_BCHW.device)
    share_BHW = torch.sigmoid(8 * (angle_B11.cos() * x_HW + angle_B11.sin() * y_HW - 0.4))
    has_part_B11 = torch.rand(batch, 1, 1, device=image_BCHW.device) < FOREIGN_SHARE
    share_B1HW = torch.where(has_part_B11, share_BHW, 0.0)[:, None]
    return torch.lerp(image_BCHW, image_BCHW.roll(1, 0), share_B1HW)
