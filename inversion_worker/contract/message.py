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
    title: str = Field(description="The kind in words; the same for every problem of a `type`.")
    status: int = Field(ge=400, le=599, description="The HTTP status, or what it would be.")
    detail: str = Field(description="What happened here, and what to do about it.")
    instance: str | None = Field(None, description="The address that was asked; none for why an inversion failed.")
