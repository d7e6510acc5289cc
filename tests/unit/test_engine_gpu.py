"""The engine on CUDA: the same codes as on the CPU, recorded or not."""

from __future__ import annotations

import pytest
import torch

from inversion_core import InvertConfig, invert
from inversion_core.engine import Engine, EngineConfig, Request
from inversion_core.engine.graphs import GraphedStep
from inversion_core.engine.step import Inputs, PackStep, Want
from inversion_core.packs import Pack
from tests.tiny import rough_pack, tiny_targets

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def on_cuda() -> Pack:
    pack = rough_pack()
    return Pack(
        pack.manifest, generator=pack.generator, perceptual=pack.perceptual, encoder=pack.encoder, device="cuda"
    )


def test_many_at_once_get_the_codes_of_the_cpu() -> None:
    targets, config = tiny_targets(8), InvertConfig(num_steps=8)
    expected = [list(invert(rough_pack(), target[None], config))[-1].w_BLD[0] for target in targets]
    with Engine(EngineConfig(slots=5)) as engine:
        tickets = [engine.submit(Request(pack=on_cuda(), target_CHW=target, config=config)) for target in targets]
        found = [list(ticket)[-1].w_LD.cpu() for ticket in tickets]
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-2  # convolutions are TF32 there


def test_a_replayed_step_is_the_step() -> None:
    pack, targets = on_cuda(), tiny_targets(4).cuda()
    inputs = Inputs(target_BCHW=targets, target_features_BCHW=pack.features(targets), mask_B1HW=None)
    plain = PackStep(pack, 0.0)
    graphed = GraphedStep(plain)
    for seed in range(3):
        w_BLD = torch.randn(4, pack.num_layers, pack.w_dim, generator=torch.Generator().manual_seed(seed)).cuda()
        expected, found = plain(w_BLD, inputs, Want.SEEN), graphed(w_BLD, inputs, Want.SEEN)
        torch.testing.assert_close(found.loss_B, expected.loss_B)
        torch.testing.assert_close(found.grad_BLD, expected.grad_BLD)
        assert found.seen is not None
        assert expected.seen is not None
        torch.testing.assert_close(found.seen.image_grad_BCHW, expected.seen.image_grad_BCHW)
