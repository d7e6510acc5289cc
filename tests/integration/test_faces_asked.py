"""POST /v1/faces over HTTP, with a real API process, a real Valkey and worker processes."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from api_process import ApiProcess
from PIL import Image
from worker_process import StartWorker, stored_in

from inversion_worker.settings import WorkerSettings

pytestmark = pytest.mark.integration


@pytest.fixture
def api(settings: WorkerSettings, tmp_path: Path) -> Iterator[ApiProcess]:
    place = {"INVERSION_REDIS_URL": settings.redis_url, "INVERSION_ARTIFACTS_URL": settings.artifacts_url}
    api = ApiProcess(place | {"INVERSION_LOOK_TIMEOUT_S": 2}, tmp_path / "api.log")
    api.wait_ready()
    yield api
    api.kill()


def noise(size: tuple[int, int]) -> bytes:
    """Two faces, to the fake worker, where it is twice as wide as high."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def look(api: ApiProcess, photo: bytes) -> httpx.Response:
    return httpx.post(f"{api.url}/v1/faces", files={"image": ("a.png", photo)}, timeout=30)


def submit(api: ApiProcess, photo: bytes, **fields: Any) -> httpx.Response:
    return httpx.post(f"{api.url}/v1/inversions", files={"image": ("a.png", photo)}, data=fields, timeout=30)


def test_without_a_worker_it_is_refused_and_with_one_it_goes_before_every_job(
    api: ApiProcess, start_worker: StartWorker, artifacts_dir: Path
) -> None:
    answer = look(api, noise((64, 64)))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/no-worker-answers")
    assert answer.headers["retry-after"] == "2"
    jobs = [submit(api, noise((64, 64)), face=1).json()["id"]]  # an upload is taken all the same
    start_worker(FAKE_STEP_S=1, INVERSION_SLOTS=1)
    jobs += [submit(api, noise((64, 64)), steps=900).json()["id"] for _ in range(2)]
    for size in ((128, 64), (1000, 500)):  # the second has 1.5 MB
        answer = look(api, noise(size))
        assert answer.status_code == 200, answer.text
        assert answer.json()["photo"] == {"width": size[0], "height": size[1]}
        assert [face["box"][0] for face in answer.json()["faces"]] == [0, size[0] / 2]
    assert stored_in(artifacts_dir) == sorted(jobs)
    assert httpx.get(f"{api.url}/v1/usage").json()["total"]["looked"] == 2


def test_a_worker_that_dies_with_the_photo_costs_the_deadline_and_an_upload_less(
    api: ApiProcess, start_worker: StartWorker
) -> None:
    worker = start_worker(FAKE_LOOK_S=60)
    killer = threading.Timer(0.5, worker.kill)
    killer.start()
    began = time.monotonic()
    answer = look(api, noise((64, 64)))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/no-worker-answers")
    assert time.monotonic() - began < 5
    killer.join()
    assert submit(api, noise((64, 64)), face=1).status_code == 202
