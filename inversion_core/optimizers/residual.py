"""`learned-residual`: a network that sees the pictures leads for a few updates, then L-BFGS in the learned basis.

The paper's g (learned.py) sees Adam's update and the code of one style layer. This one also sees where picture and
target differ, all layers at once, and how the loss has gone so far (looking.py). For the first `looks` updates the
step is (docs/math.md, equation 3f)

    -alpha c e * f(grad) + d

with f Adam's in the basis of basis.py, c a factor of each layer, e one of each element, d a direction that need not
follow the gradient. So a code from nowhere comes near in a few steps, of which `learned-lbfgs` would need many; but
near the end it is the curvature of this one picture that counts, and a network does not know it. So after them
`learned-lbfgs` goes on (learned_lbfgs.py), with what curvature the network's steps have shown.

Where the loss rises to more than RISE times its best, or is no number, the image goes back to its best code, and
L-BFGS goes on from there: a picture on which the network errs is left to it.

Suffixes: B image, K pair in the history, L style layer, D latent w, N number on progress.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from inversion_core.latents import Latent
from inversion_core.optimizers.adam import Adam, AdamState
from inversion_core.optimizers.evaluation import Evaluation, Look
from inversion_core.optimizers.learned_lbfgs import LearnedLBFGS, LearnedLBFGSState, has_risen
from inversion_core.optimizers.looking import PROGRESS, SMALLEST, ResidualNetwork, rms
from inversion_core.optimizers.schedule import new_count

KEPT_SQUARES = 0.4
"""Part of the second moments that stays at each look: they tell L-BFGS which directions are steep, but those of the way
there are too large for what comes after it."""
S = TypeVar("S", bound=tuple[Any, ...])


class ResidualState(NamedTuple):
    """That of L-BFGS, field by field, and what the network looks at. Each image's own."""

    step_BLD: Tensor
    grad_BLD: Tensor
    square_BLD: Tensor
    steps_BKLD: Tensor
    changes_BKLD: Tensor
    rho_BK: Tensor
    radius_B: Tensor
    best_loss_B: Tensor
    best_w_BLD: Tensor
    best_grad_BLD: Tensor
    count_B: Tensor
    led_B: Tensor
    """Updates that the network has made."""
    led_mean_BLD: Tensor
    led_square_BLD: Tensor
    """Adam's moments in those, biased, in the basis."""
    first_loss_B: Tensor
    """Loss at the start; infinite before the first update."""
    last_loss_B: Tensor
    is_left_B: Tensor
    """1 where the network has erred, and leads no more; 0 elsewhere."""


class LearnedResidual:
    """The update above; no image sees another. Differentiable in the network's weights where those ask for it, at each
    update with moments and inputs as they are: what an update does to the inputs of later ones is left out."""

    looks = True

    def __init__(self, network: ResidualNetwork):
        self.network, self._basis = network, network.basis
        self._adam = Adam(learning_rate=1.0)
        self._lbfgs = LearnedLBFGS(network)

    def init(self, latent: Latent) -> ResidualState:
        w_BLD = latent.w_BLD
        zero_BLD, zero_B = torch.zeros_like(w_BLD), w_BLD.new_zeros(len(w_BLD))
        return ResidualState(
            *self._lbfgs.init(latent), led_B=new_count(w_BLD), led_mean_BLD=zero_BLD, led_square_BLD=zero_BLD,
            first_loss_B=zero_B + torch.inf, last_loss_B=zero_B + torch.inf, is_left_B=zero_B,
        )  # fmt: skip

    def step(self, latent: Latent, evaluation: Evaluation, state: ResidualState) -> tuple[Latent, ResidualState]:
        before, loss_B, look = _of_lbfgs(state), evaluation.loss_B, evaluation.look
        assert look is not None
        risen_B = has_risen(loss_B, before)
        errs_B = risen_B & (before.count_B == 0)  # by a step of the network: far away, it is no pair to go by
        before = before._replace(step_BLD=torch.where(errs_B[:, None, None], 0.0, before.step_BLD))
        w_BLD, grad_BLD, lbfgs = self._lbfgs.observe(latent.w_BLD, evaluation.grad, loss_B, before)
        state = state._replace(
            first_loss_B=torch.where(state.first_loss_B.isfinite(), state.first_loss_B, loss_B),
            is_left_B=torch.maximum(state.is_left_B, risen_B.to(state.is_left_B.dtype)),
        )
        leads_B = (state.led_B < self.network.config.looks) & (state.is_left_B == 0)
        asks = not leads_B.is_cuda  # there, asking would hold the host up
        if asks and not leads_B.any():
            step_BLD = self._lbfgs.propose(grad_BLD, lbfgs)
        else:
            led_BLD, led = self._led(w_BLD.detach(), grad_BLD, state, loss_B, look)
            leads_B = leads_B & led_BLD.isfinite().all(dim=2).all(dim=1)
            is_whole = asks and bool(leads_B.all())
            step_BLD = led_BLD if is_whole else _where(leads_B, led_BLD, self._lbfgs.propose(grad_BLD, lbfgs))
            state, lbfgs = _rows_where(leads_B, led, state), _rows_where(leads_B, self._begun(lbfgs), lbfgs)
        lbfgs = lbfgs._replace(step_BLD=step_BLD.detach(), grad_BLD=grad_BLD)
        state = ResidualState(*lbfgs, *state[len(lbfgs) :])._replace(last_loss_B=loss_B)
        return latent.with_free(w_BLD + self._basis.out_of(step_BLD)), state

    def _led(
        self, w_BLD: Tensor, grad_BLD: Tensor, state: ResidualState, loss_B: Tensor, look: Look
    ) -> tuple[Tensor, ResidualState]:
        """The network's step in the basis, and a state with Adam's moments of now."""
        config = self.network.config
        moments = AdamState(state.led_mean_BLD, state.led_square_BLD, state.led_B)
        adam_BLD, moments = self._adam.update(grad_BLD, moments)  # at step size 1, already downhill
        state = state._replace(led_mean_BLD=moments.mean_BLD, led_square_BLD=moments.square_BLD, led_B=moments.count_B)
        warm_B11 = (state.led_B / max(config.warmup_steps, 1)).clamp(max=1)[:, None, None].to(w_BLD.dtype)
        progress_BLN = _progress(adam_BLD, grad_BLD, state, loss_B)
        factor_BLD, direct_BLD = self.network(adam_BLD, grad_BLD, self._basis.into(w_BLD), progress_BLN, look)
        return factor_BLD * config.learning_rate * warm_B11 * adam_BLD + direct_BLD, state

    def _begun(self, lbfgs: LearnedLBFGSState) -> LearnedLBFGSState:
        """L-BFGS as it begins, but for the pairs, the best code so far, and a part of the second moments."""
        radius_B = torch.full_like(lbfgs.radius_B, self.network.config.radius)
        square_BLD, count_B = KEPT_SQUARES * lbfgs.square_BLD, torch.zeros_like(lbfgs.count_B)
        return lbfgs._replace(square_BLD=square_BLD, radius_B=radius_B, count_B=count_B)


def _of_lbfgs(state: ResidualState) -> LearnedLBFGSState:
    return LearnedLBFGSState(*state[: len(LearnedLBFGSState._fields)])


def _where(which_B: Tensor, one_B: Tensor, other_B: Tensor) -> Tensor:
    return torch.where(which_B.view(-1, *[1] * (one_B.dim() - 1)), one_B, other_B)


def _rows_where(which_B: Tensor, one: S, other: S) -> S:
    """Of two states, the rows of `one` where `which_B` says so. What they have in common stays: histories are large."""
    return type(one)(*(a if a is b else _where(which_B, a, b) for a, b in zip(one, other, strict=True)))


def _progress(adam_BLD: Tensor, grad_BLD: Tensor, state: ResidualState, loss_B: Tensor) -> Tensor:
    """Numbers (B, L, PROGRESS) of about 1 in size: how far, how fast, how steep, how steady."""
    layers = grad_BLD.shape[1]
    count_B = state.led_B.to(grad_BLD.dtype)
    last_B = torch.where(state.last_loss_B.isfinite(), state.last_loss_B, loss_B)
    of_image = [
        count_B.log() / 2 - 1,
        torch.exp(-(count_B - 1) / 5),
        loss_B.clamp(min=SMALLEST).log() + 4,
        (loss_B / state.first_loss_B.clamp(min=SMALLEST)).clamp(min=SMALLEST).log(),
        (5 * (loss_B / last_B.clamp(min=SMALLEST)).clamp(min=SMALLEST).log()).clamp(-2, 2),
    ]
    steep_BL1 = rms(grad_BLD, 2)
    steady_BL = torch.cosine_similarity(grad_BLD, -adam_BLD, dim=2)
    of_layer = [
        (steep_BL1[..., 0].log() + 7) / 2,
        (steep_BL1 / rms(grad_BLD, 1, 2))[..., 0].log(),
        steady_BL,
        rms(adam_BLD, 2)[..., 0],
    ]
    numbers = [number_B[:, None].expand(-1, layers) for number_B in of_image] + of_layer
    assert len(numbers) == PROGRESS
    return torch.stack(numbers, dim=2).nan_to_num(0.0, 0.0, 0.0).clamp(-20, 20)
