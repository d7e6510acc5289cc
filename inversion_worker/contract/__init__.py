"""The seam between app and worker: every message and record, and nothing that does anything.

Bytes (photos, frames, codes) never travel in these messages: they lie in the artifact store under
the keys of `ArtifactKey`. The job record in Redis is the truth; Celery only carries the job's id.

    queued -> running -> succeeded | failed | canceled
       ^         |
       +---------+   a lost or stopping worker hands the job back (at most MAX_ATTEMPTS times)

Import from here; which file a name lies in is nobody's business.
"""

from __future__ import annotations

from inversion_worker.contract.artifacts import ArtifactKey
from inversion_worker.contract.events import (
    FINAL_EVENTS,
    JOB_EVENT,
    EventKind,
    FrameReady,
    JobCanceled,
    JobDeleted,
    JobDone,
    JobEvent,
    JobExpired,
    JobFailed,
    JobQueued,
    JobStarted,
)
from inversion_worker.contract.faces import (
    QUAD_TEXT,
    FaceInfo,
    FaceSeen,
    PhotoSize,
    PhotoWarning,
    Point,
    Quad,
    Seen,
)
from inversion_worker.contract.limits import MAX_ATTEMPTS, MAX_BATCH, MAX_METADATA_BYTES
from inversion_worker.contract.message import Message, Problem
from inversion_worker.contract.options import (
    HEAD_START_S,
    MAX_NAME_LENGTH,
    MAX_SECONDS,
    MAX_STEPS,
    MAX_TTL_S,
    MAX_URL_LENGTH,
    MIN_TTL_S,
    WEBHOOK_PATTERN,
    JobOptions,
    Priority,
    StartKind,
)
from inversion_worker.contract.quads import quad_fault, share_inside
from inversion_worker.contract.questions import QuestionHead, QuestionKind, ReplyHead
from inversion_worker.contract.records import (
    BatchRecord,
    JobRecord,
    JobStatus,
    MissingResult,
    StopReason,
    UsageDay,
)
from inversion_worker.contract.workers import STEP_BUCKETS_S, DirectionInfo, PackInfo, WorkerFigures, WorkerInfo

__all__ = [
    "FINAL_EVENTS",
    "HEAD_START_S",
    "JOB_EVENT",
    "MAX_ATTEMPTS",
    "MAX_BATCH",
    "MAX_METADATA_BYTES",
    "MAX_NAME_LENGTH",
    "MAX_SECONDS",
    "MAX_STEPS",
    "MAX_TTL_S",
    "MAX_URL_LENGTH",
    "MIN_TTL_S",
    "QUAD_TEXT",
    "STEP_BUCKETS_S",
    "WEBHOOK_PATTERN",
    "ArtifactKey",
    "BatchRecord",
    "DirectionInfo",
    "EventKind",
    "FaceInfo",
    "FaceSeen",
    "FrameReady",
    "JobCanceled",
    "JobDeleted",
    "JobDone",
    "JobEvent",
    "JobExpired",
    "JobFailed",
    "JobOptions",
    "JobQueued",
    "JobRecord",
    "JobStarted",
    "JobStatus",
    "Message",
    "MissingResult",
    "PackInfo",
    "PhotoSize",
    "PhotoWarning",
    "Point",
    "Priority",
    "Problem",
    "Quad",
    "QuestionHead",
    "QuestionKind",
    "ReplyHead",
    "Seen",
    "StartKind",
    "StopReason",
    "UsageDay",
    "WorkerFigures",
    "WorkerInfo",
    "quad_fault",
    "share_inside",
]
