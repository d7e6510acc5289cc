"""Token buckets and room for jobs in a real Valkey, with many who ask at once."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from worker_process import stored_in

from inversion_app.limits import Policy, RedisBuckets
from inversion_worker.admission import _GRACE_MS, ADMITTING
from inversion_worker.client import JobClient, QueueFull, TooManyJobs, connect_async
from inversion_worker.contract import JobOptions
from inversion_worker.settings import WorkerSettings
from inversion_worker.valkey import EmbeddedValkey

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


async def test_a_bucket_gives_what_it_holds_and_fills_again(valkey: EmbeddedValkey) -> None:
    redis, another = connect_async(valkey.url), connect_async(valkey.url)
    buckets = [RedisBuckets(redis), RedisBuckets(another)]  # as two API processes
    policy = Policy(per_s=0.5, burst=10)
    allowed: list[bool] = []

    async def ask(index: int) -> None:
        allowed.append((await buckets[index % 2].take("key", policy)).allowed)

    async with anyio.create_task_group() as group:
        for index in range(40):
            group.start_soon(ask, index)
    assert sum(allowed) == 10
    refused = await buckets[0].take("key", policy)
    assert (refused.allowed, refused.retry_after_s) == (False, 2)
    assert (await buckets[0].take("another", policy)).tokens == 9
    assert await redis.pttl("inversion:rate:key") <= 21_000  # nothing is kept of a caller who went away

    for _ in range(3):  # to look takes nothing
        look = await buckets[1].look("another", policy)
        assert (look.allowed, look.tokens >= 9) == (True, True)
    assert not (await buckets[0].look("key", policy)).allowed

    fast = Policy(per_s=50, burst=2)
    assert [(await buckets[0].take("fast", fast)).allowed for _ in range(2)] == [True, True]
    await anyio.sleep(0.1)
    assert (await buckets[0].take("fast", fast)).allowed
    await redis.aclose()
    await another.aclose()


async def submitted(client: JobClient, tenant: str, count: int) -> list[str]:
    """Submit all at once; ids of those that found room."""
    found: list[str] = []

    async def submit() -> None:
        try:
            found.append((await client.submit(b"photo", JobOptions(), tenant=tenant)).id)
        except (QueueFull, TooManyJobs):
            return

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(submit)
    return found


async def test_room_is_given_exactly_and_comes_back(settings: WorkerSettings, artifacts_dir: Path) -> None:
    client = JobClient.from_settings(settings.model_copy(update={"max_queued": 7, "max_active": 4}))
    first = await submitted(client, "acme", 12)
    assert len(first) == 4
    with pytest.raises(TooManyJobs):
        await client.check_room("acme")
    assert len(await submitted(client, "other", 12)) == 3  # then the queue is full
    with pytest.raises(QueueFull):
        await client.submit(b"photo", JobOptions(), tenant="third")
    assert len(stored_in(artifacts_dir)) == 7  # nothing is left of those that were refused

    await client.cancel(first[0])
    await client.delete(first[1])
    await client.check_room("acme")
    assert len(await submitted(client, "acme", 5)) == 2
    assert await client._redis.zcard(ADMITTING) == 0
    await client.close()


async def test_a_process_that_dies_holds_no_room(settings: WorkerSettings) -> None:
    client = JobClient.from_settings(settings.model_copy(update={"max_queued": 1, "max_active": 1}))
    seconds, _ = await client._redis.time()
    for age_ms, room in ((_GRACE_MS + 1000, 1), (1000, 0)):
        for name in (ADMITTING, "inversion:active:acme"):
            await client._redis.zadd(name, {"lost": seconds * 1000 - age_ms})
        assert len(await submitted(client, "acme", 1)) == room
        for job_id in await client._redis.zrange("inversion:queued", 0, -1):
            await client.delete(job_id)
    await client.close()


async def test_a_failed_submit_gives_its_room_back(settings: WorkerSettings, artifacts_dir: Path) -> None:
    client = JobClient.from_settings(settings.model_copy(update={"max_active": 1}))
    artifacts_dir.rmdir()
    artifacts_dir.write_text("no folder")
    with pytest.raises(OSError):  # noqa: PT011  which one, the system says
        await client.submit(b"photo", JobOptions(), tenant="acme")
    artifacts_dir.unlink()
    assert len(await submitted(client, "acme", 2)) == 1
    await client.close()


async def test_without_keys_everybody_is_one_tenant_and_the_queue_alone_has_an_end(settings: WorkerSettings) -> None:
    client = JobClient.from_settings(settings.model_copy(update={"max_queued": 3, "max_active": 1}))
    assert len(await submitted(client, "", 5)) == 3
    await client.close()
