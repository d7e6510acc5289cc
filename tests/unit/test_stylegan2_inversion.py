"""What works with one architecture works with the other: loop, engine, detail, edits within masks, SeFa, bfloat16."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from inversion_core.benchmark.reference import ReferenceLoop
from inversion_core.cli import main
from inversion_core.editing.directions.computed import sefa
from inversion_core.editing.local import blended
from inversion_core.editing.shapes import Mask
from inversion_core.engine import Engine, EngineConfig, Precision, Request
from inversion_core.engine.precision import Bfloat16Networks
from inversion_core.inverter import InvertConfig, invert
from inversion_core.latents import Latent, detail_shape
from inversion_core.models import DiscriminatorConfig, DiscriminatorFeatures
from inversion_core.models.generators.stylegan2.layouts import read_generator
from inversion_core.models.source import Source
from inversion_core.packs import Pack, PackManifest, PerceptualSpec, load_pack
from inversion_core.packs.save import save_pack
from tests import stylegan2_files as files
from tests.tiny import noise_archive

DISCRIMINATOR = DiscriminatorConfig(resolution=16, channels=(8, 6, 4))


def make_pack() -> Pack:
    found = read_generator(Source(Path("g.pt"), files.nvidia(files.TINY)))
    assert found is not None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        perceptual = DiscriminatorFeatures(DISCRIMINATOR, until=8)
    spec = PerceptualSpec(kind="discriminator", layer="8 px", args={**dataclasses.asdict(DISCRIMINATOR), "until": 8})
    manifest = PackManifest(
        name="two", version="1", generator=found.generator.config, perceptual=spec,
        optimizers={"adam": {"learning_rate": 0.05}},
    )  # fmt: skip
    return Pack(manifest, generator=found.generator, perceptual=perceptual)


PACK = make_pack()


def targets() -> torch.Tensor:
    z_BZ = torch.randn(3, 32, generator=torch.Generator().manual_seed(5))
    return PACK.synthesize(PACK.map(z_BZ)).clamp(-1, 1)


TARGETS = targets()


@pytest.mark.parametrize("detail_px", [4, 8, 16])
def test_inversion_with_detail(detail_px: int) -> None:
    steps = list(invert(PACK, TARGETS[:2], InvertConfig(num_steps=12, detail_steps=8, detail_px=detail_px)))
    losses = [step.loss_B.sum().item() for step in steps]
    assert losses[12] < losses[0]
    assert losses[-1] < losses[12]
    assert steps[-1].latent.detail_BCHW is not None
    assert steps[-1].latent.detail_BCHW.shape[1:] == detail_shape(PACK.manifest.generator, detail_px)


def test_the_engine_does_what_the_loop_does_alone_and_in_company() -> None:
    config = InvertConfig(num_steps=6, detail_steps=4)
    alone = list(invert(PACK, TARGETS[:1], config))[-1].latent
    found = []
    for company in (1, 3):
        with Engine(EngineConfig(slots=3, precision=Precision.FLOAT32)) as engine:
            tickets = [engine.submit(Request(pack=PACK, target_CHW=row, config=config)) for row in TARGETS[:company]]
            lasts = [list(ticket)[-1].latent for ticket in tickets]
            found.append(lasts[0])
    for name, tensor in alone.tensors().items():
        assert torch.equal(found[0].tensors()[name], found[1].tensors()[name])
        assert (found[0].tensors()[name] - tensor).norm() <= 1e-3 * tensor.norm()


def test_edits_within_a_mask_change_nothing_outside() -> None:
    around, other = (Latent(w_BLD=PACK.map(torch.full((1, 32), value))) for value in (1.0, -1.0))
    mask = Mask(shape="box", numbers=(0.0, 0.0, 0.5, 1.0), feather=0.0)
    both_BCHW = PACK.synthesize(blended(PACK, around, [(mask, other)]))
    assert torch.allclose(both_BCHW[..., 12:], PACK.synthesize(around)[..., 12:], atol=1e-5)
    assert torch.allclose(both_BCHW[..., :4], PACK.synthesize(other)[..., :4], atol=1e-5)


def test_directions_of_its_weights() -> None:
    assert [tuple(w.shape) for w in PACK.generator.synthesis.style_weights()][:2] == [(32, 32), (32, 32)]
    assert len(PACK.generator.synthesis.style_weights()) == PACK.num_layers
    assert sefa(PACK)


def test_in_bfloat16_it_draws_the_same_only_coarser() -> None:
    w_BLD = PACK.map(torch.randn(2, 32, generator=torch.Generator().manual_seed(1)))
    exact, rounded = PACK.synthesize(w_BLD), Bfloat16Networks(PACK).synthesize(w_BLD)
    assert 0 < (exact - rounded).abs().max() < 0.1 * exact.abs().max()


def test_the_plain_loop_has_the_same_loss() -> None:
    loop = ReferenceLoop(PACK, TARGETS[:1], PACK.mean_codes(), learning_rate=0.05, is_frozen=True)
    assert loop.step() == pytest.approx(float(PACK.loss(PACK.synthesize(PACK.mean_codes()), TARGETS[:1])), rel=1e-4)


def test_saved_and_loaded(tmp_path: Path) -> None:
    save_pack(tmp_path / "two", PACK.manifest, generator=PACK.generator, perceptual=PACK.perceptual)
    loaded = load_pack(tmp_path / "two")
    assert loaded.manifest.generator == PACK.manifest.generator
    assert torch.equal(loaded.synthesize(PACK.mean_codes()), PACK.synthesize(PACK.mean_codes()))


def test_an_encoder_can_be_trained_for_it(tmp_path: Path) -> None:
    folder, run = tmp_path / "two", tmp_path / "run"
    save_pack(folder, PACK.manifest, generator=PACK.generator, perceptual=PACK.perceptual)
    pictures = noise_archive(tmp_path, np.random.default_rng(0), 160)
    train = [
        "train",
        "encoder",
        str(pictures),
        "--out",
        str(run),
        "--pack",
        str(folder),
        "--steps",
        "2",
        "--batch",
        "2",
    ]
    assert main(train) == 0
    assert main(["pack", "use-encoder", str(folder), str(run)]) == 0
    pack = load_pack(folder)
    assert pack.encode(TARGETS).shape == (3, pack.num_layers, pack.w_dim)
    assert torch.equal(pack.synthesize(PACK.mean_codes()), PACK.synthesize(PACK.mean_codes()))
