"""Training on a handful of drawn pictures: it learns, it resumes to the step, and it ends in a pack."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inversion_core import InvertConfig, invert
from inversion_core.cli import main
from inversion_core.errors import PackInvalid
from inversion_core.models import Discriminator
from inversion_core.models.discriminator import minibatch_stddev
from inversion_core.models.lpips import LPIPSSqueeze, load_lpips
from inversion_core.optimizers import CLASSIC
from inversion_core.packs import load_pack
from inversion_core.training.augment import augment
from inversion_core.training.calibration import calibrate, lowest_by_steps
from inversion_core.training.data import likeness_groups, load_pictures, pack_pictures
from inversion_core.training.export import assemble, write
from inversion_core.training.generator import GeneratorTrainer, GeneratorTraining
from inversion_core.training.run import CHECKPOINT, RunFolder, read_checkpoint
from inversion_core.training.schedule import rate_factor
from tests.tiny import DISCRIMINATOR, ENCODER, GENERATOR


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures of 16 px: a bright disc on a dark ground, of random place and colours."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16]
    for index in range(48):
        y, x = draw.uniform(4, 12, 2)
        disc = ((rows - y) ** 2 + (columns - x) ** 2 < 12)[..., None]
        picture = np.where(disc, draw.integers(128, 255, 3), draw.integers(0, 100, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{index:02d}.png")
    out = folder / "discs.npz"
    assert pack_pictures([folder], out, 16) == 48
    return out


def trainer(archive: Path, run: Path, **changes: int) -> GeneratorTrainer:
    settings = {"reconstruction_steps": 6, "adversarial_steps": 4, "batch_size": 4, "warmup_steps": 1, "mapping_fit_steps": 20,
                **changes}  # fmt: skip
    config = GeneratorTraining(generator=GENERATOR, encoder=ENCODER, discriminator=DISCRIMINATOR, **settings)  # type: ignore[arg-type]
    return GeneratorTrainer(config, *load_pictures(archive, held_out=8), RunFolder(run))


def test_the_split_keeps_likeness_groups_whole(archive: Path) -> None:
    training, held_out = load_pictures(archive, held_out=8)
    assert len(training) + len(held_out) == 48
    assert len(held_out) >= 8
    assert not set(training.names) & set(held_out.names)
    picture = training.pictures_NCHW[:1].permute(0, 2, 3, 1).numpy()
    twins = np.concatenate([picture, 255 - picture, np.clip(picture.astype(int) + 3, 0, 255).astype(np.uint8)])
    assert likeness_groups(twins).tolist() == [0, 1, 0]


def test_batches_are_the_same_however_they_are_reached(archive: Path) -> None:
    training, _ = load_pictures(archive, held_out=8)
    whole = training.batches(4, seed=3)
    third = [next(whole) for _ in range(3)][2]
    assert torch.equal(next(training.batches(4, seed=3, start=2)), third)
    assert third.min() >= -1
    assert third.max() <= 1


def test_an_archive_of_another_kind_is_refused(tmp_path: Path, archive: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="inversion train data"):
        load_pictures(tmp_path / "other.npz", held_out=8)
    with pytest.raises(ValueError, match="too few"):
        load_pictures(archive, held_out=48)
    with pytest.raises(ValueError, match="no picture"):
        pack_pictures([tmp_path / "nothing"], tmp_path / "out.npz", 16)


def test_the_autoencoder_learns(archive: Path, tmp_path: Path) -> None:
    learner = trainer(archive, tmp_path / "run", reconstruction_steps=80, batch_size=8)
    before = learner.measure()["held_out_mse"]
    learner.run(until=80)
    assert learner.measure()["held_out_mse"] < 0.6 * before


def test_a_resumed_run_equals_an_unbroken_one_through_both_phases(archive: Path, tmp_path: Path) -> None:
    trainer(archive, tmp_path / "whole").run()
    for until in (3, 8, 10):
        trainer(archive, tmp_path / "broken").run(until=until)
    whole, _ = read_checkpoint(tmp_path / "whole" / CHECKPOINT)
    broken, facts = read_checkpoint(tmp_path / "broken" / CHECKPOINT)
    assert facts is not None
    assert facts["step"] == 10
    assert whole.keys() == broken.keys()
    for key, value in whole.items():
        torch.testing.assert_close(broken[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


def test_a_run_ends_in_a_pack_that_inverts(archive: Path, tmp_path: Path) -> None:
    trainer(archive, tmp_path / "run").run()
    pack = assemble(tmp_path / "run", name="discs", version="1", description="", licence="CC0-1.0", provenance="drawn",
                    until_px=8)  # fmt: skip
    pack, losses = calibrate(pack, load_pictures(archive, held_out=8)[1], pictures=2, num_steps=10)
    write(pack, tmp_path / "discs", extra_files={"README.md": b"a card"})
    loaded = load_pack(tmp_path / "discs")
    assert loaded.manifest.optimizers.keys() == CLASSIC.keys() - {"lbfgs"}
    for name, settings in loaded.manifest.optimizers.items():
        tried = {trial: loss for trial, loss in losses.items() if trial.startswith(f"{name} ")}
        assert f"{name} learning_rate {settings['learning_rate']:g}" in min(tried, key=lambda trial: tried[trial])
    target = load_pictures(archive, held_out=8)[1].take(torch.arange(2))
    share = loaded.perceptual_weight * (
        (loaded.features(loaded.synthesize(loaded.encode(target))) - loaded.features(target)).square().mean()
    )
    pixel = (loaded.synthesize(loaded.encode(target)) - target).square().mean()
    assert float(share / pixel) == pytest.approx(1 / 3, rel=0.05)  # half precision moves it a little
    first, *_, last = invert(loaded, target, InvertConfig(num_steps=20))
    assert (last.loss_B < first.loss_B).all()


@pytest.mark.parametrize(
    ("losses", "best", "runs"),
    [
        ({0: 3, 1: 2, 2: 1, 3: 2}, 2, 4),
        ({-3: 9, -2: 1, -1: 2, 0: 3, 1: 4}, -2, 5),
        ({-1: 2, 0: 1, 1: 2}, 0, 3),
        ({-3: 7, -2: 6, -1: 8, 0: 8, 1: 8}, -2, 5),  # everything above diverges: down it goes
        (dict.fromkeys(range(-9, 9), math.inf), -6, 8),  # and it ends
    ],
)
def test_the_search_ends_where_both_neighbours_are_worse(losses: dict[int, float], best: int, runs: int) -> None:
    tried = []
    assert lowest_by_steps(lambda number: tried.append(number) or losses[number]) == (best, losses[best])  # type: ignore[func-returns-value]
    assert len(tried) == len(set(tried)) == runs


def test_export_without_a_run_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(PackInvalid, match="inversion train generator"):
        assemble(tmp_path, name="a", version="1", description="", licence="", provenance="")


def test_the_commands_lead_from_pictures_to_a_pack(archive: Path, tmp_path: Path) -> None:
    data, run, pack = tmp_path / "d.npz", tmp_path / "run", tmp_path / "pack"
    assert main(["train", "data", str(archive.parent), "--size", "16", "--out", str(data)]) == 0
    common = ["--held-out", "8", "--batch", "4", "--device", "cpu"]
    small = ["--w-dim", "16", "--width", "0.1", "--reconstruction-steps", "3", "--adversarial-steps", "2"]
    assert main(["train", "generator", str(data), "--out", str(run), *common, *small]) == 0
    export = ["--name", "discs", "--licence", "CC0-1.0", "--provenance", "drawn", "--held-out", "8", "--until-px", "8",
              "--calibration-steps", "5"]  # fmt: skip
    assert main(["train", "export", str(run), str(data), "--out", str(pack), *export]) == 0
    encoder = ["--pack", str(pack), "--steps", "2", "--channels-base", "4", "--channels-max", "8", *common]
    assert main(["train", "encoder", str(data), "--out", str(tmp_path / "encoder"), *encoder]) == 0
    assert main(["pack", "verify", str(pack)]) == 0


def test_the_log_names_its_columns(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log({"step": 1, "loss": 0.5})
    folder.log({"step": 2, "loss": 0.25})
    with (tmp_path / "log.csv").open(newline="") as lines:
        assert [row["loss"] for row in csv.DictReader(lines)] == ["0.5", "0.25"]


def test_the_rate_rises_stays_and_falls() -> None:
    factors = [rate_factor(step, 100, warmup_steps=10, final=0.2) for step in (0, 9, 40, 75, 100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[1] == factors[2] == 1.0
    assert 0.2 < factors[3] < 1.0
    assert factors[4] == pytest.approx(0.2)


def test_augmentation_keeps_shape_and_gradients_and_can_be_off() -> None:
    image = torch.rand(6, 3, 16, 16, requires_grad=True)
    assert augment(image, 0.0) is image
    changed = augment(image, 1.0)
    assert changed.shape == image.shape
    (gradient,) = torch.autograd.grad(changed.sum(), image)
    assert gradient.abs().sum() > 0


def test_minibatch_stddev_tells_equal_pictures_from_different_ones() -> None:
    equal = minibatch_stddev(torch.ones(4, 2, 3, 3))[:, 2]
    different = minibatch_stddev(torch.randn(4, 2, 3, 3))[:, 2]
    assert equal.max() < 1e-3
    assert different.min() > 0.3


def test_the_discriminator_takes_any_batch() -> None:
    for batch in (1, 3, 8):
        assert Discriminator(DISCRIMINATOR)(torch.zeros(batch, 3, 16, 16)).shape == (batch,)


def test_lpips_is_zero_for_equal_pictures_and_a_broken_file_is_named(tmp_path: Path) -> None:
    a, b = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    network = LPIPSSqueeze()
    for head in network.lin:
        torch.nn.init.constant_(head.weight, 0.1)
    assert network(a, a).abs().max() == 0
    assert (network(a, b) > 0).all()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no")
    with pytest.raises(PackInvalid, match=r"broken\.safetensors"):
        load_lpips(broken)
