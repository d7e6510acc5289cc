"""An inversion's events as Server-Sent Events.

queued -> started -> frame ... -> done | failed | canceled | expired | deleted, and then the stream ends
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from sse_starlette import EventSourceResponse, JSONServerSentEvent

from inversion_app import examples
from inversion_app.deps import Client, Record, Settings
from inversion_app.errors import responses
from inversion_app.outages import OUTAGES
from inversion_app.schemas import address, links_of
from inversion_worker.client import JobClient
from inversion_worker.contract import EventKind, FrameReady, JobDone, JobEvent, JobRecord, JobStarted

router = APIRouter(prefix="/v1/inversions/{inversion_id}", tags=["inversions"])
log = logging.getLogger(__name__)

RECONNECT_MS = 1000
"""How long a browser waits before it connects again."""
_EXAMPLES = {
    kind: {
        "value": f"id: 1763816400000-0\nevent: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n"
        f"retry: {RECONNECT_MS}\n\n"
    }
    for kind, data in examples.TOLD.items()
}
_EVENT = {
    "type": "object",
    "description": "One event of the stream.",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string", "enum": [kind.value for kind in EventKind]},
        "data": {
            "type": "string",
            "description": "A JSON object; see the example of each kind.",
            "contentMediaType": "application/json",
        },
        "retry": {"type": "integer", "description": "Milliseconds to wait before reconnecting."},
    },
    "required": ["id", "event", "data"],
}


@router.get(
    "/events",
    summary="Follow an inversion",
    response_class=Response,
    responses={
        200: {
            "description": "All events so far, then new ones as they happen, until the inversion ends.",
            "content": {"text/event-stream": {"schema": _EVENT, "examples": _EXAMPLES}},
        },
        204: {"description": "The inversion has ended and there is nothing after `Last-Event-ID`. Browsers then stop."},
        **responses("inversion-not-found", "inversion-expired", "option-invalid"),
    },
)
async def events(
    client: Client,
    settings: Settings,
    record: Record,
    last_event_id: Annotated[
        str | None,
        Header(
            pattern=r"^\d{1,20}(-\d{1,20})?$",
            description="Send only the events after this one.",
            examples=["1763816400000-0"],
        ),
    ] = None,
) -> Response:
    """Server-Sent Events: `queued`, `started`, `frame`, and one of `done`, `failed`, `canceled`, `expired`, `deleted`.

    `done` has the `links` of the inversion, as its record has them. Every event has the `metadata` that was sent.
    When browsers reconnect they send `Last-Event-ID` themselves, so no event is missed.
    Comments keep an idle connection open.
    """
    if last_event_id is not None and record.status.is_final and await _was_last(client, record.id, last_event_id):
        return Response(status_code=204)  # an EventSource connects again after every other end
    stream = _stream(client, record, last_event_id or "0")
    return EventSourceResponse(stream, ping=settings.keep_alive_s, headers={"Cache-Control": "private, no-store"})


async def _was_last(client: JobClient, job_id: str, event_id: str) -> bool:
    """Whether an inversion that has ended has nothing more to tell."""
    async for _ in client.events(job_id, event_id):
        return False
    return True


async def _stream(client: JobClient, record: JobRecord, after_id: str) -> AsyncIterator[JSONServerSentEvent]:
    try:
        async for event_id, event in client.events(record.id, after_id):
            if isinstance(event, JobDone):  # its links are those of the end
                record = await client.get(record.id) or record
            yield JSONServerSentEvent(
                public(record, event), event=event.kind, id=event_id, retry=RECONNECT_MS, sep="\n"
            )
    except OUTAGES as error:  # the answer has begun; the browser connects again and goes on after the last id
        log.warning("events of %s cut off: %s", record.id, type(error).__name__)


def public(record: JobRecord, event: JobEvent) -> dict[str, Any]:
    """The event's data with addresses in the place of keys, and the sender's `metadata`.

    `record` is that of the event's job, at the time of the event or later.
    """
    body: dict[str, Any] = json.loads(event.model_dump_json(exclude={"kind", "aligned_key", "frame_key"}))
    if isinstance(event, JobStarted):
        body["aligned"] = f"{address(record.id)}/aligned"
    if isinstance(event, FrameReady):
        body["url"] = f"{address(record.id)}/frames/{event.step}"
    if isinstance(event, JobDone):
        body["links"] = links_of(record).model_dump(exclude_none=True)
    return body if record.metadata is None else body | {"metadata": record.metadata}
