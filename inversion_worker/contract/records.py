"""What is known of jobs, of batches, and of what a tenant has used."""

from __future__ import annotations

from datetime import date as Date
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, JsonValue

from inversion_worker.contract.diffusions import DiffusionRecord
from inversion_worker.contract.faces import FaceInfo, FaceSeen, PhotoSize, PhotoWarning
from inversion_worker.contract.message import Message, Problem
from inversion_worker.contract.options import JobOptions


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED)


class StopReason(StrEnum):
    """Which rule ended the loop."""

    STEPS = "steps"
    TARGET_LOSS = "target_loss"
    MAX_SECONDS = "max_seconds"
    PLATEAU = "plateau"
    NOT_FINITE = "not_finite"
    REQUEST = "request"
    """Somebody asked for what was found by then."""


class MissingResult(Message):
    """A result that could not be created, although others were."""

    result: str = Field(
        description="The name of its link, or `frames` if some frames are missing.", examples=["pasted"]
    )
    detail: str = Field(description="What went wrong, and what is available instead.")


class JobRecord(Message):
    """All that is known of one job."""

    id: str
    tenant: str = Field("", description="Whose it is; empty while the service asks for no key.")
    status: JobStatus
    options: JobOptions
    masked: bool = Field(False, description="A mask came with the photo.")
    batch: str | None = Field(None, description="Id of the batch that it came in.")
    retry_of: str | None = Field(None, description="Id of the inversion that this one repeats.")
    diffusion: DiffusionRecord | None = Field(None, description="Set where a face is put into the photo's context.")
    source: str | None = Field(None, description="Id of the inversion that this one goes on from.")
    metadata: dict[str, JsonValue] | None = Field(None, description="What its sender said, for its sender alone.")
    request_id: str = Field("", description="X-Request-ID of the request that made it.")
    traceparent: str = Field("", description="W3C Trace Context of that request, where traces are kept.")
    created_at: datetime
    expires_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    steps: int | None = Field(None, description="Updates to come in all, of code and detail; the worker says so.")
    step: int | None = Field(None, description="Updates done so far; none before the start code.")
    loss: float | None = Field(None, description="Loss at `step`; the focus is part of it.")
    best_step: int | None = Field(None, description="The step whose code, loss and picture are the result.")
    best_loss: float | None = None
    frames: list[int] = Field(default_factory=list, description="Steps of which a frame can be had, rising.")
    pack_name: str | None = None
    pack_version: str | None = None
    pack_digest: str | None = Field(None, description="`PackInfo.digest` of the pack that was used.")
    optimizer: str | None = Field(None, description="The optimizer that was used.")
    stopped_by: StopReason | None = Field(None, description="Which rule ended the loop of one that succeeded.")
    result_step: int | None = Field(
        None,
        description="The step whose code and picture can be had by now: the best so far while it runs, and the best "
        "in the end, also of one that was canceled or failed on the way.",
    )
    missing: list[MissingResult] = Field(default_factory=list, description="Results that could not be made.")
    pasted: bool = Field(False, description="The reconstruction pasted back into the photo is there.")
    face: FaceInfo | None = None
    photo: PhotoSize | None = Field(None, description="Size of the upright photo.")
    faces: list[FaceSeen] = Field(default_factory=list, description="Every face that was found.")
    face_index: int | None = Field(None, description="Which of `faces` is inverted; none with `quad` or align=false.")
    warnings: list[PhotoWarning] = Field(default_factory=list, description="What may be wrong with the photo.")
    seconds: float | None = Field(None, description="Seconds of work, without the time in the queue.")
    error: Problem | None = None

    @property
    def total_steps(self) -> int | None:
        """Updates in all, of code and detail; None while nobody knows."""
        own = (self.options.steps, self.options.detail_steps)
        return self.steps if self.steps is not None or None in own else sum(each or 0 for each in own)


class BatchRecord(Message):
    """Photos that were submitted together; what became of each is in its own record."""

    id: str
    tenant: str = ""
    created_at: datetime
    expires_at: datetime
    jobs: list[str] = Field(description="Ids, in the order of the photos.")


class SavedEdit(Message):
    """An edit list that is kept with an inversion. It never changes."""

    id: str
    name: str
    edits: list[dict[str, Any]]
    parent: str | None = None
    created_at: datetime


class UsageDay(Message):
    """Usage of one day (UTC). Each submission and each end counts on the day when it happened."""

    date: Date = Field(description="The day.")
    submitted: int = Field(0, description="Inversions submitted.")
    succeeded: int = Field(0, description="Inversions that succeeded.")
    failed: int = Field(0, description="Inversions that failed.")
    canceled: int = Field(0, description="Inversions that were canceled.")
    seconds: float = Field(0.0, description="Processing time in seconds of the inversions that ended on this day.")
    looked: int = Field(0, description="Face look-ups (`POST /v1/faces`).")
    rendered: int = Field(0, description="Renders, without those that had not changed.")
