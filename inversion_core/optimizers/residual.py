"""`learned-residual`: Adam, scaled and led by a network that sees the pictures, under a safeguard.

The paper's g (learned.py) sees Adam's update and the code of one style layer. This one also sees where picture and
target differ, all layers at once, and how the loss has gone so far (looking.py). Its update is (docs/math.md,
equation 3f)

    -alpha c e * f(grad) + d

with f Adam's in the basis of basis.py, c a factor of each layer, e one of each element, d a direction that need not
follow the gradient. So it goes for the first `looks` updates; then Adam goes on alone with the moments that it has.

Safeguard: where an image's loss rises to more than RISE times its best, or is no number, or the network has led for
PATIENCE updates without a better code, the image goes back to its best code, and from there Adam alone goes on, with
half the rate, and half of that the next time. A code counts as best from ANCHOR times the start's loss on: one that
is hardly better may lie where nothing can be won any more. So a picture on which the network errs is left to Adam.

Suffixes: B image, L style layer, D latent w, N number on progress.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from inversion_core.optimizers.adam import Adam, AdamState
from inversion_core.optimizers.looking import PROGRESS, SMALLEST, ResidualNetwork, rms
from inversion_core.optimizers.schedule import new_count
from inversion_core.optimizers.seen import Seen

RISE = 1.5
"""Of the loss over its best, from which an image is left to Adam."""
PATIENCE = 8
"""Updates of the network without a better code after which it is, too."""
ANCHOR = 0.9
"""Of the start's loss, below which a code is worth going back to."""


class ResidualState(NamedTuple):
    """Adam's moments, and what the safeguard needs. Each image's own."""

    mean_BLD: Tensor
    square_BLD: Tensor
    """In the basis."""
    count_B: Tensor
    """Updates since the start, or since the safeguard last took an image back."""
    first_loss_B: Tensor
    """Loss at the start; infinite before the first update."""
    last_loss_B: Tensor
    best_loss_B: Tensor
    waited_B: Tensor
    """Updates since the best loss."""
    anchor_w_BLD: Tensor
    anchor_grad_BLD: Tensor
    """Where the safeguard takes an image back to."""
    taken_back_B: Tensor
    """How often the safeguard took the image back."""


class LearnedResidual:
    """The update above; no image sees another. Differentiable in the network's weights where those ask for it, at each
    update with code and moments as they are: what an update does to the inputs of later ones is left out."""

    def __init__(self, network: ResidualNetwork):
        self.network, self._basis = network, network.basis
        self._adam = Adam(learning_rate=1.0)

    def init(self, w_BLD: Tensor) -> ResidualState:
        zero_BLD, infinite_B = torch.zeros_like(w_BLD), w_BLD.new_full((len(w_BLD),), torch.inf)
        return ResidualState(
            mean_BLD=zero_BLD, square_BLD=zero_BLD, count_B=new_count(w_BLD), first_loss_B=infinite_B,
            last_loss_B=infinite_B, best_loss_B=infinite_B, waited_B=torch.zeros_like(infinite_B),
            anchor_w_BLD=w_BLD.detach(), anchor_grad_BLD=zero_BLD,
            taken_back_B=torch.zeros_like(infinite_B),
        )  # fmt: skip

    def step_seeing(
        self, w_BLD: Tensor, grad_BLD: Tensor, state: ResidualState, seen: Seen
    ) -> tuple[Tensor, ResidualState]:
        w_BLD, grad_BLD, state = _safeguarded(w_BLD, grad_BLD, state, seen.loss_B, self.network.config.looks)
        grad_BLD = self._basis.into(grad_BLD)
        adam_BLD, moments = self._adam.update(grad_BLD, AdamState(state.mean_BLD, state.square_BLD, state.count_B))
        state = state._replace(mean_BLD=moments.mean_BLD, square_BLD=moments.square_BLD, count_B=moments.count_B)
        update_BLD = self._update(adam_BLD, grad_BLD, self._basis.into(w_BLD.detach()), state, seen)
        return w_BLD + self._basis.out_of(update_BLD), state._replace(last_loss_B=seen.loss_B)

    def _update(self, adam_BLD: Tensor, grad_BLD: Tensor, w_BLD: Tensor, state: ResidualState, seen: Seen) -> Tensor:
        """`adam_BLD` is Adam's update at step size 1, already downhill; all codes are in the basis."""
        config = self.network.config
        warm_B11 = (state.count_B / max(config.warmup_steps, 1)).clamp(max=1)[:, None, None].to(w_BLD.dtype)
        alone_BLD = config.learning_rate * warm_B11 * adam_BLD
        alone_BLD = 0.5 ** state.taken_back_B[:, None, None] * alone_BLD
        looks_B = (state.count_B <= config.looks) & (state.taken_back_B == 0)
        if not looks_B.is_cuda and not looks_B.any():  # on CUDA asking would hold the host up
            return alone_BLD
        progress_BLN = _progress(adam_BLD, grad_BLD, state, seen.loss_B)
        factor_BLD, direct_BLD = self.network(adam_BLD, grad_BLD, w_BLD, progress_BLN, seen)
        led_BLD = factor_BLD * alone_BLD + direct_BLD
        is_led_B = looks_B & led_BLD.isfinite().all(dim=2).all(dim=1)
        return torch.where(is_led_B[:, None, None], led_BLD, alone_BLD)


def _safeguarded(
    w_BLD: Tensor, grad_BLD: Tensor, state: ResidualState, loss_B: Tensor, looks: int
) -> tuple[Tensor, Tensor, ResidualState]:
    """Keep the best of each image; put those whose loss has risen too far back to it, with fresh moments."""
    is_better_B = loss_B < state.best_loss_B
    waited_B = torch.where(is_better_B, 0.0, state.waited_B + 1)
    is_stuck_B = (state.taken_back_B == 0) & (state.count_B < looks) & (waited_B >= PATIENCE)
    is_high_B = ~(loss_B <= RISE * state.best_loss_B)  # NaN is no loss to go on from
    is_back_B = (is_high_B | is_stuck_B) & state.best_loss_B.isfinite()
    first_loss_B = torch.where(state.first_loss_B.isfinite(), state.first_loss_B, loss_B)
    better_B11 = (is_better_B & (~state.best_loss_B.isfinite() | (loss_B < ANCHOR * first_loss_B)))[:, None, None]
    back_B11 = is_back_B[:, None, None]
    anchor_w_BLD = torch.where(better_B11, w_BLD.detach(), state.anchor_w_BLD)
    anchor_grad_BLD = torch.where(better_B11, grad_BLD, state.anchor_grad_BLD)
    state = state._replace(
        mean_BLD=torch.where(back_B11, 0.0, state.mean_BLD),
        square_BLD=torch.where(back_B11, 0.0, state.square_BLD),
        count_B=torch.where(is_back_B, 0.0, state.count_B),
        first_loss_B=first_loss_B,
        best_loss_B=torch.where(is_better_B, loss_B, state.best_loss_B),
        waited_B=waited_B,
        anchor_w_BLD=anchor_w_BLD,
        anchor_grad_BLD=anchor_grad_BLD,
        taken_back_B=state.taken_back_B + is_back_B,
    )
    return torch.where(back_B11, anchor_w_BLD, w_BLD), torch.where(back_B11, anchor_grad_BLD, grad_BLD), state


def _progress(adam_BLD: Tensor, grad_BLD: Tensor, state: ResidualState, loss_B: Tensor) -> Tensor:
    """Numbers (B, L, PROGRESS) of about 1 in size: how far, how fast, how steep, how steady."""
    layers = grad_BLD.shape[1]
    count_B = state.count_B.to(grad_BLD.dtype)
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
