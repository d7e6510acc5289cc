"""A job client that keeps everything in memory and runs nothing: a test says what becomes of a job."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from PIL import Image

from inversion_worker.client import (
    Claim,
    Code,
    Figures,
    Filters,
    Found,
    NobodyAnswers,
    OnceBusy,
    OnceReused,
    Page,
    Place,
    SourceCode,
    SourceGone,
    Stored,
    Submission,
    Turn,
    Unsaved,
)
from inversion_worker.contract import (
    ArtifactKey,
    BatchRecord,
    DirectionInfo,
    DirectionRecord,
    FaceInfo,
    FilmOrder,
    FrameReady,
    JobCanceled,
    JobDeleted,
    JobDone,
    JobEvent,
    JobExpired,
    JobFailed,
    JobQueued,
    JobRecord,
    JobStarted,
    JobStatus,
    PackInfo,
    Problem,
    RenderAs,
    Rendered,
    RenderOrder,
    SavedEdit,
    Seen,
    StartKind,
    StopReason,
    UsageDay,
    WorkerInfo,
)
from inversion_worker.transitions import unix_ms

FACES = PackInfo(
    name="faces-64",
    version="1.0.0",
    digest="sha256:" + 32 * "ab",
    resolution=64,
    layers=10,
    w_dim=128,
    starts=[StartKind.ENCODER, StartKind.MEAN, StartKind.RANDOM],
    optimizers=["adam", "sgd"],
    default_optimizer="adam",
    directions=[
        DirectionInfo(
            name="smile",
            label="Happier",
            low=-3,
            high=2.5,
            unit="a rating",
            source="ratings",
            held_out_r2=0.75,
            side_effects={"age": -0.5},
        )
    ],
    licence="Apache-2.0",
    description="Faces at 64 px.",
    default=True,
)
SMALL = FACES.model_copy(
    update={
        "name": "small",
        "starts": [StartKind.MEAN],
        "optimizers": ["lbfgs", "nag"],
        "default_optimizer": "lbfgs",
        "default": False,
    }
)
SEEN = Seen.model_validate(
    {
        "photo": {"width": 96, "height": 80},
        "faces": [
            {
                "box": (left, 2, left + 6, 8),
                "landmarks": [(left + 2, 4), (left + 4, 4), (left + 3, 5), (left + 2, 6), (left + 4, 6)],
                "score": 0.99,
                "quad": [(left, 1), (left, 9), (left + 8, 9), (left + 8, 1)],
                "warnings": [{"kind": "cut-by-border", "detail": "The border cuts it."}],
            }
            for left in (1, 51)
        ],
    }
)
"""Two faces, the first on the left and the second on the right."""
WORKER = WorkerInfo(id="w1", packs=[FACES, SMALL], slots=1, device="cpu")
NO_FACE = Problem(
    type="/problems/no-face-found", title="No face was found in the photo", status=422, detail="Try another photo."
)


def picture_bytes(kind: str = "PNG", size: tuple[int, int] = (96, 80), mode: str = "RGB") -> bytes:
    """A sound picture: a gradient, so that it does not compress to nothing."""
    gradient = Image.linear_gradient("L").resize(size).convert(mode)
    buffer = io.BytesIO()
    gradient.save(buffer, kind)
    return buffer.getvalue()


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


class FakeJobClient:
    """The methods of inversion_worker.client.JobClient."""

    def __init__(self) -> None:
        self.records: dict[str, JobRecord] = {}
        self.files: dict[str, bytes] = {}
        self.said: dict[str, list[JobEvent]] = {}
        self.announced = [WORKER]
        self.outage: Exception | None = None
        """Raised by every method while it is set."""
        self.once: dict[str, tuple[str, str]] = {}
        """Idempotency-Key -> (fingerprint, id of what was made)."""
        self.batches: dict[str, BatchRecord] = {}
        self.tombstones: set[tuple[str, str]] = set()
        self.runs = False
        """Whether every new job is done at once."""
        self.seen: Seen | None = SEEN
        """What a look at any photo finds; None where no worker answers."""
        self.looks: list[tuple[bytes, str | None]] = []
        """Photos that were looked at, and for which tenant that counts."""
        self.renders: list[tuple[RenderOrder, bytes, str]] = []
        """What was rendered, and for which tenant that counts."""
        self.films: list[FilmOrder] = []
        self.refusal: Exception | None = None
        """Raised by every render while it is set."""
        self.sessions: list[str] = []
        self.saved: dict[str, list[SavedEdit]] = {}
        self.own_directions: list[DirectionRecord] = []
        self.no_direction: Exception | None = None
        """Raised to whoever wants to keep a direction while it is set."""
        self.no_room: Exception | None = None
        """Raised to whoever wants to submit while it is set."""
        self.counted = Figures(queued=0, running=0, oldest_queued_s=0, webhooks=0, totals={}, workers=[])
        self.followed: set[str] = set()
        """Jobs whose events somebody has asked for."""
        self.to_finish: set[str] = set()
        """Jobs that are to end with what they have found."""
        self.last_words: dict[str, JobEvent] = {}
        """What is still said of jobs that went before they had ended."""
        self.notes: list[str] = []
        self.sweeps = 0
        self.closed = False

    # ---- what the application calls

    async def submit_one(
        self,
        submission: Submission,
        *,
        tenant: str = "",
        once: Claim | None = None,
        retry_of: str | None = None,
        batch: str | None = None,
    ) -> JobRecord:
        self._fail_if_out()
        now = datetime.now(UTC)
        record = JobRecord(
            id=uuid.uuid4().hex,
            tenant=tenant,
            status=JobStatus.QUEUED,
            options=submission.options,
            masked=submission.mask is not None,
            diffusion=submission.diffusion,
            source=submission.source,
            metadata=None if submission.metadata is None else dict(submission.metadata),
            batch=batch,
            retry_of=retry_of,
            created_at=now,
            expires_at=now + timedelta(seconds=submission.options.ttl or 3600),
        )
        self._store(submission.files(record.id))
        self.records[record.id] = record
        self.said[record.id] = [JobQueued()]
        if once is not None:
            self.once[once.key] = (self.once[once.key][0], record.id)
        if self.runs:
            self.run(record.id)
        return record

    def _store(self, files: Mapping[str, bytes | Stored]) -> None:
        for key, data in files.items():
            if not isinstance(data, Stored):
                self.files[key] = data
            elif data.key in self.files:
                self.files[key] = self.files[data.key]
            else:
                raise SourceGone

    async def submit_batch(
        self, submissions: Sequence[Submission], *, tenant: str = "", once: Claim | None = None
    ) -> BatchRecord:
        self._fail_if_out()
        batch_id = uuid.uuid4().hex
        records = [await self.submit_one(one, tenant=tenant, batch=batch_id) for one in submissions]
        jobs = [record.id for record in records]
        batch = BatchRecord(
            id=batch_id,
            tenant=tenant,
            created_at=records[0].created_at,
            expires_at=records[0].expires_at,
            jobs=jobs,
        )
        self.batches[batch.id] = batch
        if once is not None:
            self.once[once.key] = (self.once[once.key][0], batch.id)
        return batch

    async def begin_once(self, tenant: str, key: str, fingerprint: str) -> Claim | str:
        self._fail_if_out()
        name = f"{tenant}:{key}"
        said, made = self.once.get(name, (fingerprint, ""))
        if said != fingerprint:
            raise OnceReused
        if made:
            return made
        if name in self.once:
            raise OnceBusy
        self.once[name] = (fingerprint, "")
        return Claim(key=name, token="token")

    async def release_once(self, claim: Claim) -> None:
        if self.once.get(claim.key, ("", ""))[1] == "":
            self.once.pop(claim.key, None)

    async def forget_once(self, tenant: str, key: str, made: str) -> None:
        if self.once.get(f"{tenant}:{key}", ("", ""))[1] == made:
            del self.once[f"{tenant}:{key}"]

    async def retry(self, record: JobRecord, *, once: Claim | None = None) -> JobRecord | None:
        self._fail_if_out()
        photo = self.files.get(ArtifactKey.photo(record.id))
        if photo is None:
            return None
        submission = Submission(photo=photo, options=record.options, metadata=record.metadata)
        return await self.submit_one(submission, tenant=record.tenant, once=once, retry_of=record.id)

    async def wait(self, job_id: str, timeout_s: float) -> JobRecord | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                async for _ in self.events(job_id):
                    pass
        return await self.get(job_id)

    async def page(self, tenant: str, filters: Filters, after: Place | None, limit: int) -> Page:
        self._fail_if_out()
        places = {Place(unix_ms(record.created_at), record.id): record for record in self.records.values()}
        found = [
            (place, record)
            for place, record in sorted(places.items(), reverse=True)
            if (after is None or place < after) and record.tenant == tenant and filters.want(record)
        ]
        cursor = found[limit - 1][0].encode() if len(found) > limit else None
        return Page(records=[record for _, record in found[:limit]], cursor=cursor)

    async def usage(self, tenant: str, days: int) -> list[UsageDay]:
        self._fail_if_out()
        today = datetime.now(UTC).date()
        states = [record.status for record in self.records.values() if record.tenant == tenant]
        ended = {name: states.count(JobStatus(name)) for name in ("succeeded", "failed", "canceled")}
        dates = [today - timedelta(days=back) for back in reversed(range(days))]
        last = UsageDay(date=today, submitted=len(states), seconds=1.5 * ended["succeeded"], **ended)
        return [*(UsageDay(date=date) for date in dates[:-1]), last]

    async def look(self, photo: bytes, timeout_s: float, *, tenant: str | None = None) -> Seen:
        self._fail_if_out()
        self.looks.append((photo, tenant))
        if self.seen is None:
            raise NobodyAnswers("No worker that is alive answers 'look'.")
        return self.seen

    async def begin_session(self, tenant: str, session: str) -> Turn:
        self._fail_if_out()
        self.sessions.append(f"{tenant}:{session}")
        return Turn(session=session, number=str(len(self.sessions)))

    async def render(
        self, order: RenderOrder, sent: bytes, timeout_s: float, *, tenant: str, turn: Turn | None = None
    ) -> tuple[Rendered, bytes]:
        self._fail_if_out()
        self.renders.append((order, sent, tenant))
        if self.refusal is not None:
            raise self.refusal
        told = Rendered(pack=FACES.name, version=FACES.version, digest=FACES.digest, width=64, height=64, left=3, top=4)
        if order.kind is RenderAs.LATENTS:
            return told, SourceCode(w_LD=np.ones((10, 128), np.float32)).to_bytes()
        return told, picture_bytes(order.format.name, (64, 64))

    async def film(self, order: FilmOrder, timeout_s: float, *, tenant: str) -> tuple[Rendered, bytes]:
        self._fail_if_out()
        self.films.append(order)
        if self.refusal is not None:
            raise self.refusal
        told = Rendered(pack=FACES.name, version=FACES.version, digest=FACES.digest, width=64, height=64)
        return told, b"film"

    async def save_edit(self, job_id: str, name: str, edits: list[dict[str, Any]], parent: str | None) -> SavedEdit:
        self._fail_if_out()
        there = self.saved.setdefault(job_id, [])
        if parent is not None and parent not in {each.id for each in there}:
            raise Unsaved("parent")
        if len(there) >= 3:
            raise Unsaved("full")
        there.append(
            SavedEdit(id=uuid.uuid4().hex, name=name, edits=edits, parent=parent, created_at=datetime.now(UTC))
        )
        return there[-1]

    async def saved_edits(self, job_id: str) -> list[SavedEdit]:
        self._fail_if_out()
        return self.saved.get(job_id, [])

    async def delete_edit(self, job_id: str, edit_id: str) -> bool:
        self._fail_if_out()
        before = self.saved.get(job_id, [])
        self.saved[job_id] = [each for each in before if each.id != edit_id]
        return len(self.saved[job_id]) < len(before)

    async def directions(self, tenant: str) -> list[DirectionRecord]:
        self._fail_if_out()
        return [each for each in self.own_directions if each.tenant == tenant]

    async def add_direction(self, record: DirectionRecord, step: bytes, ttl_s: float | None) -> DirectionRecord:
        if self.no_direction is not None:
            raise self.no_direction
        now = datetime.now(UTC)
        ends = now + timedelta(seconds=90 * 86_400 if ttl_s is None else ttl_s)
        record = record.model_copy(update={"created_at": now, "expires_at": ends})
        self.own_directions.append(record)
        self.files[ArtifactKey.direction(record.id)] = step
        return record

    async def delete_direction(self, record: DirectionRecord) -> bool:
        if record not in self.own_directions:
            return False
        self.own_directions.remove(record)
        del self.files[ArtifactKey.direction(record.id)]
        return True

    async def was_known(self, tenant: str, job_id: str) -> bool:
        return (tenant, job_id) in self.tombstones

    async def batch(self, batch_id: str) -> BatchRecord | None:
        self._fail_if_out()
        return self.batches.get(batch_id)

    async def delete_batch(self, batch: BatchRecord) -> None:
        for job_id in batch.jobs:
            await self.delete(job_id)
        self.batches.pop(batch.id, None)

    async def records_of(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        self._fail_if_out()
        return [self.records.get(job_id) for job_id in job_ids]

    async def check_room(self, tenant: str) -> None:
        self._fail_if_out()
        if self.no_room is not None:
            raise self.no_room

    async def get(self, job_id: str) -> JobRecord | None:
        self._fail_if_out()
        return self.records.get(job_id)

    async def queue_position(self, job_id: str) -> int | None:
        self._fail_if_out()
        queued = [record.id for record in self.records.values() if record.status is JobStatus.QUEUED]
        return queued.index(job_id) if job_id in queued else None

    async def events(self, job_id: str, after_id: str = "0") -> AsyncIterator[tuple[str, JobEvent]]:
        index = int(after_id.split("-")[0])
        self.followed.add(job_id)
        while job_id in self.records:
            self._fail_if_out()
            for event in self.said[job_id][index:]:
                index += 1
                yield f"{index}-0", event
            if self.records[job_id].status.is_final:
                return
            await asyncio.sleep(0.01)
        if last := self.last_words.get(job_id):
            yield f"{index + 1}-0", last

    async def cancel(self, job_id: str) -> JobRecord | None:
        self._fail_if_out()
        record = self.records.get(job_id)
        if record is not None and not record.status.is_final:
            self.change(job_id, JobCanceled(), status=JobStatus.CANCELED)
        return self.records.get(job_id)

    async def finish(self, job_id: str) -> JobRecord | None:
        self._fail_if_out()
        self.to_finish.add(job_id)
        return self.records.get(job_id)

    async def code(self, job_id: str) -> Code | None:
        self._fail_if_out()
        if (whole := self.files.get(ArtifactKey.latent(job_id))) is not None:
            return Code.from_bytes(whole)
        data = self.files.get(ArtifactKey.latents(job_id))
        return Code.from_npy(data) if data is not None else None

    async def found(self, job_id: str) -> Found | None:
        self._fail_if_out()
        data = self.files.get(ArtifactKey.best(job_id))
        return Found.from_bytes(data) if data is not None else None

    async def delete(self, job_id: str) -> bool:
        self._fail_if_out()
        self.files = {key: data for key, data in self.files.items() if not key.startswith(ArtifactKey.prefix(job_id))}
        return self._leave(job_id, JobDeleted()) is not None

    async def read(self, key: str) -> bytes | None:
        self._fail_if_out()
        return self.files.get(key)

    async def workers(self) -> list[WorkerInfo]:
        self._fail_if_out()
        return self.announced

    async def figures(self) -> Figures:
        self._fail_if_out()
        return self.counted

    async def sweep(self) -> int:
        self.sweeps += 1
        self._fail_if_out()
        return 0

    async def ping(self) -> None:
        self._fail_if_out()

    async def close(self) -> None:
        self.closed = True

    def _fail_if_out(self) -> None:
        if self.outage is not None:
            raise self.outage

    # ---- what a worker would do

    def change(self, job_id: str, event: JobEvent | None = None, **fields: object) -> None:
        """Write fields of the record, and say an event."""
        record = self.records[job_id]
        self.records[job_id] = JobRecord.model_validate(record.model_dump() | fields)
        if event is not None:
            self.said[job_id].append(event)

    def start(self, job_id: str) -> None:
        """A worker takes the job, finds a face and writes the crop."""
        self.files[ArtifactKey.aligned(job_id)] = picture_bytes(size=(64, 64))
        event = JobStarted(
            attempt=1, steps=self.records[job_id].total_steps or 0, aligned_key=ArtifactKey.aligned(job_id)
        )
        face = FaceInfo(found=2, quad=list(SEEN.faces[0].quad))
        self.change(
            job_id,
            event,
            status=JobStatus.RUNNING,
            started_at=datetime.now(UTC),
            attempts=1,
            pack_name=FACES.name,
            pack_version=FACES.version,
            pack_digest=FACES.digest,
            optimizer=self.records[job_id].options.optimizer or FACES.default_optimizer,
            face=face.model_dump(),
            photo=SEEN.photo.model_dump(),
            faces=[seen.model_dump() for seen in SEEN.faces],
            face_index=0,
            warnings=[warning.model_dump() for warning in SEEN.faces[0].warnings],
        )

    def step(self, job_id: str, step: int, loss: float) -> None:
        """A Step, with its frame."""
        key = ArtifactKey.frame(job_id, step)
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), (10 * step % 256, 99, 99)).save(buffer, "WEBP")
        self.files[key] = buffer.getvalue()
        frames = [*self.records[job_id].frames, step]
        self.change(job_id, FrameReady(step=step, loss=loss, frame_key=key), step=step, loss=loss, frames=frames)

    def find(self, job_id: str, step: int, detail: np.ndarray[Any, Any] | None = None) -> None:
        """The best so far is of this step: its code has that number everywhere."""
        code = np.full((10, 128), step, np.float32)
        found = Found(step=step, code=code, picture=picture_bytes(size=(64, 64)), detail=detail)
        self.files[ArtifactKey.best(job_id)] = found.to_bytes()
        self.change(job_id, result_step=step, best_step=step, best_loss=0.25)

    def succeed(self, job_id: str, detail: np.ndarray[Any, Any] | None = None) -> None:
        """The last Step is done, and the results are written."""
        record = self.records[job_id]
        if detail is not None:
            w_LD = np.arange(10 * 128, dtype=np.float32).reshape(10, 128)
            self.files[ArtifactKey.latent(job_id)] = Code(w_LD=w_LD, detail_CHW=detail).to_bytes()
        self.files[ArtifactKey.latents(job_id)] = npy(np.arange(10 * 128, dtype=np.float32).reshape(10, 128))
        self.files[ArtifactKey.metrics(job_id)] = npy(np.array([[0, 0.5, 0.1], [5, np.nan, 0.2]]))
        self.files[ArtifactKey.image(job_id)] = picture_bytes(size=(64, 64))
        self.files[ArtifactKey.pasted(job_id)] = picture_bytes("JPEG")
        done = JobDone(step=record.step or 0, loss=record.loss or 0.0)
        self.change(
            job_id,
            done,
            status=JobStatus.SUCCEEDED,
            best_step=record.step,
            best_loss=record.loss,
            result_step=record.step,
            finished_at=datetime.now(UTC),
            seconds=1.5,
            stopped_by=StopReason.STEPS,
            pasted=True,
        )

    def run(self, job_id: str) -> None:
        """All that a worker does with a job that goes well."""
        self.start(job_id)
        self.step(job_id, 0, 0.5)
        self.step(job_id, 5, 0.25)
        self.succeed(job_id)

    def expire(self, job_id: str) -> None:
        """The time of `expires_at` has come."""
        record = self._leave(job_id, JobExpired())
        assert record is not None
        self.tombstones.add((record.tenant, job_id))

    def _leave(self, job_id: str, last_word: JobEvent) -> JobRecord | None:
        """Nothing stays of the job; those who follow one that had not ended are told so."""
        record = self.records.pop(job_id, None)
        if record is not None and not record.status.is_final:
            self.last_words[job_id] = last_word
        return record

    def fail(self, job_id: str) -> None:
        """There is no face in the photo."""
        self.change(job_id, JobFailed(error=NO_FACE), status=JobStatus.FAILED, error=NO_FACE.model_dump())
