"""Submit many photos at once, and look at, cancel and delete them as a whole."""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from inversion_app import answers, schemas
from inversion_app.bodies import receive
from inversion_app.deps import Batch, Client, DecodeSlots, Settings, Tenant, check_room
from inversion_app.errors import responses
from inversion_app.forms import many_photos
from inversion_app.preferences import IdempotencyKey, Prefer, Replayed, Stored, fingerprint, only_once, wait_s
from inversion_app.routes.inversions import UPLOAD_PROBLEMS
from inversion_app.terms import Terms
from inversion_app.uploads import check_batch
from inversion_worker.client import JobClient
from inversion_worker.contract import BatchRecord

router = APIRouter(prefix="/v1/batches", tags=["batches"])
_PROBLEMS = [slug for slug in UPLOAD_PROBLEMS if not slug.startswith("inversion-")]


@router.post(
    "",
    status_code=202,
    summary="Submit a batch",
    dependencies=[Depends(check_room)],
    response_model=schemas.Batch,
    responses={
        **answers.accepted_as("Accepted, all of them; `Location` is where to follow them.", schemas.Batch),
        **responses(*_PROBLEMS, "batch-too-large", "batch-expired", "batch-deleted"),
    },
    openapi_extra=many_photos(),
)
async def submit(
    request: Request,
    client: Client,
    tenant: Tenant,
    settings: Settings,
    slots: DecodeSlots,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> JSONResponse:
    """Submit up to 64 photos with the same options. If one is refused, none is queued.

    Each photo becomes an inversion. In a form, repeat the field `image`.

        curl -F image=@one.jpg -F image=@two.jpg -F steps=50 http://127.0.0.1:8000/v1/batches
    """
    async with receive(request, settings.max_batch_bytes, batch=True) as body, slots:
        upload = await body.load()
        stored = Stored("batch", client.batch)
        print_ = await asyncio.to_thread(fingerprint, "batch", upload)
        async with only_once(client, tenant, idempotency_key, print_, stored) as claim:
            if isinstance(claim, Replayed):
                batch = claim.made
            else:
                submissions = await check_batch(upload, await Terms.now(client, tenant, settings))
                batch = await client.submit_batch(submissions, tenant=tenant, once=claim)
    request.state.made = {"batch_id": batch.id}
    if (waited_s := wait_s(request, settings.max_wait_s)) is not None:
        await _wait(client, batch, waited_s)
    return await answers.submitted_batch(
        client, settings, batch, waited_s=waited_s, replayed=isinstance(claim, Replayed)
    )


async def _wait(client: JobClient, batch: BatchRecord, most_s: float) -> None:
    """Until every inversion of the batch has ended, or for so many seconds."""
    until_s = time.monotonic() + most_s
    for job_id in batch.jobs:
        if (left_s := until_s - time.monotonic()) <= 0:
            return
        await client.wait(job_id, left_s)


@router.get(
    "/{batch_id}",
    summary="Get a batch",
    response_model=schemas.Batch,
    responses={
        **answers.look("The batch as it stands.", schemas.Batch),
        **responses("batch-not-found", "batch-expired"),
    },
)
async def look(request: Request, client: Client, settings: Settings, batch: Batch) -> Response:
    """The overall status, the number of inversions in each state, and all inversions in the order of the photos."""
    return answers.unless_unchanged(request, await answers.batch(client, settings, batch))


@router.post(
    "/{batch_id}/cancel",
    summary="Cancel a batch",
    response_model=schemas.Batch,
    response_description="The batch after the request.",
    responses=responses("batch-not-found", "batch-expired"),
)
async def cancel(client: Client, settings: Settings, batch: Batch) -> JSONResponse:
    """Cancel all inversions that have not ended yet; the others keep their results."""
    for job_id in batch.jobs:
        await client.cancel(job_id)
    return await answers.batch(client, settings, batch)


@router.delete(
    "/{batch_id}",
    status_code=204,
    summary="Delete a batch",
    responses={
        204: {"description": "All photos and results are deleted."},
        **responses("batch-not-found", "batch-expired"),
    },
)
async def delete(client: Client, batch: Batch) -> Response:
    """Delete the batch and all of its inversions immediately."""
    await client.delete_batch(batch)
    return Response(status_code=204)
