"""What a person may choose for one inversion, and how much of it."""

from __future__ import annotations

import re
from enum import StrEnum

from pydantic import Field, field_validator

from inversion_worker.contract.events import FINAL_EVENTS, EventKind
from inversion_worker.contract.faces import QUAD_TEXT, Quad
from inversion_worker.contract.message import Message

HEAD_START_S = 600
"""By how much a job goes before those of the next lower priority."""
MAX_STEPS = 1000
"""Most updates that one job may ask for."""
STEPS_WITHOUT_DETAIL = 100
"""Steps of the code where nobody says, and no detail follows; the library's."""
MAX_DETAIL_PX = 1024
"""Largest side of features that a job may ask to add detail to."""
MAX_SECONDS = 3600
"""Most seconds of work that one job may ask for."""
MAX_FOCUS = 100
"""Largest focus, that of the library."""
MIN_TTL_S = 60
"""Shortest time that a job may ask to be kept after its end."""
MAX_TTL_S = 7 * 24 * 3600
"""Longest time that a job may ask to be kept after its end."""
MAX_URL_LENGTH = 2000
"""Longest address of a webhook."""
_PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})"
WEBHOOK_PATTERN = rf"^https?://[A-Za-z0-9._-]+(:{_PORT})?([/?][!\"$-~]*)?$"
"""Shape of a webhook's address: ASCII, without user name, password or fragment; a host by name, or by IPv4."""
MAX_FACE = 999
"""Highest number of a face."""
MAX_NAME_LENGTH = 64
"""Longest name of a pack or an optimizer."""


class StartKind(StrEnum):
    ENCODER = "encoder"
    MEAN = "mean"
    RANDOM = "random"
    LATENTS = "latents"
    """A code that came with the photo: every pack takes one, so none lists it among its starts."""


class Priority(StrEnum):
    """Which queued jobs go first. None overtakes one of its own priority, and none waits for ever.

    A job goes before those of the next lower priority that came up to HEAD_START_S earlier, and of the one below that
    up to twice as long; whoever has waited longer than that goes first.
    """

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """0 goes first."""
        return (Priority.HIGH, Priority.NORMAL, Priority.LOW).index(self)


class JobOptions(Message):
    """The options of an inversion."""

    pack: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        description="A pack that a running worker offers. Default: the worker's default pack.",
        examples=["faces-128"],
    )
    optimizer: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        description="An optimizer that the pack offers. Default: the pack's `default_optimizer`.",
        examples=["adam"],
    )
    start: StartKind | None = Field(
        None,
        description="The start code. Default: encoder if the pack has one, else mean. `latents` is the code that you "
        "send; sending one implies it.",
        examples=["encoder"],
    )
    steps: int | None = Field(
        None,
        ge=0,
        le=MAX_STEPS,
        description="Steps of the code; 0 keeps the start code. Default: the pack's number before detail (`detail` of "
        "the pack), or 100 without detail.",
        examples=[8],
    )
    detail_steps: int | None = Field(
        None,
        ge=0,
        le=MAX_STEPS,
        description="Steps of detail after those of the code; 0 switches detail off. Default: the pack's.",
        examples=[10],
    )
    detail_px: int | None = Field(
        None,
        ge=4,
        le=MAX_DETAIL_PX,
        description="Side of the features that detail is added to, a power of two. Default: the pack's.",
        examples=[64],
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the random start.")
    frame_every: int = Field(
        5, ge=1, le=MAX_STEPS, description="Write a frame every N steps, and for the first and last step."
    )
    align: bool = Field(True, description="Detect and align the face as in FFHQ. False takes the centre crop as it is.")
    face: int | None = Field(
        None,
        ge=0,
        le=MAX_FACE,
        description="Which face to invert: an index into the list of POST /v1/faces or into `faces`. Default: 0, the "
        "largest. Not with `quad` or align=false.",
        examples=[1],
    )
    quad: Quad | None = Field(
        None,
        description=f"Corners of the crop in the upright photo, in pixels: {QUAD_TEXT}; as four points or eight "
        "numbers (in a form, separated by commas). Skips face detection. The quad must be convex, nearly square, and "
        "overlap the photo. Not with `face` or align=false.",
        examples=[[[210.0, 96.0], [208.5, 540.2], [652.7, 541.7], [654.2, 97.5]]],
    )
    focus: float | None = Field(
        None,
        ge=0,
        le=MAX_FOCUS,
        allow_inf_nan=False,
        description="How much more the centre of the face counts than hair and background. Higher values improve "
        "identity similarity at the expense of the rest. 0 is the paper's loss. Default: the pack's `focus`.",
        examples=[0],
    )
    target_loss: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Stop at the first step whose loss is at most this.",
        examples=[0.02],
    )
    max_seconds: float | None = Field(
        None,
        gt=0,
        le=MAX_SECONDS,
        description="Stop at the end of the step after this many seconds of processing, without the time in the queue.",
        examples=[30],
    )
    plateau_steps: int | None = Field(
        None,
        ge=1,
        le=MAX_STEPS,
        description="Stop if the loss has not fallen by 0.1 % for this many steps.",
        examples=[25],
    )
    paste: bool = Field(
        True,
        description="Also paste the reconstruction back into the photo (`links.pasted`); needs align. False saves the "
        "time to encode the photo again.",
    )
    priority: Priority = Field(
        Priority.NORMAL,
        description=f"Each level is a head start of {HEAD_START_S // 60} minutes in the queue; no job waits forever.",
    )
    ttl: int | None = Field(
        None,
        ge=MIN_TTL_S,
        le=MAX_TTL_S,
        description="Seconds to keep photo and results after the inversion has ended. Default: that of the service.",
        examples=[3600],
    )
    webhook: str | None = Field(
        None,
        max_length=MAX_URL_LENGTH,
        description="URL to call on events, http or https, without user name, password or fragment.",
        examples=["https://editor.example/hooks/inversion"],
        json_schema_extra={"pattern": WEBHOOK_PATTERN},
    )
    webhook_events: tuple[EventKind, ...] = Field(
        FINAL_EVENTS,
        min_length=1,
        max_length=len(EventKind),
        description="Events to send to the webhook; in a form, separated by commas.",
    )

    @field_validator("quad", mode="before")
    @classmethod
    def _pair_up(cls, value: object) -> object:
        """Eight numbers are four points; and lists are tuples, which strict reading insists on."""
        if not isinstance(value, list | tuple):
            return value
        points = [value[index : index + 2] for index in range(0, 8, 2)] if len(value) == 8 else value
        return tuple(tuple(point) if isinstance(point, list) else point for point in points)

    @field_validator("webhook")
    @classmethod
    def _check_webhook(cls, value: str | None) -> str | None:
        """Shape alone: whether the address may be called is decided when it is called."""
        if value is not None and not re.fullmatch(WEBHOOK_PATTERN.strip("^$"), value):
            raise ValueError(
                "must be an address that begins with https:// or http://, without IPv6, user name, password, "
                "fragment or spaces; encode other characters than ASCII"
            )
        return value

    @field_validator("webhook_events")
    @classmethod
    def _each_once(cls, value: tuple[EventKind, ...]) -> tuple[EventKind, ...]:
        return tuple(kind for kind in EventKind if kind in value)
