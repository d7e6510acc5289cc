"""What an optimizer is, and how its state is kept.

Suffixes: B image, L style layer, D latent w.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

State = NamedTuple
"""A state is a NamedTuple of tensors, batch first: rows can be taken out, put in and written to a file."""
S = TypeVar("S", bound=tuple[Any, ...])


class Optimizer(Protocol[S]):
    """init / step, as in optimistix: no hidden state, and no image ever sees another."""

    def init(self, w_BLD: Tensor) -> S:
        """State before the first update of the codes (B, L, D)."""
        ...

    def step(self, w_BLD: Tensor, grad_BLD: Tensor, state: S) -> tuple[Tensor, S]:
        """One update: new codes and new state; the arguments stay as they are."""
        ...


def state_tensors(state: tuple[Any, ...]) -> dict[str, Tensor]:
    """The fields of a state by name."""
    return dict(state._asdict())  # type: ignore[attr-defined]


def restore_state(like: S, tensors: dict[str, Tensor]) -> S:
    """Put named tensors back into a state of the same kind as `like`.

    Raises:
        ValueError: names or shapes differ: the tensors come from another optimizer or another batch.
    """
    expected = {name: value.shape for name, value in state_tensors(like).items()}
    found = {name: value.shape for name, value in tensors.items()}
    if expected != found:
        raise ValueError(f"the kept state has {found}, this optimizer needs {expected}")
    device = next(iter(state_tensors(like).values())).device
    return type(like)(**{name: value.to(device) for name, value in tensors.items()})
