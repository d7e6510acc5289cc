"""A job client that keeps everything in memory and runs nothing: a test says what becomes of a job."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import numpy as np
from PIL import Image

from worker.client import Figures
from worker.contract import (
    ArtifactKey,
    FaceInfo,
    FrameReady,
    JobCanceled,
    JobDone,
    JobEvent,
    JobFailed,
    JobOptions,
    JobQueued,
    JobRecord,
    JobStarted,
    JobStatus,
    PackInfo,
    Problem,
    StartKind,
    WorkerInfo,
)

FACES = PackInfo(
    name="faces-64",
    version="1.0.0",
    resolution=64,
    layers=10,
    w_dim=128,
    starts=[StartKind.ENCODER, StartKind.MEAN, StartKind.RANDOM],
    optimizers=["adam", "sgd"],
    licence="Apache-2.0",
    description="Faces at 64 px.",
    default=True,
)
SMALL = FACES.model_copy(
    update={"name": "small", "starts": [StartKind.MEAN], "optimizers": ["lbfgs"], "default": False}
)
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


class FakeJobClient:
    """The methods of worker.client.JobClient."""

    def __init__(self) -> None:
        self.records: dict[str, JobRecord] = {}
        self.files: dict[str, bytes] = {}
        self.said: dict[str, list[JobEvent]] = {}
        self.announced = [WORKER]
        self.outage: Exception | None = None
        """Raised by every method while it is set."""
        self.no_room: Exception | None = None
        """Raised to whoever wants to submit while it is set."""
        self.counted = Figures(queued=0, running=0, oldest_queued_s=0, webhooks=0, totals={}, workers=[])
        self.sweeps = 0
        self.closed = False

    # ---- what the application calls

    async def submit(self, photo: bytes, options: JobOptions, *, tenant: str = "") -> JobRecord:
        self._fail_if_out()
        now = datetime.now(UTC)
        record = JobRecord(
            id=uuid.uuid4().hex,
            tenant=tenant,
            status=JobStatus.QUEUED,
            options=options,
            created_at=now,
            expires_at=now + timedelta(hours=1),
        )
        self.records[record.id] = record
        self.files[ArtifactKey.photo(record.id)] = photo
        self.said[record.id] = [JobQueued()]
        return record

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
        while job_id in self.records:
            self._fail_if_out()
            for event in self.said[job_id][index:]:
                index += 1
                yield f"{index}-0", event
            if self.records[job_id].status.is_final:
                return
            await asyncio.sleep(0.01)

    async def cancel(self, job_id: str) -> JobRecord | None:
        self._fail_if_out()
        record = self.records.get(job_id)
        if record is not None and not record.status.is_final:
            self.change(job_id, JobCanceled(), status=JobStatus.CANCELED)
        return self.records.get(job_id)

    async def delete(self, job_id: str) -> bool:
        self._fail_if_out()
        self.files = {key: data for key, data in self.files.items() if not key.startswith(ArtifactKey.prefix(job_id))}
        return self.records.pop(job_id, None) is not None

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
        event = JobStarted(attempt=1, steps=self.records[job_id].options.steps, aligned_key=ArtifactKey.aligned(job_id))
        face = FaceInfo(found=2, quad=[(1, 1), (1, 9), (9, 9), (9, 1)])
        self.change(
            job_id,
            event,
            status=JobStatus.RUNNING,
            started_at=datetime.now(UTC),
            attempts=1,
            pack_name=FACES.name,
            pack_version=FACES.version,
            face=face.model_dump(),
        )

    def step(self, job_id: str, step: int, loss: float) -> None:
        """A Step, with its frame."""
        key = ArtifactKey.frame(job_id, step)
        self.files[key] = picture_bytes("WEBP", (64, 64))
        frames = [*self.records[job_id].frames, step]
        self.change(job_id, FrameReady(step=step, loss=loss, frame_key=key), step=step, loss=loss, frames=frames)

    def succeed(self, job_id: str) -> None:
        """The last Step is done, and the results are written."""
        record = self.records[job_id]
        buffer = io.BytesIO()
        np.save(buffer, np.arange(10 * 128, dtype=np.float32).reshape(10, 128))
        self.files[ArtifactKey.latents(job_id)] = buffer.getvalue()
        self.files[ArtifactKey.image(job_id)] = picture_bytes(size=(64, 64))
        done = JobDone(step=record.step or 0, loss=record.loss or 0.0)
        self.change(
            job_id,
            done,
            status=JobStatus.SUCCEEDED,
            best_step=record.step,
            best_loss=record.loss,
            finished_at=datetime.now(UTC),
            seconds=1.5,
        )

    def fail(self, job_id: str) -> None:
        """There is no face in the photo."""
        self.change(job_id, JobFailed(error=NO_FACE), status=JobStatus.FAILED, error=NO_FACE.model_dump())
