"""Idempotency-Keys, batches, lists, tombstones, usage, retries and priorities, on a real Valkey without any worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from worker_process import stored_in

from inversion_worker import once
from inversion_worker.client import Claim, Filters, JobClient, OnceBusy, OnceReused, SourceGone, Stored, Submission
from inversion_worker.contract import HEAD_START_S, ArtifactKey, JobDone, JobFailed, JobOptions, JobStatus, Priority
from inversion_worker.listing import Place
from inversion_worker.problems import INTERNAL
from inversion_worker.settings import WorkerSettings
from inversion_worker.store import JobStore

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

ALL = Filters()


@pytest.fixture
def store(settings: WorkerSettings) -> Iterator[JobStore]:
    store = JobStore.from_url(settings.redis_url, lease_ttl_s=30)
    yield store
    store.close()


def submission(**options: object) -> Submission:
    return Submission(photo=b"photo", options=JobOptions.model_validate(options))


async def claim(client: JobClient, fingerprint: str = "f", tenant: str = "") -> Claim:
    claimed = await client.begin_once(tenant, "key", fingerprint)
    assert isinstance(claimed, Claim)
    return claimed


class TestOnce:
    async def test_the_same_request_gets_the_same_job_and_another_is_refused(self, client: JobClient) -> None:
        record = await client.submit_one(submission(), once=await claim(client))
        assert await client.begin_once("", "key", "f") == record.id
        with pytest.raises(OnceReused):
            await client.begin_once("", "key", "other")
        assert isinstance(await client.begin_once("tenant", "key", "other"), Claim)  # each tenant has its own keys

    async def test_one_that_is_being_accepted_is_busy_until_it_is_released(self, client: JobClient) -> None:
        claimed = await claim(client)
        with pytest.raises(OnceBusy):
            await client.begin_once("", "key", "f")
        with pytest.raises(OnceReused):
            await client.begin_once("", "key", "other")
        await client.release_once(claimed)
        await claim(client, "other")

    async def test_releasing_what_was_made_changes_nothing(self, client: JobClient) -> None:
        claimed = await claim(client)
        record = await client.submit_one(submission(), once=claimed)
        await client.release_once(claimed)
        assert await client.begin_once("", "key", "f") == record.id

    async def test_what_is_gone_frees_its_key(self, client: JobClient) -> None:
        first = await client.submit_one(submission(), once=await claim(client))
        await client.forget_once("", "key", "another")  # harmless: it is answered with something else
        assert await client.begin_once("", "key", "f") == first.id
        await client.delete(first.id)
        assert await client.begin_once("", "key", "f") == first.id
        await client.forget_once("", "key", first.id)
        claimed = await client.begin_once("", "key", "other")
        assert isinstance(claimed, Claim)
        await client.forget_once("", "key", first.id)  # too late: it is held for a new request
        second = await client.submit_one(submission(), once=claimed)
        assert await client.begin_once("", "key", "other") == second.id

    async def test_of_many_at_once_one_is_accepted(self, client: JobClient) -> None:
        async def attempt() -> str:
            try:
                claimed = await client.begin_once("", "key", "f")
            except OnceBusy:
                return "busy"
            return (await client.submit_one(submission(), once=claimed)).id if isinstance(claimed, Claim) else claimed

        answers = await asyncio.gather(*(attempt() for _ in range(20)))
        assert len(set(answers) - {"busy"}) == 1
        assert len((await client.page("", ALL, None, 50)).records) == 1

    async def test_a_claim_that_was_held_too_long_makes_nothing(self, client: JobClient, artifacts_dir: Path) -> None:
        claimed = await claim(client)
        await client._redis.delete(claimed.key)  # its time is over
        await claim(client)
        with pytest.raises(OnceBusy):
            await client.submit_one(submission(), once=claimed)
        with pytest.raises(OnceBusy):
            await client.submit_batch([submission()] * 2, once=claimed)
        assert stored_in(artifacts_dir) == []
        assert set(await client._redis.keys("*")) == {claimed.key, "inversion:owner"}

    async def test_kept_for_a_day(self, client: JobClient) -> None:
        claimed = await claim(client)
        assert 0 < await client._redis.pttl(claimed.key) <= once.HELD_MS
        await client.submit_one(submission(), once=claimed)
        assert once.KEPT_MS - 10_000 < await client._redis.pttl(claimed.key) <= once.KEPT_MS


class TestBatch:
    async def test_all_in_one(self, client: JobClient) -> None:
        batch = await client.submit_batch([submission(seed=seed) for seed in range(5)], tenant="t")
        assert await client.batch(batch.id) == batch
        records = await client.records_of(batch.jobs)
        assert [record.options.seed for record in records if record] == [0, 1, 2, 3, 4]
        assert {record.batch for record in records if record} == {batch.id}
        assert [await client.queue_position(job_id) for job_id in batch.jobs] == [0, 1, 2, 3, 4]

    async def test_delete(self, client: JobClient, artifacts_dir: Path) -> None:
        batch = await client.submit_batch([submission()] * 3)
        await client.delete_batch(batch)
        assert await client.batch(batch.id) is None
        assert not await client.was_known("", batch.id)
        assert await client.records_of(batch.jobs) == [None] * 3
        assert stored_in(artifacts_dir) == []

    async def test_once(self, client: JobClient) -> None:
        batch = await client.submit_batch([submission()] * 2, once=await claim(client))
        assert await client.begin_once("", "key", "f") == batch.id


class TestList:
    async def test_pages_newest_first_without_gaps_or_repeats(self, client: JobClient) -> None:
        made = [(await client.submit_one(submission())).id for _ in range(7)]
        await client.submit_one(submission(), tenant="other")
        seen: list[str] = []
        after = None
        for count in (3, 3, 1):
            page = await client.page("", ALL, after, 3)
            assert len(page.records) == count
            seen += [record.id for record in page.records]
            after = Place.decode(page.cursor) if page.cursor else None
        assert after is None
        assert sorted(seen) == sorted(made)
        created = [record.created_at for record in (await client.page("", ALL, None, 50)).records]
        assert created == sorted(created, reverse=True)

    async def test_many_of_one_millisecond(self, client: JobClient) -> None:
        """A page may end among jobs that were made at the same time."""
        batch = await client.submit_batch([submission()] * 64)
        index = "inversion:index:"
        for job_id in batch.jobs:
            await client._redis.zadd(index, {job_id: 1_000_000})
        await client._redis.zadd(index, {f"{number:032d}": 1_000_000 for number in range(300)})  # gone ones
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await client.page("", ALL, Place.decode(cursor) if cursor else None, 7)
            seen += [record.id for record in page.records]
            cursor = page.cursor
        assert seen == sorted(batch.jobs, reverse=True)
        assert await client._redis.zcard(index) == 64

    async def test_filters(self, client: JobClient, store: JobStore) -> None:
        first = await client.submit_one(submission(pack="a"))
        await asyncio.sleep(0.002)
        second = await client.submit_one(submission(pack="b"))
        await client.cancel(first.id)
        for filters, wanted in (
            (Filters(status=JobStatus.CANCELED), [first.id]),
            (Filters(status=JobStatus.QUEUED), [second.id]),
            (Filters(status=JobStatus.FAILED), []),
            (Filters(pack="b"), [second.id]),
            (Filters(created_after=first.created_at), [second.id]),
            (Filters(created_before=second.created_at), [first.id]),
            (Filters(created_after=datetime.now(UTC) + timedelta(seconds=5)), []),
            (Filters(created_after=first.created_at, created_before=second.created_at), []),
        ):
            page = await client.page("", filters, None, 10)
            assert ([record.id for record in page.records], page.cursor) == (wanted, None), filters

    async def test_deleted_and_expired_ones_are_not_listed(self, client: JobClient, settings: WorkerSettings) -> None:
        kept = await client.submit_one(submission())
        await client.delete((await client.submit_one(submission())).id)
        assert await client._redis.zcard("inversion:index:") == 1
        brief = JobClient.from_settings(settings.model_copy(update={"ttl_s": 0.05}))
        await brief.cancel((await brief.submit_one(submission())).id)
        await brief.close()
        time.sleep(0.1)
        assert [record.id for record in (await client.page("", ALL, None, 10)).records] == [kept.id]

    @pytest.mark.parametrize("wrong", ["", "x", "====", "a" * 500, "ä", "MTIz", "LTE6YWFhYWFhYWFhYWFhYWFhYQ"])
    def test_what_is_no_cursor(self, wrong: str) -> None:
        with pytest.raises(ValueError, match="no cursor"):
            Place.decode(wrong)

    def test_cursor(self) -> None:
        place = Place(1_763_816_400_000, "5f0c2a7e9d3b4c5f8a6b7c8d9e0f1a2b")
        assert Place.decode(place.encode()) == place


async def test_an_expired_job_leaves_a_tombstone_and_a_deleted_one_does_not(
    client: JobClient, settings: WorkerSettings
) -> None:
    brief = JobClient.from_settings(settings.model_copy(update={"ttl_s": 0.05}))
    expired = await brief.submit(b"", JobOptions(), tenant="t")
    await brief.cancel(expired.id)
    await brief.close()
    deleted = await client.submit(b"", JobOptions(), tenant="t")
    await client.delete(deleted.id)
    time.sleep(0.1)
    await client.sweep()
    assert await client.get(expired.id) is None
    assert await client.was_known("t", expired.id)
    assert not await client.was_known("u", expired.id)
    assert not await client.was_known("t", deleted.id)
    assert await client._redis.keys(f"*{expired.id}*") == [f"inversion:known:t:{expired.id}"]


async def test_usage(client: JobClient, store: JobStore) -> None:
    jobs = [await client.submit_one(submission(), tenant="t") for _ in range(4)]
    await client.submit_one(submission())
    await client.cancel(jobs[0].id)
    for job, (status, event) in zip(
        jobs[1:3],
        ((JobStatus.SUCCEEDED, JobDone(step=1, loss=1)), (JobStatus.FAILED, JobFailed(error=INTERNAL))),
        strict=True,
    ):
        claimed = store.claim(job.id)
        assert claimed is not None
        store.finish(claimed[0], status, event, seconds=1.25)
    await client.delete(jobs[1].id)  # what was used stays used
    days = await client.usage("t", 3)
    assert [day.date for day in days] == sorted(day.date for day in days)
    assert days[-1].model_dump(exclude={"date"}) == {
        "submitted": 4, "succeeded": 1, "failed": 1, "canceled": 1, "looked": 0, "rendered": 0, "seconds": 2.5,
    }  # fmt: skip
    assert days[0].submitted == 0


async def test_retry_makes_a_new_job_of_the_same(client: JobClient) -> None:
    extra = Submission(photo=b"photo", mask=b"mask", start=b"start", options=JobOptions(seed=4))
    first = await client.submit_one(extra, tenant="t")
    canceled = await client.cancel(first.id)
    assert canceled is not None
    again = await client.retry(canceled)
    assert again is not None
    assert (again.retry_of, again.tenant, again.options, again.masked) == (first.id, "t", first.options, True)
    assert [await client.read(key(again.id)) for key in (ArtifactKey.photo, ArtifactKey.mask, ArtifactKey.start)] == [
        b"photo", b"mask", b"start",
    ]  # fmt: skip
    assert await client.get(first.id) == canceled
    await client.delete(first.id)
    assert await client.retry(canceled) is None


async def test_going_on_copies_what_is_stored(client: JobClient, artifacts_dir: Path) -> None:
    first = await client.submit_one(submission(), tenant="t")
    photo = Stored(ArtifactKey.photo(first.id))
    again = await client.submit_one(
        Submission(photo=photo, options=JobOptions(), source=first.id, metadata={"order": 1}), tenant="t"
    )
    await client.delete(first.id)
    assert await client.read(ArtifactKey.photo(again.id)) == b"photo"
    await client.cancel(again.id)
    repeated = await client.retry(again)
    assert repeated is not None
    assert (repeated.source, repeated.metadata) == (first.id, {"order": 1})
    with pytest.raises(SourceGone):
        await client.submit_one(Submission(photo=photo, options=JobOptions()), tenant="t")
    assert {name.split("/")[0] for name in stored_in(artifacts_dir)} == {again.id, repeated.id}
    assert await client._redis.zcard("inversion:expiry") == 2


async def test_a_higher_priority_goes_first_and_equals_in_their_order(client: JobClient, store: JobStore) -> None:
    order = [Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.NORMAL, Priority.HIGH]
    jobs = [await client.submit_one(submission(priority=priority)) for priority in order]
    assert [await client.queue_position(job.id) for job in jobs] == [4, 2, 0, 3, 1]
    claimed = store.claim(jobs[0].id)
    assert claimed is not None
    store.hand_back(claimed[0])
    assert await client.queue_position(jobs[0].id) == 4
    assert [claimed_next(store) for _ in range(5)] == [jobs[index].id for index in (2, 4, 1, 3, 0)]
    assert store.claim_next() is None


@pytest.mark.parametrize(("waited_s", "ahead"), [(2 * HEAD_START_S - 30, 3), (2 * HEAD_START_S + 1, 0)])
async def test_who_has_waited_long_is_overtaken_no_more(
    client: JobClient, store: JobStore, waited_s: int, ahead: int
) -> None:
    """However many of a higher priority come: a low one gives way to those of 20 minutes, and then goes first."""
    low = await client.submit_one(submission(priority=Priority.LOW))
    await client._redis.zincrby("inversion:queued", -waited_s * 1e6, low.id)  # as if it had come so much earlier
    for _ in range(3):
        await client.submit_one(submission(priority=Priority.HIGH))
    assert await client.queue_position(low.id) == ahead
    assert ([claimed_next(store) for _ in range(ahead + 1)][-1]) == low.id


async def test_the_line_is_kept_when_the_clock_goes_back(client: JobClient) -> None:
    await client._redis.hset("inversion:line", "1", str(9 * 10**15))
    jobs = [await client.submit_one(submission()) for _ in range(3)]
    assert [await client.queue_position(job.id) for job in jobs] == [0, 1, 2]


async def test_what_is_gone_stops_nobody_behind_it(client: JobClient, store: JobStore) -> None:
    await client._redis.zadd("inversion:queued", {"gone": 0})
    job = await client.submit_one(submission())
    assert claimed_next(store) == job.id
    assert await client._redis.zcard("inversion:queued") == 0


def claimed_next(store: JobStore) -> str:
    claimed = store.claim_next()
    assert claimed is not None
    return claimed[1].id


async def test_wait_ends_with_the_job_or_with_the_time(client: JobClient) -> None:
    job = await client.submit_one(submission())
    for timeout_s in (0, 0.0005, 0.001, 0.002, 0.005, 0.2):  # some end in the middle of a command
        began = time.monotonic()
        record = await client.wait(job.id, timeout_s)
        assert record is not None
        assert record.status is JobStatus.QUEUED
        assert timeout_s <= time.monotonic() - began < timeout_s + 2

    async def later() -> None:
        await asyncio.sleep(0.1)
        await client.cancel(job.id)

    canceling = asyncio.create_task(later())
    record = await client.wait(job.id, 20)
    await canceling
    assert record is not None
    assert record.status is JobStatus.CANCELED
    assert time.monotonic() - began < 10
    assert await client.wait("0" * 32, 20) is None
