"""What every message of the seam is, and the one message that both requests and jobs end in: a problem."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Message(BaseModel):
    """Base of everything on the seam: immutable, and unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(Message):
    """An RFC 9457 problem document."""

    type: str = Field(
        description="Stable URI reference that names the kind of problem.", examples=["/problems/no-face-found"]
    )
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="What happened here, and what to do about it.")
    instance: str | None = None
