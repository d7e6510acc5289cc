"""The interface of optimizers, and how their state is saved.

Suffixes: B image, L style layer, D latent w.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

State = NamedTuple
"""A NamedTuple of tensors, batch first, so that rows can be extracted, inserted and saved."""
S = TypeVar("S", bound=tuple[Any, ...])


class Optimizer(Protocol[S]):
    """Two pure functions, as in optimistix: no hidden state, and images do not affect each other."""

    def init(self, w_BLD: Tensor) -> S:
        """The state before the first update of the codes (B, L, D)."""
        ...

    def step(self, w_BLD: Tensor, grad_BLD: Tensor, state: S) -> tuple[Tensor, S]:
        """One update: returns new codes and new state, and does not modify its arguments."""
        ...


def state_tensors(state: tuple[Any, ...]) -> dict[str, Tensor]:
    """The fields of a state by name."""
    return dict(state._asdict())  # type: ignore[attr-defined]


def restore_state(like: S, tensors: dict[str, Tensor]) -> S:
    """Rebuild a state of the type of `like` from named tensors.

    Raises:
        ValueError: names or shapes differ, so the tensors are from another optimizer or another batch.
    """
    expected = {name: value.shape for name, value in state_tensors(like).items()}
    found = {name: value.shape for name, value in tensors.items()}
    if expected != found:
        raise ValueError(f"the kept state has {found}, this optimizer needs {expected}")
    device = next(iter(state_tensors(like).values())).device
    return type(like)(**{name: value.to(device) for name, value in tensors.items()})
