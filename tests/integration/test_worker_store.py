"""Who may write what to a job's record, on a real Valkey without any worker."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from redis import Redis
from worker_process import own_folder

from inversion_worker import transitions
from inversion_worker.client import JobClient, Outbox, Submission
from inversion_worker.contract import (
    MAX_ATTEMPTS,
    EventKind,
    FrameReady,
    JobCanceled,
    JobDeleted,
    JobDone,
    JobEvent,
    JobFailed,
    JobOptions,
    JobQueued,
    JobStatus,
)
from inversion_worker.errors import LeaseLost, StorageFull
from inversion_worker.problems import INTERNAL, WORKER_LOST
from inversion_worker.scripts import Call
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
    assert await client._redis.keys("*") in ([], ["inversion:owner"])


HOUR_MS = 3600 * 1000


async def test_a_sweep_deletes_what_expired_and_what_no_job_knows(
    client: JobClient, settings: WorkerSettings, artifacts_dir: Path
) -> None:
    kept = await submit(client)
    orphan, recent = 32 * "a", f"deleted-{32 * 'b'}"
    strangers = ["holiday-photos", "backup.old", "0" * 40]
    others = ["holiday-photos", 32 * "c", f"inversion-{32 * 'd'}/{32 * 'e'}"]
    own = own_folder(artifacts_dir)
    for place in (*(own / name for name in (orphan, recent, *strangers)), *(artifacts_dir / name for name in others)):
        file = place / "frames" / "000000.webp"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
        os.utime(file, (0, 0))  # what the files say of their age is of no account
    assert await client.sweep() == 0
    await client._redis.zincrby("inversion:orphans", -HOUR_MS, orphan)  # it was seen an hour ago
    await client._redis.zincrby("inversion:orphans", 60_000 - HOUR_MS, recent)
    assert await client.sweep() == 1

    brief = JobClient.from_settings(settings.model_copy(update={"ttl_s": 0.2}))
    try:
        expired = await submit(brief)
        await brief.cancel(expired)
    finally:
        await brief.close()
    time.sleep(0.25)
    assert await client.get(expired) is None  # even before a sweep comes
    assert await client.sweep() == 1
    assert sorted(path.name for path in own.iterdir()) == sorted([kept, recent, *strangers, "OWNER.txt"])
    assert all((artifacts_dir / name / "frames" / "000000.webp").exists() for name in others)
    assert len(client.notes) == 1
    assert await client.sweep() == 0
    assert await client._redis.zrange("inversion:orphans", 0, -1) == [recent]


async def test_scripts_spell_the_time_as_python_does(client: JobClient) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    corners = [datetime(2000, 2, 29, tzinfo=UTC), datetime(2100, 3, 1, tzinfo=UTC), datetime(2027, 12, 31, 23, 59, 59)]
    times = [int(corner.replace(tzinfo=UTC).timestamp()) * 10**6 for corner in corners]
    times += [random.Random(1).randrange(4 * 10**15) for _ in range(500)]
    script = Call("return iso(tonumber(ARGV[2]))", "job").text
    for us in times:
        said = await client._redis.eval(script, 5, *"abcde", "job", us)
        assert datetime.fromisoformat(json.loads(said)) == epoch + timedelta(microseconds=us)


class TestTheEndBeforeTheEnd:
    """A job that expires, or is deleted, before it has ended."""

    @pytest.mark.parametrize("runs", [False, True])
    @pytest.mark.parametrize("how", ["expired", "deleted"])
    async def test_followers_and_webhooks_are_told(
        self, client: JobClient, store: JobStore, runs: bool, how: str
    ) -> None:
        outbox = Outbox(client._redis)
        options = JobOptions(webhook="https://editor.example", seed=7)
        submission = Submission(photo=b"photo", options=options, metadata={"order": "A-1001"})
        job = await client.submit_one(submission, tenant="t")
        if runs:
            store.update(claim(store, job.id), FrameReady(step=1, loss=1, frame_key="k"), frames=[1])
        stream = client.events(job.id)
        seen = [await anext(stream)]
        if how == "deleted":
            assert await client.delete(job.id)
        else:
            await client._redis.zadd("inversion:expiry", {job.id: 1})
            assert await client.sweep() == 1
        with anyio.fail_after(5):
            seen += [pair async for pair in stream]
        assert seen[-1][1].kind == how
        assert [event.kind async for _, event in client.events(job.id)] == [how]  # nothing else is left to tell
        assert await client.get(job.id) is None

        assert await outbox.claim(5, 10) == [job.id]
        unsent = await outbox.unsent(job.id)
        assert unsent is not None
        assert (unsent.record.tenant, unsent.record.options.seed) == ("t", 0)  # of the options the webhook alone
        assert (unsent.record.options.webhook, unsent.record.metadata) == (options.webhook, {"order": "A-1001"})
        assert [event.kind for _, event in unsent.events] == [how]
        await outbox.settle(job.id, unsent.after, 1, 0)  # it failed
        again = await outbox.unsent(job.id)
        assert again is not None
        assert (again.tries, again.events) == (1, unsent.events)
        await outbox.settle(job.id, unsent.events[0][0], 0, 0)
        sent = await outbox.unsent(job.id)
        assert sent is not None
        assert sent.events == []
        await outbox.rest(job.id, sent.after)
        kept = {f"inversion:events:{job.id}"} | ({f"inversion:known:t:{job.id}"} if how == "expired" else set())
        assert set(await client._redis.keys(f"*{job.id}*")) == kept
        assert 0 < await client._redis.pttl(f"inversion:events:{job.id}") <= 60_000
        assert await client._redis.zcard("inversion:webhooks") == 0

    async def test_a_message_on_its_way_leaves_the_last_word_to_be_sent(self, client: JobClient) -> None:
        outbox = Outbox(client._redis)
        options = JobOptions(webhook="https://editor.example", webhook_events=tuple(EventKind))
        job = await client.submit(b"photo", options)
        before = await outbox.unsent(job.id)
        assert before is not None
        await client.delete(job.id)
        await outbox.rest(job.id, before.events[-1][0])
        after = await outbox.unsent(job.id)
        assert after is not None
        assert [event.kind for _, event in after.events] == ["deleted"]
        await outbox.forget(job.id)
        assert await outbox.unsent(job.id) is None

    async def test_one_that_had_ended_has_said_so(self, client: JobClient) -> None:
        job = await client.submit(b"photo", JobOptions(webhook="https://editor.example"))
        await client.cancel(job.id)
        await client.delete(job.id)
        assert [event async for event in client.events(job.id)] == []
        assert await Outbox(client._redis).unsent(job.id) is None

    async def test_deleting_twice_does_not_take_the_last_word_back(self, client: JobClient) -> None:
        job_id = await submit(client)
        assert await client.delete(job_id)
        assert not await client.delete(job_id)
        assert await events(client, job_id) == [JobDeleted()]


class TestHowLongAJobIsKept:
    async def test_the_time_counts_from_the_end(self, client: JobClient, store: JobStore) -> None:
        job = await client.submit(b"photo", JobOptions(ttl=60))
        assert job.expires_at - job.created_at == timedelta(days=7)
        assert await client.get(job.id) == job
        store.finish(claim(store, job.id), JobStatus.SUCCEEDED, JobDone(step=1, loss=1))
        record = await client.get(job.id)
        assert record is not None
        assert record.finished_at is not None
        assert abs(record.expires_at - record.finished_at - timedelta(seconds=60)) < timedelta(seconds=1)
        for kept in ("job", "events"):
            assert 50_000 < await client._redis.pttl(f"inversion:{kept}:{job.id}") <= 60_000
        week_ms = 7 * 24 * HOUR_MS
        assert week_ms < await client._redis.pttl(f"inversion:known::{job.id}") <= week_ms + 60_000

    async def test_a_job_of_the_release_before_goes_at_its_own_time(self, client: JobClient, store: JobStore) -> None:
        job_id = await submit(client)
        await client._redis.hdel(f"inversion:job:{job_id}", "_ttl_ms")
        before = await client.get(job_id)
        store.finish(claim(store, job_id), JobStatus.SUCCEEDED, JobDone(step=1, loss=1))
        after = await client.get(job_id)
        assert before is not None
        assert after is not None
        assert after.expires_at == before.expires_at

    async def test_a_job_that_ended_meanwhile_is_not_swept(self, client: JobClient) -> None:
        """Its time was over when the sweep looked, and it has got more since."""
        job_id = await submit(client)
        assert await client._run(transitions.expire(job_id)) == 0
        assert await client.get(job_id) is not None

    async def test_what_a_crash_left_before_the_job_was_queued_goes(self, client: JobClient) -> None:
        class Crash(BaseException):
            pass

        class Crashing:
            def write(self, key: str, data: bytes) -> None:
                raise Crash

            def delete_job(self, job_id: str) -> None:
                raise Crash

        crashing = JobClient(client._redis, Crashing(), client._celery, ttl_s=60)  # type: ignore[arg-type]
        with pytest.raises(Crash):
            await crashing.submit(b"photo", JobOptions())
        ((_, ends_s),) = await client._redis.zrange("inversion:expiry", 0, -1, withscores=True)
        assert 3500 < ends_s - (await client._redis.time())[0] <= 3601


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
