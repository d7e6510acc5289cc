"""What happens to a job, as it is told to whoever listens."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from inversion_worker.contract.message import Message, Problem


class EventKind(StrEnum):
    """The `kind` of each JobEvent."""

    QUEUED = "queued"
    STARTED = "started"
    FRAME = "frame"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"
    """Its time was over before it had ended."""
    DELETED = "deleted"
    """It was deleted before it had ended."""


FINAL_EVENTS = (EventKind.DONE, EventKind.FAILED, EventKind.CANCELED, EventKind.EXPIRED, EventKind.DELETED)


class JobQueued(Message):
    kind: Literal["queued"] = "queued"


class JobStarted(Message):
    kind: Literal["started"] = "started"
    attempt: int
    steps: int
    """Of code and detail together."""
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


class JobExpired(Message):
    kind: Literal["expired"] = "expired"


class JobDeleted(Message):
    kind: Literal["deleted"] = "deleted"


JobEvent = Annotated[
    JobQueued | JobStarted | FrameReady | JobDone | JobFailed | JobCanceled | JobExpired | JobDeleted,
    Field(discriminator="kind"),
]
JOB_EVENT: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)
