"""The LSTM and the RGDN beside the paper's learned optimizer: what they compute, their training, their way to a job."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from inversion_core import InvertConfig, invert
from inversion_core.cli import main
from inversion_core.inverter import Checkpoint, iterate
from inversion_core.latents import Latent
from inversion_core.loss import InversionLoss, focus_map
from inversion_core.optimizers import Evaluation, Optimizer
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.optimizers.lstm import CoordinateLSTM, LearnedLSTM, LSTMConfig
from inversion_core.optimizers.rgdn import GradientUnit, LearnedRGDN, RGDNConfig
from inversion_core.packs import Pack, Variant, load_pack, put_learned, verify_pack
from inversion_core.training.data import pack_pictures
from inversion_core.training.optimizer import OptimizerTrainer, OptimizerTraining, drawn_focus
from inversion_core.training.pairs import draw_pairs
from inversion_core.training.run import CHECKPOINT, RunFolder, read_facts
from tests.stepping import begun, stepped
from tests.tiny import save_networks, tiny_pack, tiny_targets

pytestmark = pytest.mark.unit
SHAPE = {"num_layers": 6, "w_dim": 12}
SETTINGS: dict[str, dict[str, Any]] = {
    "learned-lstm": {"hidden": 5},
    "learned-rgdn": {"hidden": 8, "learning_rate": 0.02},
}
RATES = {"learned-lstm": 0.02, "learned-rgdn": 0.01}
CONFIG = OptimizerTraining(pairs=160, batch_size=4, iterations=6, unroll=3, evaluate_every=40, max_pictures=160)
each_design = pytest.mark.parametrize("name", SETTINGS)


def network(name: str, *, seed: int = 0, is_trained: bool = False) -> nn.Module:
    """A small network; a trained one has random numbers in its last layers too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = DESIGNS[name].build(SETTINGS[name], **SHAPE)
        if is_trained:
            for parameter in made.parameters():
                nn.init.normal_(parameter, std=0.3)
    return made


def complete(name: str) -> dict[str, Any]:
    """The settings of `network`, none left out, as pack.json has them."""
    config = DESIGNS[name].config(**SETTINGS[name], **SHAPE)
    return {key: getattr(config, key) for key in DESIGNS[name].setting_types}


def run(optimizer: Optimizer[Any], w_BLD: Tensor, grads: Tensor) -> Tensor:
    """The code after one step for each of the gradients (T, B, L, D)."""
    state = begun(optimizer, w_BLD)
    with torch.no_grad():
        for grad_BLD in grads:
            w_BLD, state = stepped(optimizer, w_BLD, grad_BLD, state)
    return w_BLD


def mean_loss(pack: Pack, optimizer: Optimizer[Any], steps: int) -> float:
    pairs = next(draw_pairs(pack, "encoder", pairs=8, batch_size=8, seed=99))
    loss = InversionLoss(pairs.target_BCHW, features=pack.features, perceptual_weight=pack.perceptual_weight)
    with torch.no_grad():
        *_, last = iterate(pairs.start_BLD, synthesize=pack.synthesize, loss=loss, optimizer=optimizer, num_steps=steps)
    return float(last.loss_B.mean())


# -- what they compute ---------------------------------------------------------------------------------------


def test_an_untrained_lstm_stays_and_an_untrained_rgdn_descends() -> None:
    draw = torch.Generator().manual_seed(0)
    w_BLD, grads = torch.randn(2, 6, 12, generator=draw), torch.randn(3, 2, 6, 12, generator=draw)
    assert torch.equal(run(LearnedLSTM(network("learned-lstm")), w_BLD, grads), w_BLD)  # type: ignore[arg-type]
    size_BL1 = grads[0].abs().mean(dim=2, keepdim=True)
    expected_BLD = w_BLD - 0.02 * (grads / size_BL1).sum(dim=0)
    torch.testing.assert_close(run(LearnedRGDN(network("learned-rgdn")), w_BLD, grads), expected_BLD)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gradient", "features"),
    [(1.0, (0.0, 1.0)), (-math.e, (0.25, -1.0)), (math.exp(-4), (-1.0, 1.0)), (0.5 * math.exp(-4), (-1.0, 0.5)),
     (0.0, (-1.0, 0.0)), (-math.exp(-6), (-1.0, -math.exp(-2)))],
)  # fmt: skip
def test_gradients_are_seen_as_in_appendix_a(gradient: float, features: tuple[float, float]) -> None:
    lstm = CoordinateLSTM(LSTMConfig(num_layers=1, w_dim=1, hidden=2, log_range=4.0, gradient_scale=10.0))
    found = lstm.preprocess(torch.full((1, 1, 1), gradient / 10))
    torch.testing.assert_close(found.flatten(), torch.tensor(features), rtol=1e-5, atol=1e-6)


def test_the_lstm_is_torchs_on_every_coordinate_alone() -> None:
    lstm = network("learned-lstm", is_trained=True)
    assert isinstance(lstm, CoordinateLSTM)
    draw = torch.Generator().manual_seed(1)
    w_BLD, grads = torch.zeros(2, 6, 12), 1e-3 * torch.randn(4, 2, 6, 12, generator=draw)
    found_BLD = run(LearnedLSTM(lstm), w_BLD, grads)
    assert found_BLD.abs().min() > 0
    with torch.no_grad():
        feature_TF = lstm.preprocess(grads[:, 1, 2, 3].reshape(4, 1, 1)).reshape(4, 2)
        output_TH, _ = lstm.lstm(feature_TF)
        torch.testing.assert_close(found_BLD[1, 2, 3], 0.1 * lstm.output(output_TH).sum())
    order = torch.randperm(12, generator=draw)
    shuffled_BLD = run(LearnedLSTM(lstm), w_BLD, grads[..., order])
    torch.testing.assert_close(shuffled_BLD, found_BLD[..., order])


def test_the_rgdns_units_are_those_of_each_layer() -> None:
    rgdn = network("learned-rgdn", is_trained=True)
    assert isinstance(rgdn, GradientUnit)
    grad_BLD, w_BLD = torch.randn(2, 3, 6, 12, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found_BLD = rgdn(grad_BLD, w_BLD)
        for layer in range(6):
            grad, w = grad_BLD[:, layer], w_BLD[:, layer]
            direction = grad + _mlp(rgdn.adaptor, layer, grad) + _mlp(rgdn.prior, layer, w)
            expected = -0.02 * (direction + _mlp(rgdn.scaler, layer, direction))
            torch.testing.assert_close(found_BLD[:, layer], expected, rtol=1e-4, atol=1e-5)


def _mlp(mlp: Any, layer: int, x: Tensor) -> Tensor:
    *hidden, last = mlp.layers
    for each in hidden:
        x = torch.nn.functional.leaky_relu(x @ each.weight_LIO[layer] + each.bias_L1O[layer], 0.2)
    y: Tensor = x @ last.weight_LIO[layer] + last.bias_L1O[layer]
    return y


def test_the_rgdn_sees_no_difference_in_the_losss_scale() -> None:
    optimizer = LearnedRGDN(network("learned-rgdn", is_trained=True))  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(3)
    w_BLD, grads = torch.randn(2, 6, 12, generator=draw), torch.randn(3, 2, 6, 12, generator=draw)
    torch.testing.assert_close(run(optimizer, w_BLD, grads), run(optimizer, w_BLD, 1e-4 * grads))
    grads = torch.cat([torch.zeros_like(grads[:1]), grads])  # a first gradient of 0 measures nothing
    assert run(optimizer, w_BLD, grads).isfinite().all()


def test_half_of_the_pictures_have_a_focus_and_what_is_measured_has_none(tmp_path: Path) -> None:
    weights_B1HW = drawn_focus(8.0, 16, batch=400, seed=3)
    torch.testing.assert_close(weights_B1HW.mean(dim=(1, 2, 3)), torch.ones(400))
    assert torch.equal(weights_B1HW, drawn_focus(8.0, 16, batch=400, seed=3))
    apart_B = weights_B1HW.amax(dim=(1, 2, 3)) - weights_B1HW.amin(dim=(1, 2, 3))
    assert 0.4 < float((apart_B == 0).float().mean()) < 0.6
    most_HW = focus_map(8.0, 16)
    assert 0.9 * float(most_HW.max() - most_HW.min()) < float(apart_B.max()) <= float(most_HW.max() - most_HW.min())
    pack, pairs = tiny_pack(), None
    grads, measured = [], []
    for focus in (0.0, 0.0, 100.0):
        theta = nn.Module()
        theta.register_parameter("theta", nn.Parameter(torch.tensor(0.01)))
        config = dataclasses.replace(CONFIG, iterations=2, clip=1e9, rate=1e-12, latent_weight=0.0, focus=focus)
        trainer = OptimizerTrainer(config, pack, theta, Accelerating, tiny_targets(1), RunFolder(tmp_path))
        measured.append(trainer.measure())
        pairs = pairs or next(draw_pairs(pack, "encoder", pairs=4, batch_size=4, seed=0))
        trainer.train_batch(pairs)
        (parameter,) = theta.parameters()
        assert parameter.grad is not None
        grads.append(float(parameter.grad))
    assert grads[0] == grads[1] != grads[2]
    assert measured[0] == measured[1] == measured[2]
    with pytest.raises(ValueError, match="focus is 101"):
        dataclasses.replace(CONFIG, focus=101.0)


@each_design
def test_no_image_sees_another(name: str) -> None:
    optimizer = DESIGNS[name].optimizer(network(name, is_trained=True))
    draw = torch.Generator().manual_seed(4)
    w_BLD, grads = torch.randn(3, 6, 12, generator=draw), 1e-3 * torch.randn(3, 3, 6, 12, generator=draw)
    together_BLD = run(optimizer, w_BLD, grads)
    for image in range(3):
        alone_BLD = run(optimizer, w_BLD[image : image + 1], grads[:, image : image + 1])
        torch.testing.assert_close(together_BLD[image], alone_BLD[0], rtol=1e-5, atol=1e-6)


@each_design
@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-30, 1e20, 3e38, math.inf, math.nan])
def test_no_gradient_makes_a_code_infinite(name: str, size: float) -> None:
    optimizer = DESIGNS[name].optimizer(network(name, is_trained=True))
    grads = torch.full((3, 1, 6, 12), size)
    grads[:, :, ::2] *= -1
    assert run(optimizer, torch.zeros(1, 6, 12), grads).isfinite().all()


@pytest.mark.parametrize("change", [{"hidden": 0}, {"depth": 0}, {"log_range": 0.0}, {"gradient_scale": -1.0}])
def test_wrong_settings_of_the_lstm_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        LSTMConfig(**SHAPE, **change)


@pytest.mark.parametrize("change", [{"hidden": 0}, {"learning_rate": 0.0}])
def test_wrong_settings_of_the_rgdn_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        RGDNConfig(**SHAPE, **change)


# -- their training ------------------------------------------------------------------------------------------


class Speed(NamedTuple):
    """State of `Accelerating`."""

    speed_BLD: Tensor


class Accelerating:
    """w(t) = w(t-1) + h(t), h(t) = h(t-1) + theta: after 2 steps w depends on theta thrice, twice where h is cut off."""

    def __init__(self, network: nn.Module):
        self.network = network

    def init(self, latent: Latent) -> Speed:
        return Speed(torch.zeros_like(latent.w_BLD))

    def step(self, latent: Latent, evaluation: Evaluation, state: Speed) -> tuple[Latent, Speed]:
        (theta,) = self.network.parameters()
        state = Speed(state.speed_BLD + theta)
        return latent.with_free(latent.free + state.speed_BLD), state


@pytest.mark.parametrize(("unroll", "through"), [(2, (1.0, 3.0)), (1, (0.0, 1.0))])
@pytest.mark.parametrize("last_weight", [1.0, 4.0])
def test_the_loss_reaches_the_weights_through_the_state(
    tmp_path: Path, unroll: int, through: tuple[float, float], last_weight: float
) -> None:
    pack, theta = tiny_pack(), nn.Module()
    theta.register_parameter("theta", nn.Parameter(torch.tensor(0.01)))
    config = dataclasses.replace(
        CONFIG, iterations=2, unroll=unroll, clip=1e9, rate=1e-12, last_weight=last_weight, latent_weight=0.0
    )
    trainer = OptimizerTrainer(config, pack, theta, Accelerating, tiny_targets(1), RunFolder(tmp_path))
    pairs = next(draw_pairs(pack, "encoder", pairs=4, batch_size=4, seed=0))
    trainer.train_batch(pairs)
    expected = 0.0
    for moved, weight, factor in zip((0.01, 0.03), (1.0, last_weight), through, strict=True):
        w_BLD = (pairs.start_BLD + moved).requires_grad_()
        loss = InversionLoss(pairs.target_BCHW, features=pack.features, perceptual_weight=pack.perceptual_weight)
        (grad_BLD,) = torch.autograd.grad(loss(pack.synthesize(w_BLD)).mean(), w_BLD)
        expected += factor * weight * float(grad_BLD.sum())
    (parameter,) = theta.parameters()
    assert parameter.grad is not None
    assert float(parameter.grad) == pytest.approx(expected, rel=1e-3)


@each_design
def test_it_learns(name: str, tmp_path: Path) -> None:
    pack, design = tiny_pack(), DESIGNS[name]
    config = dataclasses.replace(CONFIG, rate=RATES[name], latent_weight=design.training.get("latent_weight", 1.0))
    trainer = OptimizerTrainer(
        config, pack, network(name), design.optimizer, tiny_targets(2, seed=5), RunFolder(tmp_path)
    )
    before = mean_loss(pack, trainer.optimizer, 6)
    trainer.run()
    trainer.network.load_state_dict(trainer.best)
    assert mean_loss(pack, trainer.optimizer, 6) < 0.9 * before


@pytest.mark.parametrize("name", DESIGNS)
def test_a_designs_defaults_make_a_run(name: str) -> None:
    unroll = {"learned-lstm": 20, "learned-rgdn": 5, "learned-residual": 3}.get(name, 1)
    assert OptimizerTraining(**DESIGNS[name].training).unroll == unroll


# -- their way to a job --------------------------------------------------------------------------------------


@each_design
@pytest.mark.parametrize("start", ["encoder", "random"])
def test_a_resumed_job_equals_an_unbroken_one(name: str, start: str, tmp_path: Path) -> None:
    save_networks(tmp_path / "tiny", tiny_pack())
    put_learned(tmp_path / "tiny", Variant(name, start), complete(name), network(name, is_trained=True))
    verify_pack(tmp_path / "tiny")
    pack, target_BCHW = load_pack(tmp_path / "tiny"), tiny_targets(2)
    config = InvertConfig(optimizer=name, num_steps=5, start=start)
    whole = list(invert(pack, target_BCHW, config))
    kept = Checkpoint.from_bytes(whole[2].checkpoint().to_bytes())
    rest = list(invert(pack, target_BCHW, config, resume=kept))
    assert not torch.equal(whole[5].w_BLD, whole[2].w_BLD)
    for ours, theirs in zip(rest, whole[2:], strict=True):
        assert torch.equal(ours.w_BLD, theirs.w_BLD)
        assert all(len(tensor) == 2 for tensor in ours.state), "batch first"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    draw = np.random.default_rng(0)
    for k in range(24):
        blocks = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((16, 16), Image.Resampling.NEAREST).save(tmp_path / "pictures" / f"{k}.png")
    pack_pictures([tmp_path / "pictures"], tmp_path / "data.npz", 16)
    return tmp_path / "data.npz"


@each_design
def test_from_training_to_a_pack(name: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_networks(tmp_path / "tiny", tiny_pack())
    command = ["train", "optimizer", str(tmp_path / "tiny"), "--design", name, "--data", str(archive), "--out",
               str(tmp_path / "run"), "--hidden", "4", "--iterations", "3", "--batch", "2", "--pairs", "8", "--real",
               "2", "--held-out", "8", "--max-pictures", "4", "--evaluate-every", "2", "--device", "cpu"]  # fmt: skip
    assert main([*command, "--until", "2"]) == 0
    facts = read_facts(tmp_path / "run" / CHECKPOINT)
    assert facts is not None
    assert {field: facts["config"][field] for field in DESIGNS[name].training} == DESIGNS[name].training
    assert main([*command, "--unroll", "2", "--rate", "0.5"]) == 0, "it goes on, with what was typed"
    facts = read_facts(tmp_path / "run" / CHECKPOINT)
    assert facts is not None
    assert (facts["batch"], facts["config"]["unroll"], facts["config"]["rate"]) == (2, 2, 0.5)
    assert f"untrained, which is {DESIGNS[name].untrained}" in capsys.readouterr().out
    assert main(["pack", "add-optimizer", str(tmp_path / "tiny"), str(tmp_path / "run")]) == 0
    assert load_pack(tmp_path / "tiny").optimizers[name] == {"encoder": facts["settings"]}


def test_a_setting_of_another_design_is_refused(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_networks(tmp_path / "tiny", tiny_pack())
    command = ["train", "optimizer", str(tmp_path / "tiny"), "--data", str(archive), "--out", str(tmp_path / "run")]
    assert main([*command, "--held-out", "8", "--real", "2", "--depth", "3", "--device", "cpu"]) == 2
    assert "depth" in capsys.readouterr().err
