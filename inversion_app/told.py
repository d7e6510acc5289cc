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
    """The inversion, and whatever the event stream says of the event."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(description="Id of the inversion.")


class Told(BaseModel):
    """One event, as a webhook gets it."""

    type: _Type = Field(description="`inversion.` and the kind of the event.")
    timestamp: datetime = Field(description="When it happened.")
    data: ToldOf = Field(description="Pictures and codes are never in it: fetch them at the inversion's addresses.")


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
        200: {"description": "Any 2xx within 10 seconds takes the message. Anything else has it sent again."},
        410: {"description": "No more of this inversion is wanted."},
    },
)
def inversion(
    told: Annotated[Told, Body(openapi_examples=_examples())],
    webhook_id: Annotated[
        str, Header(description="The same whenever the message is sent again.", examples=[_EVENT_ID])
    ],
    webhook_timestamp: Annotated[
        int, Header(description="When it is sent, in seconds since 1970.", examples=[1763816400])
    ],
    webhook_signature: Annotated[
        str,
        Header(
            description="`v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`; several, parted by spaces, "
            "while a secret is changed.",
            examples=[_SIGNATURE],
        ),
    ],
) -> None:
    """A POST to the `webhook` of a submission, in the form of [Standard Webhooks](https://www.standardwebhooks.com).

    At least once and in order, at most two a second for each inversion, with growing pauses after a failure.
    """
