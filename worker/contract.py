"""The seam between app and worker: every message and record, and nothing that does anything.

Bytes (photos, frames, codes) never travel in these messages: they lie in the artifact store under
the keys of `ArtifactKey`. The job record in Redis is the truth; Celery only carries the job's id.

    queued -> running -> succeeded | failed | canceled
       ^         |
       +---------+   a lost or stopping worker hands the job back (at most MAX_ATTEMPTS times)
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

MIN_SIDE_PX = 64
"""Shortest side of an upload."""
MAX_PIXELS = 50_000_000
"""Most pixels of an upload, counted from its header before it is decoded."""
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP")
"""Pillow names of the formats that are taken."""
MAX_ATTEMPTS = 3
"""How often a job is started before a lost worker makes it fail."""
MAX_STEPS = 1000
"""Most updates that one job may ask for."""


class Message(BaseModel):
    """Base of everything on the seam: immutable, and unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED)


class StartKind(StrEnum):
    ENCODER = "encoder"
    MEAN = "mean"
    RANDOM = "random"


class JobOptions(Message):
    """What a person may choose for one inversion."""

    pack: str | None = Field(
        None, description="Name of a pack that a live worker announces; none takes the worker's default."
    )
    optimizer: str = Field("adam", description="Name of an optimizer that the pack offers.")
    start: StartKind | None = Field(
        None, description="Start code; none takes the encoder where the pack has one, else the mean."
    )
    steps: int = Field(100, ge=0, le=MAX_STEPS, description="Updates after the start code; 0 returns the start itself.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the random start.")
    frame_every: int = Field(
        5, ge=1, le=MAX_STEPS, description="A frame is written every so many steps, and at the first and the last."
    )
    align: bool = Field(
        True, description="Find the face and align it as FFHQ does; false takes the centre crop as it is."
    )


class Problem(Message):
    """An RFC 9457 problem document."""

    type: str = Field(
        description="Stable URI reference that names the kind of problem.", examples=["/problems/no-face-found"]
    )
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="What happened here, and what to do about it.")
    instance: str | None = None


class FaceInfo(Message):
    """What the face detector saw in the photo."""

    found: int = Field(ge=0, description="Faces in the photo; the largest is taken.")
    quad: list[tuple[float, float]] | None = Field(
        None,
        description="Corners of the aligned crop in the upright photo, in pixels: top left, bottom left, bottom right, "
        "top right.",
    )


class JobRecord(Message):
    """All that is known of one job."""

    id: str
    status: JobStatus
    options: JobOptions
    created_at: datetime
    expires_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    step: int | None = Field(None, description="Updates done so far; none before the start code.")
    loss: float | None = Field(None, description="Loss of equation 1 at `step`.")
    best_step: int | None = Field(None, description="The step whose code, loss and picture are the result.")
    best_loss: float | None = None
    frames: list[int] = Field(default_factory=list, description="Steps of which a frame can be had, rising.")
    pack_name: str | None = None
    pack_version: str | None = None
    face: FaceInfo | None = None
    seconds: float | None = Field(None, description="Seconds of work, without the time in the queue.")
    error: Problem | None = None


class JobQueued(Message):
    kind: Literal["queued"] = "queued"


class JobStarted(Message):
    kind: Literal["started"] = "started"
    attempt: int
    steps: int
    aligned_key: str


class FrameReady(Message):
    kind: Literal["frame"] = "frame"
    step: int
    loss: float
    frame_key: str


class JobDone(Message):
    kind: Literal["done"] = "done"
    step: int
    loss: float


class JobFailed(Message):
    kind: Literal["failed"] = "failed"
    error: Problem


class JobCanceled(Message):
    kind: Literal["canceled"] = "canceled"


JobEvent = Annotated[
    JobQueued | JobStarted | FrameReady | JobDone | JobFailed | JobCanceled, Field(discriminator="kind")
]
JOB_EVENT: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)


class DirectionInfo(Message):
    """One editing direction of a pack."""

    name: str
    label: str = Field(description="What a positive strength does.")
    low: float = Field(description="Lowest strength at which pictures stay plausible.")
    high: float = Field(description="Highest such strength.")


class PackInfo(Message):
    """One pack, as a live worker announces it."""

    name: str
    version: str
    resolution: int
    layers: int
    w_dim: int
    starts: list[StartKind]
    optimizers: list[str]
    directions: list[DirectionInfo] = Field(
        default_factory=list, description="Directions in which its codes can be edited; workers of before say none."
    )
    licence: str
    description: str
    default: bool


class WorkerInfo(Message):
    """A live worker's announcement; gone when its heartbeat stops."""

    id: str
    packs: list[PackInfo]
    slots: int
    device: str


class ArtifactKey:
    """Keys in the artifact store. All of a job's lie under its id, so deleting the prefix deletes everything."""

    @staticmethod
    def prefix(job_id: str) -> str:
        return f"{job_id}/"

    @staticmethod
    def photo(job_id: str) -> str:
        return f"{job_id}/photo"

    @staticmethod
    def aligned(job_id: str) -> str:
        return f"{job_id}/aligned.png"

    @staticmethod
    def frame(job_id: str, step: int) -> str:
        return f"{job_id}/frames/{step:06d}.webp"

    @staticmethod
    def image(job_id: str) -> str:
        return f"{job_id}/image.png"

    @staticmethod
    def latents(job_id: str) -> str:
        return f"{job_id}/latents.npy"

    @staticmethod
    def checkpoint(job_id: str) -> str:
        return f"{job_id}/checkpoint.safetensors"
