"""Submit, list, look at, cancel, retry and delete inversions."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BeforeValidator

from inversion_app import answers, examples
from inversion_app.bodies import receive
from inversion_app.deps import Client, DecodeSlots, Looks, Record, Settings, Tenant, check_room
from inversion_app.errors import ProblemError, responses
from inversion_app.forms import one_photo
from inversion_app.origins import Origin
from inversion_app.preferences import IdempotencyKey, Prefer, Replayed, Stored, fingerprint, only_once, wait_s
from inversion_app.schemas import Inversion, Inversions, as_json
from inversion_app.settings import AppSettings
from inversion_app.terms import Terms
from inversion_app.uploads import check_one
from inversion_worker.client import Filters, JobClient, Place, SourceGone
from inversion_worker.contract import JobRecord, JobStatus

router = APIRouter(prefix="/v1/inversions", tags=["inversions"])

UPLOAD_PROBLEMS = (
    "not-multipart", "form-invalid", "json-invalid", "data-url-invalid", "image-missing", "body-too-large",
    "picture-unsupported", "picture-invalid", "picture-too-small", "picture-too-large",
    "option-unknown", "option-invalid", "quad-invalid", "pack-not-found", "storage-full",
    "idempotency-key-in-use", "idempotency-key-reused", "inversion-expired", "inversion-deleted",
    "rate-limited", "queue-full", "too-many-jobs",
)  # fmt: skip
_OF_ONE_PHOTO = (
    "image-repeated", "mask-invalid", "latents-invalid", "no-face-found", "no-such-face",
    "inversion-not-found", "result-not-ready", "result-not-available",
)  # fmt: skip


def _check_time(value: Any) -> Any:
    """RFC 3339 alone; pydantic would take a number of seconds too."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d{2}-\d{2}[Tt ]", value):
        raise ValueError("must be a date and time with its zone, such as 2026-11-22T13:00:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_check_time)]
MAX_PAGE = 100
"""Most inversions of one page."""


@router.post(
    "",
    status_code=202,
    summary="Submit a photo",
    dependencies=[Depends(check_room)],
    response_model=Inversion,
    responses={
        **answers.accepted_as("Accepted. Follow it at `Location`.", Inversion),
        **responses(*UPLOAD_PROBLEMS, *_OF_ONE_PHOTO),
    },
    openapi_extra=one_photo(),
)
async def submit(
    request: Request,
    client: Client,
    tenant: Tenant,
    settings: Settings,
    slots: DecodeSlots,
    looks: Looks,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> JSONResponse:
    """Submit a photo as a form, or as JSON with a data URL. Options are further fields.

    The photo is validated first: format, size, and that it decodes. Options are validated against the packs
    of the running workers. If no worker is running, the photo is queued anyway, and the worker that takes it
    validates pack, optimizer and start. In the place of a photo, `source` goes on from another inversion: with its
    photo and crop, from its best code so far.

    JSON bodies are limited to 8 MiB by default; use a form for larger photos.

        curl -F image=@face.jpg -F steps=50 -F optimizer=adam http://127.0.0.1:8000/v1/inversions
        curl -F source='{"inversion": "ID"}' -F steps=100 http://127.0.0.1:8000/v1/inversions
    """
    async with receive(request, settings.max_upload_bytes) as body, slots:
        upload = await body.load()
        stored = Stored("inversion", client.get)
        print_ = await asyncio.to_thread(fingerprint, "inversion", upload)
        async with only_once(client, tenant, idempotency_key, print_, stored) as claim:
            if isinstance(claim, Replayed):
                record = claim.made
            else:
                origin = await Origin.find(client, tenant, settings, upload.source) if upload.source else None
                terms = await Terms.now(client, tenant, settings)
                submission = await check_one(upload, terms, partial(looks.seen, client), origin)
                try:
                    record = await client.submit_one(submission, tenant=tenant, once=claim)
                except SourceGone as error:
                    raise ProblemError("inversion-not-found", "It went while its photo was copied.") from error
    return await submitted(request, client, tenant, settings, record, replayed=isinstance(claim, Replayed))


async def submitted(
    request: Request, client: JobClient, tenant: str, settings: AppSettings, record: JobRecord, *, replayed: bool
) -> JSONResponse:
    """The answer to a submission, after as long a wait as it prefers."""
    request.state.made = {"job_id": record.id}
    waited_s = wait_s(request, settings.max_wait_s)
    if waited_s is not None:
        if (after := await client.wait(record.id, waited_s)) is None:
            raise ProblemError("inversion-deleted", f"The inversion {record.id} was deleted while it was waited for.")
        record = after
    return await answers.submitted(client, settings, record, waited_s=waited_s, replayed=replayed)


@router.get(
    "",
    summary="List inversions",
    response_model=Inversions,
    response_description="One page of inversions.",
    responses=responses("option-invalid"),
)
async def list_(
    client: Client,
    tenant: Tenant,
    status: Annotated[
        JobStatus | None, Query(description="Only inversions in this state.", examples=["succeeded"])
    ] = None,
    pack: Annotated[
        str | None, Query(max_length=64, description="Only inversions with this pack.", examples=["faces-128"])
    ] = None,
    created_after: Annotated[
        Time | None, Query(description="Only inversions created later.", examples=[examples.TIME])
    ] = None,
    created_before: Annotated[
        Time | None, Query(description="Only inversions created earlier.", examples=[examples.LATER])
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Maximum number per page.")] = 20,
    cursor: Annotated[
        str | None,
        Query(
            max_length=200,
            description="Where the page starts; taken from `next` of the previous page.",
            examples=[examples.CURSOR],
        ),
    ] = None,
) -> JSONResponse:
    """Newest first. `next` is the URL of the next page, also sent as a `Link` header."""
    filters = Filters(status=status, pack=pack, created_after=created_after, created_before=created_before)
    try:
        after = Place.decode(cursor) if cursor is not None else None
    except ValueError as error:
        raise ProblemError("option-invalid", f"`cursor`: {error}.") from error
    page = await client.page(tenant, filters, after, limit)
    chosen = {"status": status, "pack": pack, "limit": limit, "cursor": page.cursor}
    times = {"created_after": created_after, "created_before": created_before}
    query = {name: value for name, value in chosen.items() if value is not None}
    query |= {name: time.isoformat() for name, time in times.items() if time is not None}
    next_ = f"{router.prefix}?{urlencode(query)}" if page.cursor is not None else None
    found = Inversions(inversions=[Inversion.of(record, None) for record in page.records], next=next_)
    return JSONResponse(as_json(found), headers={"Link": f'<{next_}>; rel="next"'} if next_ else None)


@router.get(
    "/{inversion_id}",
    summary="Get an inversion",
    response_model=Inversion,
    responses={
        **answers.look("The inversion.", Inversion),
        **responses("inversion-not-found", "inversion-expired"),
    },
)
async def look(request: Request, client: Client, settings: Settings, record: Record) -> Response:
    """Status, progress, timestamps, detected faces, and links to the results that exist so far."""
    return answers.unless_unchanged(request, await answers.inversion(client, settings, record))


@router.post(
    "/{inversion_id}/cancel",
    summary="Cancel an inversion",
    response_model=Inversion,
    response_description="The inversion after the request.",
    responses=responses("inversion-not-found", "inversion-expired", "already-final"),
)
async def cancel(client: Client, settings: Settings, record: Record) -> JSONResponse:
    """Cancel it: immediately if it is queued, after the current step if it is running (see `status`).

    Frames, the best code so far and its image are kept until `expires_at`. Canceling it again has no effect.
    """
    if (after := await client.cancel(record.id)) is None:
        raise ProblemError("inversion-not-found")
    if after.status.is_final and after.status is not JobStatus.CANCELED:
        raise ProblemError("already-final", f"Its status is {after.status.value}.")
    return await answers.inversion(client, settings, after)


@router.post(
    "/{inversion_id}/finish",
    summary="Finish an inversion early",
    response_model=Inversion,
    response_description="The inversion after the request.",
    responses=responses("inversion-not-found", "inversion-expired", "already-final"),
)
async def finish(client: Client, settings: Settings, record: Record) -> JSONResponse:
    """Stop after the current step and succeed with the best code so far; `stopped_by` is `request`.

    If it is still queued, it will succeed with its start code once a worker takes it. If it has already succeeded, this
    has no effect.
    """
    if (after := await client.finish(record.id)) is None:
        raise ProblemError("inversion-not-found")
    if after.status in (JobStatus.FAILED, JobStatus.CANCELED):
        raise ProblemError("already-final", f"Its status is {after.status.value}.")
    return await answers.inversion(client, settings, after)


@router.post(
    "/{inversion_id}/retry",
    status_code=202,
    summary="Retry an inversion",
    dependencies=[Depends(check_room)],
    response_model=Inversion,
    responses={
        **answers.accepted_as(
            "A new inversion of the same photo with the same options. Follow it at `Location`.", Inversion
        ),
        **responses(
            "inversion-not-found",
            "inversion-expired",
            "inversion-deleted",
            "not-retryable",
            "option-invalid",
            "storage-full",
            "idempotency-key-in-use",
            "idempotency-key-reused",
            "rate-limited",
            "queue-full",
            "too-many-jobs",
        ),
    },
)
async def retry(
    request: Request,
    client: Client,
    tenant: Tenant,
    settings: Settings,
    record: Record,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> JSONResponse:
    """Queue a new inversion with the photo and options of one that failed or was canceled.

    `retry_of` is the id of the old one, which stays unchanged.
    """
    if record.status not in (JobStatus.FAILED, JobStatus.CANCELED):
        raise ProblemError("not-retryable", f"Its status is {record.status.value}.")
    stored = Stored("inversion", client.get)
    async with only_once(client, tenant, idempotency_key, f"retry {record.id}", stored) as claim:
        if isinstance(claim, Replayed):
            again = claim.made
        elif (made := await client.retry(record, once=claim)) is not None:
            again = made
        else:
            raise ProblemError("inversion-not-found")
    return await submitted(request, client, tenant, settings, again, replayed=isinstance(claim, Replayed))


@router.delete(
    "/{inversion_id}",
    status_code=204,
    summary="Delete an inversion",
    responses={
        204: {"description": "The photo and all results are deleted."},
        **responses("inversion-not-found", "inversion-expired"),
    },
)
async def delete(client: Client, record: Record) -> Response:
    """Cancel it if necessary, and delete photo, frames, results and record immediately."""
    if not await client.delete(record.id):
        raise ProblemError("inversion-not-found")
    return Response(status_code=204)
