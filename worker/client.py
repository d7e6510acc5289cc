"""Everything that `app` may do with jobs: submit, look, follow, cancel, delete, sweep.

Nothing here runs a job, and nothing here imports Torch.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

from celery import Celery
from kombu.exceptions import OperationalError
from redis.asyncio import Redis

from worker import broker, scripts, transitions
from worker.artifacts import ArtifactStore
from worker.connection import connect_async
from worker.contract import ArtifactKey, JobEvent, JobOptions, JobRecord, JobStatus, WorkerInfo
from worker.errors import StorageFull, WorkerError
from worker.scripts import Call
from worker.settings import ClientSettings

__all__ = ["ClientSettings", "JobClient", "StorageFull", "WorkerError"]

log = logging.getLogger(__name__)

_BLOCK_MS = 1000
_EVENT_ID = re.compile(r"\d{1,19}(-\d{1,19})?")
_ORPHAN_AGE_S = 3600.0


class JobClient:
    """The jobs of one Redis and one artifact store. Make it inside the event loop that will use it.

    Raises from every method: redis.exceptions.RedisError when Redis cannot be reached.
    """

    def __init__(self, redis: Redis, artifacts: ArtifactStore, celery: Celery, ttl_s: float) -> None:
        self._redis = redis
        self._artifacts = artifacts
        self._celery = celery
        self._ttl = timedelta(seconds=ttl_s)

    @classmethod
    def from_settings(cls, settings: ClientSettings) -> JobClient:
        redis = connect_async(settings.redis_url)
        celery = broker.make_celery(settings.redis_url)
        return cls(redis, ArtifactStore(settings.artifacts_url), celery, settings.ttl_s)

    async def submit(self, photo: bytes, options: JobOptions, *, tenant: str = "") -> JobRecord:
        """Store the photo and queue a job for it.

        The expiry comes first, so that whatever a crash leaves behind will be deleted by a sweep.
        Raises: StorageFull, and then nothing is left.
        """
        created_at = transitions.now()
        record = JobRecord(
            id=uuid.uuid4().hex,
            tenant=tenant,
            status=JobStatus.QUEUED,
            options=options,
            created_at=created_at,
            expires_at=created_at + self._ttl,
        )
        await self._redis.zadd(scripts.EXPIRY, {record.id: record.expires_at.timestamp()})
        try:
            await asyncio.to_thread(self._artifacts.write, ArtifactKey.photo(record.id), photo)
            await self._run(transitions.submit(record))
        except BaseException:
            await asyncio.shield(self.delete(record.id))
            raise
        await self._ring(record.id)
        return record

    async def get(self, job_id: str) -> JobRecord | None:
        """The job's record; None when there is none, or no longer."""
        stored = await self._redis.hgetall(scripts.job_key(job_id))
        return transitions.decode_record(cast(dict[str, str], stored))

    async def queue_position(self, job_id: str) -> int | None:
        """How many jobs are before this one; None when it is not queued."""
        return cast(int | None, await self._redis.zrank(scripts.QUEUED, job_id))

    async def events(self, job_id: str, after_id: str = "0") -> AsyncIterator[tuple[str, JobEvent]]:
        """Every event after `after_id` with its id, as they come, until a final one or the job is deleted.

        An `after_id` that is no event id replays from the start.
        """
        last = after_id if _EVENT_ID.fullmatch(after_id) else "0"
        while True:
            status = await self._status(job_id)  # read before the events: a final one is then among them
            over = status is None or status.is_final
            entries = await self._entries(job_id, last, None if over else _BLOCK_MS)
            for last, event in entries:
                yield last, event
            if over:
                return

    async def cancel(self, job_id: str) -> JobRecord | None:
        """Cancel a queued job at once and a running one at its next Step; a finished one stays as it is.

        Returns the record as it is then; None when there is no such job.
        """
        if await self._run(transitions.cancel(job_id)) == 1:
            await asyncio.to_thread(self._artifacts.delete, ArtifactKey.checkpoint(job_id))
        return await self.get(job_id)

    async def delete(self, job_id: str) -> bool:
        """Delete a job and all of its files; a worker that runs it stops. Says whether there was one.

        The expiry goes last, so that a sweep finishes what a crash interrupts.
        """
        async with self._redis.pipeline() as pipe:
            pipe.delete(scripts.job_key(job_id))
            pipe.delete(scripts.events_key(job_id))
            pipe.zrem(scripts.QUEUED, job_id)
            pipe.zrem(scripts.RUNNING, job_id)
            existed = (await pipe.execute())[0]
        if existed or await self._redis.zscore(scripts.EXPIRY, job_id) is not None:
            await asyncio.to_thread(self._artifacts.delete_job, job_id)
            await self._redis.zrem(scripts.EXPIRY, job_id)
        return bool(existed)

    async def read(self, key: str) -> bytes | None:
        """Bytes of an `ArtifactKey`; None where there are none."""
        return await asyncio.to_thread(self._artifacts.read, key)

    async def workers(self) -> list[WorkerInfo]:
        """The workers alive now, in the order of their ids."""
        ids = sorted(cast(set[str], await self._redis.smembers(scripts.WORKERS)))
        if not ids:
            return []
        texts = await self._redis.mget([scripts.worker_key(worker_id) for worker_id in ids])
        for worker_id, text in zip(ids, texts, strict=True):
            if text is None:
                await self._redis.srem(scripts.WORKERS, worker_id)
        return [WorkerInfo.model_validate_json(text) for text in texts if text is not None]

    async def sweep(self) -> int:
        """Delete every job whose time is over, and folders that no job knows; says how many went."""
        expired = cast(list[str], await self._redis.zrange(scripts.EXPIRY, "-inf", time.time(), byscore=True))
        orphans = await self._orphans()
        return sum([await self._swept(job_id) for job_id in [*expired, *orphans]])

    async def ping(self) -> None:
        """Raises: redis.exceptions.RedisError when Redis does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose()
        await asyncio.to_thread(self._celery.close)

    async def _ring(self, job_id: str) -> None:
        """Tell the broker. The job is already queued, so if this fails the workers' reaper repairs it."""
        try:
            await asyncio.to_thread(broker.send, self._celery, job_id)
        except OperationalError as error:
            log.warning("message not sent, left to the reaper job=%s error=%s", job_id, error)

    async def _status(self, job_id: str) -> JobStatus | None:
        text = cast(str | None, await self._redis.hget(scripts.job_key(job_id), "status"))
        return JobStatus(json.loads(text)) if text is not None else None

    async def _entries(self, job_id: str, after_id: str, block_ms: int | None) -> list[tuple[str, JobEvent]]:
        streams: Any = await self._redis.xread({scripts.events_key(job_id): after_id}, block=block_ms)
        return [
            (entry_id, transitions.decode_event(fields["event"]))
            for _, entries in streams or ()
            for entry_id, fields in entries
        ]

    async def _swept(self, job_id: str) -> bool:
        """Delete one job; a file that cannot be deleted is left to the next sweep, and stops none of the others."""
        try:
            await self.delete(job_id)
            await asyncio.to_thread(self._artifacts.delete_job, job_id)
        except OSError as error:
            log.warning("not swept job=%s error=%s", job_id, error)
            return False
        return True

    async def _orphans(self) -> list[str]:
        """Folders without an expiry that nobody has written to for long."""
        ids = await asyncio.to_thread(self._artifacts.job_ids)
        unknown = [job_id for job_id in ids if await self._redis.zscore(scripts.EXPIRY, job_id) is None]
        ages = [await asyncio.to_thread(self._artifacts.age_s, job_id) for job_id in unknown]
        return [job_id for job_id, age_s in zip(unknown, ages, strict=True) if age_s > _ORPHAN_AGE_S]

    async def _run(self, call: Call) -> Any:
        return await self._redis.eval(call.text, len(call.keys), *call.keys, *call.argv)
