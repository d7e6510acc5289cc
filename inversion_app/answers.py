"""How an inversion or a batch is answered: body, ETag, Retry-After, and 304 where nothing has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from inversion_app.schemas import Answer, Batch, Inversion, address, as_json, batch_address
from inversion_app.settings import AppSettings
from inversion_worker.client import JobClient
from inversion_worker.contract import BatchRecord, JobRecord, JobStatus

RETRY_AFTER = {"description": "Seconds to wait before the next request.", "schema": {"type": "integer"}}
ETAG = {"description": "Send it as If-None-Match with the next request.", "schema": {"type": "string"}}
_TEXT = {"schema": {"type": "string"}}
ACCEPTED_HEADERS = {
    "Location": {"description": "Where to follow it.", **_TEXT},
    "Preference-Applied": {"description": "`wait=N`, if requested.", **_TEXT},
    "Idempotent-Replayed": {"description": "`true` if this is the response to a repeated Idempotency-Key.", **_TEXT},
}


def accepted_as(description: str, model: type[Answer]) -> dict[int | str, dict[str, Any]]:
    """What `responses` says of a submission: 202, or 200 where it was waited for."""
    waited = "It has ended while the request waited; see `status`."
    return {
        200: {"description": waited, "model": model, "headers": {**ACCEPTED_HEADERS, "ETag": ETAG}},
        202: {"description": description, "headers": {**ACCEPTED_HEADERS, "Retry-After": RETRY_AFTER, "ETag": ETAG}},
    }


def look(description: str, model: type[Answer]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of what is polled. Retry-After is absent at the end."""
    headers = {"Retry-After": RETRY_AFTER, "ETag": ETAG}
    return {
        200: {"description": description, "model": model, "headers": headers},
        304: {"description": "Nothing has changed since the `ETag` in If-None-Match.", "headers": headers},
    }


async def inversion(
    client: JobClient, settings: AppSettings, record: JobRecord, status_code: int = 200
) -> JSONResponse:
    """The inversion as it stands."""
    queued = record.status is JobStatus.QUEUED
    position = await client.queue_position(record.id) if queued else None
    return _answer(as_json(Inversion.of(record, position)), record.status, settings, status_code)


async def batch(client: JobClient, settings: AppSettings, record: BatchRecord) -> JSONResponse:
    """The batch as it stands."""
    whole = await _whole(client, record)
    return _answer(as_json(whole), whole.status, settings, 200)


async def _whole(client: JobClient, record: BatchRecord) -> Batch:
    return Batch.of(record, await client.records_of(record.jobs))


def accepted(response: JSONResponse, location: str, *, waited_s: int | None, replayed: bool) -> JSONResponse:
    """The answer to a submission: where to follow it, and how its preferences were honoured."""
    response.headers["Location"] = location
    if waited_s is not None:
        response.headers["Preference-Applied"] = f"wait={waited_s}"
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


async def submitted(
    client: JobClient, settings: AppSettings, record: JobRecord, *, waited_s: int | None = None, replayed: bool = False
) -> JSONResponse:
    """202, or 200 for one that has been waited for and has ended."""
    status_code = 200 if waited_s is not None and record.status.is_final else 202
    response = await inversion(client, settings, record, status_code)
    return accepted(response, address(record.id), waited_s=waited_s, replayed=replayed)


async def submitted_batch(
    client: JobClient, settings: AppSettings, record: BatchRecord, *, waited_s: int | None, replayed: bool
) -> JSONResponse:
    """202, or 200 for one that has been waited for and has ended as a whole."""
    whole = await _whole(client, record)
    status_code = 200 if waited_s is not None and whole.status.is_final else 202
    response = _answer(as_json(whole), whole.status, settings, status_code)
    return accepted(response, batch_address(record.id), waited_s=waited_s, replayed=replayed)


def unless_unchanged(request: Request, response: JSONResponse) -> Response:
    """304 in the place of an answer that the caller has already."""
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or response.headers["ETag"] in known:
        kept = {name: response.headers[name] for name in ("ETag", "Retry-After") if name in response.headers}
        return Response(status_code=304, headers=kept)
    return response


def _answer(body: Mapping[str, Any], status: JobStatus, settings: AppSettings, status_code: int) -> JSONResponse:
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
    headers = {"ETag": f'"{digest}"'}
    if not status.is_final:
        headers["Retry-After"] = str(settings.retry_after_s)
    return JSONResponse(body, status_code, headers)
