"""The perceptual network that is taught by gradients: it learns, it resumes to the step, and it ends in a pack."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inversion_core.cli import main
from inversion_core.loss import mean_square
from inversion_core.models import DiscriminatorFeatures
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.packs import Pack, Variant, load_pack, put_learned, verify_pack
from inversion_core.training.features import FeatureTrainer, FeatureTraining, apart, scale_features
from inversion_core.training.run import CHECKPOINT, LOG, RunFolder, read_checkpoint
from tests.tiny import DISCRIMINATOR, noise_archive, noise_pictures, rough_pack, save_networks
from tests.unit.test_identity import embedder


class Felt(nn.Module):
    """A teacher that a network of its own kind can follow: how far pictures lie apart where they are shrunk."""

    def forward(self, image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        return mean_square(nn.functional.avg_pool2d(image_BCHW - target_BCHW, 4)[:, :1])


def trainer(run: Path, device: str = "cpu", **changes: Any) -> FeatureTrainer:
    settings = {"features": DISCRIMINATOR, "until_px": 4, "steps": 12, "batch_size": 4, "pool_batches": 2,
                "restart_every": 4, "warmup_steps": 1, **changes}  # fmt: skip
    pictures, pack = noise_pictures(16), rough_pack()
    if device != "cpu":
        pack = Pack(pack.manifest, generator=pack.generator, encoder=pack.encoder, perceptual=pack.perceptual,
                    device=device)  # fmt: skip
    learner = FeatureTrainer(
        FeatureTraining(**settings), pack, pictures, pictures, RunFolder(run), lpips=Felt(), identity=None,  # type: ignore[arg-type]
    )  # fmt: skip
    assert learner.pool.w_NLD.device.type == device
    return learner


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_its_gradient_turns_to_the_teachers(tmp_path: Path, precision: str) -> None:
    learner = trainer(tmp_path, precision=precision, steps=150, rate=5e-3, ema_images=20, learning_rate=0.02)
    before = learner.measure()
    learner.run()
    after = learner.measure()
    assert after["held_out_cosine"] > before["held_out_cosine"] + 0.15
    assert after["held_out_cosine_later"] > before["held_out_cosine_later"] + 0.1
    with (tmp_path / LOG).open() as lines:
        rows = list(csv.DictReader(lines))
    assert float(rows[-1]["apart"]) < float(rows[0]["apart"])


def test_it_begins_with_gradients_as_long_as_the_teachers(tmp_path: Path) -> None:
    learner = trainer(tmp_path)
    target_BCHW, w_BLD, taught_BLD = learner.probes[0]
    distance_B = learner._distance(learner.f, learner.pack.synthesize(w_BLD), target_BCHW)
    (led_BLD,) = torch.autograd.grad(distance_B.sum(), w_BLD)
    assert float(led_BLD.norm() / taught_BLD.norm()) == pytest.approx(1, rel=0.01)


def test_the_pool_goes_on_and_begins_anew(tmp_path: Path) -> None:
    learner = trainer(tmp_path, restart_every=10**9)
    learner.run(until=6)
    assert learner.pool.count_N.tolist() == [3.0] * 8
    with torch.no_grad():
        start_NLD = learner.pack.encode(learner.pool.target_NCHW)
        image_NCHW = learner.pack.synthesize(learner.pool.w_NLD)
    assert (learner.pool.w_NLD - start_NLD).abs().amax(dim=(1, 2)).min() > 0.1
    assert image_NCHW.isfinite().all()
    always = trainer(tmp_path / "always", restart_every=1)
    always.run(until=6)
    assert always.pool.count_N.tolist() == [1.0] * 8


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    trainer(tmp_path / "whole").run()
    for until in (5, 12):
        trainer(tmp_path / "parts").run(until=until)
    (whole, _), (parts, facts) = (read_checkpoint(tmp_path / name / CHECKPOINT) for name in ("whole", "parts"))
    assert facts is not None
    assert facts["step"] == 12
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        assert torch.equal(parts[key], value), key


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_learns_on_a_gpu_and_goes_on_elsewhere(tmp_path: Path, precision: str) -> None:
    trainer(tmp_path, "cuda", precision=precision).run(until=6)
    last = trainer(tmp_path, precision=precision)
    assert last.step == 6
    last.run()
    assert all(value.isfinite().all() for value in last.f_ema.state_dict().values())


def test_apart_is_0_for_equal_gradients_and_1_for_none() -> None:
    taught_BLD = torch.randn(2, 3, 4)
    assert torch.equal(apart(taught_BLD, taught_BLD), torch.zeros(2, 3))
    torch.testing.assert_close(apart(torch.zeros_like(taught_BLD), taught_BLD), torch.ones(2, 3))
    torch.testing.assert_close(apart(3 * taught_BLD, taught_BLD), torch.full((2, 3), 4.0))


def test_scaled_features_are_the_same_times_a_factor() -> None:
    network, image_BCHW = DiscriminatorFeatures(DISCRIMINATOR, 4), torch.randn(2, 3, 16, 16)
    before = network(image_BCHW)
    scale_features(network, 2.5)
    torch.testing.assert_close(network(image_BCHW), 2.5 * before)


def test_a_value_out_of_range_is_refused_by_name() -> None:
    for wrong in ({"restart_every": 0}, {"rate": -1.0}, {"warp_probability": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            FeatureTraining(features=DISCRIMINATOR, until_px=4, **wrong)  # type: ignore[arg-type]


def test_the_commands_lead_from_pictures_to_a_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack, run = tmp_path / "pack", tmp_path / "run"
    save_networks(pack, rough_pack())
    archive = noise_archive(tmp_path, np.random.default_rng(0))
    net = embedder(tmp_path / "net.onnx")
    train = ["train", "features", str(archive), "--pack", str(pack), "--out", str(run), "--steps", "2", "--batch", "2",
             "--width", "0.1", "--until-px", "4", "--held-out", "4", "--device", "cpu"]  # fmt: skip
    assert main(train) == 2
    assert "nothing to learn" in capsys.readouterr().err
    assert main([*train, "--identity", str(net), "--set", "pool_batches=1"]) == 0
    assert main([*train, "--identity", str(net), "--until-px", "16"]) == 2
    assert "until is 16" in capsys.readouterr().err
    before = load_pack(pack)
    assert main(["pack", "use-features", str(pack), str(run)]) == 0
    manifest, after = verify_pack(pack), load_pack(pack)
    assert {name for name, digest in before.manifest.files.items() if manifest.files[name] != digest} == {
        "perceptual.safetensors"
    }
    assert manifest.perceptual.args["until"] == 4
    image_BCHW = torch.zeros(1, 3, 16, 16)
    assert after.features(image_BCHW).shape[-1] == 4
    assert after.perceptual_weight > 0
    assert main(["pack", "use-features", str(pack), str(run), "--weight", "0.5"]) == 0
    assert load_pack(pack).perceptual_weight == 0.5
    assert main(["pack", "use-features", str(pack), str(tmp_path)]) == 2
    assert "inversion train features" in capsys.readouterr().err


def test_a_pack_with_learned_optimizers_keeps_its_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack, settings = rough_pack(), {"hidden": 4, "learning_rate": 0.01}
    save_networks(tmp_path / "pack", pack)
    network = DESIGNS["learned"].build(settings, num_layers=pack.num_layers, w_dim=pack.w_dim)
    put_learned(tmp_path / "pack", Variant("learned", "encoder"), settings, network)
    trainer(tmp_path / "run").save()
    assert main(["pack", "use-features", str(tmp_path / "pack"), str(tmp_path / "run")]) == 2
    assert "learned" in capsys.readouterr().err


def test_the_options_are_kept(tmp_path: Path) -> None:
    learner = trainer(tmp_path)
    learner.save()
    _, facts = read_checkpoint(tmp_path / CHECKPOINT)
    assert facts is not None
    assert facts["config"] == {
        **dataclasses.asdict(learner.config),
        "features": {"resolution": 16, "channels": [8, 6, 4]},
    }
