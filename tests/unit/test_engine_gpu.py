"""The engine on CUDA: the same codes as on the CPU, recorded or not."""

from __future__ import annotations

import functools

import pytest
import torch

from inversion_core import InvertConfig, Step, invert
from inversion_core.engine import Engine, EngineConfig, ImageStep, Precision, Request
from inversion_core.engine.graphs import GraphedStep
from inversion_core.engine.precision import ALLOWED, arithmetic
from inversion_core.engine.step import Inputs, PackStep, Want
from inversion_core.latents import Latent, detail_shape
from inversion_core.packs import Pack
from tests.tiny import rough_pack, tiny_targets

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def on_cuda() -> Pack:
    pack = rough_pack()
    return Pack(
        pack.manifest, generator=pack.generator, perceptual=pack.perceptual, encoder=pack.encoder, device="cuda"
    )


CONFIG = InvertConfig(num_steps=8)


@functools.cache
def of_the_cpu() -> list[Step]:
    return [list(invert(rough_pack(), target[None], CONFIG))[-1] for target in tiny_targets(8)]


def last_steps(precision: Precision | None) -> list[ImageStep]:
    pack = on_cuda()
    with Engine(EngineConfig(slots=5, precision=precision)) as engine:
        tickets = [engine.submit(Request(pack=pack, target_CHW=target, config=CONFIG)) for target in tiny_targets(8)]
        return [list(ticket)[-1] for ticket in tickets]


@pytest.mark.parametrize(("precision", "close"), [(Precision.FLOAT32, 1e-3), (Precision.TF32, 1e-2)])
def test_many_at_once_get_the_codes_of_the_cpu(precision: Precision, close: float) -> None:
    for ours, theirs in zip(last_steps(precision), of_the_cpu(), strict=True):
        expected_LD = theirs.w_BLD[0]
        assert float((ours.w_LD.cpu() - expected_LD).norm() / expected_LD.norm()) < close


def test_what_the_engine_chooses_for_itself_keeps_the_final_loss() -> None:
    ours, theirs = last_steps(None), of_the_cpu()
    ratios = [step.loss / float(expected.loss_B) for step, expected in zip(ours, theirs, strict=True)]
    assert sum(ratios) / len(ratios) < 1 + 2 * ALLOWED


def test_float32_is_float32_within_and_as_it_was_after() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    device = torch.device("cuda")
    for precision, is_tf32 in ((Precision.FLOAT32, False), (Precision.BFLOAT16, False), (Precision.TF32, True)):
        with arithmetic(precision, device):
            assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is is_tf32
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_a_replayed_step_of_detail_is_the_step() -> None:
    pack, targets = on_cuda(), tiny_targets(4).cuda()
    w_BLD = pack.encode(targets)
    base_BCHW = pack.base_features(w_BLD, 8)
    inputs = Inputs(
        target_BCHW=targets, target_features_BCHW=pack.features(targets), mask_B1HW=None, base_BCHW=base_BCHW
    )
    plain = PackStep(pack, 0.0)
    graphed = GraphedStep(plain)
    for seed in range(3):
        shape = detail_shape(pack.manifest.generator, 8)
        detail_BCHW = torch.randn(4, *shape, generator=torch.Generator().manual_seed(seed)).cuda()
        latent = Latent(w_BLD=w_BLD, detail_BCHW=detail_BCHW)
        expected, found = plain(latent, inputs, Want.GRADIENT), graphed(latent, inputs, Want.GRADIENT)
        torch.testing.assert_close(found.loss_B, expected.loss_B)
        torch.testing.assert_close(found.grad, expected.grad)


def test_a_replayed_step_is_the_step() -> None:
    pack, targets = on_cuda(), tiny_targets(4).cuda()
    inputs = Inputs(target_BCHW=targets, target_features_BCHW=pack.features(targets), mask_B1HW=None)
    plain = PackStep(pack, 0.0)
    graphed = GraphedStep(plain)
    for seed in range(3):
        w_BLD = torch.randn(4, pack.num_layers, pack.w_dim, generator=torch.Generator().manual_seed(seed)).cuda()
        latent = Latent(w_BLD=w_BLD)
        expected, found = plain(latent, inputs, Want.LOOK), graphed(latent, inputs, Want.LOOK)
        torch.testing.assert_close(found.loss_B, expected.loss_B)
        torch.testing.assert_close(found.grad, expected.grad)
        assert found.look is not None
        assert expected.look is not None
        torch.testing.assert_close(found.look.image_grad_BCHW, expected.look.image_grad_BCHW)
