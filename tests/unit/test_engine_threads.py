"""Thread counts that are found by trying, and slots that memory allows."""

from __future__ import annotations

import pytest
import torch

from inversion_core.engine import Engine, EngineConfig, Precision, Request, buckets, capacity
from inversion_core.engine.buckets import default_buckets
from inversion_core.engine.capacity import default_slots, free_bytes, image_bytes
from inversion_core.engine.step import Evaluate, Inputs, Outcome, PackStep, Want
from inversion_core.engine.threads import TRY_EVERY, ThreadGovernor
from inversion_core.inverter import InvertConfig, invert
from inversion_core.latents import Latent
from inversion_core.packs import Pack
from tests.tiny import tiny_pack, tiny_targets

pytestmark = pytest.mark.unit


def work(governor: ThreadGovernor, steps: int, seconds: dict[int, float]) -> list[int]:
    """Numbers of threads that steps were done with, when each number takes so long."""
    counts = []
    for _ in range(steps):
        counts.append(governor.count)
        governor.note("a pack", seconds[governor.count])
    return counts


def test_the_faster_number_is_found_soon_and_kept() -> None:
    governor = ThreadGovernor((2, 1))
    counts = work(governor, 500, {2: 1.0, 1: 1.6})
    assert governor.count == 2
    assert counts.count(1) <= 2 + 2 * 500 // TRY_EVERY, "a try costs two steps, and there are few"
    governor = ThreadGovernor((2, 1))
    assert work(governor, 20, {2: 1.0, 1: 0.6})[-10:] == [1] * 10


def test_the_smaller_number_is_taken_where_it_costs_next_to_nothing() -> None:
    governor = ThreadGovernor((2, 1))
    counts = work(governor, 300, {2: 1.0, 1: 1.02})
    assert counts[20:].count(2) <= 2 + 2 * 280 // TRY_EVERY, "tries alone: the other one is no real gain"
    assert work(ThreadGovernor((2, 1)), 300, {2: 1.0, 1: 1.1})[-1] == 2


def test_a_collapse_is_noticed_at_once_and_the_end_of_it_later() -> None:
    governor = ThreadGovernor((2, 1))
    work(governor, 30, {2: 1.0, 1: 1.6})
    assert work(governor, 6, {2: 15.0, 1: 1.6})[-1] == 1
    assert work(governor, 2 * TRY_EVERY + 8, {2: 1.0, 1: 1.6})[-1] == 2


def test_steps_of_another_kind_are_not_compared() -> None:
    governor = ThreadGovernor((2, 1))
    for index in range(100):
        governor.note(index, 100.0 * (index % 2))
    assert governor.count == 2


def test_one_number_is_not_tried_against_itself() -> None:
    assert set(work(ThreadGovernor((3,)), 200, {3: 1.0})) == {3}
    with pytest.raises(ValueError, match="at least one"):
        ThreadGovernor(())


def test_an_engine_with_a_choice_of_threads_works() -> None:
    before = torch.get_num_threads()
    try:
        with Engine(EngineConfig(threads=(1, 2))) as engine:
            request = Request(pack=tiny_pack(), target_CHW=tiny_targets(1)[0], config=InvertConfig(num_steps=12))
            assert len(list(engine.submit(request))) == 13
    finally:
        torch.set_num_threads(before)


def test_an_image_keeps_what_its_layers_make() -> None:
    layers = 2 * (16 * 4 * 4 + 12 * 8 * 8 + 8 * 16 * 16)  # outputs of the generator's layers, in numbers
    assert 4 * layers < image_bytes(tiny_pack()) < 4 * 20 * layers


def test_slots_follow_memory_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    packs, cpu = [tiny_pack()], torch.device("cpu")
    assert free_bytes(cpu) > 1e6
    assert default_slots(packs, cpu) == capacity.PER_CPU_THREAD * capacity.cpu_threads()
    monkeypatch.setattr(capacity, "free_bytes", lambda _: int(3.1 * 1.5 * image_bytes(packs[0]) / 0.6))
    assert default_slots(packs, cpu) == 3
    monkeypatch.setattr(capacity, "free_bytes", lambda _: 0)
    assert default_slots(packs, cpu) == 1, "it has to try at least"


def test_a_cpu_computes_no_more_at_once_than_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = tiny_pack()
    assert default_buckets(4, pack) == (1, 2, 3, 4)
    monkeypatch.setattr(buckets, "CPU_PART_BYTES", 2 * image_bytes(pack))
    assert default_buckets(8, pack) == (1, 2)
    monkeypatch.setattr(buckets, "CPU_PART_BYTES", image_bytes(pack) - 1)
    assert default_buckets(8, pack) == (1,), "one at least"


def test_large_pictures_are_stepped_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def make_step(pack: Pack, regulariser_weight: float, _: Precision) -> Evaluate:
        real = PackStep(pack, regulariser_weight)

        def step(latent: Latent, inputs: Inputs, want: Want) -> Outcome:
            sizes.append(len(latent))
            return real(latent, inputs, want)

        return step

    monkeypatch.setattr(buckets, "CPU_PART_BYTES", 1)
    pack, targets, config = tiny_pack(), tiny_targets(2), InvertConfig(num_steps=3)
    with Engine(EngineConfig(slots=2, make_step=make_step)) as engine:
        tickets = [engine.submit(Request(pack=pack, target_CHW=target, config=config)) for target in targets]
        losses = [[step.loss for step in ticket] for ticket in tickets]
    assert set(sizes) == {1}
    for target, found in zip(targets, losses, strict=True):
        alone = [float(step.loss_B) for step in invert(pack, target[None], config)]
        assert found == pytest.approx(alone, rel=1e-5)
