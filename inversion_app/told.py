"""What webhooks are told, for the OpenAPI document; inversion_app/webhooks.py sends it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from inversion_app import examples

router = APIRouter()
_Type = Literal[
    "inversion.queued", "inversion.started", "inversion.frame", "inversion.done", "inversion.failed",
    "inversion.canceled", "inversion.expired", "inversion.deleted",
]  # fmt: skip
_EVENT_ID = f"{examples.ID}.1763816400000-0"
_SIGNATURE = "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="


class ToldOf(BaseModel):
    """The id of the inversion and the fields of the event stream, with the `metadata` that was sent, if any."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(description="Id of the inversion.")


class Told(BaseModel):
    """An event, as sent to a webhook."""

    type: _Type = Field(description="`inversion.` and the kind of the event.")
    timestamp: datetime = Field(description="When it happened.")
    data: ToldOf = Field(description="Never contains images or codes; fetch those from the API.")


def _examples() -> dict[str, Any]:
    return {
        kind: {"value": {"type": f"inversion.{kind}", "timestamp": examples.TIME, "data": {"id": examples.ID, **data}}}
        for kind, data in examples.TOLD.items()
    }


@router.post(
    "inversion",
    summary="An event of an inversion",
    operation_id="webhook",
    tags=["inversions"],
    response_class=Response,
    responses={
        200: {"description": "Any 2xx within 10 seconds acknowledges the message. Anything else is retried."},
        410: {"description": "Stops the messages for this inversion."},
    },
)
def inversion(
    told: Annotated[Told, Body(openapi_examples=_examples())],
    webhook_id: Annotated[str, Header(description="The same for every retry of a message.", examples=[_EVENT_ID])],
    webhook_timestamp: Annotated[
        int, Header(description="When it was sent, in seconds since 1970.", examples=[1763816400])
    ],
    webhook_signature: Annotated[
        str,
        Header(
            description="`v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`; two of them, separated by a "
            "space, after the secret was rotated.",
            examples=[_SIGNATURE],
        ),
    ],
) -> None:
    """A POST to the `webhook` of a submission, as defined by [Standard Webhooks](https://www.standardwebhooks.com).

    Delivered at least once and in order, at most two a second per inversion, with exponential backoff.
    """
