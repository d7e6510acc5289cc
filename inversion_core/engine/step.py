"""The step that a batch takes: picture, loss and gradient of every row, in as few parts as memory asks for.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from inversion_core.engine.buckets import bucket_for
from inversion_core.engine.precision import Precision, arithmetic, networks_in
from inversion_core.inverter import differentiate
from inversion_core.latents import Latent
from inversion_core.loss import InversionLoss
from inversion_core.models.serving import serving
from inversion_core.optimizers import Evaluation, Look
from inversion_core.packs import Pack

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the rows of a batch are compared with. It changes only when a row comes or goes."""

    target_BCHW: Tensor
    target_features_BCHW: Tensor
    """Of the targets times their masks."""
    mask_B1HW: Tensor | None
    """None where no row has a mask."""
    weight_B1HW: Tensor | None = None
    """How much each pixel counts; None where they count alike in every row."""
    base_BCHW: Tensor | None = None
    """The features to which detail is added; None where w moves."""

    def rows(self, first: int, end: int) -> Inputs:
        return self.mapped(lambda rows_B: rows_B[first:end])

    def filled(self, size: int) -> Inputs:
        """With the first row repeated up to `size`."""
        return self.mapped(lambda rows_B: filled(rows_B, size))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same of each tensor that there is."""
        return replace(self, **{name: change(rows_B) for name, rows_B in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Those that there are, by name, in one order."""
        return {name: rows_B for name, rows_B in vars(self).items() if rows_B is not None}


class Losses(NamedTuple):
    """One image's loss and its two terms."""

    total: float
    pixel: float
    perceptual: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A batch's pictures, losses and gradients at its latents."""

    image_BCHW: Tensor
    loss_B: Tensor
    pixel_B: Tensor
    """The loss's pixel term."""
    perceptual_B: Tensor
    """Its perceptual term, unweighted."""
    grad: Tensor | None = None
    """Of each row's own loss, to what is free of its latent; None where it was not asked for."""
    look: Look | None = None
    """For optimizers that look; None where it was not asked for."""

    def losses(self) -> list[Losses]:
        """Of each row, in one copy: the one wait for the device."""
        return [Losses(*row) for row in torch.stack([self.loss_B, self.pixel_B, self.perceptual_B], dim=1).tolist()]

    def evaluation(self, *, with_look: bool) -> Evaluation:
        """What an optimizer is told."""
        assert self.grad is not None
        look = self.look if with_look else None
        return Evaluation(loss_B=self.loss_B, image_BCHW=self.image_BCHW, grad=self.grad, look=look)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Outcome:
        """With `change` made to each tensor."""
        return _merged([self], lambda each: change(each[0]))


class Want(IntEnum):
    """What an evaluation is for; each also gives what those before it give."""

    LOSS = 0
    GRADIENT = 1
    LOOK = 2


Evaluate = Callable[[Latent, Inputs, Want], Outcome]
"""Latents, inputs, and what is wanted."""


class PackStep:
    """The loss of one pack and its gradient. It holds no state, so equal calls give equal results."""

    def __init__(self, pack: Pack, regulariser_weight: float, precision: Precision = Precision.FLOAT32) -> None:
        self._networks = networks_in(pack, precision)
        self._device = pack.device
        self._regulariser_weight = regulariser_weight
        self._precision = precision

    def __call__(self, latent: Latent, inputs: Inputs, want: Want) -> Outcome:
        with (
            torch.set_grad_enabled(want is not Want.LOSS),
            serving(),
            arithmetic(self._precision, self._device),
        ):
            latent = latent.with_free(latent.free.detach().requires_grad_(want is not Want.LOSS))
            image_BCHW = self._networks.synthesize(latent, inputs.base_BCHW)
            loss = self._loss(inputs)
            terms = loss.terms(image_BCHW, latent.w_BLD)
            outcome = Outcome(
                image_BCHW=image_BCHW.detach(),
                loss_B=terms.total_B.detach(),
                pixel_B=terms.pixel_B.detach(),
                perceptual_B=terms.perceptual_B.detach(),
            )
            if want is Want.LOSS:
                return outcome
            evaluation = differentiate(loss, terms, latent, image_BCHW, with_look=want is Want.LOOK)
        return replace(outcome, grad=evaluation.grad, look=evaluation.look)

    def _loss(self, inputs: Inputs) -> InversionLoss:
        return InversionLoss(
            inputs.target_BCHW,
            target_features_BCHW=inputs.target_features_BCHW,
            features=self._networks.features,
            perceptual_weight=self._networks.perceptual_weight,
            mask_B1HW=inputs.mask_B1HW,
            weight_B1HW=inputs.weight_B1HW,
            encode=self._networks.encode if self._regulariser_weight else None,
            regulariser_weight=self._regulariser_weight,
        )


class Parts:
    """Runs a step in parts that fit: of a bucket's size, and half as large after each time that memory ran out."""

    def __init__(self, evaluate: Evaluate, buckets: Sequence[int], exact: Evaluate | None = None) -> None:
        """`exact`: the same step in float32, where `evaluate` rounds more coarsely."""
        self._evaluate, self._buckets = evaluate, buckets
        self._exact = None if exact is None else Parts(exact, buckets)
        self.limit = buckets[-1]
        """Most rows that are computed at once."""

    @property
    def rounds(self) -> bool:
        """Whether a call rounds more coarsely than float32."""
        return self._exact is not None

    def judged(self, latent: Latent, inputs: Inputs) -> Outcome:
        """Pictures and losses in float32; only where a call rounds more coarsely. Raises: as a call."""
        assert self._exact is not None
        return self._exact(latent, inputs, Want.LOSS)

    def __call__(self, latent: Latent, inputs: Inputs, want: Want) -> Outcome:
        """Raises: what the step raises; of memory, only when a single row does not fit."""
        while True:
            try:
                return self._in_parts(latent, inputs, want)
            except Exception as error:
                tried = min(self.limit, len(latent))
                if not is_out_of_memory(error) or tried == 1:
                    raise
                self.limit = tried // 2
                log.warning("out of memory rows=%d next=%d", tried, self.limit)
            release_memory(latent.w_BLD.device)  # outside the handler: the error's frames hold the tensors

    def _in_parts(self, latent: Latent, inputs: Inputs, want: Want) -> Outcome:
        parts = [
            self._part(latent.rows(first, first + self.limit), inputs.rows(first, first + self.limit), want)
            for first in range(0, len(latent), self.limit)
        ]
        return parts[0] if len(parts) == 1 else joined_outcomes(parts)

    def _part(self, latent: Latent, inputs: Inputs, want: Want) -> Outcome:
        count = len(latent)
        size = min(bucket_for(count, self._buckets), self.limit)
        if size <= count:
            return self._evaluate(latent, inputs, want)
        many = latent.mapped(lambda rows_B: filled(rows_B, size))
        return self._evaluate(many, inputs.filled(size), want).mapped(lambda rows_B: rows_B[:count])


def joined_outcomes(parts: Sequence[Outcome]) -> Outcome:
    """One of several that hold the same tensors."""
    return _merged(parts, lambda each: torch.cat([*each]))


def _merged(parts: Sequence[Outcome], merge: Callable[[Sequence[Tensor]], Tensor]) -> Outcome:
    looks = [part.look for part in parts if part.look is not None]
    look = Look(**{name: merge([vars(each)[name] for each in looks]) for name in vars(looks[0])}) if looks else None
    names = [name for name, value in vars(parts[0]).items() if isinstance(value, Tensor)]
    return Outcome(**{name: merge([vars(part)[name] for part in parts]) for name in names}, look=look)


def filled(rows_B: Tensor, size: int) -> Tensor:
    """The rows, and the first again up to `size`."""
    missing = size - len(rows_B)
    return torch.cat([rows_B, rows_B[:1].expand(missing, *rows_B.shape[1:])]) if missing > 0 else rows_B


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the host in its own words, had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)


def release_memory(device: torch.device) -> None:
    """Give cached blocks back, so that smaller ones can be cut from them."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
