"""The mapping network after the first phase: fitted to the codes that the encoder found.

Suffixes: N picture, B image, Z latent z, D latent w.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.models import StyleGANGenerator


def fit_mapping(generator: StyleGANGenerator, code_ND: Tensor, *, seed: int, steps: int, batch: int = 256) -> None:
    """Fit the mapping network by regression so that normal z gives codes with the mean and covariance of `code_ND`.

    The target for z is mean + A z with A A^T the covariance: the Gaussian nearest to the codes.
    """
    mean_D = code_ND.mean(dim=0)
    # In float64: products of float32 may be rounded to 10 bits on a GPU, and small axes would drown in that.
    covariance_DD = torch.cov(code_ND.double().T) + 1e-5 * torch.eye(code_ND.shape[1], device=code_ND.device)
    values, vectors = torch.linalg.eigh(covariance_DD)
    root_DD = (vectors * values.clamp_min(0).sqrt()).float().T  # rows: principal axes times their deviation
    z_dim = generator.config.z_dim
    axes = min(z_dim, len(mean_D))
    root_ZD = torch.zeros(z_dim, len(mean_D), device=code_ND.device)
    root_ZD[:axes] = root_DD.flip(0)[:axes]
    generator.truncation.w_avg_D.copy_(mean_D)
    rate = 0.2  # 2e-3 as an ordinary network feels it: the mapping layers multiply theirs by 0.01
    optimizer = torch.optim.Adam(generator.mapping.parameters(), lr=rate, betas=(0.9, 0.99))
    draw = torch.Generator().manual_seed(seed)
    for step in range(steps):
        z_BZ = torch.randn(batch, z_dim, generator=draw).to(code_ND.device, non_blocking=True)
        target_BD = mean_D + (z_BZ * z_dim**0.5 / z_BZ.norm(dim=1, keepdim=True)) @ root_ZD
        loss = F.mse_loss(generator.mapping(z_BZ)[:, 0], target_BD)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
