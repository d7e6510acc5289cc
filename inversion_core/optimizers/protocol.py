"""The interface of optimizers, and how their state is saved.

Suffixes: B image.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

from inversion_core.latents import Latent
from inversion_core.optimizers.evaluation import Evaluation

State = NamedTuple
"""A NamedTuple of tensors, batch first, so that rows can be extracted, inserted and saved."""
S = TypeVar("S", bound=tuple[Any, ...])


class Optimizer(Protocol[S]):
    """Two pure functions, as in optimistix: no hidden state, and images do not affect each other.

    They move `Latent.free`. One that needs `Evaluation.look` says so with a class attribute `looks = True`.
    """

    def init(self, latent: Latent) -> S:
        """The state before the first update."""
        ...

    def step(self, latent: Latent, evaluation: Evaluation, state: S) -> tuple[Latent, S]:
        """One update from what was found at `latent`: returns a new latent and a new state, and modifies nothing."""
        ...


AnyOptimizer = Optimizer[Any]


def looks(optimizer: AnyOptimizer) -> bool:
    """Whether it needs `Evaluation.look`."""
    return bool(getattr(optimizer, "looks", False))


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
