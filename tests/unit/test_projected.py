"""The critic on frozen features: what learns and what does not, resuming, growing, and the way into a pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from inversion_core.cli import main
from inversion_core.errors import OptionInvalid
from inversion_core.models import DiscriminatorConfig, EncoderConfig, GeneratorConfig
from inversion_core.models.lpips import LPIPSSqueeze
from inversion_core.packs import find_pack, load_pack, read_manifest
from inversion_core.training.data import PictureSet
from inversion_core.training.export import assemble, write
from inversion_core.training.generator import GeneratorTrainer, GeneratorTraining
from inversion_core.training.growing import grown
from inversion_core.training.projected import PROJECTION, WIDTHS, ProjectedAdversary, Projection, ScaleHeads
from inversion_core.training.run import CHECKPOINT, RunFolder, read_checkpoint
from tests.tiny import noise_pictures, save_networks, tiny_pack

NETWORKS = {
    "generator": GeneratorConfig(
        resolution=32, channels=(12, 8, 8, 4), z_dim=6, w_dim=6, mapping_dim=8, mapping_layers=2, final_tanh=True,
        truncation_layers=8,
    ),
    "encoder": EncoderConfig(resolution=32, w_dim=6, channels_base=4, channels_max=6, batch_norm=False),
    "discriminator": DiscriminatorConfig(resolution=32, channels=(8, 6, 6, 4)),
}  # fmt: skip


@pytest.fixture(scope="module")
def lpips() -> LPIPSSqueeze:
    torch.manual_seed(3)
    return LPIPSSqueeze().requires_grad_(False).eval()


def trainer(run: Path, lpips: LPIPSSqueeze | None, **changes: Any) -> GeneratorTrainer:
    settings = {"reconstruction_steps": 2, "adversarial_steps": 4, "batch_size": 2, "warmup_steps": 1,
                "mapping_fit_steps": 2, "lpips_weight": 0.0, "critic": "projected", **changes}  # fmt: skip
    config = GeneratorTraining(**NETWORKS, **settings)
    return GeneratorTrainer(config, noise_pictures(32), noise_pictures(32), RunFolder(run), lpips=lpips)


def smooth(count: int, level: float) -> Tensor:
    drawn = torch.rand(count, 3, 4, 4)
    return torch.nn.functional.interpolate(drawn, size=32, mode="bilinear") * 0.5 + level


def test_the_projection_is_fixed_by_its_seed_and_its_maps_are_of_one_size(lpips: LPIPSSqueeze) -> None:
    image_BCHW = smooth(3, -0.5)
    one, same, other = (Projection(lpips, seed=seed) for seed in (0, 0, 1))
    for features in (one, same, other):
        features.calibrate(image_BCHW)
    maps = one(image_BCHW)
    assert [(x.shape[1], x.shape[2]) for x in maps] == list(zip(WIDTHS, (63, 31, 15, 7), strict=True))
    for x, again, differs in zip(maps, same(image_BCHW), other(image_BCHW), strict=True):
        assert torch.equal(x, again)
        assert not torch.allclose(x, differs)
    for x, size in zip(one._taps(image_BCHW), one.size_S, strict=True):
        assert float((x / size).square().mean()) == pytest.approx(1.0, rel=1e-4)
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_every_scale_has_its_say_and_sees_the_coarser_ones(lpips: LPIPSSqueeze) -> None:
    projection, heads = Projection(lpips, seed=0), ScaleHeads()
    features = projection(smooth(2, 0.0))
    logits = heads(features)
    assert len(logits) == len(WIDTHS)
    assert all(each.shape[0] == 2 and each.dtype == torch.float32 for each in logits)
    coarsest = projection.across_scales[-1]
    coarsest.data.mul_(2)
    changed = [not torch.allclose(a, b) for a, b in zip(features, projection(smooth(2, 0.0)), strict=True)]
    assert changed == [True, True, True, True]  # other pictures: all of them
    torch.manual_seed(0)
    image_BCHW = smooth(2, 0.0)
    before = projection(image_BCHW)
    coarsest.data.zero_()
    changed = [not torch.allclose(a, b) for a, b in zip(before, projection(image_BCHW), strict=True)]
    assert changed == [True, True, True, False]


def test_heads_learn_to_tell_and_nothing_else_does(lpips: LPIPSSqueeze, tmp_path: Path) -> None:
    adversary = trainer(tmp_path, lpips, augment_probability=0.0, discriminator_rate=2e-3).adversary
    assert isinstance(adversary, ProjectedAdversary)
    torch.manual_seed(0)
    frozen = {key: value.clone() for key, value in adversary.projection.state_dict().items()}
    for step in range(30):
        fakes = smooth(8, -0.7).requires_grad_()
        loss = adversary.fooled(fakes)
        losses = {k: v.detach() for k, v in adversary.train_step(smooth(8, 0.3), fakes.detach(), step=step).items()}
    assert float(losses["d_real"] - losses["d_fake"]) > 0.5
    assert float(losses["d_sign"]) > 0.5
    (gradient,) = torch.autograd.grad(adversary.fooled(fakes), fakes)
    assert float(loss.detach()) == pytest.approx(-float(losses["d_fake"]), abs=0.1)
    assert gradient.abs().sum() > 0
    assert all(torch.equal(value, frozen[key]) for key, value in adversary.projection.state_dict().items())
    better = (fakes - 0.5 * gradient.sign()).detach()
    assert float(adversary.fooled(better)) < float(adversary.fooled(fakes.detach()))


def test_the_generators_loss_gives_the_heads_no_gradient(lpips: LPIPSSqueeze, tmp_path: Path) -> None:
    adversary = trainer(tmp_path, lpips).adversary
    fakes = smooth(2, 0.0).requires_grad_()
    adversary.fooled(fakes).backward()
    assert fakes.grad is not None
    assert all(each.grad is None for each in adversary.d.parameters())
    assert all(each.requires_grad for each in adversary.d.parameters())


@pytest.mark.parametrize(
    "recipe",
    [
        {"augment_probability": 0.2, "augment_target": 0.6, "augment_images": 100},
        {"reconstruction_steps": 0, "reconstruction_weight": 0.0, "adversarial_steps": 6, "precision": "bfloat16"},
    ],
    ids=["adaptive", "from nothing, bfloat16"],
)
def test_a_resumed_run_equals_an_unbroken_one(lpips: LPIPSSqueeze, tmp_path: Path, recipe: dict[str, Any]) -> None:
    trainer(tmp_path / "whole", lpips, **recipe).run()
    for until in (1, 3, 6):
        trainer(tmp_path / "broken", lpips, **recipe).run(until=until)
    whole, broken = (read_checkpoint(tmp_path / name / CHECKPOINT)[0] for name in ("whole", "broken"))
    assert whole.keys() == broken.keys()
    for key, value in whole.items():
        torch.testing.assert_close(broken[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


def test_growing_keeps_the_heads_and_their_projection(lpips: LPIPSSqueeze, tmp_path: Path) -> None:
    trainer(tmp_path / "small", lpips).run()
    old, _ = read_checkpoint(tmp_path / "small" / CHECKPOINT)
    networks = grown(tmp_path / "small")

    def grower(run: Path, critic: str) -> GeneratorTrainer:
        config = GeneratorTraining(
            generator=networks.generator, encoder=networks.encoder, discriminator=networks.discriminator,
            reconstruction_steps=0, adversarial_steps=3, batch_size=2, mapping_fit_steps=0, fade_images=4,
            lpips_weight=0.0, critic=critic,
        )  # fmt: skip
        pictures: PictureSet = noise_pictures(64)
        return GeneratorTrainer(
            config, pictures, pictures, RunFolder(run), lpips=lpips, grow_from=tmp_path / "small"
        )  # fmt: skip

    run = grower(tmp_path / "grown", "projected")
    for name in ("d", PROJECTION):
        for key, value in run.modules()[name].state_dict().items():
            if key != "size_S":  # of the larger pictures
                assert torch.equal(value, old[f"{name}/{key}"]), key
    run.run()
    assert run.fade is None
    with pytest.raises(OptionInvalid, match="another kind of critic"):
        grower(tmp_path / "other", "stylegan")


def test_a_run_goes_on_with_the_critic_that_it_has(lpips: LPIPSSqueeze, tmp_path: Path) -> None:
    trainer(tmp_path / "run", lpips).run(until=1)
    with pytest.raises(OptionInvalid, match="go on with --critic projected"):
        trainer(tmp_path / "run", lpips, critic="stylegan")
    with pytest.raises(ValueError, match="critic is 'other'"):
        trainer(tmp_path / "other", lpips, critic="other")


def test_its_pack_takes_the_perceptual_network_of_another(lpips: LPIPSSqueeze, tmp_path: Path) -> None:
    words: dict[str, Any] = {"version": "1", "description": "", "licence": "CC0-1.0", "provenance": "drawn"}
    trainer(tmp_path / "plain", None, critic="stylegan").run()
    write(assemble(tmp_path / "plain", name="plain", until_px=8, **words), tmp_path / "packs" / "plain")
    trainer(tmp_path / "run", lpips).run()
    with pytest.raises(OptionInvalid, match="--features-from"):
        assemble(tmp_path / "run", name="a", **words)
    pack = assemble(tmp_path / "run", name="a", features_from=tmp_path / "packs" / "plain", **words)
    write(pack, tmp_path / "packs" / "a")
    mine, other = (load_pack(tmp_path / "packs" / name) for name in ("a", "plain"))
    image_BCHW = smooth(2, 0.0)
    assert torch.equal(mine.features(image_BCHW), other.features(image_BCHW))
    spec = read_manifest(tmp_path / "packs" / "a").perceptual
    assert spec.note.startswith("That of pack plain 1")
    assert spec.args == other.manifest.perceptual.args
    save_networks(tmp_path / "packs" / "tiny", tiny_pack())
    smaller = assemble(tmp_path / "run", name="a", features_from=tmp_path / "packs" / "tiny", **words)
    halved_BCHW = torch.nn.functional.avg_pool2d(image_BCHW, 2)
    write(smaller, tmp_path / "packs" / "smaller", half=False)
    on_disk, tiny = (load_pack(tmp_path / "packs" / name) for name in ("smaller", "tiny"))
    assert torch.equal(on_disk.features(image_BCHW), tiny.features(halved_BCHW))
    with pytest.raises(OptionInvalid, match="pack faces-64 is for 64 px, the run only for 32 px"):
        assemble(tmp_path / "run", name="a", features_from=find_pack("faces-64"), **words)


def test_the_commands_from_pictures_to_a_pack(
    lpips: LPIPSSqueeze, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, picture in enumerate(noise_pictures(32).pictures_NCHW):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    archive, run = str(tmp_path / "noise.npz"), str(tmp_path / "run")
    assert main(["train", "data", str(tmp_path), "--size", "32", "--out", archive]) == 0
    train = ["train", "generator", archive, "--out", run, "--critic", "projected", "--width", "0.05", "--w-dim", "8",
             "--reconstruction-steps", "1", "--adversarial-steps", "1", "--batch", "2", "--held-out", "2", "--device", "cpu",
             "--set", "mapping_fit_steps=2", "--precision", "float32"]  # fmt: skip
    capsys.readouterr()
    assert main(train) == 2
    assert "--lpips FILE" in capsys.readouterr().err
    save_file(lpips.state_dict(), tmp_path / "lpips.safetensors")
    assert main([*train, "--lpips", str(tmp_path / "lpips.safetensors")]) == 0
    export = ["train", "export", run, archive, "--out", str(tmp_path / "pack"), "--name", "noise", "--licence", "CC0-1.0",
              "--provenance", "drawn", "--held-out", "2", "--calibration-steps", "2", "--device", "cpu"]  # fmt: skip
    assert main(export) == 2
    assert "--features-from PACK" in capsys.readouterr().err
    trainer(tmp_path / "plain", None, critic="stylegan").run()
    plain = assemble(tmp_path / "plain", name="plain", version="1", description="", licence="CC0-1.0",
                     provenance="drawn", until_px=8)  # fmt: skip
    write(plain, tmp_path / "packs" / "plain")
    assert main([*export, "--features-from", str(tmp_path / "packs" / "plain")]) == 0
    assert load_pack(tmp_path / "pack").resolution == 32
    encoder = ["train", "encoder", archive, "--pack", str(tmp_path / "pack"), "--lpips", str(tmp_path / "lpips.safetensors"),
               "--steps", "2", "--batch", "2", "--held-out", "2", "--device", "cpu", "--precision", "float32"]  # fmt: skip
    begun, _ = read_checkpoint(tmp_path / "run" / CHECKPOINT)
    for critic, is_that_of_the_run in ((run, True), ("projected", False)):
        folder = tmp_path / f"encoder-{is_that_of_the_run}"
        assert main([*encoder, "--out", str(folder), "--discriminator", critic]) == 0
        tensors, facts = read_checkpoint(folder / CHECKPOINT)
        assert facts is not None
        assert facts["config"]["critic"] == "projected"
        heads = [key for key in begun if key.startswith("d/") and key.endswith(".original")]
        assert heads
        moved = [float((tensors[key] - begun[key]).abs().max()) for key in heads]
        assert max(moved) > 0
        assert (max(moved) < 0.02) == is_that_of_the_run
    capsys.readouterr()
    assert main([*encoder, "--out", str(tmp_path / "none"), "--discriminator", str(tmp_path / "pack")]) == 2
    assert "--discriminator new|projected" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recorded_run_is_the_plain_one(lpips: LPIPSSqueeze, tmp_path: Path) -> None:
    def trained(run: str, *, records_steps: bool) -> GeneratorTrainer:
        config = GeneratorTraining(
            **NETWORKS, reconstruction_steps=4, adversarial_steps=16, batch_size=4, mapping_fit_steps=2, lpips_weight=0.1,
            critic="projected", augment_target=0.6, records_steps=records_steps,
        )  # fmt: skip
        pictures, folder = noise_pictures(32), RunFolder(tmp_path / run)
        learner = GeneratorTrainer(config, pictures, pictures, folder, lpips=lpips, device="cuda")
        learner.run(sample_every=100)
        return learner

    start = GeneratorTrainer(
        GeneratorTraining(**NETWORKS, critic="projected"), noise_pictures(32), noise_pictures(32),
        RunFolder(tmp_path / "start"), lpips=lpips, device="cuda",
    ).modules()  # fmt: skip
    plain, recorded = trained("plain", records_steps=False), trained("recorded", records_steps=True)
    assert None not in recorded.recorder._recordings.values()
    for name in ("g", "d"):
        begun, one, other = ([*each[name].parameters()] for each in (start, plain.modules(), recorded.modules()))
        moved = sum((a - b).square().sum() for a, b in zip(one, begun, strict=True))
        apart = sum((a - b).square().sum() for a, b in zip(one, other, strict=True))
        assert apart < 0.01 * moved, name
