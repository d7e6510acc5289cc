"""The problem documents (RFC 9457) that a job may fail with. None tells of internals or of the photo."""

from __future__ import annotations

from inversion_worker.contract import MAX_ATTEMPTS, Problem


def problem(slug: str, title: str, status: int, detail: str) -> Problem:
    """One document; `slug` becomes its type, `/problems/{slug}`."""
    return Problem(type=f"/problems/{slug}", title=title, status=status, detail=detail)


INTERNAL = problem(
    "internal",
    "The job failed inside the service",
    500,
    "Something went wrong that is no fault of the photo. The worker's log has the cause under this job's id.",
)
WORKER_LOST = problem(
    "worker-lost",
    "The worker was lost",
    500,
    f"{MAX_ATTEMPTS} workers stopped without a word while they ran this job. "
    "Their logs, or the machine's (out of memory?), say why.",
)
STORAGE_FULL = problem(
    "storage-full",
    "The storage is full",
    507,
    "There was no room to store a file of this job. Free space or delete old jobs, then send the photo again.",
)
PHOTO_MISSING = problem(
    "photo-missing",
    "The photo is no longer stored",
    500,
    "The photo of this job could not be found in the artifact store. Send it again.",
)
NOT_FINITE = problem(
    "not-finite",
    "The inversion found no finite loss",
    500,
    "Every loss was infinite or not a number, so there is no result. Another start or optimizer may help.",
)
