"""The truncation trick (Karras 2019 appendix B). Suffixes: B image, L style layer, D latent w."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inversion_core.models.generators.base import Architecture


class Truncation(nn.Module):
    """w_avg + psi (w - w_avg), with a psi of its own for each style layer."""

    w_avg_D: Tensor
    psi_L: Tensor

    def __init__(self, config: Architecture, *, psi: float, layers: int):
        """`psi` in the first `layers` style layers, 1 in the others."""
        super().__init__()
        psi_L = torch.ones(config.num_layers)
        psi_L[:layers] = psi
        self.register_buffer("w_avg_D", torch.zeros(config.w_dim))
        self.register_buffer("psi_L", psi_L)

    def forward(self, w_BLD: Tensor, psi: float | None = None, cutoff: int | None = None) -> Tensor:
        """Truncate; `psi` replaces the pack's own in all layers, or in the first `cutoff` (1 leaves w as it is)."""
        psi_L1 = self.psi_L[:, None] if psi is None else torch.full_like(self.psi_L, psi)[:, None]
        if cutoff is not None:
            psi_L1 = torch.cat([psi_L1[:cutoff], torch.ones_like(psi_L1[cutoff:])])
        return self.w_avg_D + psi_L1 * (w_BLD - self.w_avg_D)
