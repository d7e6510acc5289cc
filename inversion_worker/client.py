"""Everything that `app` may do with jobs: submit, look, follow, cancel, delete, sweep.

Nothing here runs a job, and nothing here imports Torch.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, cast

from celery import Celery
from kombu.exceptions import OperationalError
from redis.asyncio import Redis

from inversion_worker import broker, figures, listing, logs, scripts, tracing, transitions, usage
from inversion_worker import once as once_
from inversion_worker.admission import Admission, Room
from inversion_worker.artifacts import OTHERS, ArtifactStore
from inversion_worker.asking import Asker, Turn
from inversion_worker.clock import server_time
from inversion_worker.code import MAX_DETAIL, Code
from inversion_worker.connection import connect, connect_async, connect_streams
from inversion_worker.contract import (
    FINAL_EVENTS,
    ArtifactKey,
    BatchRecord,
    DirectionRecord,
    FilmOrder,
    JobEvent,
    JobOptions,
    JobRecord,
    JobStatus,
    QuestionKind,
    Rendered,
    RenderOrder,
    SavedEdit,
    Seen,
    UsageDay,
    WorkerInfo,
    pack_topic,
)
from inversion_worker.directions import Directions
from inversion_worker.errors import (
    DirectionExists,
    JobRefused,
    NobodyAnswers,
    OnceBusy,
    OnceReused,
    QueueFull,
    SourceGone,
    StorageFull,
    TooManyDirections,
    TooManyJobs,
    WorkerError,
)
from inversion_worker.figures import Figures
from inversion_worker.found import Found
from inversion_worker.listing import Filters, Page, Place
from inversion_worker.once import FINISH, KEPT_MS, Claim
from inversion_worker.outbox import Outbox, Unsent
from inversion_worker.owner import Owner
from inversion_worker.saved import SavedEdits, Unsaved
from inversion_worker.scripts import Call
from inversion_worker.settings import UNFINISHED_TTL_S, ClientSettings
from inversion_worker.sources import SourceCode
from inversion_worker.submission import Stored, Submission

__all__ = [
    "MAX_DETAIL",
    "Claim",
    "ClientSettings",
    "Code",
    "DirectionExists",
    "Figures",
    "Filters",
    "Found",
    "JobClient",
    "JobRefused",
    "NobodyAnswers",
    "OnceBusy",
    "OnceReused",
    "Outbox",
    "Page",
    "Place",
    "QueueFull",
    "SourceCode",
    "SourceGone",
    "StorageFull",
    "Stored",
    "Submission",
    "TooManyDirections",
    "TooManyJobs",
    "Turn",
    "Unsaved",
    "Unsent",
    "WorkerError",
    "connect_async",
    "logs",
    "server_time",
    "tracing",
]

log = logging.getLogger(__name__)

_BLOCK_MS = 1000
_EVENT_ID = re.compile(r"\d{1,19}(-\d{1,19})?")
_ORPHAN_AGE_MS = 3600 * 1000
_ACCEPT_S = 3600.0
"""What is stored of a job that is not queued so much later was left by a crash."""
_CHUNK = 1000


class JobClient:
    """The jobs of one Redis and one artifact store. Make it inside the event loop that will use it.

    Raises from every method: redis.exceptions.RedisError when Redis cannot be reached.
    """

    def __init__(
        self,
        redis: Redis,
        artifacts: ArtifactStore,
        celery: Celery,
        ttl_s: float,
        room: Room | None = None,
        streams: Redis | None = None,
        unfinished_ttl_s: float = UNFINISHED_TTL_S,
        direction_ttl_s: float = 90 * 24 * 3600,
    ) -> None:
        """`streams` is for commands that block; without it they take their turn with the others."""
        self._redis = redis
        self._streams = streams or redis
        self._admission = Admission(redis, room or Room())
        self._artifacts = artifacts
        self._asker = Asker(redis, self._streams, artifacts)
        self._saved = SavedEdits(redis)
        self._directions = Directions(redis, artifacts, self._delete_files)
        self._celery = celery
        self._ttl_s = ttl_s
        self._direction_ttl_s = direction_ttl_s
        self._unfinished_ttl = timedelta(seconds=unfinished_ttl_s)
        self._others = 0
        # One thread: sending is Python from end to end, and several of them would keep the event loop waiting.
        self._bell = ThreadPoolExecutor(1, thread_name_prefix="bell")

    @classmethod
    def from_settings(cls, settings: ClientSettings) -> JobClient:
        redis = connect_async(settings.redis_url)
        celery = broker.make_celery(settings.redis_url)
        room = Room(most_queued=settings.max_queued, most_active=settings.max_active)
        streams = connect_streams(settings.redis_url)
        return cls(
            redis,
            ArtifactStore(settings.artifacts_url, Owner(connect(settings.redis_url))),
            celery,
            settings.ttl_s,
            room,
            streams,
            settings.unfinished_ttl_s,
            settings.direction_ttl_s,
        )

    async def check_room(self, tenant: str) -> None:
        """Raise QueueFull or TooManyJobs where a job of this tenant would be refused now."""
        await self._admission.check(tenant)

    async def submit(self, photo: bytes, options: JobOptions, *, tenant: str = "") -> JobRecord:
        """Store the photo and queue a job for it. Raises: as `submit_one`."""
        return await self.submit_one(Submission(photo=photo, options=options), tenant=tenant)

    async def submit_one(
        self, submission: Submission, *, tenant: str = "", once: Claim | None = None, retry_of: str | None = None
    ) -> JobRecord:
        """Store a submission and queue a job for it.

        Args:
            once: the Idempotency-Key that is answered with this job from now on.
            retry_of: the job that this one repeats.
        Raises: QueueFull, TooManyJobs, StorageFull, OnceBusy (the claim was held too long), SourceGone; then nothing is
        left.
        """
        now = await server_time(self._redis)
        record = self._new_record(submission, tenant, now).model_copy(update={"retry_of": retry_of})
        await self._accept([(record, submission)], once, made=record.id)
        return record

    async def submit_batch(
        self, submissions: Sequence[Submission], *, tenant: str = "", once: Claim | None = None
    ) -> BatchRecord:
        """Queue a job for each, all of them or none. Raises: as `submit_one`."""
        batch_id = uuid.uuid4().hex
        now = await server_time(self._redis)
        records = [self._new_record(one, tenant, now).model_copy(update={"batch": batch_id}) for one in submissions]
        batch = BatchRecord(
            id=batch_id,
            tenant=tenant,
            created_at=now,
            expires_at=now + self._unfinished_ttl + timedelta(milliseconds=max(map(self._ttl_ms, records))),
            jobs=[record.id for record in records],
        )
        await self._accept(list(zip(records, submissions, strict=True)), once, made=batch_id, batch=batch)
        return batch

    def _ttl_ms(self, record: JobRecord) -> int:
        ttl_s = record.options.ttl
        return int(1000 * (self._ttl_s if ttl_s is None else ttl_s))

    def _new_record(self, submission: Submission, tenant: str, now: datetime) -> JobRecord:
        return JobRecord(
            id=uuid.uuid4().hex,
            tenant=tenant,
            status=JobStatus.QUEUED,
            options=submission.options,
            masked=submission.mask is not None,
            diffusion=submission.diffusion,
            source=submission.source,
            metadata=None if submission.metadata is None else dict(submission.metadata),
            request_id=logs.current("request_id"),
            traceparent=tracing.traceparent(),
            created_at=now,
            expires_at=now + self._unfinished_ttl,
        )

    async def _accept(
        self,
        jobs: Sequence[tuple[JobRecord, Submission]],
        once: Claim | None,
        made: str,
        batch: BatchRecord | None = None,
    ) -> None:
        """Store the bytes, queue the jobs in one transaction, tell the broker.

        The expiry comes first, so that whatever a crash leaves behind will be deleted by a sweep.
        """
        async with self._admission.admitted(jobs[0][0].tenant, [record.id for record, _ in jobs]):
            accepted_by_s = jobs[0][0].created_at.timestamp() + _ACCEPT_S
            await self._redis.zadd(scripts.EXPIRY, dict.fromkeys([record.id for record, _ in jobs], accepted_by_s))
            try:
                for record, submission in jobs:
                    for key, data in submission.files(record.id).items():
                        await asyncio.to_thread(self._store, key, data)
                if not await self._queue([record for record, _ in jobs], once, made, batch):
                    raise OnceBusy
            except BaseException:
                await asyncio.shield(self._undo([record.id for record, _ in jobs], batch))
                raise
        for record, _ in jobs:
            await self._ring(record)

    def _store(self, key: str, data: bytes | Stored) -> None:
        if not isinstance(data, Stored):
            self._artifacts.write(key, data)
        elif not self._artifacts.copy(data.key, key):
            raise SourceGone

    async def _undo(self, job_ids: Sequence[str], batch: BatchRecord | None) -> None:
        for job_id in job_ids:
            await self.delete(job_id)
        if batch is not None:
            await self.delete_batch(batch)

    async def _queue(
        self, records: Sequence[JobRecord], once: Claim | None, made: str, batch: BatchRecord | None
    ) -> bool:
        """False, and nothing has happened, when the Idempotency-Key is no longer ours."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for record in records:
                call = transitions.submit(record, self._ttl_ms(record), once)
                pipe.eval(call.text, len(call.keys), *call.keys, *call.argv)
            for key, value, until_ms in transitions.submit_batch(batch) if batch is not None else ():
                pipe.set(key, value, pxat=until_ms)
            if once is not None:
                pipe.eval(FINISH, 1, once.key, once.token, made, KEPT_MS)
            answers = await pipe.execute()
        return bool(answers[0])

    async def begin_once(self, tenant: str, key: str, fingerprint: str) -> Claim | str:
        """Take an Idempotency-Key, or get the id that the same request was answered with; see inversion_worker/once.py.

        Raises: OnceBusy, OnceReused.
        """
        return await once_.begin(self._redis, tenant, key, fingerprint)

    async def release_once(self, claim: Claim) -> None:
        """Give an Idempotency-Key back because nothing was made; harmless when something was."""
        await once_.release(self._redis, claim)

    async def forget_once(self, tenant: str, key: str, made: str) -> None:
        """Free an Idempotency-Key whose answer, `made`, is gone; harmless when it has another answer by now."""
        await once_.forget(self._redis, tenant, key, made)

    async def retry(self, record: JobRecord, *, once: Claim | None = None) -> JobRecord | None:
        """A new job of the same photo, options and metadata as an ended one; None when its photo is gone.

        A final state stays final: those who were told of it, by an event or a webhook, were told the truth.
        """
        names = (
            ArtifactKey.photo, ArtifactKey.mask, ArtifactKey.start, ArtifactKey.start_latent, ArtifactKey.face,
        )  # fmt: skip
        photo, mask, start, start_latent, face = [await self.read(key(record.id)) for key in names]
        if photo is None:
            return None
        submission = Submission(
            photo=photo,
            options=record.options,
            mask=mask,
            start=start,
            start_latent=start_latent,
            diffusion=record.diffusion,
            face=face,
            source=record.source,
            metadata=record.metadata,
        )
        return await self.submit_one(submission, tenant=record.tenant, once=once, retry_of=record.id)

    async def wait(self, job_id: str, timeout_s: float) -> JobRecord | None:
        """The job's record as soon as it has ended, or as it is after `timeout_s`; None when it is gone."""
        async for _ in self.events(job_id, for_s=timeout_s):
            pass
        return await self.get(job_id)

    async def page(self, tenant: str, filters: Filters, after: Place | None, limit: int) -> Page:
        """A tenant's jobs, newest first; see inversion_worker/listing.py."""
        return await listing.page(self._redis, tenant, filters, after, limit)

    async def usage(self, tenant: str, days: int) -> list[UsageDay]:
        """What a tenant has used in the last days, oldest first."""
        return await usage.usage(self._redis, tenant, days)

    async def look(self, photo: bytes, timeout_s: float, *, tenant: str | None = None) -> Seen:
        """What a worker sees in a photo, beside its jobs; nothing is kept.

        Args:
            tenant: whose usage it counts for; None where it is part of something else that counts.
        Raises: NobodyAnswers, JobRefused, StorageFull.
        """
        reply = await self._asker.ask(QuestionKind.LOOK, {}, photo, timeout_s, stored=True)
        if tenant is not None:
            await usage.count(self._redis, tenant, "looked")
        return Seen.model_validate(reply.result)

    async def begin_session(self, tenant: str, session: str) -> Turn:
        """The newest turn of a tenant's session: a render that is asked for under an older one is refused."""
        return await self._asker.begin(f"{tenant}:{session}")

    async def render(
        self, order: RenderOrder, sent: bytes, timeout_s: float, *, tenant: str, turn: Turn | None = None
    ) -> tuple[Rendered, bytes]:
        """A picture that a worker makes beside its jobs; nothing is kept.

        Args:
            sent: the bytes of the question; see RenderOrder.
            turn: of a session; there it is refused as soon as there is a newer one.
        Raises: NobodyAnswers, JobRefused, StorageFull.
        """
        params = order.model_dump(mode="json", exclude_defaults=True)
        topic = pack_topic(order.pack, order.digest)
        reply = await self._asker.ask(QuestionKind.RENDER, params, sent, timeout_s, topic=topic, turn=turn)
        await usage.count(self._redis, tenant, "rendered")
        return Rendered.model_validate(reply.result), reply.body

    async def film(self, order: FilmOrder, timeout_s: float, *, tenant: str) -> tuple[Rendered, bytes]:
        """A film that a worker makes beside its jobs; it counts as a render. Raises: as `render`."""
        params = order.model_dump(mode="json", exclude_defaults=True)
        topic = pack_topic(order.first.pack, order.first.digest)
        reply = await self._asker.ask(QuestionKind.FILM, params, b"", timeout_s, topic=topic)
        await usage.count(self._redis, tenant, "rendered")
        return Rendered.model_validate(reply.result), reply.body

    async def save_edit(self, job_id: str, name: str, edits: list[dict[str, Any]], parent: str | None) -> SavedEdit:
        """Keep an edit list with a job, for as long as that. The same once more is the one that is there.

        Raises: Unsaved, which says why; the job may be gone.
        """
        return await self._saved.save(job_id, name, edits, parent)

    async def saved_edits(self, job_id: str) -> list[SavedEdit]:
        """Those of a job, in the order in which they were saved."""
        return await self._saved.all(job_id)

    async def delete_edit(self, job_id: str, edit_id: str) -> bool:
        """Delete a saved edit list; those that were made from it hang on its parent then. Says whether it was there."""
        return await self._saved.delete(job_id, edit_id)

    async def directions(self, tenant: str) -> list[DirectionRecord]:
        """A tenant's own editing directions, of every pack, oldest first."""
        return await self._directions.all(tenant)

    async def add_direction(self, record: DirectionRecord, step: bytes, ttl_s: float | None) -> DirectionRecord:
        """Keep a direction, for `ttl_s` or as long as the settings say; see Directions.add.

        Raises: DirectionExists, TooManyDirections, StorageFull.
        """
        return await self._directions.add(record, step, self._direction_ttl_s if ttl_s is None else ttl_s)

    async def delete_direction(self, record: DirectionRecord) -> bool:
        """Delete a tenant's own direction. Says whether it was there."""
        return await self._directions.delete(record)

    async def was_known(self, tenant: str, job_id: str) -> bool:
        """Whether there was a job or batch of this id that has expired lately, or is still there."""
        return bool(await self._redis.exists(scripts.known_key(tenant, job_id)))

    async def batch(self, batch_id: str) -> BatchRecord | None:
        """A batch; None when there is none, or no longer."""
        text = cast(str | None, await self._redis.get(scripts.batch_key(batch_id)))
        return BatchRecord.model_validate_json(text) if text is not None else None

    async def records_of(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        """The records of these jobs, None for one that is gone."""
        return await listing.records(self._redis, job_ids)

    async def delete_batch(self, batch: BatchRecord) -> None:
        """Delete a batch and all of its jobs."""
        await self._undo(batch.jobs, None)
        keys = (scripts.batch_key(batch.id), scripts.known_key(batch.tenant, batch.id))
        await self._redis.delete(*keys)

    async def get(self, job_id: str) -> JobRecord | None:
        """The job's record; None when there is none, or no longer."""
        stored = await self._redis.hgetall(scripts.job_key(job_id))
        return transitions.decode_record(cast(dict[str, str], stored))

    async def queue_position(self, job_id: str) -> int | None:
        """How many jobs are before this one; None when it is not queued."""
        return cast(int | None, await self._redis.zrank(scripts.QUEUED, job_id))

    async def events(
        self, job_id: str, after_id: str = "0", for_s: float = math.inf
    ) -> AsyncIterator[tuple[str, JobEvent]]:
        """Every event after `after_id` with its id, as they come, until a final one, `for_s`, or the job is deleted.

        An `after_id` that is no event id replays from the start. The time is looked at between two commands: before
        Python 3.12 a cancellation that meets a command on its way is lost (asyncio.wait_for, within redis).
        """
        last = after_id if _EVENT_ID.fullmatch(after_id) else "0"
        entries: list[tuple[str, JobEvent]] = []
        until_s = time.monotonic() + for_s
        while True:
            left_ms = 1000 * (until_s - time.monotonic())
            over = left_ms <= 0
            if not entries:  # at first, and when nothing has come for long: it may have ended before, or be gone
                status = await self._status(job_id)  # read before the events: a final one is then among them
                over = over or status is None or status.is_final
            entries = await self._entries(job_id, last, None if over else math.ceil(min(_BLOCK_MS, left_ms)))
            for last, event in entries:
                yield last, event
            if over or any(event.kind in FINAL_EVENTS for _, event in entries):
                return

    async def cancel(self, job_id: str) -> JobRecord | None:
        """Cancel a queued job at once and a running one at its next Step; a finished one stays as it is.

        Returns the record as it is then; None when there is no such job.
        """
        if await self._run(transitions.cancel(job_id)) == 1:
            await asyncio.to_thread(self._artifacts.delete, ArtifactKey.checkpoint(job_id))
        return await self.get(job_id)

    async def finish(self, job_id: str) -> JobRecord | None:
        """Let a job end with the best that it has found, after its next Step; a finished one stays as it is.

        Returns the record as it is then; None when there is no such job.
        """
        await self._run(transitions.end_early(job_id))
        return await self.get(job_id)

    async def code(self, job_id: str) -> Code | None:
        """The code of one that has succeeded, with its detail; None where it is gone."""
        if (whole := await self.read(ArtifactKey.latent(job_id))) is not None:
            return Code.from_bytes(whole)
        data = await self.read(ArtifactKey.latents(job_id))
        return Code.from_npy(data) if data is not None else None

    async def found(self, job_id: str) -> Found | None:
        """The best code so far of a job that has not succeeded, with its picture; None where there is none."""
        data = await self.read(ArtifactKey.best(job_id))
        return Found.from_bytes(data) if data is not None else None

    async def delete(self, job_id: str) -> bool:
        """Delete a job and all of its files; a worker that runs it stops. Says whether there was one.

        No tombstone stays either. The expiry goes last, so that a sweep finishes what a crash interrupts.
        """
        tenant = cast(str | None, await self._redis.hget(scripts.job_key(job_id), "tenant"))
        existed = tenant is not None and bool(await self._run(transitions.delete(job_id, json.loads(tenant))))
        if await self._redis.zscore(scripts.EXPIRY, job_id) is not None:
            await self._delete_files(job_id)
        return existed

    async def _delete_files(self, job_id: str) -> None:
        await asyncio.to_thread(self._artifacts.delete_job, job_id)
        await self._redis.zrem(scripts.EXPIRY, job_id)

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
        self._others = len(await asyncio.to_thread(self._artifacts.others))
        due = cast(list[str], await self._redis.eval(scripts.DUE, 1, scripts.EXPIRY))
        expired = [job_id for job_id in due if await self._run(transitions.expire(job_id))]
        return sum([await self._swept(job_id) for job_id in [*expired, *await self._orphans()]])

    @property
    def notes(self) -> list[str]:
        """What whoever runs the service should know; as the last sweep saw it."""
        return [f"Folders of other owners in the artifact store: {self._others}; {OTHERS}"] if self._others else []

    async def figures(self) -> Figures:
        """What the whole service does."""
        return await figures.read(self._redis)

    async def ping(self) -> None:
        """Raises: redis.exceptions.RedisError when Redis does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose()
        await self._streams.aclose()
        await asyncio.to_thread(self._artifacts.close)
        await asyncio.to_thread(self._bell.shutdown)
        await asyncio.to_thread(self._celery.close)

    async def _ring(self, record: JobRecord) -> None:
        """Tell the broker. The job is already queued, so if this fails the workers' reaper repairs it."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._bell, broker.send, self._celery, record.id)
        except OperationalError as error:
            log.warning("message not sent, left to the reaper job=%s error=%s", record.id, error)

    async def _status(self, job_id: str) -> JobStatus | None:
        text = cast(str | None, await self._redis.hget(scripts.job_key(job_id), "status"))
        return JobStatus(json.loads(text)) if text is not None else None

    async def _entries(self, job_id: str, after_id: str, block_ms: int | None) -> list[tuple[str, JobEvent]]:
        streams: Any = await self._streams.xread({scripts.events_key(job_id): after_id}, block=block_ms)
        return [
            (entry_id, transitions.decode_event(fields["event"]))
            for _, entries in streams or ()
            for entry_id, fields in entries
        ]

    async def _swept(self, job_id: str) -> bool:
        """Delete a job's files; one that cannot be deleted is left to the next sweep, and stops none of the others."""
        try:
            await self._delete_files(job_id)
        except OSError as error:
            log.warning("not swept job=%s error=%s", job_id, error)
            return False
        await self._redis.zrem(scripts.ORPHANS, job_id)
        return True

    async def _orphans(self) -> list[str]:
        """Folders that no job has known for long, by the server's clock: a crash may have left them."""
        ids = await asyncio.to_thread(self._artifacts.job_ids)
        found: list[str] = []
        for first in range(0, len(ids), _CHUNK):
            some = ids[first : first + _CHUNK]
            args: list[str | int] = [scripts.EXPIRY, scripts.ORPHANS, _ORPHAN_AGE_MS, *some]
            found += cast(list[str], await self._redis.eval(scripts.ORPHANED, 2, *args))
        return found

    async def _run(self, call: Call) -> Any:
        return await self._redis.eval(call.text, len(call.keys), *call.keys, *call.argv)
