"""L-BFGS: steps shaped by the curvature that past steps met (docs/math.md, equation 3b).

Suffixes: B image, K pair in the history, L style layer, D latent w. Where detail moves, its C, H and W are in the place
of L and D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from inversion_core.latents import Latent
from inversion_core.models.serving import is_serving
from inversion_core.optimizers.evaluation import Evaluation
from inversion_core.optimizers.schedule import Scheduled, beside, new_count


class LBFGSState(NamedTuple):
    """The last step and the history, each image's own; its size never changes, so it can be kept and batched."""

    step_BLD: Tensor
    """The last update of the codes; 0 before the first."""
    grad_BLD: Tensor
    """The gradient that it was made from."""
    steps_BKLD: Tensor
    """Past steps s, the newest last; 0 where there is no pair yet."""
    changes_BKLD: Tensor
    """How the gradient changed with each, y."""
    rho_BK: Tensor
    """1 / (y . s); 0 where there is no pair yet, which takes the pair out of all sums."""
    count_B: Tensor
    """Updates done."""


@dataclass(frozen=True, kw_only=True)
class LBFGS(Scheduled):
    """L-BFGS (Nocedal 1980) with a fixed step length: torch.optim.LBFGS(max_iter=1) for each image.

    There is no line search: each step costs one gradient, like all others here. torch stops where the gradient or
    the slope is below a tolerance; this one does not, the loop's number of steps decides.
    """

    learning_rate: float = 0.5
    """Length of a step; 1 trusts the curvature fully."""
    history_size: int = 10
    """Pairs K of step and change that are kept."""
    min_curvature: float = 1e-10
    """A pair counts only where y . s is above this; a smaller or negative one would turn the step round."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.history_size) is not int or self.history_size < 1:
            raise ValueError(f"history_size is {self.history_size}; it must be a whole number, 1 or more")
        if not self.min_curvature > 0:
            raise ValueError(f"min_curvature is {self.min_curvature}; it must be above 0")

    def init(self, latent: Latent) -> LBFGSState:
        zero_BLD = torch.zeros_like(latent.free)
        zero_BKLD = zero_BLD[:, None].repeat_interleave(self.history_size, dim=1)
        zero_BK = zero_BLD.new_zeros(len(latent), self.history_size)
        return LBFGSState(zero_BLD, zero_BLD, zero_BKLD, zero_BKLD, zero_BK, new_count(zero_BLD))

    def step(self, latent: Latent, evaluation: Evaluation, state: LBFGSState) -> tuple[Latent, LBFGSState]:
        grad_BLD = evaluation.grad
        state = self._remember(grad_BLD, state)
        direction_BLD = two_loop(grad_BLD, state.steps_BKLD, state.changes_BKLD, state.rho_BK, _scale_B11(state))
        step_BLD = self._length_B11(grad_BLD, state) * direction_BLD
        return latent.with_free(latent.free + step_BLD), state._replace(step_BLD=step_BLD, grad_BLD=grad_BLD)

    def _remember(self, grad_BLD: Tensor, state: LBFGSState) -> LBFGSState:
        """Count the update, and push the pair of the last step where its curvature is positive enough."""
        change_BLD = grad_BLD - state.grad_BLD
        curvature_B = dot(change_BLD, state.step_BLD)
        counts_B = curvature_B > self.min_curvature  # never before the first step, nor where anything is NaN

        return state._replace(
            steps_BKLD=pushed(state.steps_BKLD, state.step_BLD, counts_B),
            changes_BKLD=pushed(state.changes_BKLD, change_BLD, counts_B),
            rho_BK=pushed(state.rho_BK, 1 / curvature_B, counts_B),
            count_B=state.count_B + 1,
        )

    def _length_B11(self, grad_BLD: Tensor, state: LBFGSState) -> Tensor:
        """The first step knows no curvature, so its elements sum to at most the rate."""
        first_B = (1 / grad_BLD.abs().sum(dim=_own(grad_BLD))).clamp(max=1.0)
        length_B = torch.where(state.count_B == 1, first_B, 1.0)
        return beside(length_B, grad_BLD) * self.rate_B11(state.count_B, grad_BLD)


def pushed(history_BK: Tensor, newest_B: Tensor, counts_B: Tensor) -> Tensor:
    """The history (B, K, ...) with `newest_B` (B, ...) at its end and without its oldest, for images that count."""
    moved_BK = torch.cat([history_BK[:, 1:], newest_B[:, None]], dim=1)
    return torch.where(counts_B.view(-1, *[1] * (history_BK.ndim - 1)), moved_BK, history_BK)


def two_loop(
    grad_BLD: Tensor, steps_BKLD: Tensor, changes_BKLD: Tensor, rho_BK: Tensor, diagonal_BLD: Tensor
) -> Tensor:
    """- H grad by the two-loop recursion (Nocedal 1980; Nocedal and Wright 2006, algorithm 7.4).

    `diagonal_BLD` is the first guess of H, a diagonal matrix or (B, 1, ...) a multiple of the identity; pairs whose rho
    is 0 take no part.

    Each loop is a substitution in the triangle of R, whose elements are s_i . y_j for i <= j: the first one solves
    R a = S q for all its a at once, the second R^T (a - b) = diag(R) a - Y r. So it is ten operations for all pairs,
    not ten for each; on a GPU, and beside a small generator, that is what a step of L-BFGS costs.
    """
    steps_BKN, changes_BKN = steps_BKLD.flatten(2), changes_BKLD.flatten(2)
    q_BN = -grad_BLD.flatten(1)
    counts_BK1 = (rho_BK > 0)[..., None]
    unit_KK = torch.ones_like(rho_BK[0]).diag()
    r_BKK = torch.where(counts_BK1 & counts_BK1.mT, _products(steps_BKN, changes_BKN), unit_KK).triu()
    first_BK1 = torch.where(counts_BK1, _dots(steps_BKN, q_BN), 0.0)
    first_BK1 = torch.linalg.solve_triangular(r_BKK, first_BK1, upper=True)
    r_BN = (diagonal_BLD * (q_BN - _sum_of(changes_BKN, first_BK1)).view_as(grad_BLD)).flatten(1)
    second_BK1 = r_BKK.diagonal(dim1=1, dim2=2)[..., None] * first_BK1 - _dots(changes_BKN, r_BN)
    second_BK1 = torch.linalg.solve_triangular(r_BKK.mT, torch.where(counts_BK1, second_BK1, 0.0), upper=False)
    return (r_BN + _sum_of(steps_BKN, second_BK1)).view_as(grad_BLD)


def _products(a_BKN: Tensor, b_BKN: Tensor) -> Tensor:
    """Of all pairs: (B, K, K). While serving row by row: a product of matrices is rounded by the batch, and by the
    number of threads, which an engine changes as it goes."""
    if not is_serving(a_BKN):
        return a_BKN @ b_BKN.mT
    return torch.cat([_dots(b_BKN, a_BN).mT for a_BN in a_BKN.unbind(1)], dim=1)


def _dots(a_BKN: Tensor, b_BN: Tensor) -> Tensor:
    """(B, K, 1). Not as a product of matrices: a CPU takes five times as long for that, and rounds it by the batch."""
    return (a_BKN * b_BN[:, None]).sum(dim=2, keepdim=True)


def _sum_of(a_BKN: Tensor, weight_BK1: Tensor) -> Tensor:
    """(B, N)."""
    return (a_BKN * weight_BK1).sum(dim=1)


def _scale_B11(state: LBFGSState) -> Tensor:
    """gamma = (y . s) / (y . y) of the newest pair, the recursion's first guess of H; 1 where there is no pair."""
    rho_B, y_BLD = state.rho_BK[:, -1], state.changes_BKLD[:, -1]
    gamma_B = torch.where(rho_B > 0, 1 / (rho_B * dot(y_BLD, y_BLD)), 1.0)
    return beside(gamma_B, y_BLD)


def dot(a_BLD: Tensor, b_BLD: Tensor) -> Tensor:
    """a . b of each image: (B,)."""
    return (a_BLD * b_BLD).sum(dim=_own(a_BLD))


def _own(x_BLD: Tensor) -> tuple[int, ...]:
    """The dimensions of one image."""
    return tuple(range(1, x_BLD.ndim))
