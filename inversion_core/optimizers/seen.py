"""What an optimizer may look at beside code and gradient: the pictures themselves.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from inversion_core.optimizers.protocol import Optimizer

S = TypeVar("S", bound=tuple[Any, ...])


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One evaluation of the loss, all of it without a graph. Pictures are in [-1, 1], masked where there is a mask."""

    target_BCHW: Tensor
    image_BCHW: Tensor
    """G(w)."""
    image_grad_BCHW: Tensor
    """Of the loss to G(w): it comes by on the way to the code's gradient."""
    target_features_BCHW: Tensor
    features_BCHW: Tensor
    """F of equation 1, of target and picture."""
    loss_B: Tensor


@runtime_checkable
class SeeingOptimizer(Protocol[S]):
    """An optimizer whose update depends on the pictures too. As pure, and as blind to other images, as the others."""

    def init(self, w_BLD: Tensor) -> S:
        """State before the first update of the codes (B, L, D)."""
        ...

    def step_seeing(self, w_BLD: Tensor, grad_BLD: Tensor, state: S, seen: Seen) -> tuple[Tensor, S]:
        """One update: new codes and new state; the arguments stay as they are."""
        ...


AnyOptimizer = Optimizer[Any] | SeeingOptimizer[Any]


def sees(optimizer: AnyOptimizer) -> bool:
    """Whether `advance` needs a Seen for it."""
    return isinstance(optimizer, SeeingOptimizer)


def advance(
    optimizer: AnyOptimizer, w_BLD: Tensor, grad_BLD: Tensor, state: Any, seen: Seen | None
) -> tuple[Tensor, Any]:
    """The update of either kind of optimizer; `seen` may be None where `sees` says no."""
    if isinstance(optimizer, SeeingOptimizer):
        assert seen is not None
        return optimizer.step_seeing(w_BLD, grad_BLD, state, seen)
    return optimizer.step(w_BLD, grad_BLD, state)
