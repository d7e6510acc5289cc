"""`learned-residual`: what it is untrained, that it sees, its safeguard, its training and its way into a pack."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inversion_core import InvertConfig, invert
from inversion_core.cli import main
from inversion_core.inverter import BestSteps, Checkpoint, iterate
from inversion_core.loss import InversionLoss
from inversion_core.models.encoder import Encoder, EncoderConfig
from inversion_core.optimizers import Look
from inversion_core.optimizers.basis import BasisConfig, BasisNetwork, LearnedBasis
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.optimizers.learned_lbfgs import GROWTH, LearnedLBFGS
from inversion_core.optimizers.looking import PROGRESS, SIDES_PX, ResidualConfig, ResidualNetwork, trunk_widths
from inversion_core.optimizers.residual import LearnedResidual
from inversion_core.packs import Pack, Variant, load_pack, put_learned, verify_pack
from inversion_core.training.optimizer import OptimizerTrainer, OptimizerTraining
from inversion_core.training.pairs import Mixture, draw_pairs
from inversion_core.training.run import RunFolder, read_checkpoint, tensors_below
from tests.tiny import noise_archive, save_networks, tiny_pack, tiny_targets

pytestmark = pytest.mark.unit
STEPS = 12
CONFIG = OptimizerTraining(
    pairs=24, batch_size=4, iterations=4, unroll=4, evaluate_every=8, max_pictures=16, rate=3e-3, latent_weight=0.0,
    objective="log-loss", targets="mixed",
)  # fmt: skip


def network(pack: Pack, *, noise: float = 0.0, **settings: Any) -> ResidualNetwork:
    """A small network; with noise its last layers are not zero any more."""
    channels = pack.features(tiny_targets(1)).shape[1]
    config = ResidualConfig(
        num_layers=pack.num_layers, w_dim=pack.w_dim, hidden=8, context=4, feature_channels=channels,
        channels_base=4, channels_max=8, **{"learning_rate": 0.05, "looks": 6, **settings},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = ResidualNetwork(config)
        if noise:
            nn.init.normal_(made.code_out.weight_LIO, std=noise)
            nn.init.normal_(made.controller.layers[-1].weight_LIO, std=noise)  # type: ignore[arg-type]
    return made


def as_basis(made: ResidualNetwork) -> BasisNetwork:
    """The Adam that an untrained network is."""
    size = {"num_layers": made.config.num_layers, "w_dim": made.config.w_dim}
    plain = BasisNetwork(BasisConfig(learning_rate=made.config.learning_rate, warmup_steps=3, **size))
    plain.basis = made.basis
    return plain


def settings_of(made: ResidualNetwork) -> dict[str, Any]:
    """As pack.json keeps them."""
    return {name: getattr(made.config, name) for name in DESIGNS["learned-residual"].setting_types}


def steps(
    pack: Pack, optimizer: Any, target_BCHW: Tensor, count: int = STEPS, start_BLD: Tensor | None = None, **options: Any
) -> list[Any]:
    loss = InversionLoss(target_BCHW, features=pack.features, perceptual_weight=pack.perceptual_weight)
    with torch.no_grad():
        start_BLD = pack.encode(target_BCHW) if start_BLD is None else start_BLD
        return list(
            iterate(start_BLD, synthesize=pack.synthesize, loss=loss, optimizer=optimizer, num_steps=count, **options)
        )


def best(found: list[Any]) -> Tensor:
    kept = BestSteps()
    for step in found:
        kept.update(step)
    return kept.loss_B


def mixture(pack: Pack) -> Mixture:
    return Mixture(codes_NLD=pack.map(torch.randn(6, pack.z_dim, generator=torch.Generator().manual_seed(3))).detach())


def trainer(pack: Pack, folder: Path, config: OptimizerTraining = CONFIG) -> OptimizerTrainer:
    return OptimizerTrainer(
        config, pack, network(pack), DESIGNS["learned-residual"].optimizer, tiny_targets(2, seed=5),
        RunFolder(folder), mixture=mixture(pack),
    )  # fmt: skip


# -- what it computes ----------------------------------------------------------------------------------------


def test_untrained_it_is_adam_in_its_basis() -> None:
    pack, made = tiny_pack(), network(tiny_pack())
    codes_NLD = torch.randn(9, pack.num_layers, pack.w_dim, generator=torch.Generator().manual_seed(1))
    made.basis.fit(torch.einsum("nld,nle->lde", codes_NLD, codes_NLD), codes_NLD)
    expected = steps(pack, LearnedBasis(as_basis(made)), tiny_targets(), 4)
    found = steps(pack, LearnedResidual(made), tiny_targets(), 4)
    assert made.config.looks >= 4
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.w_BLD, theirs.w_BLD, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("looks", "count"), [(0, 2), (3, 5)])
def test_no_image_sees_another(looks: int, count: int) -> None:
    pack = tiny_pack()
    optimizer = LearnedResidual(network(pack, noise=0.05, looks=looks))
    together = steps(pack, optimizer, tiny_targets(), count)[-1]
    for row in range(3):
        alone = steps(pack, optimizer, tiny_targets()[row : row + 1], count)[-1]
        torch.testing.assert_close(alone.w_BLD[0], together.w_BLD[row], rtol=1e-3, atol=1e-3)


def test_it_sees_the_target_and_only_while_it_looks() -> None:
    pack = tiny_pack()
    made = network(pack, noise=0.05, looks=0)
    blind = steps(pack, LearnedResidual(made), tiny_targets(), 1)[1].w_BLD
    made.context.bias.data += 10
    assert torch.equal(steps(pack, LearnedResidual(made), tiny_targets(), 1)[1].w_BLD, blind)
    seeing = network(pack, noise=0.05)
    first = steps(pack, LearnedResidual(seeing), tiny_targets(), 1)[1].w_BLD
    seeing.context.bias.data += 10
    assert not torch.allclose(steps(pack, LearnedResidual(seeing), tiny_targets(), 1)[1].w_BLD, first)


def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_happened() -> None:
    pack = tiny_pack()
    optimizer = LearnedResidual(network(pack, noise=0.05, looks=6))
    whole = steps(pack, optimizer, tiny_targets())
    saved = Checkpoint.from_bytes(whole[4].checkpoint().to_bytes())
    resumed = steps(pack, optimizer, tiny_targets(), resume=saved)
    torch.testing.assert_close(resumed[-1].w_BLD, whole[-1].w_BLD)
    assert [step.index for step in resumed] == list(range(4, STEPS + 1))


def test_after_its_updates_lbfgs_goes_on_with_their_pairs() -> None:
    pack, made = tiny_pack(), network(tiny_pack(), looks=3)
    found = steps(pack, LearnedResidual(made), tiny_targets())
    assert [float(step.state.count_B[0]) for step in found[:6]] == [0, 0, 0, 0, 1, 2]
    assert (found[4].state.rho_BK[:, -3:] > 0).all()  # of all three steps
    assert (found[4].state.radius_B <= GROWTH * made.config.radius).all()
    plain = steps(pack, LearnedBasis(as_basis(made)), tiny_targets())
    assert (best(found) < best(plain)).all()  # which is what it would be without


# -- the safeguard -------------------------------------------------------------------------------------------


def test_where_the_network_errs_lbfgs_goes_on_from_the_best_code() -> None:
    pack = tiny_pack()
    wild = network(pack, noise=100.0)
    found = steps(pack, LearnedResidual(wild), tiny_targets(), 40)
    assert (found[1].loss_B > 1.3 * found[0].loss_B).all()  # it does err
    assert (found[-1].state.is_left_B == 1).all()
    blind = steps(pack, LearnedLBFGS(wild), tiny_targets(), 39)
    assert (best(found) < 1.5 * best(blind)).all()
    assert (best(found) < 0.9 * found[0].loss_B).all()


def test_a_loss_that_is_no_number_is_survived() -> None:
    pack = tiny_pack()
    broken = network(pack)
    broken.code_out.bias_L1O.data[:, :, -pack.w_dim :] = float("inf")
    *_, last = steps(pack, LearnedResidual(broken), tiny_targets(), 30)
    assert last.loss_B.isfinite().all()
    assert last.w_BLD.isfinite().all()


# -- a trunk that begins as an encoder -----------------------------------------------------------------------


def small_encoder(side_px: int = 64, blocks: int = 1) -> Encoder:
    """Of the sizes that a trunk can have; its codes differ between pictures."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        config = EncoderConfig(
            resolution=side_px, w_dim=4, channels_base=4, channels_max=8, batch_norm=False, blocks_per_size=blocks
        )
        return Encoder(config).requires_grad_(False)


def trunk_network(context: int = 64, side_px: int = 64, blocks: int = 1) -> ResidualNetwork:
    config = ResidualConfig(
        num_layers=small_encoder(side_px).config.num_layers, w_dim=4, hidden=8, context=context, feature_channels=2,
        side_px=side_px, channels_base=4, channels_max=8, blocks_per_size=blocks,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return ResidualNetwork(config)


def pictures_to_look_at(count: int, side_px: int = 64) -> Look:
    drawn = torch.Generator().manual_seed(6)

    def pictures(channels: int, side: int) -> Tensor:
        return torch.rand(count, channels, side, side, generator=drawn) * 2 - 1

    return Look(
        target_BCHW=pictures(3, side_px), image_BCHW=pictures(3, side_px), image_grad_BCHW=pictures(3, side_px),
        target_features_BCHW=pictures(2, 16), features_BCHW=pictures(2, 16),
    )  # fmt: skip


@torch.no_grad()
def begun(made: ResidualNetwork, encoder: Encoder, look: Look) -> None:
    """Fit the basis and begin, with the codes of the pictures themselves."""
    w_NLD = encoder(look.target_BCHW)
    made.basis.fit(torch.einsum("nld,nle->lde", w_NLD, w_NLD), w_NLD)
    made.begin_as(encoder, w_NLD)


@pytest.mark.parametrize(("side_px", "blocks"), [*((side_px, 1) for side_px in SIDES_PX), (64, 2)])
@torch.no_grad()
def test_a_trunk_that_begins_as_an_encoder_leads_to_its_code(side_px: int, blocks: int) -> None:
    encoder, made = small_encoder(side_px, blocks), trunk_network(side_px=side_px, blocks=blocks)
    look = pictures_to_look_at(12, side_px)
    layers = encoder.config.num_layers
    begun(made, encoder, look)
    made.gate.layers[-1].bias_L1O.fill_(1.0)  # type: ignore[union-attr, operator]
    w_BLD = torch.randn(12, layers, 4, generator=torch.Generator().manual_seed(7))
    _, direct_BLD = made(w_BLD, w_BLD, made.basis.into(w_BLD), torch.zeros(12, layers, PROGRESS), look)
    expected_BLD = encoder(look.target_BCHW)
    assert float(expected_BLD.std(0).mean()) > 0.05
    torch.testing.assert_close(w_BLD + made.basis.out_of(direct_BLD), expected_BLD, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_with_few_directions_it_says_what_differs_most() -> None:
    encoder, look = small_encoder(), pictures_to_look_at(24)
    for context in (1, 4, 16):
        made = trunk_network(context)
        begun(made, encoder, look)
        seen_BF = made.trunk(look)
        far_BLD = made.far_out(made.far_in(seen_BF)).unflatten(1, (10, 4))
        place_BLD = (made.basis.into(encoder(look.target_BCHW)) - made.basis.mean_LD) / made.basis.spread_LD
        weight_LD = made.basis.curvature_LD.sqrt() * made.basis.spread_LD
        apart_BI = (weight_LD * (place_BLD - place_BLD.mean(0))).flatten(1)
        least = float(torch.linalg.svdvals(apart_BI)[context:].square().sum())  # Eckart and Young, 1936
        left = float((weight_LD * (far_BLD - place_BLD)).square().sum())
        assert left == pytest.approx(least, rel=0.01)


def test_a_trunk_takes_the_widths_of_an_encoder_that_it_can_begin_as() -> None:
    encoder, made = small_encoder(), trunk_network()
    assert made.can_begin_as(encoder)
    assert not made.can_begin_as(None)
    wider = dataclasses.replace(encoder.config, channels_max=16)
    normed = dataclasses.replace(encoder.config, batch_norm=True)
    larger = dataclasses.replace(encoder.config, resolution=128)
    assert [made.can_begin_as(Encoder(config)) for config in (wider, normed, larger)] == [False, False, False]
    deeper = dataclasses.replace(larger, blocks_per_size=2)
    plain = {"side_px": 64, "channels_base": 4, "channels_max": 16, "blocks_per_size": 1}
    assert trunk_widths(Encoder(wider)) == plain
    assert trunk_widths(Encoder(deeper)) == {**plain, "side_px": 128, "channels_max": 8, "blocks_per_size": 2}
    assert trunk_widths(Encoder(dataclasses.replace(larger, resolution=256))) == {}


# -- training ------------------------------------------------------------------------------------------------


def test_what_begins_as_an_encoder_learns_at_a_lower_rate(tmp_path: Path) -> None:
    pack = tiny_pack()
    moved = {}
    for factor in (1.0, 1e-3):
        config = dataclasses.replace(CONFIG, begun_rate=factor, max_pictures=8)
        net = network(pack)
        before = {key: value.clone() for key, value in net.state_dict().items()}
        OptimizerTrainer(
            config, pack, net, DESIGNS["learned-residual"].optimizer, tiny_targets(2, seed=5),
            RunFolder(tmp_path / str(factor)), mixture=mixture(pack), begun=net.begun,
        ).run()  # fmt: skip
        moved[factor] = {key: float((net.state_dict()[key] - old).abs().max()) for key, old in before.items()}
    assert moved[1e-3]["trunk.stem.conv.bias"] < 0.01 * moved[1.0]["trunk.stem.conv.bias"]
    assert moved[1e-3]["code_out.bias_L1O"] > 0.5 * moved[1.0]["code_out.bias_L1O"] > 0


def test_the_rate_rises_stays_and_falls(tmp_path: Path) -> None:
    pack = tiny_pack()
    config = dataclasses.replace(CONFIG, max_pictures=80, warmup_batches=4, final_rate=0.1)  # 20 batches
    made, rates = trainer(pack, tmp_path, config), []
    for batch in (0, 3, 10, 15, 20, 30):
        made.batch = batch
        rates.append(made._rate() / config.rate)
    assert rates == pytest.approx([0.25, 1, 1, 0.55, 0.1, 0.1])


def test_bfloat16_trains_and_measures_in_float32(tmp_path: Path) -> None:
    pack = tiny_pack()
    low = trainer(pack, tmp_path / "low", dataclasses.replace(CONFIG, precision="bfloat16"))
    exact = trainer(pack, tmp_path / "exact")
    assert low.measure() == exact.measure()
    for made in (low, exact):
        made.run()
    assert low.best_loss == pytest.approx(exact.best_loss, rel=0.1)
    drawn = zip(low.network.parameters(), exact.network.parameters(), strict=True)
    assert any(not torch.equal(mine, theirs) for mine, theirs in drawn)


def test_a_run_can_start_from_the_weights_of_a_pack(tmp_path: Path) -> None:
    save_networks(tmp_path / "pack", tiny_pack())
    archive = noise_archive(tmp_path, np.random.default_rng(0), count=12)
    common = [
        "train", "optimizer", str(tmp_path / "pack"), "--design", "learned-residual", "--data", str(archive),
        "--batch", "2", "--real", "2", "--held-out", "4", "--max-pictures", "2",
    ]  # fmt: skip
    assert main([*common, "--out", str(tmp_path / "first"), "--hidden", "8", "--looks", "2"]) == 0
    assert main(["pack", "add-optimizer", str(tmp_path / "pack"), str(tmp_path / "first")]) == 0
    start_from = ["--start-from", str(tmp_path / "pack")]
    assert main([*common, *start_from, "--out", str(tmp_path / "on"), "--rate", "1e-30"]) == 0
    tensors, facts = read_checkpoint(tmp_path / "on" / "checkpoint.safetensors")
    assert facts is not None
    assert (facts["settings"]["hidden"], facts["settings"]["looks"]) == (8, 2)
    given = load_pack(tmp_path / "pack").learned_network("learned-residual", "encoder").state_dict()
    begun_with = tensors_below(tensors, "network/")
    assert all(torch.equal(begun_with[key], value) for key, value in given.items())


def test_weights_that_are_not_there_or_of_another_size_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_networks(tmp_path / "pack", tiny_pack())
    archive = noise_archive(tmp_path, np.random.default_rng(0), count=12)
    common = [
        "train", "optimizer", str(tmp_path / "pack"), "--design", "learned-basis", "--data", str(archive),
        "--real", "2", "--held-out", "4", "--out", str(tmp_path / "run"), "--start-from", str(tmp_path / "pack"),
    ]  # fmt: skip
    assert main(common) == 2
    assert "pack tiny has no weights of 'learned-basis' to start from; it has none" in capsys.readouterr().err
    net = network(tiny_pack())
    put_learned(tmp_path / "pack", Variant("learned-residual", "any"), settings_of(net), net)
    common[4] = "learned-residual"
    assert main([*common, "--hidden", "16"]) == 2
    assert "learned-residual-any of pack tiny is another size" in capsys.readouterr().err


def test_mixed_targets_depend_on_their_number_alone() -> None:
    pack = tiny_pack()
    options: dict[str, Any] = {"pairs": 24, "batch_size": 4, "seed": 0, "mixture": mixture(pack)}
    torch.manual_seed(1)
    running = draw_pairs(pack, "encoder", **options)
    next(running)
    second = next(running)
    torch.manual_seed(2)
    again = next(draw_pairs(pack, "encoder", first=1, **options))
    torch.testing.assert_close(again.target_BCHW, second.target_BCHW)
    assert second.target_BCHW.abs().max() <= 1
    with torch.no_grad():
        drawn_BCHW = pack.synthesize(second.w_BLD)
    assert not torch.allclose(drawn_BCHW, second.target_BCHW, atol=0.05)  # no code draws it exactly


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    pack = tiny_pack()
    made = trainer(pack, tmp_path, dataclasses.replace(CONFIG, max_pictures=32, rate=1e-2))
    made.run()
    assert made.best_loss < 0.98 * made.untrained_loss
    assert made.best_pictures > 0


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_a_resumed_training_goes_on_where_it_stopped(averaging: float, tmp_path: Path) -> None:
    pack, config = tiny_pack(), dataclasses.replace(CONFIG, averaging=averaging)
    whole = trainer(pack, tmp_path / "whole", config)
    whole.run()
    trainer(pack, tmp_path / "parts", config).run(until=8)
    resumed = trainer(pack, tmp_path / "parts", config)
    assert resumed.pictures == 8
    resumed.run()
    for mine, theirs in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert resumed.measure() == pytest.approx(whole.measure(), rel=1e-3)
    weights_differ = not torch.equal(resumed.best["code_out.weight_LIO"], resumed.network.code_out.weight_LIO)
    assert weights_differ or not averaging


def test_unknown_objectives_and_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="objective is 'mse'; choose loss or log-loss"):
        OptimizerTraining(objective="mse")
    with pytest.raises(ValueError, match="targets is 'real'; choose mapped, mixed or pictures"):
        OptimizerTraining(targets="real")


def test_it_comes_from_the_command_line_into_a_pack_and_to_a_job(tmp_path: Path) -> None:
    save_networks(tmp_path / "pack", tiny_pack())
    archive = noise_archive(tmp_path, np.random.default_rng(0), count=12)
    run = [
        "train", "optimizer", str(tmp_path / "pack"), "--design", "learned-residual", "--data",
        str(archive), "--out", str(tmp_path / "run"), "--batch", "2", "--iterations", "4", "--unroll", "2",
        "--max-pictures", "4", "--real", "2", "--held-out", "4", "--hidden", "8",
    ]  # fmt: skip
    assert main(run) == 0
    assert main(["pack", "add-optimizer", str(tmp_path / "pack"), str(tmp_path / "run")]) == 0
    verify_pack(tmp_path / "pack")
    pack = load_pack(tmp_path / "pack")
    *_, last = invert(pack, tiny_targets(), InvertConfig(num_steps=3, optimizer="learned-residual"))
    assert last.index == 3
