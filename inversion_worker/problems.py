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
MASK_BLACK = problem(
    "mask-invalid",
    "The mask cannot be used",
    422,
    "It is black all over the part of the photo that is inverted, so nothing would have to agree. "
    "Make white what must agree, in the face.",
)
SUPERSEDED = problem(
    "render-superseded",
    "A newer request of the session has taken its place",
    409,
    "Nothing is wrong: the newest request with this X-Render-Session is being answered instead.",
)


def mask_size(mask: tuple[int, int], photo: tuple[int, int]) -> Problem:
    """The mask is not as large as the upright photo."""
    detail = f"It has {mask[0]} x {mask[1]} px, and the upright photo {photo[0]} x {photo[1]} px. Make them the same."
    return problem("mask-invalid", "The mask cannot be used", 422, detail)


def no_such_face(index: int, found: int) -> Problem:
    """The option `face` names one more than there are."""
    there = "There is 1 face in the photo, face 0" if found == 1 else f"There are {found} faces, 0 to {found - 1}"
    detail = f"{there}; `face` is {index}. POST /v1/faces shows them."
    return problem("no-such-face", "The photo has no such face", 422, detail)


def quad_beside(width: int, height: int) -> Problem:
    """A quad that shows nothing of the photo."""
    detail = f"It lies beside the upright photo of {width} x {height} px. Send corners in pixels of the upright photo."
    return problem("quad-invalid", "The quad cannot be used", 422, detail)


def option_invalid(detail: str) -> Problem:
    """Something that was asked for cannot be done with this pack."""
    return problem("option-invalid", "An option is not valid", 422, detail)


def pack_not_loaded(name: str) -> Problem:
    """The worker has not got the generator of a code."""
    return problem("pack-not-loaded", "The pack of this code is not loaded", 503, f"No worker has loaded {name!r}.")


def code_missing(job_id: str) -> Problem:
    """An inversion without a code, or one that was deleted a moment ago."""
    detail = f"The inversion {job_id} has no code, or it is gone."
    return problem("result-not-available", "There is no such result", 404, detail)
