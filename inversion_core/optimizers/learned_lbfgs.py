"""`learned-lbfgs`: L-BFGS in the learned basis, with Adam's second moments as its first guess, in a trust region.

Each of the three leaves out what another one knows. The basis (basis.py) knows which directions belong together on the
mean over pictures; Adam's second moments know how steep each of them is on this picture, but not how two bend each
other; L-BFGS learns that from its own steps, and starts from a multiple of the identity, which is a bad guess where
curvatures differ by a million. So here its first guess H0 is Adam's diagonal, in the basis, scaled in bands
as the pairs say (docs/math.md, equation 3h).

There is no line search, each step costs one gradient. Instead a step is at most `radius` long (root mean square over
the code), and the radius grows with each gain and halves where there is none. Where the loss rises to more than RISE
times its best or is no number, the image goes back to its best code; what the failed step told of curvature is kept.

Suffixes: B image, K pair in the history, L style layer, D latent w.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from inversion_core.latents import Latent
from inversion_core.optimizers.basis import Basis
from inversion_core.optimizers.evaluation import Evaluation
from inversion_core.optimizers.lbfgs import dot, pushed, two_loop
from inversion_core.optimizers.schedule import new_count

BETA2 = 0.999
"""Decay of the second moments, Adam's; .95 does as well."""
EPSILON = 1e-8
GROWTH, SHRINKAGE = 2.0, 0.5
"""Of the radius, after a gain and after none."""
LARGEST = 10.0
"""Of the radius over the one at the start."""
RISE = 1.3
"""Of the loss over its best, from which an image goes back."""
MIN_COSINE = 0.01
"""Between step and change of gradient, below which a pair says too little of the curvature to be kept."""
BANDS = 8
"""Parts of a layer's axes, from flat to steep, of which each has a scale of its own in the first guess."""
STRIDE = 2.0
"""The first guess over what the pairs say of its size: it is for directions that they have not seen, flatter ones."""
MOST_APART = 10.0
"""Largest factor between a band's scale and that of all."""


class TrustRegionConfig(Protocol):
    """Settings that the method needs."""

    @property
    def radius(self) -> float: ...

    @property
    def history_size(self) -> int: ...


class HasBasis(Protocol):
    """A network that it can work with."""

    @property
    def basis(self) -> Basis: ...

    @property
    def config(self) -> TrustRegionConfig: ...


@dataclass(frozen=True, kw_only=True)
class LearnedLBFGSConfig:
    """Settings; nothing in it is trained but the basis."""

    num_layers: int
    """Number L of style layers."""
    w_dim: int
    radius: float = 0.1
    """Longest first step: root mean square over the code's elements."""
    history_size: int = 20
    """Pairs K of step and change that are kept."""

    def __post_init__(self) -> None:
        check_settings(self)


def check_settings(config: TrustRegionConfig) -> None:
    """ValueError where they cannot be."""
    if not config.radius > 0:
        raise ValueError(f"radius is {config.radius}; it must be above 0")
    if type(config.history_size) is not int or config.history_size < 1:
        raise ValueError(f"history_size is {config.history_size}; it must be a whole number, 1 or more")


class LBFGSNetwork(nn.Module):
    """The basis, and no network: nothing in it is trained by gradients."""

    def __init__(self, config: LearnedLBFGSConfig):
        super().__init__()
        self.config = config
        self.basis = Basis(config.num_layers, config.w_dim)


class LearnedLBFGSState(NamedTuple):
    """Each image's own; steps, changes, gradients and moments are in the basis."""

    step_BLD: Tensor
    """The last update; 0 before the first."""
    grad_BLD: Tensor
    """The gradient that it was made from."""
    square_BLD: Tensor
    """Adam's second moments, biased."""
    steps_BKLD: Tensor
    """Past steps s, the newest last; 0 where there is no pair yet."""
    changes_BKLD: Tensor
    """How the gradient changed with each, y."""
    rho_BK: Tensor
    """1 / (y . s); 0 where there is no pair yet."""
    radius_B: Tensor
    best_loss_B: Tensor
    best_w_BLD: Tensor
    best_grad_BLD: Tensor
    """Where an image goes back to."""
    count_B: Tensor
    """Updates done."""


class LearnedLBFGS:
    """The method above; no image sees another."""

    def __init__(self, network: HasBasis):
        self.basis, self.config = network.basis, network.config

    def init(self, latent: Latent) -> LearnedLBFGSState:
        w_BLD = latent.w_BLD
        zero_BLD, one_B = torch.zeros_like(w_BLD), w_BLD.new_ones(len(w_BLD))
        zero_BKLD = zero_BLD[:, None].repeat(1, self.config.history_size, 1, 1)
        return LearnedLBFGSState(
            step_BLD=zero_BLD, grad_BLD=zero_BLD, square_BLD=zero_BLD, steps_BKLD=zero_BKLD, changes_BKLD=zero_BKLD,
            rho_BK=zero_BKLD[:, :, 0, 0], radius_B=self.config.radius * one_B, best_loss_B=torch.inf * one_B,
            best_w_BLD=w_BLD.detach(), best_grad_BLD=zero_BLD, count_B=new_count(w_BLD),
        )  # fmt: skip

    def step(
        self, latent: Latent, evaluation: Evaluation, state: LearnedLBFGSState
    ) -> tuple[Latent, LearnedLBFGSState]:
        w_BLD, grad_BLD, state = self.observe(latent.w_BLD, evaluation.grad, evaluation.loss_B, state)
        step_BLD = self.propose(grad_BLD, state)
        state = state._replace(step_BLD=step_BLD, grad_BLD=grad_BLD)
        return latent.with_free(w_BLD + self.basis.out_of(step_BLD)), state

    def observe(
        self, w_BLD: Tensor, grad_BLD: Tensor, loss_B: Tensor, state: LearnedLBFGSState
    ) -> tuple[Tensor, Tensor, LearnedLBFGSState]:
        """What the last step has brought: codes to go on from, their gradient in the basis, and a state that knows."""
        grad_BLD = self.basis.into(grad_BLD)
        state = _remember(grad_BLD, state)
        w_BLD, grad_BLD, state = self._judge(w_BLD, grad_BLD, state, loss_B)
        square_BLD = BETA2 * state.square_BLD + (1 - BETA2) * grad_BLD**2
        return w_BLD, grad_BLD, state._replace(square_BLD=square_BLD, count_B=state.count_B + 1)

    def propose(self, grad_BLD: Tensor, state: LearnedLBFGSState) -> Tensor:
        """The next step, in the basis; `state` is one that `observe` made."""
        unbiased_BLD = state.square_BLD / (1 - BETA2**state.count_B)[:, None, None].to(grad_BLD.dtype)
        return self._step(grad_BLD, 1 / (unbiased_BLD.sqrt() + EPSILON), state)

    def _judge(
        self, w_BLD: Tensor, grad_BLD: Tensor, state: LearnedLBFGSState, loss_B: Tensor
    ) -> tuple[Tensor, Tensor, LearnedLBFGSState]:
        """Grow or shrink the radius, keep the best of each image, put back those whose loss has risen too far."""
        is_gain_B = loss_B <= state.best_loss_B
        factor_B = torch.where(is_gain_B, GROWTH, SHRINKAGE)
        factor_B = torch.where(state.best_loss_B.isfinite(), factor_B, 1.0)
        is_back_B11, gain_B11 = has_risen(loss_B, state)[:, None, None], is_gain_B[:, None, None]
        state = state._replace(
            radius_B=(factor_B * state.radius_B).clamp(max=LARGEST * self.config.radius),
            best_loss_B=torch.where(is_gain_B, loss_B, state.best_loss_B),
            best_w_BLD=torch.where(gain_B11, w_BLD.detach(), state.best_w_BLD),
            best_grad_BLD=torch.where(gain_B11, grad_BLD, state.best_grad_BLD),
        )
        w_BLD = torch.where(is_back_B11, state.best_w_BLD, w_BLD)
        return w_BLD, torch.where(is_back_B11, state.best_grad_BLD, grad_BLD), state

    def _step(self, grad_BLD: Tensor, diagonal_BLD: Tensor, state: LearnedLBFGSState) -> Tensor:
        """-H grad, no longer than the radius; the diagonal's own step where H's does not lead down, for rounding."""
        plain_BLD = -self.config.radius * diagonal_BLD * grad_BLD
        scaled_BLD = _scales(diagonal_BLD, state, self.config.radius) * diagonal_BLD
        step_BLD = two_loop(grad_BLD, state.steps_BKLD, state.changes_BKLD, state.rho_BK, scaled_BLD)
        is_down_B = dot(step_BLD, grad_BLD) < 0  # never where anything is NaN
        step_BLD = torch.where(is_down_B[:, None, None], step_BLD, plain_BLD)
        length_B = step_BLD.square().mean(dim=(1, 2)).sqrt()
        return (state.radius_B / length_B).nan_to_num(1.0).clamp(max=1)[:, None, None] * step_BLD


def has_risen(loss_B: Tensor, state: LearnedLBFGSState) -> Tensor:
    """Whether an image goes back to its best, of before this loss was known."""
    return ~(loss_B <= RISE * state.best_loss_B) & state.best_loss_B.isfinite()  # NaN is no loss to go on from


def _remember(grad_BLD: Tensor, state: LearnedLBFGSState) -> LearnedLBFGSState:
    """Push the pair of the last step where it tells of positive curvature."""
    change_BLD = grad_BLD - state.grad_BLD
    curvature_B = dot(change_BLD, state.step_BLD)
    size_B = dot(change_BLD, change_BLD).sqrt() * dot(state.step_BLD, state.step_BLD).sqrt()
    counts_B = curvature_B > MIN_COSINE * size_B  # never before the first step, nor where anything is NaN
    return state._replace(
        steps_BKLD=pushed(state.steps_BKLD, state.step_BLD, counts_B),
        changes_BKLD=pushed(state.changes_BKLD, change_BLD, counts_B),
        rho_BK=pushed(state.rho_BK, 1 / curvature_B, counts_B),
    )


def _scales(diagonal_BLD: Tensor, state: LearnedLBFGSState, otherwise: float) -> Tensor:
    """gamma (B, L, D): by how much the pairs say that a step along `diagonal_BLD`, D, should be longer in each band.

    For all together that is the mean over pairs of (s . y) / (y . D y). How far a band is from all is the root of
    (s . D^-1 s) / (y . D y) in it, the geometric mean of both steps of Barzilai and Borwein (1988): s . y may be
    negative in a band. `otherwise` where there is no pair.
    """
    counts_BK = state.rho_BK > 0
    apart_BKLD = state.changes_BKLD.square()
    bent_BK = (apart_BKLD * diagonal_BLD[:, None]).sum(dim=(2, 3))
    weight_BK = torch.where(counts_BK, 1 / bent_BK, 0.0)  # of early pairs all is large, and they count no more
    number_B = counts_BK.sum(dim=1).clamp(min=1)
    mean_B = torch.where(counts_BK, weight_BK / state.rho_BK, 0.0).sum(dim=1) / number_B
    weight_BK11 = weight_BK[:, :, None, None]
    moved_BLN = _banded((state.steps_BKLD.square() * weight_BK11).sum(dim=1) / diagonal_BLD)
    bent_BLN = _banded((apart_BKLD * weight_BK11).sum(dim=1) * diagonal_BLD)
    whole_B11 = (moved_BLN.sum(dim=(1, 2)) / bent_BLN.sum(dim=(1, 2))).sqrt()[:, None, None]
    apart_BLN = ((moved_BLN / bent_BLN).sqrt() / whole_B11).nan_to_num(1.0)  # a band in which nothing has moved
    apart_BLN = apart_BLN.clamp(1 / MOST_APART, MOST_APART)
    gamma_BLN = torch.where(counts_BK.any(dim=1)[:, None, None], STRIDE * mean_B[:, None, None] * apart_BLN, otherwise)
    return gamma_BLN.repeat_interleave(diagonal_BLD.shape[2] // gamma_BLN.shape[2], dim=2)


def _banded(x_BLD: Tensor) -> Tensor:
    """Sums over bands, (B, L, N); axes are sorted by curvature."""
    return x_BLD.view(*x_BLD.shape[:2], math.gcd(BANDS, x_BLD.shape[2]), -1).sum(dim=3)
