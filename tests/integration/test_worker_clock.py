"""Hosts whose clocks are days off: nothing is deleted early, nothing is late, and every time is the server's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from worker_process import StartWorker, finished

from inversion_worker.client import JobClient
from inversion_worker.contract import JobOptions, JobStatus
from inversion_worker.settings import WorkerSettings

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SHIFTED = Path(__file__).parents[1] / "shifted_clock.py"
CLIENT = Path(__file__).with_name("shifted_client.py")


def shifted_client(settings: WorkerSettings, days: float) -> dict[str, Any]:
    """What shifted_client.py prints in a process whose clock is so many days off."""
    place = {"INVERSION_REDIS_URL": settings.redis_url, "INVERSION_ARTIFACTS_URL": settings.artifacts_url}
    command = [sys.executable, str(SHIFTED), str(days), str(CLIENT)]
    done = subprocess.run(command, env=os.environ | place, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("days", [-2, 2])
async def test_a_client_two_days_off(client: JobClient, settings: WorkerSettings, days: float) -> None:
    before = [await client.submit(b"photo", JobOptions(ttl=60)) for _ in range(2)]
    await client.cancel(before[0].id)  # from now on it is kept for a minute
    said = shifted_client(settings, days)
    for job_id in (before[0].id, before[1].id, said["id"]):
        assert await client.get(job_id) is not None, "its sweep deleted what was not over"
        assert await client.read(f"{job_id}/photo") == b"photo"
    assert abs(datetime.fromisoformat(said["made"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert said["listed"] == [said["id"], before[1].id, before[0].id]  # newest first
    assert said["used"] == 3  # today
    assert [await client.queue_position(job_id) for job_id in (before[1].id, said["id"])] == [0, 1]


@pytest.mark.parametrize("days", [-2, 2])
async def test_a_worker_two_days_off(
    client: JobClient, start_worker: StartWorker, photo: bytes, settings: WorkerSettings, days: float
) -> None:
    waiting = await client.submit(photo, JobOptions(steps=3))
    start_worker(shifted_days=days, INVERSION_SWEEP_S=0.2)
    record = await finished(client, waiting.id)
    assert record.status is JobStatus.SUCCEEDED
    for time in (record.started_at, record.finished_at):
        assert time is not None
        assert abs(time - datetime.now(UTC)) < timedelta(minutes=5)
    left = record.expires_at - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    await anyio.sleep(0.7)  # a few sweeps
    assert await client.get(waiting.id) == record
    assert await client.read(f"{waiting.id}/latents.npy") is not None
