"""The worker's backend on the engine: jobs beside each other, resumed, rendered and given up."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from inversion_core import InvertConfig, invert
from inversion_core.engine import EngineConfig
from inversion_core.pictures import to_image, to_tensor
from tests.tiny import rough_pack
from worker.__main__ import settings
from worker.contract import JobOptions, Priority
from worker.core_backend import CoreBackend
from worker.errors import JobRefused

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
    together = list(zip(*(job.steps(None) for job in jobs), strict=True))
    assert len(together) == 7
    for position, job in enumerate(jobs):
        expected = list(invert(PACK, to_tensor(job.aligned), InvertConfig(num_steps=6, optimizer="adam")))
        for steps, theirs in zip(together, expected, strict=True):
            np.testing.assert_allclose(steps[position].code(), theirs.w_BLD[0].numpy(), rtol=1e-3, atol=1e-4)
            difference = np.abs(np.int16(steps[position].image()) - np.int16(to_image(theirs.image_BCHW)))
            assert difference.max() <= 1


def test_a_job_goes_on_from_its_checkpoint_and_a_code_is_rendered(backend: CoreBackend) -> None:
    job = backend.prepare(photo(0), JobOptions(steps=5, align=False))
    whole = list(job.steps(None))
    rest = list(job.steps(whole[2].checkpoint()))
    assert [step.index for step in rest] == [2, 3, 4, 5]
    np.testing.assert_allclose(rest[-1].code(), whole[-1].code(), rtol=1e-3, atol=1e-4)
    rendered = np.int16(job.render(whole[3].code()))
    assert np.abs(rendered - np.int16(whole[3].image())).max() <= 1


def test_the_engine_puts_the_more_urgent_first(backend: CoreBackend) -> None:
    kinds = ("low", "normal", "high")
    jobs = [backend.prepare(photo(0), JobOptions(align=False, priority=Priority(kind))) for kind in kinds]
    low, normal, high = (job._request(None).priority for job in jobs)
    assert low < normal < high


def test_a_job_that_is_given_up_leaves_its_place(backend: CoreBackend) -> None:
    for seed in range(6):  # three times as many as there are places
        steps = iter(backend.prepare(photo(seed), JobOptions(steps=1000, align=False)).steps(None))
        next(steps)
        steps.close()  # type: ignore[attr-defined]
    assert [step.index for step in backend.prepare(photo(0), JobOptions(steps=1, align=False)).steps(None)] == [0, 1]


def test_what_the_pack_cannot_do_is_refused(backend: CoreBackend) -> None:
    job = backend.prepare(photo(0), JobOptions(optimizer="newton", align=False))
    with pytest.raises(JobRefused):
        next(iter(job.steps(None)))


def test_concurrency_is_the_number_of_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVERSION_SLOTS", raising=False)
    assert settings([]).slots is None
    monkeypatch.setenv("INVERSION_SLOTS", "3")
    assert settings([]).slots == 3
    assert settings(["--concurrency", "5"]).slots == 5


def test_a_step_can_be_read_later_from_any_thread(backend: CoreBackend) -> None:
    steps = list(backend.prepare(photo(1), JobOptions(steps=3, align=False, frame_every=2)).steps(None))
    for step in steps:
        with torch.no_grad():
            again = to_image(PACK.synthesize(torch.from_numpy(step.code())[None]))
        assert np.abs(np.int16(again) - np.int16(step.image())).max() <= 1
