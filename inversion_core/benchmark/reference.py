"""The inversion loop as the public IDInvert code writes it: for comparison, in speed and in numbers, never for use.

Written anew from its description, over our weights: the mathematics is ours, the way of computing is theirs.
The target's features are computed at every step; gradients of all weights are computed too and pile up unread;
each term goes to the host at every step; scale, noise, bias and instance norm are separate operations.

`is_frozen` is the plain loop that anybody would write first who knows that weights need no gradients here: they are
frozen, the target's features are computed once, and only the loss goes to the host; the operations are the same.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from inversion_core.models import DiscriminatorFeatures
from inversion_core.models.generators import ARCHITECTURES, Synthesis
from inversion_core.packs import Pack

N = TypeVar("N", bound=nn.Module)


class ReferenceLoop:
    """The loop for one picture, on copies of a pack's networks."""

    def __init__(
        self,
        pack: Pack,
        target_1CHW: Tensor,
        start_1LD: Tensor,
        *,
        learning_rate: float,
        regulariser_weight: float = 0.0,
        is_frozen: bool = False,
    ):
        def copied(network: N) -> N:
            return copy.deepcopy(network).requires_grad_(not is_frozen)

        self._synthesis: Synthesis = copied(pack.generator.synthesis)
        self._plain = ARCHITECTURES[pack.generator.config.kind].plain
        self._perceptual = copied(pack.perceptual)
        if isinstance(self._perceptual, DiscriminatorFeatures):
            self._perceptual.unfold()
        self._encoder = copied(pack.encoder) if pack.encoder is not None and regulariser_weight else None
        self._target_features = self._perceptual(target_1CHW.to(pack.device)) if is_frozen else None
        self._perceptual_weight, self._regulariser_weight = pack.perceptual_weight, regulariser_weight
        self._target_1CHW = target_1CHW.to(pack.device)
        self.w_1LD = start_1LD.to(pack.device).clone().requires_grad_(True)
        self._optimizer = torch.optim.Adam([self.w_1LD], lr=learning_rate)

    def step(self) -> float:
        """One iteration; returns the loss before its update."""
        image_1CHW = self._plain(self._synthesis, self.w_1LD)
        pixel = torch.mean((self._target_1CHW - image_1CHW) ** 2)
        loss, log = pixel, self._said("pixel", pixel)
        target_features = self._target_features
        if target_features is None:
            target_features = self._perceptual(self._target_1CHW)
        perceptual = torch.mean((target_features - self._perceptual(image_1CHW)) ** 2)
        loss = loss + perceptual * self._perceptual_weight
        log += self._said("perceptual", perceptual)
        if self._encoder is not None:
            regulariser = torch.mean((self.w_1LD - self._encoder(image_1CHW)) ** 2)
            loss = loss + regulariser * self._regulariser_weight
            log += self._said("regulariser", regulariser)
        value = float(loss.detach().cpu().numpy())
        self._optimizer.zero_grad()
        loss.backward()  # the weights' gradients are never cleared, as there
        self._optimizer.step()
        return value

    def _said(self, name: str, term: Tensor) -> str:
        """What the reference writes after each term, which waits for the device."""
        return "" if self._target_features is not None else f"{name} {term.detach().cpu().numpy():.3f} "
