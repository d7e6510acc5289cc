"""Which arithmetic a pack's step gets: the fastest that does no harm, and float32 for the loss that counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from inversion_core.engine import Engine, EngineConfig, Precision, Request, precision
from inversion_core.engine.graphs import make_step
from inversion_core.engine.precision import Bfloat16Networks, Trial, choose_precision
from inversion_core.engine.step import Evaluate, Outcome
from inversion_core.inverter import InvertConfig
from inversion_core.packs import Pack
from inversion_worker.core_backend import load
from inversion_worker.settings import WorkerSettings
from tests.tiny import rough_pack, tiny_targets

pytestmark = pytest.mark.unit

PACK = rough_pack()
RUN = InvertConfig(num_steps=4, optimizer="adam")


@pytest.fixture
def fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where bfloat16 takes half the time, whatever this one is."""
    monkeypatch.setattr(precision, "faster_precision", lambda _: ("bfloat16", {}))
    monkeypatch.setattr(
        precision._Bench, "_step_s", lambda _, networks, which: 1e-3 if which is Precision.FLOAT32 else 5e-4
    )


def only_trial(pack: Pack = PACK) -> tuple[Precision, Trial]:
    chosen, (trial,) = choose_precision(pack)
    return chosen, trial


def test_what_is_not_faster_is_not_tried_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "faster_precision", lambda _: ("float32", {}))
    chosen, trial = only_trial()
    assert chosen is Precision.FLOAT32
    assert trial.loss_difference is None


@pytest.mark.usefixtures("fast_bfloat16")
def test_what_cannot_be_tried_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Bfloat16Networks:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(precision, "networks_in", broken)
    chosen, trial = only_trial()
    assert chosen is Precision.FLOAT32
    assert "RuntimeError" in trial.verdict


@pytest.mark.usefixtures("fast_bfloat16")
def test_rounding_that_turns_the_gradient_is_refused_before_anything_is_timed() -> None:
    chosen, trial = only_trial()
    assert chosen is Precision.FLOAT32
    assert trial.gradient_difference is not None
    assert trial.gradient_difference > precision.ALLOWED
    assert trial.step_part is None


@pytest.mark.usefixtures("fast_bfloat16")
def test_a_faster_one_is_taken_only_where_the_final_loss_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "networks_in", lambda pack, _: pack)  # rounds nothing
    chosen, trial = only_trial()
    assert chosen is Precision.BFLOAT16
    assert (trial.is_allowed, trial.final_difference, trial.step_part) == (True, 0.0, 0.5)
    final = precision._Bench._final_losses
    monkeypatch.setattr(
        precision._Bench, "_final_losses",
        lambda self, networks, which, steps: final(self, networks, which, steps)
        * (1.0 if which is Precision.FLOAT32 else 1.006),
    )  # fmt: skip
    chosen, trial = only_trial()
    assert chosen is Precision.FLOAT32
    assert trial.final_difference == pytest.approx(0.006, abs=1e-4)
    monkeypatch.setattr(precision, "BUDGET_S", 1.5e-3 * (precision.LEAST_STEPS - 1))
    assert "too long" in only_trial()[1].verdict
    monkeypatch.setattr(precision._Bench, "_step_s", lambda *_: 1.0)
    assert "time" in only_trial()[1].verdict


def test_bfloat16_rounds_and_gives_float32_back() -> None:
    networks, w_BLD = Bfloat16Networks(PACK), PACK.mean_codes(2)
    image_BCHW, exact_BCHW = networks.synthesize(w_BLD), PACK.synthesize(w_BLD)
    assert image_BCHW.dtype == torch.float32
    assert 0 < float((image_BCHW - exact_BCHW).norm() / exact_BCHW.norm()) < 0.05
    features_BCHW = networks.features(exact_BCHW)
    assert 0 < float((features_BCHW - PACK.features(exact_BCHW)).norm() / features_BCHW.norm()) < 0.05
    assert PACK.generator.synthesis.to_rgb.weight.dtype == torch.float32, "the pack stays as it is"
    assert networks.encode(exact_BCHW).dtype == torch.float32


@pytest.mark.parametrize("num_steps", [0, 4])
def test_the_last_step_is_judged_in_float32_whatever_the_others_are(num_steps: int) -> None:
    targets = tiny_targets(3)
    with Engine(EngineConfig(slots=3, precision=Precision.BFLOAT16)) as engine:
        config = replace(RUN, num_steps=num_steps)
        tickets = [engine.submit(Request(pack=PACK, target_CHW=target, config=config)) for target in targets]
        runs = [list(ticket) for ticket in tickets]
    for target, steps in zip(targets, runs, strict=True):
        exact = [float(PACK.loss(PACK.synthesize(step.w_LD[None]), target[None])) for step in steps]
        assert steps[-1].loss == pytest.approx(exact[-1], rel=1e-5)
        torch.testing.assert_close(steps[-1].image_CHW, PACK.synthesize(steps[-1].w_LD[None])[0])
        for step, loss in zip(steps[:-1], exact, strict=False):
            assert step.loss != pytest.approx(loss, rel=1e-6), "it was rounded"
            assert step.loss == pytest.approx(loss, rel=0.05)


def test_detail_is_found_in_bfloat16_too() -> None:
    targets, config = tiny_targets(3), replace(RUN, num_steps=2, detail_steps=4)
    found = []
    for which in (Precision.FLOAT32, Precision.BFLOAT16):
        with Engine(EngineConfig(slots=3, precision=which)) as engine:
            tickets = [engine.submit(Request(pack=PACK, target_CHW=target, config=config)) for target in targets]
            found.append([list(ticket)[-1] for ticket in tickets])
    for exact, ours, target in zip(*found, targets, strict=True):
        judged = float(PACK.loss(PACK.synthesize(ours.latent), target[None]))
        assert ours.loss == pytest.approx(judged, rel=1e-4), "the last Step is judged in float32"
        assert ours.loss == pytest.approx(exact.loss, rel=0.1)


@pytest.mark.usefixtures("fast_bfloat16")
def test_steps_of_detail_are_tried_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "ALLOWED", 0.5)
    _, (trial,) = choose_precision(PACK, 8)
    assert trial.verdict.startswith("a step takes 0.50 of float32's time"), trial.verdict
    assert trial.final_difference is not None
    assert abs(trial.final_difference) < 0.1
    _, (of_w,) = choose_precision(PACK)
    assert of_w.final_difference != trial.final_difference


def test_each_stage_has_a_precision_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def choose(pack: Pack, px: int | None) -> tuple[Precision, list[Trial]]:
        asked.append(px)
        return (Precision.FLOAT32 if px else Precision.BFLOAT16), []

    monkeypatch.setattr("inversion_core.engine.core.choose_precision", choose)
    config = replace(RUN, num_steps=1, detail_steps=1, detail_px=8)
    with Engine(EngineConfig(precision=None)) as engine:
        assert len(list(engine.submit(Request(pack=PACK, target_CHW=tiny_targets(1)[0], config=config)))) == 3
    assert asked == [None, 8]


def test_a_float32_that_fails_costs_no_request() -> None:
    def make(pack: Pack, weight: float, which: Precision) -> Evaluate:
        def failing(*_: object) -> Outcome:
            raise RuntimeError("no memory for the other weights")

        return failing if which is Precision.FLOAT32 else make_step(pack, weight, which)

    with Engine(EngineConfig(precision=Precision.BFLOAT16, make_step=make)) as engine:
        steps = list(engine.submit(Request(pack=PACK, target_CHW=tiny_targets(1)[0], config=RUN)))
    assert [step.index for step in steps] == [0, 1, 2, 3, 4]


def test_a_precision_is_chosen_once_for_each_pack_and_not_where_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    made: list[Precision] = []

    def choose(pack: Pack, px: int | None) -> tuple[Precision, list[Trial]]:
        asked.append(f"{pack.name} {px}")
        return Precision.BFLOAT16, []

    def noted(pack: Pack, weight: float, which: Precision) -> Evaluate:
        made.append(which)
        return make_step(pack, weight, which)

    monkeypatch.setattr("inversion_core.engine.core.choose_precision", choose)
    for wanted in (None, Precision.FLOAT32):
        with Engine(EngineConfig(precision=wanted, make_step=noted)) as engine:
            for weight in (0.0, 2.0):
                config = replace(RUN, regulariser_weight=weight)
                list(engine.submit(Request(pack=PACK, target_CHW=tiny_targets(1)[0], config=config)))
    assert asked == ["tiny None"]
    assert made == [Precision.FLOAT32, Precision.BFLOAT16] * 2 + [Precision.FLOAT32] * 2


def test_a_worker_takes_the_precision_that_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSION_PRECISION", "bfloat16")
    backend = load(WorkerSettings(slots=1, threads=torch.get_num_threads()))
    try:
        assert backend._engine._config.precision is Precision.BFLOAT16
    finally:
        backend.close()
