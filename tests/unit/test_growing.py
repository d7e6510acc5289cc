"""Growing: what fades in begins as what was there, and ends as plain networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from inversion_core.errors import OptionInvalid
from inversion_core.models import (
    Discriminator,
    DiscriminatorConfig,
    Encoder,
    EncoderConfig,
    GeneratorConfig,
    StyleGANGenerator,
)
from inversion_core.training.export import assemble
from inversion_core.training.generator import GeneratorTrainer, GeneratorTraining
from inversion_core.training.growing import grown
from inversion_core.training.run import CHECKPOINT, RunFolder, read_checkpoint
from tests.tiny import noise_pictures

SMALL = {
    "generator": GeneratorConfig(
        resolution=8, channels=(12, 8), z_dim=6, w_dim=6, mapping_dim=8, mapping_layers=2, final_tanh=True,
        truncation_layers=4,
    ),
    "encoder": EncoderConfig(resolution=8, w_dim=6, channels_base=4, channels_max=6, batch_norm=False),
    "discriminator": DiscriminatorConfig(resolution=8, channels=(8, 6)),
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run at 8 px, through both phases."""
    run = tmp_path_factory.mktemp("small")
    config = GeneratorTraining(**SMALL, reconstruction_steps=2, adversarial_steps=2, mapping_fit_steps=2)  # type: ignore[arg-type]
    GeneratorTrainer(config, noise_pictures(8), noise_pictures(8), RunFolder(run)).run()
    return run


def grower(small: Path, run: Path, **changes: int) -> GeneratorTrainer:
    settings = {"reconstruction_steps": 3, "adversarial_steps": 7, "mapping_fit_steps": 0, "fade_images": 20, **changes}
    networks = grown(small)
    config = GeneratorTraining(
        generator=networks.generator, encoder=networks.encoder, discriminator=networks.discriminator, **settings
    )  # type: ignore[arg-type]
    return GeneratorTrainer(config, noise_pictures(16), noise_pictures(16), RunFolder(run), grow_from=small)


def test_at_alpha_0_the_networks_are_the_small_ones_doubled(small: Path, tmp_path: Path) -> None:
    tensors, _ = read_checkpoint(small / CHECKPOINT)
    g, e, d = StyleGANGenerator(SMALL["generator"]), Encoder(SMALL["encoder"]), Discriminator(SMALL["discriminator"])  # type: ignore[arg-type]
    for network, name in ((g, "g_ema/"), (e, "e_ema/"), (d, "d/")):
        network.load_state_dict(
            {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}
        )
    trainer = grower(small, tmp_path)
    z_BZ, image_BCHW = torch.randn(3, 6), torch.rand(3, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        low = F.interpolate(g.synthesis(g.map(z_BZ, psi=0.7)), scale_factor=2)
        torch.testing.assert_close(trainer._synthesize(trainer.g_ema.map(z_BZ, psi=0.7), averaged=True), low)
        halved = F.avg_pool2d(image_BCHW, 2)
        code_BLD = trainer._codes(image_BCHW, averaged=True)
        torch.testing.assert_close(code_BLD[:, :4], e(halved))
        torch.testing.assert_close(code_BLD[:, 4:], e(halved)[:, 3:].expand(-1, 2, -1))
        torch.testing.assert_close(trainer.adversary.d.head(trainer.adversary.trunk(image_BCHW)), d(halved))
        assert trainer.fade is not None
        trainer.fade.alpha = 0.5
        assert (trainer._synthesize(trainer.g_ema.map(z_BZ, psi=0.7), averaged=True) - low).abs().max() > 1e-3


def test_the_fade_moves_with_the_pictures_and_leaves_no_trace(small: Path, tmp_path: Path) -> None:
    trainer = grower(small, tmp_path)
    trainer.run(until=3)
    tensors, facts = read_checkpoint(tmp_path / CHECKPOINT)
    assert facts is not None
    assert facts["fade"] == pytest.approx(2 * 4 / 20)
    assert any(key.startswith("fade/") for key in tensors)
    with pytest.raises(OptionInvalid, match=r"40% of its fade is done.*Let the fade end"):
        assemble(tmp_path, name="a", version="1", description="", licence="", provenance="", until_px=8)
    trainer.run()
    assert trainer.fade is None
    tensors, facts = read_checkpoint(tmp_path / CHECKPOINT)
    assert facts is not None
    assert facts["fade"] is None
    assert not any(key.startswith("fade/") for key in tensors)
    pack = assemble(tmp_path, name="a", version="1", description="", licence="", provenance="", until_px=8)
    w_BLD = pack.map(torch.randn(2, 6))
    torch.testing.assert_close(pack.synthesize(w_BLD), trainer.g_ema.synthesis(w_BLD))


def test_the_average_of_what_is_new_does_not_stay_with_its_first_noise(small: Path, tmp_path: Path) -> None:
    trainer = grower(small, tmp_path)
    began = trainer.g.synthesis.to_rgb.weight.detach().clone()
    trainer.run(until=3)
    live, average = (g.synthesis.to_rgb.weight.detach() for g in (trainer.g, trainer.g_ema))
    assert (average - live).norm() < 0.2 * (live - began).norm()


def test_a_resumed_growing_run_equals_an_unbroken_one(small: Path, tmp_path: Path) -> None:
    grower(small, tmp_path / "whole").run()
    for until in (2, 4, 8, 10):
        grower(small, tmp_path / "broken").run(until=until)
    whole, broken = (read_checkpoint(tmp_path / name / CHECKPOINT)[0] for name in ("whole", "broken"))
    assert whole.keys() == broken.keys()
    for key, value in whole.items():
        torch.testing.assert_close(broken[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


def test_a_run_without_a_run_to_grow_from_is_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="inversion train generator"):
        grown(tmp_path)
    config = GeneratorTraining(**SMALL, fade_images=10)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fade_images"):
        GeneratorTrainer(config, noise_pictures(8), noise_pictures(8), RunFolder(tmp_path / "run"))
    with pytest.raises(OptionInvalid, match="do not grow"):  # of the same size, not of half
        GeneratorTrainer(config, noise_pictures(8), noise_pictures(8), RunFolder(tmp_path / "run"), grow_from=small)
