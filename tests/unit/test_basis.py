"""The basis in which curvature couples least: how it is found, Adam in it, and its way into a pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from inversion_core import InvertConfig, invert
from inversion_core.cli import main
from inversion_core.optimizers import build_optimizer
from inversion_core.optimizers.basis import Basis, BasisConfig, BasisNetwork, LearnedBasis
from inversion_core.packs import Pack, load_pack, verify_pack
from inversion_core.training.curvature import layer_curvature
from inversion_core.training.pairs import draw_pairs, mixed_codes, mixture_of
from tests.stepping import begun, stepped
from tests.tiny import noise_archive, save_networks, tiny_pack, tiny_targets

pytestmark = pytest.mark.unit
LAYERS, DIM = 2, 6


def matrices(seed: int = 0) -> Tensor:
    a_LDN = torch.randn(LAYERS, DIM, 2 * DIM, generator=torch.Generator().manual_seed(seed))
    return a_LDN @ a_LDN.transpose(1, 2)


def fitted(h_LDE: Tensor) -> Basis:
    basis = Basis(LAYERS, DIM)
    basis.fit(h_LDE, torch.randn(50, LAYERS, DIM, generator=torch.Generator().manual_seed(1)))
    return basis


def test_its_axes_are_orthonormal_and_decouple_the_matrix() -> None:
    h_LDE = matrices()
    basis = fitted(h_LDE)
    x_BLD = torch.randn(3, LAYERS, DIM)
    torch.testing.assert_close(basis.out_of(basis.into(x_BLD)), x_BLD)
    torch.testing.assert_close(basis.into(x_BLD).norm(dim=2), x_BLD.norm(dim=2))
    along_LDE = basis.axes_LDE.transpose(1, 2) @ h_LDE @ basis.axes_LDE
    torch.testing.assert_close(along_LDE, torch.diag_embed(basis.curvature_LD), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beta1", [0.9, 0.7])
def test_in_the_standard_basis_it_is_adam(beta1: float) -> None:
    config = BasisConfig(num_layers=LAYERS, w_dim=DIM, learning_rate=0.1, beta1=beta1)
    optimizer = LearnedBasis(BasisNetwork(config))
    adam = build_optimizer("adam", {"learning_rate": 0.1, "warmup_steps": 3, "beta1": beta1})
    w_BLD = theirs_BLD = torch.randn(2, LAYERS, DIM)
    state, their_state = begun(optimizer, w_BLD), begun(adam, w_BLD)
    for _ in range(5):
        w_BLD, state = stepped(optimizer, w_BLD, w_BLD, state)
        theirs_BLD, their_state = stepped(adam, theirs_BLD, theirs_BLD, their_state)
        torch.testing.assert_close(w_BLD, theirs_BLD)


def test_how_the_space_is_turned_no_longer_matters() -> None:
    """Adam takes another way where a quadratic is turned; Adam in the quadratic's own basis takes the same one."""
    plain_LDE = torch.diag_embed(torch.logspace(-2, 1, DIM).repeat(LAYERS, 1))
    turn_LDE = torch.linalg.qr(matrices(2)).Q
    turned_LDE = turn_LDE @ plain_LDE @ turn_LDE.transpose(1, 2)
    start_BLD = torch.ones(1, LAYERS, DIM)

    def losses(h_LDE: Tensor, w_BLD: Tensor) -> list[float]:
        network = BasisNetwork(BasisConfig(num_layers=LAYERS, w_dim=DIM, learning_rate=0.1))
        network.basis = fitted(h_LDE)
        optimizer, found = LearnedBasis(network), []
        state = begun(optimizer, w_BLD)
        for _ in range(10):
            grad_BLD = torch.einsum("lde,ble->bld", h_LDE, w_BLD)
            found.append(float((w_BLD * grad_BLD).sum()) / 2)
            w_BLD, state = stepped(optimizer, w_BLD, grad_BLD, state)
        return found

    ours = losses(plain_LDE, start_BLD)
    assert losses(turned_LDE, torch.einsum("lde,ble->bld", turn_LDE, start_BLD)) == pytest.approx(ours, rel=1e-3)


def exact_curvature(pack: Pack, w_LD: Tensor) -> Tensor:
    def residuals(code_LD: Tensor) -> Tensor:
        image_BCHW = pack.synthesize(code_LD[None])
        features_BCHW = pack.features(image_BCHW)
        weight = (pack.perceptual_weight / features_BCHW.numel()) ** 0.5
        return torch.cat([image_BCHW.flatten() / image_BCHW.numel() ** 0.5, weight * features_BCHW.flatten()])

    jacobian_RLD = torch.autograd.functional.jacobian(residuals, w_LD)
    return torch.einsum("rld,rle->lde", jacobian_RLD, jacobian_RLD)


def test_the_estimate_nears_the_gauss_newton_matrix() -> None:
    pack = tiny_pack()
    w_BLD = pack.map(torch.randn(1, pack.z_dim, generator=torch.Generator().manual_seed(0))).detach()
    exact_LDE = exact_curvature(pack, w_BLD[0])
    batches = iter(lambda: w_BLD.expand(64, -1, -1), None)
    estimate_LDE = layer_curvature(pack, batches, samples=4096)
    error_L = (estimate_LDE - exact_LDE).flatten(1).norm(dim=1) / exact_LDE.flatten(1).norm(dim=1)
    assert error_L.max() < 0.1
    rough_LDE = layer_curvature(pack, batches, samples=64)
    assert (rough_LDE - exact_LDE).norm() > 2 * (estimate_LDE - exact_LDE).norm()


def test_drawing_codes_leaves_the_common_generator_alone(tmp_path: Path) -> None:
    pack, pictures = tiny_pack(), archive_pictures(tmp_path)
    mixture = mixture_of(pack, pictures)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    codes = mixed_codes(pack, mixture, batch_size=4, seed=1)
    first_BLD, second_BLD = next(codes), next(codes)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.equal(first_BLD, second_BLD)
    assert torch.equal(next(mixed_codes(pack, mixture, batch_size=4, seed=1)), first_BLD)


def test_pictures_are_among_the_targets_and_starts_take_turns(tmp_path: Path) -> None:
    pack, pictures = tiny_pack(), archive_pictures(tmp_path)
    mixture = mixture_of(pack, pictures, with_pictures=True)
    batches = draw_pairs(pack, "any", pairs=24, batch_size=6, seed=0, mixture=mixture)
    first, second = next(batches), next(batches)
    assert torch.allclose(first.start_BLD, pack.encode(first.target_BCHW), atol=1e-5)
    assert not torch.allclose(second.start_BLD, pack.encode(second.target_BCHW), atol=1e-2)
    codes_KF = mixture.codes_NLD.flatten(1)
    is_picture = [bool((row == codes_KF).all(dim=1).any()) for row in first.w_BLD.flatten(1)]
    assert any(is_picture)


def archive_pictures(folder: Path):  # type: ignore[no-untyped-def]
    from inversion_core.training.data import load_pictures

    training, _ = load_pictures(noise_archive(folder, np.random.default_rng(0), count=12), held_out=4)
    return training


@pytest.mark.parametrize("design", ["learned-basis", "learned-lbfgs"])
def test_it_comes_from_the_command_line_into_a_pack_and_serves_every_start(tmp_path: Path, design: str) -> None:
    save_networks(tmp_path / "pack", tiny_pack())
    archive = noise_archive(tmp_path, np.random.default_rng(0), count=12)
    run = [
        "train", "optimizer", str(tmp_path / "pack"), "--design", design, "--data", str(archive),
        "--out", str(tmp_path / "run"), "--iterations", "4", "--real", "2", "--held-out", "4",
    ]  # fmt: skip
    assert main(run) == 0
    assert main(["pack", "add-optimizer", str(tmp_path / "pack"), str(tmp_path / "run")]) == 0
    verify_pack(tmp_path / "pack")
    pack = load_pack(tmp_path / "pack")
    assert not torch.equal(pack.learned_network(design, "mean").basis.axes_LDE[0], torch.eye(pack.w_dim))
    for start in ("encoder", "mean", "random"):
        *_, last = invert(pack, tiny_targets(), InvertConfig(num_steps=3, optimizer=design, start=start))
        assert last.index == 3
