"""Put the face of one photo into the context of another."""

from __future__ import annotations

import hashlib

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from inversion_app import answers, examples, json_bodies
from inversion_app.deps import Client, DecodeSlots, Settings, Tenant, check_room
from inversion_app.diffusions import DiffusionRequest, submission_of
from inversion_app.errors import ProblemError, responses
from inversion_app.json_bodies import body_of, read_model
from inversion_app.preferences import IdempotencyKey, Prefer, Replayed, Stored, only_once
from inversion_app.routes.inversions import submitted
from inversion_app.schemas import Inversion
from inversion_app.strict_json import Limits
from inversion_app.terms import Terms
from inversion_worker.client import SourceGone

router = APIRouter(prefix="/v1/diffusions", tags=["inversions"])

_LIMITS = Limits(values=4096, depth=10)
_PROBLEMS = (
    *json_bodies.PROBLEMS, "option-unknown", "data-url-invalid", "picture-unsupported", "picture-invalid",
    "picture-too-small", "picture-too-large", "quad-invalid", "pack-not-found", "inversion-not-found",
    "inversion-expired", "inversion-deleted", "storage-full", "idempotency-key-in-use", "idempotency-key-reused",
    "rate-limited", "queue-full", "too-many-jobs",
)  # fmt: skip


@router.post(
    "",
    status_code=202,
    summary="Put a face into a context",
    dependencies=[Depends(check_room)],
    response_model=Inversion,
    responses={
        **answers.accepted_as("Accepted. Follow it at `Location`, as any inversion.", Inversion),
        **responses(*_PROBLEMS),
    },
    openapi_extra=body_of(DiffusionRequest, examples.DIFFUSION),
)
async def diffuse(
    request: Request,
    client: Client,
    tenant: Tenant,
    settings: Settings,
    slots: DecodeSlots,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> JSONResponse:
    """Put the face of one photo into the hair, light and background of another (semantic diffusion of IDInvert).

    It becomes an inversion of the mix of both, with events, frames, code and renders; its photo is the context's. Both
    photos are copied, so it does not depend on the inversions that they came from.

        curl -H 'Content-Type: application/json' \\
          -d '{"face": {"inversion": "ID"}, "context": {"inversion": "OTHER"}}' \\
          http://127.0.0.1:8000/v1/diffusions
    """
    asked = await read_model(request, DiffusionRequest, settings.max_json_bytes, _LIMITS)
    print_ = hashlib.sha256(f"diffusion {asked.model_dump_json()}".encode()).hexdigest()
    stored = Stored("inversion", client.get)
    async with slots, only_once(client, tenant, idempotency_key, print_, stored) as claim:
        if isinstance(claim, Replayed):
            record = claim.made
        else:
            submission = await submission_of(client, asked, await Terms.now(client, tenant, settings))
            try:
                record = await client.submit_one(submission, tenant=tenant, once=claim)
            except SourceGone as error:
                raise ProblemError("inversion-not-found", "It went while its photo was copied.") from error
    return await submitted(request, client, tenant, settings, record, replayed=isinstance(claim, Replayed))
