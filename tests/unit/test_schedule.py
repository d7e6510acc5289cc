"""The learning rate over a run: its course, what an inversion makes of it, and runs that were resumed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from inversion_core.inverter import Checkpoint, InvertConfig, invert, make_optimizer
from inversion_core.optimizers import CLASSIC, Adam, Schedule
from inversion_core.packs import Pack
from tests.stepping import stepped
from tests.tiny import tiny_pack, tiny_targets

TUNED = {"learning_rate": 0.08, "warmup_steps": 2, "final_factor": 0.05}


PACK, TARGET = tiny_pack(), tiny_targets(2)


def pack_with(**optimizers: dict[str, Any]) -> Pack:
    manifest = dataclasses.replace(PACK.manifest, optimizers={"adam": {}} | optimizers)
    return Pack(manifest, generator=PACK.generator, perceptual=PACK.perceptual, encoder=PACK.encoder)


def factors(schedule: Schedule, steps: int) -> list[float]:
    factor_B = schedule.factor_B(torch.arange(1, steps + 1, dtype=torch.float64))
    return [float(factor) for factor in factor_B]


def test_without_fields_the_rate_is_constant() -> None:
    assert factors(Schedule(), 5) == factors(Schedule(total_steps=3), 5) == [1.0] * 5


def test_it_rises_in_equal_parts_and_falls_as_a_cosine() -> None:
    course = factors(Schedule(warmup_steps=4, final_factor=0.1, total_steps=24), 24)
    assert course[:4] == [0.25, 0.5, 0.75, 1.0]
    assert course[13] == pytest.approx(0.55)  # half of the way: half-way between 1 and 0.1
    assert course[8] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert course[-1] == pytest.approx(0.1)
    assert course[3:] == sorted(course[3:], reverse=True)


def test_after_the_run_the_last_rate_stays() -> None:
    assert factors(Schedule(final_factor=0.1, total_steps=5), 9)[4:] == pytest.approx([0.1] * 5)


@pytest.mark.parametrize("total_steps", [0, 1, 2, 5])
def test_a_run_shorter_than_the_warm_up_still_has_rates(total_steps: int) -> None:
    course = factors(Schedule(warmup_steps=10, final_factor=0.05, total_steps=total_steps), max(1, total_steps))
    assert all(0 < factor <= 1 for factor in course)
    assert max(course) == 1 or total_steps <= 1  # a single update is at once the last


def test_of_a_run_of_unknown_length_only_the_warm_up_is_known() -> None:
    assert factors(Schedule(warmup_steps=2, final_factor=0.1), 4) == [0.5, 1.0, 1.0, 1.0]


def test_the_length_of_the_run_comes_from_the_config() -> None:
    optimizer = make_optimizer(pack_with(adam=TUNED), InvertConfig(num_steps=30))
    expected = Schedule(warmup_steps=2, final_factor=0.05, total_steps=30)
    assert optimizer == Adam(learning_rate=0.08, schedule=expected)


def test_a_chosen_rate_is_constant_whatever_the_pack_records() -> None:
    target, pack = TARGET, pack_with(adam=TUNED)
    *_, plain = invert(pack_with(adam={"learning_rate": 0.01}), target, InvertConfig(num_steps=6))
    *_, chosen = invert(pack, target, InvertConfig(num_steps=6, learning_rate=0.01))
    *_, tuned = invert(pack, target, InvertConfig(num_steps=6))
    assert torch.equal(chosen.w_BLD, plain.w_BLD)
    assert not torch.allclose(chosen.w_BLD, tuned.w_BLD, atol=1e-3)


@pytest.mark.parametrize("name", sorted(CLASSIC))
def test_every_pack_offers_every_classic_optimizer(name: str) -> None:
    first, *_, last = invert(PACK, TARGET, InvertConfig(num_steps=3, optimizer=name))
    assert last.index == 3
    assert last.loss_B.isfinite().all()
    assert not torch.equal(first.w_BLD, last.w_BLD)


@pytest.mark.parametrize("name", sorted(CLASSIC))
def test_a_resumed_run_equals_an_unbroken_one(name: str) -> None:
    target, pack = TARGET, pack_with(**{name: {"warmup_steps": 2, "final_factor": 0.05}})
    config = InvertConfig(num_steps=6, optimizer=name)
    whole = list(invert(pack, target, config))
    kept = Checkpoint.from_bytes(whole[3].checkpoint().to_bytes())
    *_, last = invert(pack, target, config, resume=kept)
    torch.testing.assert_close(last.w_BLD, whole[-1].w_BLD, rtol=0, atol=0)


def test_a_run_resumed_with_more_steps_follows_the_longer_schedule() -> None:
    """From the resumed Step on each rate is that of the new length at the image's own count."""
    target, pack = TARGET[:1], pack_with(adam=TUNED)
    *_, end = invert(pack, target, InvertConfig(num_steps=4))
    resumed = list(invert(pack, target, InvertConfig(num_steps=8), resume=end.checkpoint()))
    assert [step.index for step in resumed] == list(range(4, 9))
    longer = make_optimizer(pack, InvertConfig(num_steps=8))
    expected, state = stepped(longer, end.w_BLD, _gradient(pack, target, end.w_BLD), end.state)
    torch.testing.assert_close(resumed[1].w_BLD, expected, rtol=1e-5, atol=1e-6)
    assert state.count_B.tolist() == [5.0]


def _gradient(pack: Pack, target_BCHW: torch.Tensor, w_BLD: torch.Tensor) -> torch.Tensor:
    w_BLD = w_BLD.clone().requires_grad_()
    return torch.autograd.grad(pack.loss(pack.synthesize(w_BLD), target_BCHW).sum(), w_BLD)[0]
