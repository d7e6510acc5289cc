"""Synthetic pairs for the training of optimizers: codes whose pictures the generator makes itself.

Suffixes: B image, Z latent z, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from inversion_core.packs import Pack


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """One batch."""

    w_BLD: Tensor
    """The truth: mapped z, with the pack's truncation."""
    target_BCHW: Tensor
    """Its pictures."""
    start_BLD: Tensor
    """Where the optimizer starts."""


def draw_pairs(pack: Pack, start: str, *, pairs: int, batch_size: int, seed: int, first: int = 0) -> Iterator[Pairs]:
    """Endless batches of the same `pairs` pictures, from batch number `first` on; nothing depends on how it is reached.

    Picture k is that of the z drawn with seed (`seed`, k), so the set is never held in memory. Its random start is
    another mapped z.
    """
    batch = first
    while True:
        index_B = [(batch * batch_size + i) % pairs for i in range(batch_size)]
        yield _pairs(pack, start, index_B, seed)
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
