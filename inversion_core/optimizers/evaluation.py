"""What an optimizer is told of a latent: its loss, its picture, and where the loss falls.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What only an optimizer that `looks` is given. Pictures are masked where there is a mask."""

    target_BCHW: Tensor
    image_BCHW: Tensor
    image_grad_BCHW: Tensor
    """Of the loss to the picture: it comes by on the way to the gradient of the code."""
    target_features_BCHW: Tensor
    features_BCHW: Tensor
    """F of equation 1, of target and picture."""

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Look:
        """With `change` made to each tensor."""
        return Look(**{name: change(value) for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """One evaluation of the loss of a batch, all of it without a graph. Pictures are in [-1, 1]."""

    loss_B: Tensor
    image_BCHW: Tensor
    """The picture that the latent makes."""
    grad: Tensor
    """Of each image's own loss to its `Latent.free`, in that one's shape (B, ...)."""
    look: Look | None = None
    """None for an optimizer that does not look."""

    def rows(self, first: int, end: int) -> Evaluation:
        """The images from `first` up to `end`."""
        return Evaluation(
            loss_B=self.loss_B[first:end],
            image_BCHW=self.image_BCHW[first:end],
            grad=self.grad[first:end],
            look=None if self.look is None else self.look.mapped(lambda rows_B: rows_B[first:end]),
        )
