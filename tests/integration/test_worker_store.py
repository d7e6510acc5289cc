"""Who may write what to a job's record, on a real Valkey without any worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from inversion_worker.client import JobClient
from inversion_worker.contract import (
    MAX_ATTEMPTS,
    FrameReady,
    JobCanceled,
    JobDone,
    JobEvent,
    JobFailed,
    JobOptions,
    JobQueued,
    JobStatus,
)
from inversion_worker.errors import LeaseLost, StorageFull
from inversion_worker.problems import INTERNAL, WORKER_LOST
from inversion_worker.settings import WorkerSettings
from inversion_worker.store import JobStore
from inversion_worker.transitions import Asked, Lease

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

NO_TIME_S = 0.001
"""A lease that has ended as soon as it is given."""


@pytest.fixture
def store(settings: WorkerSettings) -> Iterator[JobStore]:
    store = JobStore.from_url(settings.redis_url, lease_ttl_s=30)
    yield store
    store.close()


@pytest.fixture
def silent(settings: WorkerSettings) -> Iterator[JobStore]:
    """The store of a worker that is lost the moment it has claimed a job."""
    store = JobStore.from_url(settings.redis_url, NO_TIME_S)
    yield store
    store.close()


async def submit(client: JobClient) -> str:
    return (await client.submit(b"photo", JobOptions())).id


async def events(client: JobClient, job_id: str) -> list[JobEvent]:
    """What has been said until now."""
    return [event for _, event in await client._entries(job_id, "0", None)]


def claim(store: JobStore, job_id: str) -> Lease:
    claimed = store.claim(job_id)
    assert claimed is not None
    return claimed[0]


def lose(silent: JobStore, job_id: str) -> tuple[Lease, str]:
    """Claim a job, fall silent, be found out: the old lease, and what became of the job."""
    lease = claim(silent, job_id)
    time.sleep(0.01)
    return lease, silent.reclaim_lost()[job_id]


async def test_a_job_is_claimed_once(client: JobClient, store: JobStore) -> None:
    job_id = await submit(client)
    claimed = store.claim(job_id)
    assert claimed is not None
    assert (claimed[1].status, claimed[1].attempts) == (JobStatus.RUNNING, 1)
    before = await client.get(job_id)
    assert store.claim(job_id) is None
    assert store.claim("0" * 32) is None
    assert await client.get(job_id) == before
    assert store.reclaim_lost() == {}


WRITES: dict[str, Callable[[JobStore, Lease], object]] = {
    "update": lambda store, lease: store.update(lease, FrameReady(step=1, loss=1, frame_key="k"), step=1),
    "finish": lambda store, lease: store.finish(lease, JobStatus.SUCCEEDED, JobDone(step=1, loss=1)),
    "hand_back": lambda store, lease: store.hand_back(lease),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("state", ["taken over", "queued again", "finished", "canceled", "deleted"])
async def test_a_stale_worker_writes_nothing(
    client: JobClient, store: JobStore, silent: JobStore, state: str, write: Callable[[JobStore, Lease], object]
) -> None:
    job_id = await submit(client)
    if state in ("taken over", "queued again"):
        stale, outcome = lose(silent, job_id)
        assert outcome == "queued"
        if state == "taken over":
            assert claim(store, job_id).fence > stale.fence
    else:
        stale = claim(store, job_id)
        if state == "finished":
            store.finish(stale, JobStatus.FAILED, JobFailed(error=INTERNAL), error=INTERNAL)
        elif state == "canceled":
            store.finish(stale, JobStatus.CANCELED, JobCanceled())
        else:
            await client.delete(job_id)
    before = await client.get(job_id), await events(client, job_id)

    with pytest.raises(LeaseLost):
        write(store, stale)

    assert (await client.get(job_id), await events(client, job_id)) == before
    assert store.exists(job_id) == (state != "deleted")


async def test_a_slow_worker_keeps_its_job_while_nobody_has_taken_it(client: JobClient, silent: JobStore) -> None:
    job_id = await submit(client)
    lease = claim(silent, job_id)
    time.sleep(0.01)  # its lease has ended, but no reaper came by
    assert silent.update(lease, step=3) is Asked.NOTHING
    record = await client.get(job_id)
    assert record is not None
    assert record.step == 3


async def test_lost_attempts_are_counted_and_the_last_one_fails_the_job(client: JobClient, silent: JobStore) -> None:
    job_id = await submit(client)
    other = await submit(client)
    for _ in range(MAX_ATTEMPTS - 1):
        assert lose(silent, job_id)[1] == "queued"
        assert await client.queue_position(job_id) == 0  # before the other one, as at first
        assert await client.queue_position(other) == 1
    assert lose(silent, job_id)[1] == "failed"
    record = await client.get(job_id)
    assert record is not None
    assert (record.status, record.error) == (JobStatus.FAILED, WORKER_LOST)
    assert (await events(client, job_id))[-1] == JobFailed(error=WORKER_LOST)
    assert silent.reclaim_lost() == {}


async def test_handing_back_does_not_count(client: JobClient, store: JobStore) -> None:
    job_id = await submit(client)
    for _ in range(MAX_ATTEMPTS + 2):
        store.hand_back(claim(store, job_id))
    record = await client.get(job_id)
    assert record is not None
    assert (record.status, record.attempts) == (JobStatus.QUEUED, 0)
    assert (await events(client, job_id))[-1] == JobQueued()


async def test_a_cancel_outlives_the_worker_that_was_asked(
    client: JobClient, store: JobStore, silent: JobStore
) -> None:
    asked, lost, handed_back = [await submit(client) for _ in range(3)]
    lease = claim(store, asked)
    assert store.update(lease) is Asked.NOTHING
    await client.finish(asked)
    assert store.update(lease) is Asked.FINISH
    await client.cancel(asked)
    assert store.update(lease) is Asked.CANCEL

    stale = claim(silent, lost)
    await client.cancel(lost)
    time.sleep(0.01)
    assert silent.reclaim_lost() == {lost: "canceled"}
    assert stale.fence == 1

    lease = claim(store, handed_back)
    await client.cancel(handed_back)
    store.hand_back(lease)

    for job_id in (lost, handed_back):
        record = await client.get(job_id)
        assert record is not None
        assert record.status is JobStatus.CANCELED
        assert (await events(client, job_id))[-1] == JobCanceled()


async def test_a_job_is_sent_again_when_its_message_is_lost_and_to_one_reaper_alone(
    client: JobClient, store: JobStore, settings: WorkerSettings
) -> None:
    job_id = await submit(client)
    assert store.unsent(soon_ms=0, late_ms=60_000) == []  # its message is there, waiting for a worker
    Redis.from_url(settings.redis_url).delete("inversion")
    assert store.unsent(soon_ms=60_000, late_ms=60_000) == []
    time.sleep(0.06)
    assert store.unsent(soon_ms=50, late_ms=60_000) == [job_id]
    assert store.unsent(soon_ms=50, late_ms=60_000) == []
    claim(store, job_id)
    time.sleep(0.06)
    assert store.unsent(soon_ms=50, late_ms=50) == []


async def test_a_photo_that_cannot_be_stored_leaves_nothing(client: JobClient, artifacts_dir: Path) -> None:
    class Full:
        """An artifact store without room."""

        def write(self, key: str, data: bytes) -> None:
            raise StorageFull("full")

        def delete_job(self, job_id: str) -> None:
            deleted.append(job_id)

    deleted: list[str] = []
    full = JobClient(client._redis, Full(), client._celery, ttl_s=60)  # type: ignore[arg-type]
    with pytest.raises(StorageFull):
        await full.submit(b"photo", JobOptions())
    assert len(deleted) == 1
    assert await client._redis.keys("*") == []


async def test_a_sweep_deletes_what_expired_and_what_no_job_knows(
    client: JobClient, settings: WorkerSettings, artifacts_dir: Path
) -> None:
    kept = await submit(client)
    for name, age_s in (("orphan", 4000), ("recent", 100)):
        file = artifacts_dir / name / "frames" / "000000.webp"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
        os.utime(file, (time.time() - age_s,) * 2)
    assert await client.sweep() == 1  # the orphan

    brief = JobClient.from_settings(settings.model_copy(update={"ttl_s": 0.2}))
    try:
        expired = await submit(brief)
    finally:
        await brief.close()
    time.sleep(0.25)
    assert await client.get(expired) is None  # even before a sweep comes
    assert await client.sweep() == 1
    assert sorted(path.name for path in artifacts_dir.iterdir()) == sorted([kept, "recent"])
    assert await client.sweep() == 0


async def test_a_record_of_a_newer_version_can_still_be_read(client: JobClient) -> None:
    job_id = await submit(client)
    before = await client.get(job_id)
    await client._redis.hset(f"inversion:job:{job_id}", "field_of_tomorrow", "1")
    assert await client.get(job_id) == before


async def test_an_id_that_is_no_id_is_simply_unknown(client: JobClient) -> None:
    for job_id in ("", "..", "../x", "a/b", "*"):
        assert await client.get(job_id) is None
        assert not await client.delete(job_id)
        assert await client.cancel(job_id) is None
        assert await client.queue_position(job_id) is None
        assert [event async for event in client.events(job_id)] == []
