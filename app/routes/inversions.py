"""Submit, look at, cancel and delete an inversion."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from app.deps import Client, DecodeSlots, Record, Settings, Tenant, check_room
from app.errors import ProblemError, responses
from app.schemas import Inversion, as_json
from app.settings import AppSettings
from app.uploads import IMAGE_FIELD, check_options, image_file, parse_options, read_form, read_picture
from app.webhooks import check_webhook
from worker.client import JobClient
from worker.contract import JobOptions, JobRecord, JobStatus

router = APIRouter(prefix="/v1/inversions", tags=["inversions"])

_UPLOAD_PROBLEMS = (
    "not-multipart", "form-invalid", "image-missing", "image-repeated", "body-too-large",
    "picture-unsupported", "picture-invalid", "picture-too-small", "picture-too-large",
    "option-unknown", "option-invalid", "pack-not-found", "storage-full",
    "rate-limited", "queue-full", "too-many-jobs",
)  # fmt: skip
_RETRY_AFTER = {"description": "Seconds to wait before asking again.", "schema": {"type": "integer"}}


def _form_schema() -> dict[str, Any]:
    """The upload's form for the OpenAPI document: the image, and the options as the contract has them."""
    schema = JobOptions.model_json_schema()
    options = {name: _form_field(field, schema["$defs"]) for name, field in schema["properties"].items()}
    image = {"type": "string", "format": "binary", "description": "The photo: JPEG, PNG or WebP."}
    return {
        "type": "object",
        "properties": {IMAGE_FIELD: image, **options},
        "required": [IMAGE_FIELD],
        "additionalProperties": False,
    }


def _form_field(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """One option as a form can send it: a form has no null, so nothing chosen is the empty text."""
    if "anyOf" not in field:
        return field
    chosen = next(kind for kind in field["anyOf"] if kind.get("type") != "null")
    if "$ref" in chosen:
        chosen = definitions[chosen["$ref"].rsplit("/", 1)[-1]]
    found = {"type": chosen["type"], "description": field["description"], "default": ""}
    return found | ({"enum": ["", *chosen["enum"]]} if "enum" in chosen else {})


@router.post(
    "",
    status_code=202,
    summary="Submit a photo",
    dependencies=[Depends(check_room)],
    response_model=Inversion,
    responses={
        202: {
            "description": "Accepted; `Location` is where to follow it.",
            "headers": {
                "Location": {"description": "The inversion.", "schema": {"type": "string"}},
                "Retry-After": _RETRY_AFTER,
            },
        },
        **responses(*_UPLOAD_PROBLEMS),
    },
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form_schema()}}}},
)
async def submit(
    request: Request, client: Client, tenant: Tenant, settings: Settings, slots: DecodeSlots
) -> JSONResponse:
    """Take a photo as the form field `image`, with options as further fields, and queue its inversion.

    The photo is checked before a job is made: format, size, and that it decodes. Options are checked
    against the packs that live workers have announced. While no worker is alive the photo is queued
    all the same, and the worker that takes it checks pack, optimizer and start then.
    """
    async with read_form(request, settings.max_upload_bytes) as form:
        options = parse_options(form)
        image = image_file(form)
        check_webhook(options, tenant, settings)
        check_options(options, [pack for worker in await client.workers() for pack in worker.packs])
        photo = await read_picture(image, settings.decode_timeout_s, slots)
    record = await client.submit(photo, options, tenant=tenant)
    response = await _answer(client, settings, record, status_code=202)
    response.headers["Location"] = f"/v1/inversions/{record.id}"
    return response


@router.get(
    "/{inversion_id}",
    summary="Look at an inversion",
    response_model=Inversion,
    responses={
        200: {
            "headers": {
                "Retry-After": _RETRY_AFTER
                | {"description": "Seconds to wait before asking again; absent at the end."},
                "ETag": {"description": "Send it back as If-None-Match.", "schema": {"type": "string"}},
            }
        },
        304: {"description": "Nothing has changed since the `ETag` in If-None-Match."},
        **responses("inversion-not-found"),
    },
)
async def look(request: Request, client: Client, settings: Settings, record: Record) -> Response:
    """Status, progress, times, what was seen in the photo, and links to the results that exist by now."""
    response = await _answer(client, settings, record)
    if response.headers["ETag"] in request.headers.get("if-none-match", ""):
        kept = {name: response.headers[name] for name in ("ETag", "Retry-After") if name in response.headers}
        return Response(status_code=304, headers=kept)
    return response


@router.post(
    "/{inversion_id}/cancel",
    summary="Cancel an inversion",
    response_model=Inversion,
    responses=responses("inversion-not-found", "already-final"),
)
async def cancel(client: Client, settings: Settings, record: Record) -> JSONResponse:
    """Stop it: at once while it is queued, after the step at hand while it runs (`status` tells).

    Frames written so far stay until `expires_at`. Canceling a canceled inversion changes nothing.
    """
    if (after := await client.cancel(record.id)) is None:
        raise ProblemError("inversion-not-found")
    if after.status.is_final and after.status is not JobStatus.CANCELED:
        raise ProblemError("already-final", f"Its status is {after.status.value}.")
    return await _answer(client, settings, after)


@router.delete(
    "/{inversion_id}",
    status_code=204,
    summary="Delete an inversion",
    responses={
        204: {"description": "The photo and every result are gone."},
        **responses("inversion-not-found"),
    },
)
async def delete(client: Client, record: Record) -> Response:
    """Cancel it if need be, and delete the photo, the frames, the results and the record at once."""
    if not await client.delete(record.id):
        raise ProblemError("inversion-not-found")
    return Response(status_code=204)


async def _answer(client: JobClient, settings: AppSettings, record: JobRecord, status_code: int = 200) -> JSONResponse:
    queued = record.status is JobStatus.QUEUED
    position = await client.queue_position(record.id) if queued else None
    body = as_json(Inversion.of(record, position))
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
    headers = {"ETag": f'"{digest}"'}
    if not record.status.is_final:
        headers["Retry-After"] = str(settings.retry_after_s)
    return JSONResponse(body, status_code, headers)
