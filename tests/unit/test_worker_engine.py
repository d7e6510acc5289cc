"""The worker's backend on the engine: jobs beside each other, resumed, rendered and given up."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inversion_core import InvertConfig, invert
from inversion_core import options as core_options
from inversion_core.engine import EngineConfig
from inversion_core.pictures import to_image, to_tensor
from inversion_worker.backend import NOTHING, Before
from inversion_worker.contract import JobOptions, Priority, StopReason, options
from inversion_worker.core_backend import CoreBackend
from inversion_worker.errors import JobRefused
from inversion_worker.program import settings
from tests.tiny import rough_pack

pytestmark = pytest.mark.unit

PACK = rough_pack()


@pytest.fixture
def backend() -> Iterator[CoreBackend]:
    backend = CoreBackend({"tiny": PACK}, "tiny", "cpu", EngineConfig(slots=2, steps_ahead=2))
    yield backend
    backend.close()


def photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_jobs_beside_each_other_get_their_own_steps(backend: CoreBackend) -> None:
    options = JobOptions(steps=6, align=False, frame_every=4)
    jobs = [backend.prepare(photo(seed), options) for seed in range(2)]
    together = list(zip(*(job.steps() for job in jobs), strict=True))
    assert len(together) == 7
    for position, job in enumerate(jobs):
        expected = list(invert(PACK, to_tensor(job.aligned), InvertConfig(num_steps=6, optimizer="adam")))
        for steps, theirs in zip(together, expected, strict=True):
            np.testing.assert_allclose(steps[position].code().w_LD, theirs.w_BLD[0].numpy(), rtol=1e-3, atol=1e-4)
            difference = np.abs(np.int16(steps[position].image()) - np.int16(to_image(theirs.image_BCHW)))
            assert difference.max() <= 1


def test_a_job_that_names_no_optimizer_gets_the_packs_own() -> None:
    pack = PACK.changed(default_optimizer="lbfgs")
    with closing(CoreBackend({"tiny": pack}, "tiny", "cpu", EngineConfig(slots=1))) as backend:
        (info,) = backend.packs()
        assert info.default_optimizer == "lbfgs"
        own, named, other = (
            [step.loss for step in backend.prepare(photo(0), JobOptions(steps=3, align=False, optimizer=name)).steps()]
            for name in (None, "lbfgs", "sgd")
        )
        assert own == named != other


def test_a_job_that_names_no_focus_gets_the_packs_own() -> None:
    assert options.MAX_FOCUS == core_options.MAX_FOCUS
    with closing(CoreBackend({"tiny": PACK.changed(focus=6.0)}, "tiny", "cpu", EngineConfig(slots=1))) as backend:
        (info,) = backend.packs()
        assert info.focus == 6
        own, named, off = (
            [step.loss for step in backend.prepare(photo(0), JobOptions(steps=2, align=False, focus=focus)).steps()]
            for focus in (None, 6, 0)
        )
        assert own == named != off


def test_a_job_goes_on_from_its_checkpoint_and_a_code_is_rendered(backend: CoreBackend) -> None:
    job = backend.prepare(photo(0), JobOptions(steps=5, align=False))
    whole = list(job.steps())
    rest = list(job.steps(Before(checkpoint=whole[2].checkpoint())))
    assert [step.index for step in rest] == [2, 3, 4, 5]
    np.testing.assert_allclose(rest[-1].code().w_LD, whole[-1].code().w_LD, rtol=1e-3, atol=1e-4)
    rendered = np.int16(job.render(whole[3].code()))
    assert np.abs(rendered - np.int16(whole[3].image())).max() <= 1


def test_the_engine_puts_the_more_urgent_first(backend: CoreBackend) -> None:
    kinds = ("low", "normal", "high")
    jobs = [backend.prepare(photo(0), JobOptions(align=False, priority=Priority(kind))) for kind in kinds]
    low, normal, high = (job._request(NOTHING).priority for job in jobs)
    assert low < normal < high


def test_each_rule_ends_a_job_at_its_step(backend: CoreBackend) -> None:
    def steps_of(before: Before = NOTHING, **options: Any) -> list[tuple[int, StopReason | None]]:
        job = backend.prepare(photo(0), JobOptions(align=False, **options))
        return [(step.index, step.stopped_by) for step in job.steps(before)]

    assert steps_of(steps=1) == [(0, None), (1, StopReason.STEPS)]
    assert steps_of(steps=1, target_loss=1e9) == [(0, StopReason.TARGET_LOSS)]
    assert steps_of(Before(seconds=60), max_seconds=60) == [(0, StopReason.MAX_SECONDS)]
    ended = steps_of(optimizer="adam", steps=1000, plateau_steps=3)
    assert ended[-1][1] is StopReason.PLATEAU
    assert 3 <= ended[-1][0] < 1000


def test_the_plateau_goes_on_from_an_earlier_attempt(backend: CoreBackend) -> None:
    job = backend.prepare(photo(0), JobOptions(steps=9, align=False, plateau_steps=4))
    begun = next(iter(job.steps()))
    fallen = [(step, 1e-6) for step in range(3)]  # no Step comes below: the fourth after the first of them is the end
    rest = list(job.steps(Before(checkpoint=begun.checkpoint(), losses=fallen)))
    assert [step.index for step in rest] == [0, 1, 2, 3, 4]
    assert rest[-1].stopped_by is StopReason.PLATEAU


def test_a_job_that_is_given_up_leaves_its_place(backend: CoreBackend) -> None:
    for seed in range(6):  # three times as many as there are places
        steps = iter(backend.prepare(photo(seed), JobOptions(steps=1000, align=False)).steps())
        next(steps)
        steps.close()  # type: ignore[attr-defined]
    assert [step.index for step in backend.prepare(photo(0), JobOptions(steps=1, align=False)).steps()] == [0, 1]


def test_what_the_pack_cannot_do_is_refused(backend: CoreBackend) -> None:
    job = backend.prepare(photo(0), JobOptions(optimizer="newton", align=False))
    with pytest.raises(JobRefused):
        next(iter(job.steps()))


def test_concurrency_is_the_number_of_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVERSION_SLOTS", raising=False)
    assert settings([]).slots is None
    monkeypatch.setenv("INVERSION_SLOTS", "3")
    assert settings([]).slots == 3
    assert settings(["--concurrency", "5"]).slots == 5


def test_a_step_can_be_read_later_from_any_thread(backend: CoreBackend) -> None:
    steps = list(backend.prepare(photo(1), JobOptions(steps=3, align=False, frame_every=2)).steps())
    for step in steps:
        with torch.no_grad():
            again = to_image(PACK.synthesize(torch.from_numpy(step.code().w_LD)[None]))
        assert np.abs(np.int16(again) - np.int16(step.image())).max() <= 1
