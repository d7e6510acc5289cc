"""The seam between app and worker: every message and record, and nothing that does anything.

Bytes (photos, frames, codes) never travel in these messages: they lie in the artifact store under
the keys of `ArtifactKey`. The job record in Redis is the truth; Celery only carries the job's id.

    queued -> running -> succeeded | failed | canceled
       ^         |
       +---------+   a lost or stopping worker hands the job back (at most MAX_ATTEMPTS times)
"""

from __future__ import annotations

import re
from datetime import date as Date
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

MIN_SIDE_PX = 64
"""Shortest side of an upload."""
MAX_PIXELS = 50_000_000
"""Most pixels of an upload, counted from its header before it is decoded."""
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow names of the formats that are taken."""
MAX_ATTEMPTS = 3
"""How often a job is started before a lost worker makes it fail."""
MAX_STEPS = 1000
"""Most updates that one job may ask for."""
MAX_SECONDS = 3600
"""Most seconds of work that one job may ask for."""
MIN_TTL_S = 60
"""Shortest time that a job may ask to be kept."""
MAX_TTL_S = 7 * 24 * 3600
"""Longest time that a job may ask to be kept."""
MAX_URL_LENGTH = 2000
"""Longest address of a webhook."""
_PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})"
WEBHOOK_PATTERN = rf"^https?://[A-Za-z0-9._-]+(:{_PORT})?([/?][!\"$-~]*)?$"
"""Shape of a webhook's address: ASCII, without user name, password or fragment; a host by name, or by IPv4."""
MAX_NAME_LENGTH = 64
"""Longest name of a pack or an optimizer."""
MAX_BATCH = 64
"""Most photos of one batch."""


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
    LATENTS = "latents"
    """A code that came with the photo: every pack takes one, so none lists it among its starts."""


class Priority(StrEnum):
    """Which queued jobs go first. A job never overtakes one of its own priority."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """0 goes first."""
        return (Priority.HIGH, Priority.NORMAL, Priority.LOW).index(self)


class EventKind(StrEnum):
    """The `kind` of each JobEvent."""

    QUEUED = "queued"
    STARTED = "started"
    FRAME = "frame"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


FINAL_EVENTS = (EventKind.DONE, EventKind.FAILED, EventKind.CANCELED)


class StopReason(StrEnum):
    """Which rule ended the loop."""

    STEPS = "steps"
    TARGET_LOSS = "target_loss"
    MAX_SECONDS = "max_seconds"
    PLATEAU = "plateau"
    NOT_FINITE = "not_finite"


class JobOptions(Message):
    """What a person may choose for one inversion."""

    pack: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        description="Name of a pack that a live worker announces; none takes the worker's default.",
    )
    optimizer: str = Field(
        "adam", min_length=1, max_length=MAX_NAME_LENGTH, description="Name of an optimizer that the pack offers."
    )
    start: StartKind | None = Field(
        None,
        description="Start code; none takes the encoder where the pack has one, else the mean. `latents` is the code "
        "sent along, and is implied by sending one.",
    )
    steps: int = Field(100, ge=0, le=MAX_STEPS, description="Updates after the start code; 0 returns the start itself.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the random start.")
    frame_every: int = Field(
        5, ge=1, le=MAX_STEPS, description="A frame is written every so many steps, and at the first and the last."
    )
    align: bool = Field(
        True, description="Find the face and align it as FFHQ does; false takes the centre crop as it is."
    )
    target_loss: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Stop at the first step whose loss is this or less."
    )
    max_seconds: float | None = Field(
        None,
        gt=0,
        le=MAX_SECONDS,
        description="Stop after the first step that ends so many seconds after the work began; the queue does not "
        "count.",
    )
    plateau_steps: int | None = Field(
        None, ge=1, le=MAX_STEPS, description="Stop when the loss has not fallen by 0.1 % for so many steps."
    )
    paste: bool = Field(
        True,
        description="Also put the reconstruction back into the photo, for `links.pasted`; needs align. False saves "
        "the time of encoding the photo again.",
    )
    priority: Priority = Field(
        Priority.NORMAL, description="Jobs of a higher priority go first, whatever waits behind them."
    )
    ttl: int | None = Field(
        None,
        ge=MIN_TTL_S,
        le=MAX_TTL_S,
        description="Seconds until photo and results are deleted; none takes the service's default.",
    )
    webhook: str | None = Field(
        None,
        max_length=MAX_URL_LENGTH,
        description="http(s) address that is told of events. Without user name, password or fragment.",
        examples=["https://editor.example/hooks/inversion"],
        json_schema_extra={"pattern": WEBHOOK_PATTERN},
    )
    webhook_events: tuple[EventKind, ...] = Field(
        FINAL_EVENTS,
        min_length=1,
        max_length=len(EventKind),
        description="Which events the webhook is told of; in a form, separated by commas.",
    )

    @field_validator("webhook")
    @classmethod
    def _check_webhook(cls, value: str | None) -> str | None:
        """Shape alone: whether the address may be called is decided when it is called."""
        if value is not None and not re.fullmatch(WEBHOOK_PATTERN.strip("^$"), value):
            raise ValueError(
                "must be an address that begins with https:// or http://, without IPv6, user name, password, "
                "fragment or spaces; encode other characters than ASCII"
            )
        return value

    @field_validator("webhook_events")
    @classmethod
    def _each_once(cls, value: tuple[EventKind, ...]) -> tuple[EventKind, ...]:
        return tuple(kind for kind in EventKind if kind in value)


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
    tenant: str = Field("", description="Whose it is; empty while the service asks for no key.")
    status: JobStatus
    options: JobOptions
    masked: bool = Field(False, description="A mask came with the photo.")
    batch: str | None = Field(None, description="Id of the batch that it came in.")
    retry_of: str | None = Field(None, description="Id of the inversion that this one repeats.")
    request_id: str = Field("", description="X-Request-ID of the request that made it.")
    traceparent: str = Field("", description="W3C Trace Context of that request, where traces are kept.")
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
    pack_digest: str | None = Field(None, description="`PackInfo.digest` of the pack that was used.")
    stopped_by: StopReason | None = Field(None, description="Which rule ended the loop of one that succeeded.")
    pasted: bool = Field(False, description="The reconstruction pasted back into the photo is there.")
    face: FaceInfo | None = None
    seconds: float | None = Field(None, description="Seconds of work, without the time in the queue.")
    error: Problem | None = None


class BatchRecord(Message):
    """Photos that were submitted together; what became of each is in its own record."""

    id: str
    tenant: str = ""
    created_at: datetime
    expires_at: datetime
    jobs: list[str] = Field(description="Ids, in the order of the photos.")


class UsageDay(Message):
    """What one tenant has used on one day, UTC; a job counts on the day of each event."""

    date: Date
    submitted: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    seconds: float = Field(0.0, description="Seconds of work of the jobs that ended on this day.")


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
    digest: str = Field(
        "",
        description="sha256:... of the generator's weights: codes of one digest render the same faces, whatever else "
        "of the pack changes. Workers of before say none.",
    )
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


STEP_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Upper bounds of the step times that a worker counts apart."""


class WorkerFigures(BaseModel):
    """What a worker has counted since it started; unknown fields of a newer one are left aside."""

    model_config = ConfigDict(frozen=True)

    worker: str
    device: str
    slots: int = Field(ge=1)
    running: int = Field(description="Jobs at this moment.")
    frames: int
    step_seconds: float = Field(description="Sum of all step times.")
    steps_by_bucket: list[int] = Field(
        description="Steps by STEP_BUCKETS_S; the last is of those above all.",
        min_length=len(STEP_BUCKETS_S) + 1,
        max_length=len(STEP_BUCKETS_S) + 1,
    )
    process_memory_bytes: int | None = None
    device_memory_bytes: int | None = None


class ArtifactKey:
    """Keys in the artifact store. All of a job's lie under its id, so deleting the prefix deletes everything."""

    @staticmethod
    def prefix(job_id: str) -> str:
        return f"{job_id}/"

    @staticmethod
    def photo(job_id: str) -> str:
        return f"{job_id}/photo"

    @staticmethod
    def mask(job_id: str) -> str:
        """As large as the upright photo, 8-bit grey: white where the pictures must agree."""
        return f"{job_id}/mask.png"

    @staticmethod
    def start(job_id: str) -> str:
        """The code to start from, float32, (L, D)."""
        return f"{job_id}/start.npy"

    @staticmethod
    def metrics(job_id: str) -> str:
        """`worker.metrics.Metrics` of every step so far."""
        return f"{job_id}/metrics.npy"

    @staticmethod
    def pasted(job_id: str) -> str:
        """The upright photo with the reconstruction in it."""
        return f"{job_id}/pasted.jpg"

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
