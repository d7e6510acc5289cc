"""How far two sets of pictures are from each other: KID and FID, on features that the caller brings.

Named after their features wherever they are written down (`kid_squeeze`): they are not Inception's, and so not
to be compared with published numbers.
Suffixes: N M picture, F feature.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCKS = 10
"""Parts of each set behind the standard error."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and its standard error."""

    value: float
    error: float


def kid(a_NF: Tensor, b_MF: Tensor, *, blocks: int = BLOCKS) -> Estimate:
    """Kernel distance (Binkowski 2018): unbiased squared MMD with the kernel (x.y / F + 1)^3, in float64.

    The value uses all pairs; the error is the jackknife's over `blocks` parts, one left out of each set in turn.
    Around 0, and as often below as above it, where both sets are of one distribution.

    Raises:
        ValueError: a set has fewer than four pictures.
    """
    count, other = len(a_NF), len(b_MF)
    blocks = min(blocks, count // 2, other // 2)
    if blocks < 2:
        raise ValueError(f"sets of {count} and {other} pictures; KID needs at least 4 in each")
    a_NF, b_MF = a_NF.double(), b_MF.double()
    sums = [_block_sums(_kernel(x, y), blocks) for x, y in ((a_NF, a_NF), (b_MF, b_MF), (a_NF, b_MF))]
    diagonals = [_diagonal_sums(x, blocks) for x in (a_NF, b_MF)]
    sizes = [torch.tensor([len(part) for part in x.tensor_split(blocks)]).double() for x in (a_NF, b_MF)]

    def mmd2(kept: Tensor) -> Tensor:
        aa, bb, ab = (kept @ each @ kept for each in sums)
        (m, n), (diagonal_a, diagonal_b) = (kept @ each for each in sizes), (kept @ each for each in diagonals)
        return (aa - diagonal_a) / (m * (m - 1)) + (bb - diagonal_b) / (n * (n - 1)) - 2 * ab / (m * n)

    everything = torch.ones(blocks, dtype=torch.float64)
    left_out = torch.stack([mmd2(everything - row) for row in torch.eye(blocks, dtype=torch.float64)])
    error = ((blocks - 1) / blocks * (left_out - left_out.mean()).square().sum()).sqrt()
    return Estimate(value=float(mmd2(everything)), error=float(error))


def fid(a_NF: Tensor, b_MF: Tensor) -> float:
    """Frechet distance of the Gaussians with the sets' means and covariances (Heusel 2017), in float64.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2): the inner matrix is symmetric, so its root is taken
    by eigenvalues, and what rounding makes negative is 0. It falls with the number of pictures: compare values of
    equal numbers only.

    Raises:
        ValueError: a set has fewer than two pictures.
    """
    if min(len(a_NF), len(b_MF)) < 2:
        raise ValueError(f"sets of {len(a_NF)} and {len(b_MF)} pictures; FID needs at least 2 in each")
    a_NF, b_MF = a_NF.double(), b_MF.double()
    a_FF, b_FF = _covariance(a_NF), _covariance(b_MF)
    values, vectors = torch.linalg.eigh(a_FF)
    root_FF = vectors * values.clamp_min(0).sqrt() @ vectors.T
    inner = torch.linalg.eigvalsh(root_FF @ b_FF @ root_FF)
    mean = (a_NF.mean(dim=0) - b_MF.mean(dim=0)).square().sum()
    distance = mean + a_FF.trace() + b_FF.trace() - 2 * inner.clamp_min(0).sqrt().sum()
    return max(0.0, float(distance))


def _covariance(x_NF: Tensor) -> Tensor:
    centred = x_NF - x_NF.mean(dim=0)
    return centred.T @ centred / (len(x_NF) - 1)


def _kernel(x_NF: Tensor, y_MF: Tensor) -> Tensor:
    return (x_NF @ y_MF.T / x_NF.shape[1] + 1) ** 3


def _block_sums(kernel_NM: Tensor, blocks: int) -> Tensor:
    """Sums of the kernel over each pair of parts, (blocks, blocks)."""
    rows = torch.stack([part.sum(dim=0) for part in kernel_NM.tensor_split(blocks)])
    return torch.stack([part.sum(dim=1) for part in rows.tensor_split(blocks, dim=1)], dim=1).cpu()


def _diagonal_sums(x_NF: Tensor, blocks: int) -> Tensor:
    diagonal_N = (x_NF.square().sum(dim=1) / x_NF.shape[1] + 1) ** 3
    return torch.stack([part.sum() for part in diagonal_N.tensor_split(blocks)]).cpu()
