"""The paper's learned optimizer and algorithm 1, on a tiny pack: what g is, that it learns, that it resumes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from inversion_core.inverter import iterate
from inversion_core.loss import InversionLoss
from inversion_core.optimizers import Adam
from inversion_core.optimizers.learned import Learned, LearnedConfig, UpdateNetwork
from inversion_core.packs import Pack
from inversion_core.training.optimizer import OptimizerTrainer, OptimizerTraining
from inversion_core.training.pairs import draw_pairs
from inversion_core.training.run import RunFolder
from tests.stepping import begun, stepped
from tests.tiny import tiny_pack, tiny_targets

pytestmark = pytest.mark.unit
CONFIG = OptimizerTraining(
    pairs=16, batch_size=4, iterations=4, rate=3e-3, evaluate_every=4, patience=1000, max_pictures=16
)


def network(pack: Pack, seed: int = 0, *, beta1: float = 0.9) -> UpdateNetwork:
    size = {"num_layers": pack.num_layers, "w_dim": pack.w_dim}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UpdateNetwork(LearnedConfig(**size, hidden=8, learning_rate=0.05, beta1=beta1))


def trainer(pack: Pack, folder: Path, config: OptimizerTraining = CONFIG) -> OptimizerTrainer:
    return OptimizerTrainer(
        config, pack, network(pack), lambda net: Learned(net), tiny_targets(2, seed=5), RunFolder(folder)
    )  # type: ignore[arg-type]


def last_loss(pack: Pack, optimizer: Adam | Learned, steps: int) -> float:
    pairs = next(draw_pairs(pack, "encoder", pairs=8, batch_size=8, seed=99))
    loss = InversionLoss(pairs.target_BCHW, features=pack.features, perceptual_weight=pack.perceptual_weight)
    with torch.no_grad():
        run = list(
            iterate(pairs.start_BLD, synthesize=pack.synthesize, loss=loss, optimizer=optimizer, num_steps=steps)
        )
    return float(run[-1].loss_B.mean())


@pytest.mark.parametrize("beta1", [0.9, 0.6])
def test_an_untrained_network_is_adam(beta1: float) -> None:
    pack = tiny_pack()
    w_BLD, *grads = torch.randn(4, 3, pack.num_layers, pack.w_dim)
    learned, adam = Learned(network(pack, beta1=beta1)), Adam(learning_rate=0.05, beta1=beta1)
    state, reference = begun(learned, w_BLD), begun(adam, w_BLD)
    ours_BLD = theirs_BLD = w_BLD
    with torch.no_grad():
        for grad_BLD in grads:
            ours_BLD, state = stepped(learned, ours_BLD, grad_BLD, state)
            theirs_BLD, reference = stepped(adam, theirs_BLD, grad_BLD, reference)
    torch.testing.assert_close(ours_BLD, theirs_BLD, rtol=1e-5, atol=1e-7)


def test_each_layer_has_weights_of_its_own_and_the_batch_is_equal_to_a_loop() -> None:
    pack = tiny_pack()
    net = network(pack)
    torch.nn.init.normal_(net.joint_mlp.layers[-1].weight_LIO)  # type: ignore[arg-type]
    update_BLD, w_BLD = torch.randn(2, 5, pack.num_layers, pack.w_dim)
    with torch.no_grad():
        out_BLD = net(update_BLD, w_BLD)
        for layer in range(pack.num_layers):
            x = _mlp(net.update_mlp, layer, update_BLD[:, layer] / 0.05)
            y = _mlp(net.code_mlp, layer, w_BLD[:, layer])
            factor = _mlp(net.joint_mlp, layer, torch.cat([x, y], dim=1))
            torch.testing.assert_close(out_BLD[:, layer], factor * update_BLD[:, layer], rtol=1e-4, atol=1e-5)
        other_BLD = w_BLD.clone()
        other_BLD[:, 0] += 1
        changed_L = (net(update_BLD, other_BLD) != out_BLD).any(dim=2).any(dim=0)
    assert changed_L.tolist() == [True] + [False] * (pack.num_layers - 1)


def _mlp(mlp: torch.nn.Module, layer: int, x: torch.Tensor) -> torch.Tensor:
    *hidden, last = mlp.layers  # type: ignore[misc]
    for each in hidden:
        x = torch.nn.functional.leaky_relu(x @ each.weight_LIO[layer] + each.bias_L1O[layer], 0.2)
    return x @ last.weight_LIO[layer] + last.bias_L1O[layer]  # type: ignore[no-any-return]


def test_pairs_do_not_depend_on_how_they_are_reached() -> None:
    pack = tiny_pack()
    batches = draw_pairs(pack, "random", pairs=8, batch_size=3, seed=1)
    third = [next(batches) for _ in range(3)][2]
    again = next(draw_pairs(pack, "random", pairs=8, batch_size=3, seed=1, first=2))
    assert torch.equal(third.w_BLD, again.w_BLD)
    assert torch.equal(third.start_BLD, again.start_BLD)
    assert not torch.equal(third.w_BLD, third.start_BLD)
    torch.testing.assert_close(pack.synthesize(third.w_BLD), third.target_BCHW)


@pytest.mark.parametrize("unroll", [1, 3])
def test_it_learns_to_be_faster_than_the_adam_in_it(tmp_path: Path, unroll: int) -> None:
    pack = tiny_pack()
    config = dataclasses.replace(CONFIG, unroll=unroll, iterations=6, max_pictures=160, pairs=160, evaluate_every=40)
    run = trainer(pack, tmp_path, config)
    run.run()
    run.network.load_state_dict(run.best)
    assert last_loss(pack, Learned(run.network), 6) < 0.95 * last_loss(pack, Adam(learning_rate=0.05), 6)  # type: ignore[arg-type]


def test_the_latent_loss_reaches_the_weights(tmp_path: Path) -> None:
    pack = tiny_pack()
    without, with_it = (
        trainer(pack, tmp_path / str(weight), dataclasses.replace(CONFIG, latent_weight=weight))
        for weight in (0.0, 100.0)
    )
    for run in (without, with_it):
        run.run(until=4)
    assert any(not torch.equal(without.network.state_dict()[k], v) for k, v in with_it.network.state_dict().items())


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    pack = tiny_pack()
    whole = trainer(pack, tmp_path / "whole")
    whole.run()
    trainer(pack, tmp_path / "parts").run(until=8)
    parts = trainer(pack, tmp_path / "parts")
    assert parts.pictures == 8
    parts.run()
    assert parts.best_loss == whole.best_loss
    for kept in ("network", "best"):
        ours = parts.best if kept == "best" else parts.network.state_dict()
        theirs = whole.best if kept == "best" else whole.network.state_dict()
        assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_it_stops_when_real_pictures_gain_nothing(tmp_path: Path) -> None:
    pack = tiny_pack()
    config = dataclasses.replace(CONFIG, rate=1e-12, patience=8, max_pictures=1000)
    run = trainer(pack, tmp_path, config)
    run.best_loss = 0.0  # nothing can be better
    run.run()
    assert run.is_done
    assert run.pictures == 12


def test_a_picture_that_diverges_spoils_nothing(tmp_path: Path) -> None:
    pack = tiny_pack()
    run = trainer(pack, tmp_path)
    pairs = next(draw_pairs(pack, "encoder", pairs=4, batch_size=4, seed=0))
    start_BLD = pairs.start_BLD.clone()
    start_BLD[1] = float("nan")
    run.train_batch(dataclasses.replace(pairs, start_BLD=start_BLD))
    assert all(value.isfinite().all() for value in run.network.state_dict().values())


@pytest.mark.parametrize("change", [{"start": "mean"}, {"unroll": 0}, {"rate": 0.0}])
def test_wrong_settings_are_named(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(CONFIG, **change)  # type: ignore[arg-type]
