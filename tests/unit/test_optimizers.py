"""Every optimizer on every toy problem, and the classic ones against torch.optim.

In float64, so that a difference is a mistake and not rounding that grew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inversion_core.inverter import Checkpoint
from inversion_core.latents import Latent
from inversion_core.optimizers import OPTIMIZERS, Adam, build_optimizer, restore_state, state_tensors
from tests.stepping import begun, stepped

SHAPE = (3, 4, 5)
Problem = Callable[[Tensor], Tensor]


def quadratic(w_BLD: Tensor) -> Tensor:
    return (w_BLD - 0.5).square().sum(dim=(1, 2))


def ill_conditioned(w_BLD: Tensor) -> Tensor:
    scale_D = torch.logspace(0, 3, w_BLD.shape[2], dtype=w_BLD.dtype)
    return (scale_D * (w_BLD - 0.2).square()).sum(dim=(1, 2))


def rosenbrock(w_BLD: Tensor) -> Tensor:
    a, b = w_BLD[..., :-1], w_BLD[..., 1:]
    return (100 * (b - a.square()).square() + (1 - a).square()).sum(dim=(1, 2))


PROBLEMS = [quadratic, ill_conditioned, rosenbrock]
SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"learning_rate": 4e-4},
    "nag": {"learning_rate": 2e-4},
    "adagrad": {"learning_rate": 0.1},
    "rmsprop": {"learning_rate": 0.01},
    "adam": {"learning_rate": 0.01},
    "lbfgs": {"learning_rate": 0.1},
}
"""Rates that suit the toys; the built-in ones suit pictures."""
LOWERED = {"sgd": 0.97, "nag": 0.8, "lbfgs": 0.9}
"""What must be left of the loss at most, where it is not 0.6: the steepest toy holds a rate without curvature down."""
MORE_SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *SETTINGS.items(),
    ("sgd", {"learning_rate": 2e-4, "momentum": 0.8}),
    ("rmsprop", {"learning_rate": 0.01, "decay": 0.5}),
    ("lbfgs", {"learning_rate": 0.5, "history_size": 3}),  # the oldest pairs fall out
]
RAGGED = {"warmup_steps": 4, "final_factor": 0.1}
"""A schedule in which every step has another rate."""


def build(name: str, **settings: Any) -> Any:
    return build_optimizer(name, SETTINGS.get(name, {}) | settings, total_steps=30)


def start(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.3


def gradient(problem: Problem, w_BLD: Tensor) -> Tensor:
    w_BLD = w_BLD.detach().requires_grad_()
    return torch.autograd.grad(problem(w_BLD).sum(), w_BLD)[0]


def run(optimizer: Any, problem: Problem, w_BLD: Tensor, steps: int) -> Tensor:
    state = begun(optimizer, w_BLD)
    for _ in range(steps):
        w_BLD, state = stepped(optimizer, w_BLD, gradient(problem, w_BLD), state)
    return w_BLD


def torch_twin(name: str, parameter: Tensor, settings: dict[str, Any]) -> torch.optim.Optimizer:
    """torch's own optimizer for one image."""
    lr = settings["learning_rate"]
    match name:
        case "sgd":
            return torch.optim.SGD([parameter], lr, momentum=settings.get("momentum", 0.0))
        case "nag":
            return torch.optim.SGD([parameter], lr, momentum=0.9, nesterov=True)
        case "adagrad":
            return torch.optim.Adagrad([parameter], lr)
        case "rmsprop":
            return torch.optim.RMSprop([parameter], lr, alpha=settings.get("decay", 0.99))
        case "adam":
            return torch.optim.Adam([parameter], lr)
        case "lbfgs":
            size = settings.get("history_size", 10)
            return torch.optim.LBFGS(
                [parameter], lr, max_iter=1, history_size=size, tolerance_grad=0, tolerance_change=0
            )
    raise AssertionError(f"{name} has no twin")


def run_twin(name: str, settings: dict[str, Any], problem: Problem, w_1LD: Tensor, steps: int) -> Tensor:
    parameter = torch.nn.Parameter(w_1LD.clone())
    twin = torch_twin(name, parameter, settings)

    def closure() -> float:
        parameter.grad = gradient(problem, parameter.data)
        return 0.0

    for _ in range(steps):
        twin.step(closure)
    return parameter.data


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("name", "settings"), MORE_SETTINGS)
def test_equals_torch_optim_image_by_image(name: str, settings: dict[str, Any], problem: Problem) -> None:
    w_BLD = start()
    twins = torch.cat([run_twin(name, settings, problem, w_1LD, 30) for w_1LD in w_BLD.split(1)])
    assert twins.isfinite().all()
    torch.testing.assert_close(run(build_optimizer(name, settings), problem, w_BLD, 30), twins, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_lowers_every_image(name: str, problem: Problem) -> None:
    w_BLD = start()
    assert (problem(run(build(name), problem, w_BLD, 60)) < LOWERED.get(name, 0.6) * problem(w_BLD)).all()


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_an_image_does_not_depend_on_its_neighbours(name: str, problem: Problem) -> None:
    w_BLD, optimizer = start(), build(name, **RAGGED)
    together = run(optimizer, problem, w_BLD, 20)
    alone = torch.cat([run(optimizer, problem, w_1LD, 20) for w_1LD in w_BLD.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_detail_is_moved_as_a_code_of_as_many_numbers_is(name: str) -> None:
    optimizer, shape = build(name, **RAGGED), (3, 2, 2, 5)

    def folded(detail_BCHW: Tensor) -> Tensor:
        return rosenbrock(detail_BCHW.reshape(SHAPE))

    detail_BCHW = run(optimizer, folded, start().view(shape), 10)
    assert detail_BCHW.shape == shape
    expected_BLD = run(optimizer, rosenbrock, start(), 10)
    torch.testing.assert_close(detail_BCHW.view(SHAPE), expected_BLD, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_image_does_not_touch_its_neighbours(name: str, broken: float) -> None:
    optimizer, w_BLD = build(name), start()
    state, alone = begun(optimizer, w_BLD), run(optimizer, rosenbrock, w_BLD, 8)
    for step in range(8):
        grad_BLD = gradient(rosenbrock, w_BLD)
        if step == 3:
            grad_BLD[1, 2, 2] = broken
        w_BLD, state = stepped(optimizer, w_BLD, grad_BLD, state)
    assert not w_BLD[1].isfinite().all()
    torch.testing.assert_close(w_BLD[[0, 2]], alone[[0, 2]], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_images_may_be_at_different_steps(name: str) -> None:
    """As in slots of one batch: rows of states at different counts are put together and go on as before."""
    w_BLD, optimizer = start(), build(name, **RAGGED)
    rows = []
    for image, steps_done in enumerate((0, 5, 17)):
        w_1LD = w_BLD[image : image + 1]
        state = begun(optimizer, w_1LD)
        for _ in range(steps_done):
            w_1LD, state = stepped(optimizer, w_1LD, gradient(rosenbrock, w_1LD), state)
        rows.append((w_1LD, state))
    alone = torch.cat([stepped(optimizer, w, gradient(rosenbrock, w), state)[0] for w, state in rows])
    w_BLD = torch.cat([w for w, _ in rows])
    state = type(rows[0][1])(*(torch.cat(field) for field in zip(*(state for _, state in rows), strict=True)))
    together = stepped(optimizer, w_BLD, gradient(rosenbrock, w_BLD), state)[0]
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_state_survives_being_kept_as_bytes(name: str, problem: Problem) -> None:
    optimizer, w_BLD = build(name, **RAGGED), start()
    state = begun(optimizer, w_BLD)
    for _ in range(3):
        w_BLD, state = stepped(optimizer, w_BLD, gradient(problem, w_BLD), state)
    data = Checkpoint(index=3, latent=Latent(w_BLD=w_BLD), state=state_tensors(state)).to_bytes()
    kept = restore_state(begun(optimizer, w_BLD), Checkpoint.from_bytes(data).state)
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(state, kept, strict=True))
    grad_BLD = gradient(problem, w_BLD)
    assert torch.equal(stepped(optimizer, w_BLD, grad_BLD, state)[0], stepped(optimizer, w_BLD, grad_BLD, kept)[0])


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_step_leaves_its_arguments_alone(name: str) -> None:
    optimizer, w_BLD = build(name), start()
    state = begun(optimizer, w_BLD)
    w_BLD, state = stepped(optimizer, w_BLD, gradient(rosenbrock, w_BLD), state)
    before = [value.clone() for value in (w_BLD, *state)]
    stepped(optimizer, w_BLD, torch.ones_like(w_BLD), state)
    assert all(torch.equal(a, b) for a, b in zip(before, (w_BLD, *state), strict=True))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_the_first_step_of_a_flat_image_is_none(name: str) -> None:
    w_BLD, optimizer = start().float(), build(name)
    moved_BLD, state = stepped(optimizer, w_BLD, torch.zeros_like(w_BLD), begun(optimizer, w_BLD))
    assert moved_BLD.dtype == torch.float32
    assert torch.equal(moved_BLD, w_BLD)
    assert torch.equal(stepped(optimizer, w_BLD, torch.zeros_like(w_BLD), state)[0], w_BLD)


def test_lbfgs_leaves_out_pairs_of_negative_curvature() -> None:
    """Up a hill the gradient grows against the step: torch skips the pair, and so must we, image by image."""

    def hill_and_valley(w_BLD: Tensor) -> Tensor:
        sign_B = torch.tensor([-1.0, 1.0, -1.0], dtype=w_BLD.dtype)[: len(w_BLD)]
        return sign_B * w_BLD.square().sum(dim=(1, 2))

    optimizer, w_BLD = build("lbfgs"), start()
    state = begun(optimizer, w_BLD)
    for _ in range(3):
        w_BLD, state = stepped(optimizer, w_BLD, gradient(hill_and_valley, w_BLD), state)
    assert (state.rho_BK > 0).sum(dim=1).tolist() == [0, 2, 0]
    twin = run_twin("lbfgs", SETTINGS["lbfgs"], hill_and_valley, start()[:1], 3)
    torch.testing.assert_close(w_BLD[:1], twin, rtol=1e-9, atol=1e-12)


def test_a_state_of_another_batch_is_refused() -> None:
    adam = Adam()
    with pytest.raises(ValueError, match="kept state"):
        restore_state(begun(adam, start()), state_tensors(begun(adam, start()[:1])))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("adam", {"learning_rate": 0.0}),
        ("adam", {"learning_rate": float("nan")}),
        ("adam", {"beta1": 1.0}),
        ("sgd", {"momentum": 1.0}),
        ("nag", {"learning_rate": -1.0}),
        ("adagrad", {"learning_rate": 0.0}),
        ("rmsprop", {"decay": -0.1}),
        ("lbfgs", {"history_size": 0}),
        ("lbfgs", {"history_size": 2.5}),
        ("lbfgs", {"min_curvature": 0.0}),
        ("adam", {"warmup_steps": -1}),
        ("adam", {"warmup_steps": 2.5}),
        ("adam", {"final_factor": 1.5}),
        ("adam", {"final_factor": float("nan")}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))}.* must be"):
        build_optimizer(name, settings)


@pytest.mark.parametrize("setting", ["total_steps", "schedule", "rate"])
def test_what_the_run_decides_is_no_setting(setting: str) -> None:
    with pytest.raises(TypeError, match=setting):
        build_optimizer("adam", {setting: 3})
