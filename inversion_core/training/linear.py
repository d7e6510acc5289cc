"""Ridge regression in its dual form (pictures are fewer than dimensions), the penalty chosen by cross-validation.

Suffixes: N picture, P dimension of the inputs, A attribute.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Tried, in units of the mean eigenvalue of the Gram matrix, so that the scale of the inputs does not matter."""
FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """Predicts standardised ratings: (x - mean) filters + offset."""

    mean_P: Tensor
    filter_PA: Tensor
    offset_A: Tensor
    penalty_A: Tensor
    """The penalty chosen for each attribute."""
    cross_validated_A: Tensor
    """R^2 on the folds left out, at that penalty."""

    def predict(self, x_NP: Tensor) -> Tensor:
        """Ratings (N, A), in standard deviations of the raters' means."""
        return (x_NP.double() - self.mean_P) @ self.filter_PA + self.offset_A


def fit(x_NP: Tensor, y_NA: Tensor, group_N: Tensor, *, seed: int = 0) -> LinearModel:
    """Fit one ridge model an attribute; pictures of one group are never on both sides of a fold."""
    x_NP, y_NA = x_NP.double(), y_NA.double()
    fold_N = assign_folds(group_N, seed)
    guess_LNA = torch.zeros(len(PENALTIES), *y_NA.shape, dtype=torch.float64)
    for fold in range(FOLDS):
        left_out_N = fold_N == fold
        filter_LPA, mean_P, offset_A = _solve(x_NP[~left_out_N], y_NA[~left_out_N])
        guess_LNA[:, left_out_N] = (x_NP[left_out_N] - mean_P) @ filter_LPA + offset_A
    r2_LA = torch.stack([r_squared(guess_NA, y_NA) for guess_NA in guess_LNA])
    best_A = r2_LA.argmax(dim=0)
    filter_LPA, mean_P, offset_A = _solve(x_NP, y_NA)
    attributes = torch.arange(y_NA.shape[1])
    return LinearModel(
        mean_P=mean_P,
        filter_PA=filter_LPA[best_A, :, attributes].T,
        offset_A=offset_A,
        penalty_A=torch.tensor(PENALTIES)[best_A],
        cross_validated_A=r2_LA[best_A, attributes],
    )


def assign_folds(group_N: Tensor, seed: int) -> Tensor:
    """A fold for each picture, the same for all of a group, groups dealt out evenly."""
    _, index_N = group_N.unique(return_inverse=True)
    shuffled = torch.randperm(int(index_N.max()) + 1, generator=torch.Generator().manual_seed(seed))
    return shuffled[index_N] % FOLDS


def r_squared(guess_NA: Tensor, y_NA: Tensor) -> Tensor:
    """Share of the variance that is explained, for each attribute; below 0 is worse than the mean."""
    return 1 - (guess_NA - y_NA).square().sum(0) / (y_NA - y_NA.mean(0)).square().sum(0)


def _solve(x_NP: Tensor, y_NA: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Filters (penalties, P, A) at every penalty by one eigendecomposition, and the means of x and y."""
    mean_P, offset_A = x_NP.mean(0), y_NA.mean(0)
    centred_NP = x_NP - mean_P
    value_N, vector_NN = torch.linalg.eigh(centred_NP @ centred_NP.T)
    turned_NA = vector_NN.T @ (y_NA - offset_A)
    penalties_L = torch.tensor(PENALTIES, dtype=torch.float64) * value_N.mean()
    dual_LNA = vector_NN @ (turned_NA / (value_N.clamp(min=0)[:, None] + penalties_L[:, None, None]))
    return centred_NP.T @ dual_LNA, mean_P, offset_A
