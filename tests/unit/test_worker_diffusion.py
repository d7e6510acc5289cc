"""A diffusion as a job of the library, on a tiny pack: what is inverted is the mix, and the face's part of it counts."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import rough_pack

from inversion_worker.backend import Extras
from inversion_worker.contract import DiffusionRecord, JobOptions
from inversion_worker.core_backend import CoreBackend
from inversion_worker.errors import JobRefused

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def backend() -> Iterator[CoreBackend]:
    backend = CoreBackend({"tiny": rough_pack()}, "tiny", "cpu")
    yield backend
    backend.close()


def photo(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


def prepared(backend: CoreBackend, **spec: Any) -> Any:
    diffusion = DiffusionRecord.model_validate({"face_align": False, **spec})
    extras = Extras(diffusion=diffusion, face=photo("red"))
    return backend.prepare(photo("blue"), JobOptions(align=False, steps=2), extras)


def test_the_mix_is_inverted_and_each_part_counts_as_asked(backend: CoreBackend) -> None:
    box = {"box": [0.25, 0.25, 0.75, 0.75], "feather": 0.0}
    job = prepared(backend, mask=box, weight=0.5, ring=0.1)
    pixels = np.asarray(job.aligned)
    assert (pixels[8, 8] == (255, 0, 0)).all()
    assert (pixels[0, 0] == (0, 0, 255)).all()
    weights = job.mask_HW.numpy()
    assert (weights[8, 8], weights[0, 0]) == (1, 0.5)
    assert weights[8, 3] < 0.5  # the free ring
    assert [step.index for step in job.steps()][-1] >= 2


def test_by_default_it_is_the_middle_of_the_face(backend: CoreBackend) -> None:
    weights = prepared(backend, weight=0).mask_HW.numpy()
    assert (weights[9, 8], weights[0, 0]) == (pytest.approx(1), 0)


def test_a_photo_without_a_face_is_refused(backend: CoreBackend) -> None:
    extras = Extras(diffusion=DiffusionRecord(), face=photo("red"))
    with pytest.raises(JobRefused) as refusal:
        backend.prepare(photo("blue"), JobOptions(align=False), extras)
    assert refusal.value.problem.type == "/problems/no-face-found"
