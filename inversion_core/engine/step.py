"""The step that a batch takes: picture, loss and gradient of every row, in as few parts as memory asks for.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from inversion_core.engine.buckets import bucket_for
from inversion_core.engine.precision import Precision, arithmetic, networks_in
from inversion_core.inverter import differentiate
from inversion_core.loss import InversionLoss
from inversion_core.models.serving import serving
from inversion_core.optimizers.seen import Seen
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
class Evaluation:
    """A batch's pictures, losses and gradients at its codes."""

    image_BCHW: Tensor
    loss_B: Tensor
    pixel_B: Tensor
    """The loss's pixel term."""
    perceptual_B: Tensor
    """Its perceptual term, unweighted."""
    grad_BLD: Tensor | None = None
    """Of each row's own loss; None where it was not asked for."""
    seen: Seen | None = None
    """What an optimizer may look at; None where it was not asked for."""

    def losses(self) -> list[Losses]:
        """Of each row, in one copy: the one wait for the device."""
        return [Losses(*row) for row in torch.stack([self.loss_B, self.pixel_B, self.perceptual_B], dim=1).tolist()]

    def rows(self, count: int) -> Evaluation:
        """The first rows."""
        return Evaluation(
            image_BCHW=self.image_BCHW[:count],
            loss_B=self.loss_B[:count],
            pixel_B=self.pixel_B[:count],
            perceptual_B=self.perceptual_B[:count],
            grad_BLD=None if self.grad_BLD is None else self.grad_BLD[:count],
            seen=None if self.seen is None else seen_rows(self.seen, 0, count),
        )


class Want(IntEnum):
    """What an evaluation is for; each also gives what those before it give."""

    LOSS = 0
    GRADIENT = 1
    SEEN = 2


Evaluate = Callable[[Tensor, Inputs, Want], Evaluation]
"""Codes, inputs, and what is wanted."""


class PackStep:
    """The loss of one pack and its gradient. It holds no state, so equal calls give equal results."""

    def __init__(self, pack: Pack, regulariser_weight: float, precision: Precision = Precision.FLOAT32) -> None:
        self._networks = networks_in(pack, precision)
        self._device = pack.device
        self._regulariser_weight = regulariser_weight
        self._precision = precision

    def __call__(self, w_BLD: Tensor, inputs: Inputs, want: Want) -> Evaluation:
        with (
            torch.set_grad_enabled(want is not Want.LOSS),
            serving(),
            arithmetic(self._precision, self._device),
        ):
            w_BLD = w_BLD.detach().requires_grad_(want is not Want.LOSS)
            image_BCHW = self._networks.synthesize(w_BLD)
            loss = self._loss(inputs)
            terms = loss.terms(image_BCHW, w_BLD)
            evaluation = Evaluation(
                image_BCHW=image_BCHW.detach(),
                loss_B=terms.total_B.detach(),
                pixel_B=terms.pixel_B.detach(),
                perceptual_B=terms.perceptual_B.detach(),
            )
            if want is Want.LOSS:
                return evaluation
            grad_BLD, seen = differentiate(loss, terms, w_BLD, image_BCHW, with_seen=want is Want.SEEN)
        return replace(evaluation, grad_BLD=grad_BLD, seen=seen)

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

    def judged(self, w_BLD: Tensor, inputs: Inputs) -> Evaluation:
        """Pictures and losses in float32; only where a call rounds more coarsely. Raises: as a call."""
        assert self._exact is not None
        return self._exact(w_BLD, inputs, Want.LOSS)

    def __call__(self, w_BLD: Tensor, inputs: Inputs, want: Want) -> Evaluation:
        """Raises: what the step raises; of memory, only when a single row does not fit."""
        while True:
            try:
                return self._in_parts(w_BLD, inputs, want)
            except Exception as error:
                tried = min(self.limit, len(w_BLD))
                if not is_out_of_memory(error) or tried == 1:
                    raise
                self.limit = tried // 2
                log.warning("out of memory rows=%d next=%d", tried, self.limit)
            release_memory(w_BLD.device)  # outside the handler: the error's frames hold the tensors

    def _in_parts(self, w_BLD: Tensor, inputs: Inputs, want: Want) -> Evaluation:
        parts = [
            self._part(w_BLD[first : first + self.limit], inputs.rows(first, first + self.limit), want)
            for first in range(0, len(w_BLD), self.limit)
        ]
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _part(self, w_BLD: Tensor, inputs: Inputs, want: Want) -> Evaluation:
        count = len(w_BLD)
        size = min(bucket_for(count, self._buckets), self.limit)
        if size <= count:
            return self._evaluate(w_BLD, inputs, want)
        return self._evaluate(filled(w_BLD, size), inputs.filled(size), want).rows(count)


def _joined(parts: Sequence[Evaluation]) -> Evaluation:
    grads = [part.grad_BLD for part in parts if part.grad_BLD is not None]
    seen = [part.seen for part in parts if part.seen is not None]
    return Evaluation(
        image_BCHW=torch.cat([part.image_BCHW for part in parts]),
        loss_B=torch.cat([part.loss_B for part in parts]),
        pixel_B=torch.cat([part.pixel_B for part in parts]),
        perceptual_B=torch.cat([part.perceptual_B for part in parts]),
        grad_BLD=torch.cat(grads) if grads else None,
        seen=joined_seen(seen) if seen else None,
    )


def seen_rows(seen: Seen, first: int, end: int) -> Seen:
    return Seen(**{field.name: getattr(seen, field.name)[first:end] for field in fields(Seen)})


def joined_seen(parts: Sequence[Seen]) -> Seen:
    return Seen(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Seen)})


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
