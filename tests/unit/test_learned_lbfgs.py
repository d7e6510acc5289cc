"""L-BFGS in the learned basis: its direction, its trust region, and its way back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inversion_core.optimizers import AnyOptimizer
from inversion_core.optimizers.basis import Basis, BasisConfig, BasisNetwork, LearnedBasis
from inversion_core.optimizers.lbfgs import two_loop
from inversion_core.optimizers.learned_lbfgs import (
    GROWTH,
    MOST_APART,
    SHRINKAGE,
    LBFGSNetwork,
    LearnedLBFGS,
    LearnedLBFGSConfig,
    LearnedLBFGSState,
    _scales,
)
from tests.stepping import begun, stepped

pytestmark = pytest.mark.unit
LAYERS, DIM = 2, 6
RADIUS = 0.1


def made(history_size: int = 20, basis: Basis | None = None) -> LearnedLBFGS:
    config = LearnedLBFGSConfig(num_layers=LAYERS, w_dim=DIM, radius=RADIUS, history_size=history_size)
    network = LBFGSNetwork(config)
    if basis is not None:
        network.basis = basis
    return LearnedLBFGS(network)


def bent() -> tuple[Tensor, Basis]:
    """A quadratic's matrix that is diagonal in no basis of the layers alone, and the basis of its blocks."""
    n = LAYERS * DIM
    turn = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(0))).Q
    matrix = turn @ torch.diag(torch.logspace(-2.5, 0.5, n)) @ turn.T
    basis = Basis(LAYERS, DIM)
    blocks = matrix.view(LAYERS, DIM, LAYERS, DIM)
    basis.fit(torch.stack([blocks[i, :, i] for i in range(LAYERS)]), torch.randn(9, LAYERS, DIM))
    return matrix, basis


def losses(optimizer: AnyOptimizer, matrix: Tensor, steps: int) -> list[float]:
    w_BLD = torch.ones(1, LAYERS, DIM)
    state, found = begun(optimizer, w_BLD), []
    for _ in range(steps):
        grad_BLD = (matrix @ w_BLD.flatten()).view_as(w_BLD)
        loss_B = (w_BLD * grad_BLD).sum(dim=(1, 2)) / 2
        found.append(float(loss_B))
        w_BLD, state = stepped(optimizer, w_BLD, grad_BLD, state, loss_B=loss_B)
    return found


@pytest.mark.parametrize("missing", [(), (0,), (0, 1, 3), (2, 4), (0, 1, 2, 3, 4, 5)])
def test_the_recursion_is_the_inverse_that_bfgs_would_have(missing: tuple[int, ...]) -> None:
    """`missing`: pairs whose rho is 0, whatever their steps and changes are."""
    generator = torch.Generator().manual_seed(1)
    n, pairs = LAYERS * DIM, 6
    diagonal = torch.rand(n, generator=generator, dtype=torch.float64) + 0.5
    steps = torch.randn(pairs, n, generator=generator, dtype=torch.float64)
    changes = steps + 0.3 * torch.randn(pairs, n, generator=generator, dtype=torch.float64)
    grad = torch.randn(n, generator=generator, dtype=torch.float64)
    inverse, eye = torch.diag(diagonal), torch.eye(n, dtype=torch.float64)
    for s, y in (pair for k, pair in enumerate(zip(steps, changes, strict=True)) if k not in missing):
        left = eye - torch.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + torch.outer(s, s) / (s @ y)

    def shaped(x: Tensor) -> Tensor:
        return x.view(1, *x.shape[:-1], LAYERS, DIM)

    rho_BK = (1 / (steps * changes).sum(1))[None]
    rho_BK[:, list(missing)] = 0
    found = two_loop(shaped(grad), shaped(steps), shaped(changes), rho_BK, shaped(diagonal))
    torch.testing.assert_close(found.flatten(), -inverse @ grad)


def test_it_learns_what_adam_in_the_same_basis_cannot_see() -> None:
    matrix, basis = bent()
    network = BasisNetwork(BasisConfig(num_layers=LAYERS, w_dim=DIM, learning_rate=0.1))
    network.basis = basis
    adam = losses(LearnedBasis(network), matrix, 60)
    ours = losses(made(basis=basis), matrix, 60)
    assert min(ours) < 0.01 * min(adam)
    assert min(losses(made(history_size=1, basis=basis), matrix, 60)) > 3 * min(ours)  # it is the history that tells


def test_each_band_has_the_scale_that_the_pairs_tell() -> None:
    draw = torch.Generator().manual_seed(3)
    step_BKLD = torch.randn(2, 3, 1, 16, generator=draw)
    curvature_D = torch.tensor([1.0, 2, 4, 8, 4, 2, 1, 4]).repeat_interleave(2)
    change_BKLD = curvature_D * step_BKLD
    rho_BK = 1 / (step_BKLD * change_BKLD).sum(dim=(2, 3))
    rho_BK[1, 2] = 0  # no pair
    change_BKLD[1, 2] = 1e6
    diagonal_BLD = torch.tensor([1, 1, 1, 0.5, 1, 2, 1, 1]).repeat_interleave(2).expand(2, 1, 16)
    empty = begun(LearnedLBFGS(LBFGSNetwork(LearnedLBFGSConfig(num_layers=1, w_dim=16))), torch.zeros(2, 1, 16))
    state = empty._replace(steps_BKLD=step_BKLD, changes_BKLD=change_BKLD, rho_BK=rho_BK)
    gamma_BLD = _scales(diagonal_BLD, state, 0.1)
    assert gamma_BLD.shape == (2, 1, 16)
    scale_BN = (gamma_BLD * diagonal_BLD)[:, 0, ::2]
    torch.testing.assert_close(gamma_BLD[..., ::2], gamma_BLD[..., 1::2])
    torch.testing.assert_close(scale_BN * curvature_D[::2], (scale_BN[:, :1] * curvature_D[0]).expand(2, 8))
    torch.testing.assert_close(
        _scales(diagonal_BLD[1:], LearnedLBFGSState(*(x[1:] for x in state)), 0.1), gamma_BLD[1:]
    )
    assert (_scales(diagonal_BLD, state._replace(rho_BK=0 * rho_BK), 0.1) == 0.1).all()
    wild = state._replace(changes_BKLD=change_BKLD * torch.tensor([1.0] * 14 + [1e9] * 2))
    wild_BLD = _scales(diagonal_BLD, wild, 0.1)
    assert float(wild_BLD.max() / wild_BLD.min()) <= 1.001 * MOST_APART**2
    alive_D = torch.tensor([0.0] * 2 + [1.0] * 14)  # of directions that do nothing the pairs say nothing
    still = state._replace(changes_BKLD=change_BKLD * alive_D, steps_BKLD=step_BKLD * alive_D)
    assert _scales(diagonal_BLD, still, 0.1).isfinite().all()


def test_no_step_is_longer_than_its_radius() -> None:
    optimizer, generator = made(), torch.Generator().manual_seed(2)
    w_BLD = torch.zeros(2, LAYERS, DIM)
    state, radius_B = begun(optimizer, w_BLD), torch.full((2,), RADIUS)
    for index in range(8):
        grad_BLD = torch.randn(2, LAYERS, DIM, generator=generator)
        loss_B = torch.tensor([1 / (1 + index), 1 + 0.01 * index])  # gains each time; never
        radius_B = radius_B * (torch.tensor([GROWTH, SHRINKAGE]) if index else 1)
        new_BLD, state = stepped(optimizer, w_BLD, grad_BLD, state, loss_B=loss_B)
        radius_B = radius_B.clamp(max=10 * RADIUS)
        torch.testing.assert_close(state.radius_B, radius_B)
        length_B = (new_BLD - w_BLD).square().mean(dim=(1, 2)).sqrt()
        assert (length_B <= radius_B * 1.001).all()
        assert (length_B > 0).all()
        w_BLD = new_BLD


@pytest.mark.parametrize("bad", [1.31, float("nan"), float("inf")])
def test_it_goes_back_where_the_loss_rises_too_far(bad: float) -> None:
    optimizer = made()
    w_BLD = torch.zeros(2, LAYERS, DIM)
    state = begun(optimizer, w_BLD)
    grad_BLD = torch.ones_like(w_BLD)
    away_BLD, state = stepped(optimizer, w_BLD, grad_BLD, state, loss_B=torch.ones(2))
    grad_BLD = torch.stack([grad_BLD[0] * bad, grad_BLD[0] * 0.5])
    again_BLD, state = stepped(optimizer, away_BLD, grad_BLD, state, loss_B=torch.tensor([bad, 1.2]))
    back_rms, on_rms = ((again_BLD - w_BLD).square().mean(dim=(1, 2)).sqrt()).tolist()
    assert back_rms == pytest.approx(RADIUS / 2, rel=0.01)  # from the start once more, half as far
    assert on_rms > RADIUS  # 1.2 is borne: it goes on from where it is
    assert state.best_loss_B.tolist() == [1.0, 1.0]
    assert again_BLD.isfinite().all()


def test_a_first_loss_that_is_no_number_does_not_stop_it() -> None:
    optimizer = made()
    w_BLD = torch.zeros(1, LAYERS, DIM)
    _, state = stepped(
        optimizer, w_BLD, torch.ones_like(w_BLD), begun(optimizer, w_BLD), loss_B=torch.tensor([torch.nan])
    )
    w_BLD, state = stepped(optimizer, w_BLD, torch.ones_like(w_BLD), state, loss_B=torch.ones(1))
    assert w_BLD.isfinite().all()
    assert state.best_loss_B.tolist() == [1.0]


@pytest.mark.parametrize("settings", [{"radius": 0.0}, {"history_size": 0}, {"history_size": 2.5}])
def test_settings_are_checked(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        LearnedLBFGSConfig(num_layers=LAYERS, w_dim=DIM, **settings)  # type: ignore[arg-type]
