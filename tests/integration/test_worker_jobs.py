"""Jobs from upload to end, with one worker that lives."""

from __future__ import annotations

import io
import time
from pathlib import Path

import anyio
import numpy as np
import pytest
from PIL import Image
from worker_process import StartWorker, at_step, finished, follow, own_folder, read, stored_in, until

from inversion_worker import broker
from inversion_worker.client import JobClient
from inversion_worker.contract import (
    ArtifactKey,
    FrameReady,
    JobDeleted,
    JobDone,
    JobFailed,
    JobOptions,
    JobQueued,
    JobStarted,
    JobStatus,
    Priority,
    StopReason,
)
from inversion_worker.settings import WorkerSettings

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


def files(artifacts_dir: Path, job_id: str) -> list[str]:
    folder = own_folder(artifacts_dir) / job_id
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_a_photo_becomes_frames_picture_and_code(
    client: JobClient, start_worker: StartWorker, photo: bytes, artifacts_dir: Path
) -> None:
    submitted = await client.submit(photo, JobOptions(steps=12, frame_every=5))
    assert submitted.status is JobStatus.QUEUED
    assert await client.queue_position(submitted.id) == 0
    start_worker()

    events = await follow(client, submitted.id)
    record = await client.get(submitted.id)

    assert record is not None
    assert isinstance(events[0], JobQueued)
    assert events[1] == JobStarted(attempt=1, steps=12, aligned_key=ArtifactKey.aligned(record.id))
    frames = [event for event in events if isinstance(event, FrameReady)]
    assert [frame.step for frame in frames] == record.frames == [0, 5, 10, 12]
    losses = [frame.loss for frame in frames]
    assert losses == sorted(losses, reverse=True)
    assert events[-1] == JobDone(step=12, loss=losses[-1])
    assert (record.status, record.attempts, record.step, record.best_step) == (JobStatus.SUCCEEDED, 1, 12, 12)
    assert (record.pack_name, record.pack_version) == ("fake-32", "1.0.0")
    assert record.face is not None
    assert record.face.found == 1
    assert record.seconds is not None
    assert record.seconds > 0
    assert record.started_at is not None
    assert record.finished_at is not None
    assert record.created_at <= record.started_at <= record.finished_at
    assert await client.queue_position(record.id) is None

    code = np.load(io.BytesIO(await read(client, ArtifactKey.latents(record.id))), allow_pickle=False)
    assert (code.dtype, code.shape) == (np.float32, (4, 8))
    for frame in frames:
        assert Image.open(io.BytesIO(await read(client, frame.frame_key))).format == "WEBP"
    assert Image.open(io.BytesIO(await read(client, ArtifactKey.image(record.id)))).size == (32, 32)
    assert Image.open(io.BytesIO(await read(client, ArtifactKey.aligned(record.id)))).size == (64, 64)
    assert files(artifacts_dir, record.id) == [
        "aligned.png",
        *(f"frames/{step:06d}.webp" for step in record.frames),
        "image.png",
        "latents.npy",
        "metrics.npy",
        "pasted.jpg",
        "photo",
    ]

    await another_delivery_changes_nothing(client, record.id)
    await events_can_be_taken_up_anywhere(client, record.id)


async def test_the_line_decides_and_not_the_order_of_the_messages(
    client: JobClient, start_worker: StartWorker, photo: bytes
) -> None:
    order = [Priority.LOW, Priority.NORMAL, Priority.HIGH]
    jobs = [await client.submit(photo, JobOptions(steps=0, priority=priority)) for priority in order]
    start_worker()
    records = [await finished(client, job.id) for job in jobs]
    started = [record.started_at for record in records if record.started_at]
    assert len(started) == 3
    assert started == sorted(started, reverse=True)


async def another_delivery_changes_nothing(client: JobClient, job_id: str) -> None:
    """The message of a finished job comes once more, and then a job behind it runs."""
    before = await client.get(job_id)
    broker.send(client._celery, job_id)
    following = await client.submit(await read(client, ArtifactKey.photo(job_id)), JobOptions(steps=0))
    assert (await finished(client, following.id)).frames == [0]
    assert await client.get(job_id) == before


async def events_can_be_taken_up_anywhere(client: JobClient, job_id: str) -> None:
    """A reader that comes back with the last id it saw misses nothing and gets nothing twice."""
    every = [pair async for pair in client.events(job_id)]
    for index, (event_id, _) in enumerate(every):
        assert [pair async for pair in client.events(job_id, event_id)] == every[index + 1 :]
    assert [pair async for pair in client.events(job_id, "no event id")] == every


async def test_a_failure_says_what_to_do_and_tells_no_internals(
    client: JobClient, start_worker: StartWorker, photo: bytes, plain_photo: bytes
) -> None:
    faceless = await client.submit(plain_photo, JobOptions(steps=1))
    broken = await client.submit(photo, JobOptions(optimizer="broken"))
    diverging = await client.submit(photo, JobOptions(optimizer="diverging", steps=8, frame_every=1))
    start_worker()

    record = await finished(client, faceless.id)
    assert record.status is JobStatus.FAILED
    assert record.error is not None
    assert (record.error.type, record.error.status) == ("/problems/no-face-found", 422)

    events = await follow(client, broken.id)
    record = await finished(client, broken.id)
    assert record.error is not None
    assert events[-1] == JobFailed(error=record.error)
    assert (record.error.type, record.error.status) == ("/problems/internal", 500)
    assert "secret" not in record.model_dump_json()

    record = await finished(client, diverging.id)
    assert record.loss is None
    assert (record.status, record.best_step, record.frames) == (JobStatus.SUCCEEDED, 3, [0, 1, 2, 3])


async def test_cancel_stops_queued_and_running_jobs_and_nothing_else(
    client: JobClient, start_worker: StartWorker, photo: bytes, artifacts_dir: Path
) -> None:
    queued = await client.submit(photo, JobOptions())
    canceled = await client.cancel(queued.id)
    assert canceled is not None
    assert canceled.status is JobStatus.CANCELED
    assert canceled.finished_at is not None

    running = await client.submit(photo, JobOptions(steps=1000))
    start_worker(FAKE_STEP_S=0.02)
    await at_step(client, running.id, 40)
    began = time.monotonic()
    assert await client.cancel(running.id) is not None
    record = await finished(client, running.id)
    assert time.monotonic() - began < 5
    assert record.status is JobStatus.CANCELED
    assert record.step is not None
    assert record.step < 1000
    found = await client.found(running.id)
    assert found is not None
    assert found.step == record.result_step == record.best_step
    assert record.step - 1 <= found.step <= record.step
    with anyio.fail_after(5):  # the worker tidies up right after the end
        while "checkpoint.safetensors" in files(artifacts_dir, running.id):
            await anyio.sleep(0.01)

    assert await client.cancel(running.id) == record
    assert await client.get(queued.id) == canceled
    assert await client.cancel("0" * 32) is None


async def test_good_enough_ends_a_running_job_with_its_best_code(
    client: JobClient, start_worker: StartWorker, photo: bytes
) -> None:
    job = await client.submit(photo, JobOptions(steps=1000))
    start_worker(FAKE_STEP_S=0.02)
    await until(client, job.id, lambda record: record.result_step is not None)
    found = await client.found(job.id)
    assert found is not None
    assert found.code.shape == (4, 8)
    began = time.monotonic()
    running = await client.finish(job.id)
    assert running is not None
    assert running.status is JobStatus.RUNNING
    record = await finished(client, job.id)
    assert time.monotonic() - began < 5
    assert (record.status, record.stopped_by) == (JobStatus.SUCCEEDED, StopReason.REQUEST)
    assert record.result_step == record.best_step
    assert record.best_step is not None
    assert found.step <= record.best_step < 1000
    assert await client.finish(job.id) == record
    assert await client.finish("0" * 32) is None


async def test_a_deleted_job_leaves_nothing_behind(
    client: JobClient, start_worker: StartWorker, photo: bytes, artifacts_dir: Path
) -> None:
    start_worker(FAKE_STEP_S=0.005)
    for step in (0, 7, 150):  # while frames are being written as fast as can be
        job = await client.submit(photo, JobOptions(steps=1000, frame_every=1))
        await at_step(client, job.id, step)
        assert await client.delete(job.id)
        assert await follow(client, job.id) == [JobDeleted()]
        assert await client.get(job.id) is None
        assert not await client.delete(job.id)

    last = await client.submit(photo, JobOptions(steps=0))
    await finished(client, last.id)  # the worker is done with the others
    assert stored_in(artifacts_dir) == [last.id]
    assert await client._redis.keys("inversion:*:" + job.id) == [f"inversion:events:{job.id}"]  # that says so


async def test_a_file_without_room_costs_itself_alone_and_leaves_no_part(
    client: JobClient, start_worker: StartWorker, large_photo: bytes, photo: bytes, artifacts_dir: Path
) -> None:
    start_worker(FAKE_FILE_LIMIT_BYTES=100_000)
    too_large = await client.submit(large_photo, JobOptions(steps=1))
    record = await finished(client, too_large.id)
    assert record.status is JobStatus.SUCCEEDED  # the code is small
    assert [missing.result for missing in record.missing] == ["aligned"]
    assert not [name for name in files(artifacts_dir, record.id) if "aligned" in name or name.endswith(".part")]

    small = await client.submit(photo, JobOptions(steps=1))
    assert (await finished(client, small.id)).status is JobStatus.SUCCEEDED


async def test_what_expires_is_gone_altogether(
    settings: WorkerSettings, start_worker: StartWorker, photo: bytes, artifacts_dir: Path
) -> None:
    client = JobClient.from_settings(settings.model_copy(update={"ttl_s": 2.0, "unfinished_ttl_s": 6.0}))
    start_worker(INVERSION_SWEEP_S=0.3, FAKE_STEP_S=0.02)
    done = await client.submit(photo, JobOptions(steps=1))
    running = await client.submit(photo, JobOptions(steps=1000))
    await at_step(client, running.id, 1)
    with anyio.fail_after(30):
        while stored_in(artifacts_dir):
            await anyio.sleep(0.05)
    assert await client.get(done.id) is None
    assert await client.get(running.id) is None
    await anyio.sleep(0.3)  # the worker may have been in the middle of a write
    assert not stored_in(artifacts_dir)
    with anyio.fail_after(10):
        while await client._redis.zcard("inversion:expiry"):  # the last that goes
            await anyio.sleep(0.05)
    names = set(await client._redis.keys("inversion:*"))
    kept = {name.split(":")[1] for name in names}
    assert kept <= {
        "worker",
        "workers",
        "meters",
        "line",
        "totals",
        "usage",
        "known",
        "events",
        "index",
        "owner",
        "answering",
    }
    assert await client._redis.zrange("inversion:index:", 0, -1) in ([], [done.id])  # the id alone
    tombstones = [name for name in names if name.startswith("inversion:known:")]
    assert [await client._redis.get(name) for name in tombstones] == ["", ""]  # they hold the id alone
    await client.close()


async def test_two_slots_run_two_jobs_at_once(client: JobClient, start_worker: StartWorker, photo: bytes) -> None:
    start_worker(INVERSION_SLOTS=2, FAKE_STEP_S=0.02)
    jobs = [await client.submit(photo, JobOptions(steps=1000)) for _ in range(3)]
    for job in jobs[:2]:
        assert (await at_step(client, job.id, 5)).status is JobStatus.RUNNING
    assert await client.queue_position(jobs[2].id) == 0
    await client.cancel(jobs[0].id)
    await until(client, jobs[2].id, lambda record: record.status is JobStatus.RUNNING)
