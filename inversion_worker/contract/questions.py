"""Short questions: what a worker answers at once, beside its jobs. Nothing is kept of one when it is over.

A question and its reply are one value each: a line of JSON, which is one of the messages below, a line break, then
bytes. Workers leave kinds alone that they do not know, and fields too: a newer app or worker may say more.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from inversion_worker.contract.message import Problem


class QuestionKind(StrEnum):
    """What can be asked. A worker announces the kinds that it answers."""

    LOOK = "look"
    """Which faces are in this photo? The bytes are the photo, the result is a `Seen`."""
    RENDER = "render"
    """What does this code look like, with these edits? The question is a `RenderOrder`, the result a `Rendered`."""
    FILM = "film"
    """What lies between two codes? The question is a `FilmOrder`, the result a `Rendered` with the film."""


class QuestionHead(BaseModel):
    """What stands before the bytes of a question."""

    model_config = ConfigDict(frozen=True)

    params: Mapping[str, Any] = Field(default_factory=dict)
    """Of the kind."""
    stored: str | None = None
    """Key of the artifact that holds the bytes, where they are many; none: they follow."""
    request_id: str = ""
    traceparent: str = ""


class ReplyHead(BaseModel):
    """What stands before the bytes of a reply."""

    model_config = ConfigDict(frozen=True)

    result: Mapping[str, Any] = Field(default_factory=dict)
    """Of the kind."""
    stored: str | None = None
    """Key of the artifact that holds the bytes, where they are many; none: they follow."""
    error: Problem | None = None
    """Why there is no result."""
