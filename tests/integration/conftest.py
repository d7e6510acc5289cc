"""A real Valkey, real worker processes and real files, all of their own for each test."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from worker_process import FAKE_WORKER, REAL_WORKER, StartWorker, WorkerProcess

from inversion_worker.client import JobClient
from inversion_worker.settings import WorkerSettings
from inversion_worker.valkey import EmbeddedValkey


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run in asyncio, as the service does."""
    return "asyncio"


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey server that only this test knows."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def artifacts_dir(tmp_path: Path) -> Path:
    """The folder of the artifact store; one folder in it for each job."""
    path = tmp_path / "artifacts"
    path.mkdir()
    return path


@pytest.fixture
def settings(valkey: EmbeddedValkey, artifacts_dir: Path) -> WorkerSettings:
    """Settings for that server and folder, everything else as shipped."""
    return WorkerSettings(redis_url=valkey.url, artifacts_url=f"file://{artifacts_dir}")


@pytest.fixture
async def client(settings: WorkerSettings, anyio_backend: str) -> AsyncIterator[JobClient]:
    """A client of that server and folder."""
    client = JobClient.from_settings(settings)
    yield client
    await client.close()


@pytest.fixture
def start_worker(settings: WorkerSettings, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts worker processes; see `worker_process.StartWorker`. What still runs when the test ends is killed."""
    started: list[WorkerProcess] = []

    def start(*, real: bool = False, ready: bool = True, shifted_days: float = 0, **env: object) -> WorkerProcess:
        place = {"INVERSION_REDIS_URL": settings.redis_url, "INVERSION_ARTIFACTS_URL": settings.artifacts_url}
        place["INVERSION_LOG_LEVEL"] = "INFO"  # by which they are known to be ready
        place["INVERSION_NICENESS"] = "0"  # tests share their machine, and have to end
        variables = {**os.environ, **place, **{name: str(value) for name, value in env.items()}}
        log = tmp_path / f"worker-{len(started)}.log"
        command = REAL_WORKER if real else FAKE_WORKER
        if shifted_days:
            command = [str(Path(__file__).parents[1] / "shifted_clock.py"), str(shifted_days), *command]
        started.append(WorkerProcess(command, variables, log))
        if ready:
            started[-1].wait_ready()
        return started[-1]

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
def photo() -> bytes:
    """A PNG of 64 x 64 px noise: the fake worker finds a face in anything but one plain colour."""
    return noise_png(64)


@pytest.fixture
def large_photo() -> bytes:
    """As `photo`, 400 x 400 px, about 480 kB."""
    return noise_png(400)


@pytest.fixture
def plain_photo() -> bytes:
    """64 x 64 px of white: no worker finds a face in it."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(buffer, "PNG")
    return buffer.getvalue()


def noise_png(side_px: int) -> bytes:
    """A picture that no compression makes smaller."""
    pixels = np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
