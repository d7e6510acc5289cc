"""Workers that are killed, stopped or too late: no job is lost, none is done twice."""

from __future__ import annotations

import re
import time

import anyio
import pytest
from worker_process import StartWorker, at_step, finished, follow, record_of, result, until

from inversion_worker import broker
from inversion_worker.client import JobClient
from inversion_worker.contract import (
    MAX_ATTEMPTS,
    FrameReady,
    JobOptions,
    JobStarted,
    JobStatus,
)

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

OPTIONS = JobOptions(steps=150, frame_every=5, seed=3)
SLOW_S = 0.05
"""Makes a job of 150 steps last 7.5 s: long enough to be interrupted."""


async def test_a_killed_workers_job_goes_on_from_its_checkpoint(
    client: JobClient, start_worker: StartWorker, photo: bytes
) -> None:
    first = start_worker(FAKE_STEP_S=SLOW_S)
    job = await client.submit(photo, OPTIONS)
    await at_step(client, job.id, 20)
    second = start_worker()
    at_least = (await record_of(client, job.id)).step
    first.kill()
    killed_at = time.monotonic()
    await until(client, job.id, lambda record: record.attempts == 2)
    assert time.monotonic() - killed_at < 12  # a lease of 5 s, a look a second: 6 s on an idle machine

    events = await follow(client, job.id)
    frames = [event.step for event in events if isinstance(event, FrameReady)]
    assert frames == sorted(set(frames)) == (await record_of(client, job.id)).frames
    assert [event.attempt for event in events if isinstance(event, JobStarted)] == [1, 2]
    (resumed_at,) = re.findall(rf"resuming job={job.id} step=(\d+)", second.said)
    assert at_least is not None
    assert int(resumed_at) > at_least - 1.2 / SLOW_S  # a second's work at most is done again

    undisturbed = await client.submit(photo, OPTIONS)
    assert await result(client, job.id) == await result(client, undisturbed.id)


async def test_a_stopped_worker_hands_its_job_back_at_once(
    client: JobClient, start_worker: StartWorker, photo: bytes
) -> None:
    first = start_worker(FAKE_STEP_S=SLOW_S)
    job = await client.submit(photo, OPTIONS)
    await at_step(client, job.id, 20)
    second = start_worker(INVERSION_REAPER_S=60)  # so that it is the message alone that tells it
    stopped_at = await record_of(client, job.id)
    began = time.monotonic()
    assert first.stop() == 0
    assert time.monotonic() - began < 10  # about a second on an idle machine

    record = await finished(client, job.id)
    assert record.attempts == 1
    (resumed_at,) = re.findall(rf"resuming job={job.id} step=(\d+)", second.said)
    assert stopped_at.step is not None
    assert int(resumed_at) >= stopped_at.step  # nothing is done again

    undisturbed = await client.submit(photo, OPTIONS)
    assert await result(client, job.id) == await result(client, undisturbed.id)


async def test_a_stop_within_a_long_step_hands_back_too(
    client: JobClient, start_worker: StartWorker, photo: bytes
) -> None:
    worker = start_worker(FAKE_STEP_S=6)
    job = await client.submit(photo, OPTIONS)
    await at_step(client, job.id, 0)
    began = time.monotonic()
    worker.send_stop()
    record = await until(client, job.id, lambda record: record.status is JobStatus.QUEUED)
    assert time.monotonic() - began < 5.5  # before the Step of 6 s is over
    assert record.attempts == 0


async def test_a_job_whose_workers_keep_dying_fails(client: JobClient, start_worker: StartWorker, photo: bytes) -> None:
    job = await client.submit(photo, JobOptions(steps=1000))
    for attempt in range(1, MAX_ATTEMPTS + 1):
        worker = start_worker(FAKE_STEP_S=SLOW_S, INVERSION_LEASE_TTL_S=1, INVERSION_LEASE_RENEW_S=0.2)
        await until(client, job.id, lambda record, attempt=attempt: record.attempts == attempt)
        worker.kill()
    start_worker()
    record = await finished(client, job.id)
    assert (record.status, record.attempts) == (JobStatus.FAILED, MAX_ATTEMPTS)
    assert record.error is not None
    assert record.error.type == "/problems/worker-lost"


async def test_a_second_delivery_of_a_running_job_changes_nothing(
    client: JobClient, start_worker: StartWorker, photo: bytes
) -> None:
    workers = [start_worker(FAKE_STEP_S=SLOW_S), start_worker(FAKE_STEP_S=SLOW_S)]
    job = await client.submit(photo, JobOptions(steps=30))
    await at_step(client, job.id, 5)
    for _ in range(3):
        broker.send(client._celery, job.id)
    events = await follow(client, job.id)
    assert len([event for event in events if isinstance(event, JobStarted)]) == 1
    assert (await record_of(client, job.id)).attempts == 1
    assert "".join(worker.said for worker in workers).count(f"nothing to do job={job.id}") >= 1


async def test_a_job_whose_message_vanished_runs_all_the_same(
    client: JobClient, start_worker: StartWorker, photo: bytes
) -> None:
    jobs = [await client.submit(photo, JobOptions(steps=1)) for _ in range(3)]
    assert [await client.queue_position(job.id) for job in jobs] == [0, 1, 2]
    removed = await client._redis.delete(broker.QUEUE)
    assert removed == 1
    start_worker()
    for job in jobs:
        assert (await finished(client, job.id)).status is JobStatus.SUCCEEDED


async def test_workers_are_announced_while_they_live(client: JobClient, start_worker: StartWorker) -> None:
    stopped, killed = start_worker(), start_worker(INVERSION_ANNOUNCE_TTL_S=1, INVERSION_ANNOUNCE_S=0.3)
    with anyio.fail_after(10):
        while len(await client.workers()) < 2:
            await anyio.sleep(0.02)
    assert {pack.name for worker in await client.workers() for pack in worker.packs} == {"fake-32"}
    stopped.stop()
    assert len(await client.workers()) == 1
    killed.kill()
    with anyio.fail_after(10):
        while await client.workers():
            await anyio.sleep(0.02)
