"""Every optimizer on every toy problem, and the classic ones against torch.optim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inversion_core.optimizers import OPTIMIZERS, Adam, restore_state, state_tensors

SHAPE = (3, 4, 5)


def quadratic(w_BLD: Tensor) -> Tensor:
    return (w_BLD - 0.5).square().sum(dim=(1, 2))


def ill_conditioned(w_BLD: Tensor) -> Tensor:
    scale_D = torch.logspace(0, 3, w_BLD.shape[2])
    return (scale_D * (w_BLD - 0.2).square()).sum(dim=(1, 2))


def rosenbrock(w_BLD: Tensor) -> Tensor:
    a, b = w_BLD[..., :-1], w_BLD[..., 1:]
    return (100 * (b - a.square()).square() + (1 - a).square()).sum(dim=(1, 2))


PROBLEMS = [quadratic, ill_conditioned, rosenbrock]
TORCH_TWINS = {"adam": torch.optim.Adam}


def start(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * 0.3


def gradient(problem: Callable[[Tensor], Tensor], w_BLD: Tensor) -> Tensor:
    w_BLD = w_BLD.detach().requires_grad_()
    return torch.autograd.grad(problem(w_BLD).sum(), w_BLD)[0]


def run(optimizer: Any, problem: Callable[[Tensor], Tensor], w_BLD: Tensor, steps: int) -> Tensor:
    state = optimizer.init(w_BLD)
    for _ in range(steps):
        w_BLD, state = optimizer.step(w_BLD, gradient(problem, w_BLD), state)
    return w_BLD


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_lowers_every_image(name: str, problem: Callable[[Tensor], Tensor]) -> None:
    w_BLD = start()
    assert (problem(run(OPTIMIZERS[name](), problem, w_BLD, 60)) < 0.6 * problem(w_BLD)).all()


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_an_image_does_not_depend_on_its_neighbours(name: str, problem: Callable[[Tensor], Tensor]) -> None:
    w_BLD = start()
    together = run(OPTIMIZERS[name](), problem, w_BLD, 20)
    alone = torch.cat([run(OPTIMIZERS[name](), problem, w_BLD[i : i + 1], 20) for i in range(len(w_BLD))])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_state_survives_being_kept(name: str, problem: Callable[[Tensor], Tensor]) -> None:
    optimizer, w_BLD = OPTIMIZERS[name](), start()
    state = optimizer.init(w_BLD)
    w_BLD, state = optimizer.step(w_BLD, gradient(problem, w_BLD), state)
    kept = restore_state(optimizer.init(w_BLD), {key: value.clone() for key, value in state_tensors(state).items()})
    grad_BLD = gradient(problem, w_BLD)
    assert torch.equal(optimizer.step(w_BLD, grad_BLD, state)[0], optimizer.step(w_BLD, grad_BLD, kept)[0])


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_step_leaves_its_arguments_alone(name: str) -> None:
    optimizer, w_BLD = OPTIMIZERS[name](), start()
    state = optimizer.init(w_BLD)
    before = [value.clone() for value in (w_BLD, *state)]
    optimizer.step(w_BLD, torch.ones_like(w_BLD), state)
    assert all(torch.equal(a, b) for a, b in zip(before, (w_BLD, *state), strict=True))


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", sorted(TORCH_TWINS))
def test_equals_torch_optim(name: str, problem: Callable[[Tensor], Tensor]) -> None:
    w_BLD = start()
    parameter = torch.nn.Parameter(w_BLD.clone())
    twin = TORCH_TWINS[name]([parameter], lr=0.01)
    for _ in range(50):
        parameter.grad = gradient(problem, parameter.data)
        twin.step()
    torch.testing.assert_close(run(OPTIMIZERS[name](), problem, w_BLD, 50), parameter.data, rtol=1e-5, atol=1e-6)


def test_a_state_of_another_batch_is_refused() -> None:
    adam = Adam()
    with pytest.raises(ValueError, match="kept state"):
        restore_state(adam.init(start()), state_tensors(adam.init(start()[:1])))


@pytest.mark.parametrize("settings", [{"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"beta1": 1.0}])
def test_adam_refuses_settings_that_make_no_sense(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Adam(**settings)
