"""What the service answers with, as frozen dataclasses. The service's /docs is the reference of each field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

FINAL = frozenset({"succeeded", "failed", "canceled"})
"""States that do not change any more."""
FINAL_EVENTS = frozenset({"done", "failed", "canceled", "expired", "deleted"})


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem document (RFC 9457)."""

    type: str
    """Stable: /problems/no-face-found."""
    title: str
    status: int
    """HTTP status, 400 to 599."""
    detail: str = ""
    """What happened here, and what to do about it."""
    instance: str | None = None


@dataclass(frozen=True, kw_only=True)
class PackName:
    """The pack that a code belongs to."""

    name: str
    version: str
    digest: str | None = None
    """sha256:... of the generator's weights; codes of one digest render the same faces."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """What is inverted of the photo."""

    found: int
    """Faces in the photo; 0 where `quad` was sent."""
    quad: tuple[tuple[float, ...], ...] | None = None
    """Corners (x, y) of the aligned crop in the upright photo, px: top left, bottom left, bottom right, top right."""


@dataclass(frozen=True, kw_only=True)
class MissingResult:
    """A result that could not be made."""

    result: str
    """Which: the name of its link, or `frames` for some of them."""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class PhotoSize:
    """Size of the upright photo, px."""

    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class PhotoWarning:
    """What may spoil a result although there is a face."""

    kind: str
    """Stable, such as cut-by-border; a newer service may say others."""
    detail: str
    """The same in words."""


@dataclass(frozen=True, kw_only=True)
class FaceSeen:
    """One face of a photo. Coordinates (x, y) are pixels of the upright photo."""

    box: tuple[float, ...]
    """Left, top, right, bottom."""
    landmarks: tuple[tuple[float, ...], ...]
    """Left eye, right eye, nose, left and right corner of the mouth; left and right in the picture."""
    score: float
    """How sure the detector is, 0 to 1."""
    quad: tuple[tuple[float, ...], ...]
    """Corners of the aligned crop: top left, bottom left, bottom right, top right. The option `quad` takes it."""
    warnings: tuple[PhotoWarning, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Faces:
    """What a look at a photo finds."""

    photo: PhotoSize
    faces: tuple[FaceSeen, ...]
    """The largest first; the option `face` counts them from 0."""


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """One inversion, as it stood when the service was asked."""

    id: str
    status: str
    """queued, running, succeeded, failed or canceled."""
    steps: int
    """Updates asked for."""
    created_at: datetime
    expires_at: datetime
    """When the photo and all results are deleted: some time after the end; before it, when it is given up."""
    step: int | None = None
    """Updates done so far; None before the start code."""
    loss: float | None = None
    """Loss at `step`."""
    best_step: int | None = None
    """The step whose code, loss and picture are the result."""
    best_loss: float | None = None
    optimizer: str | None = None
    """The one that is used; known once a worker has taken the inversion."""
    stopped_by: str | None = None
    """Which rule ended the loop: steps, target_loss, max_seconds, plateau, not_finite or request."""
    result_step: int | None = None
    """The step whose code and picture can be had by now: the best so far while it runs."""
    missing: tuple[MissingResult, ...] = ()
    """Results that could not be made, although the code was found."""
    queue_position: int | None = None
    """Inversions ahead of this one, 0 when it is next."""
    attempts: int = 0
    """How often a worker has started it."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    """Seconds of work, without the time in the queue."""
    options: Mapping[str, Any] = field(default_factory=dict)
    masked: bool = False
    pack: PackName | None = None
    """Known once a worker has taken the inversion."""
    face: Face | None = None
    photo: PhotoSize | None = None
    """Known once a worker has taken the inversion; services of before do not say it."""
    faces: tuple[FaceSeen, ...] = ()
    """Every face in the photo; empty with `quad` or align=False."""
    face_index: int | None = None
    """Which of `faces` is inverted."""
    warnings: tuple[PhotoWarning, ...] = ()
    """What may spoil the result."""
    error: Problem | None = None
    """Why it failed."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Addresses of what exists by now, without the host."""
    batch: str | None = None
    """Id of the batch that it came in."""
    retry_of: str | None = None
    """Id of the inversion that it repeats."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended, well or not."""
        return self.status in FINAL


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to an inversion."""

    id: str
    """Grows from event to event; `events(..., after=id)` goes on behind it."""
    kind: str
    """queued, started, frame, done, failed, canceled, expired or deleted; a newer service may say others."""
    step: int | None = None
    """frame: its step. done: the best step."""
    loss: float | None = None
    """Loss at `step`."""
    steps: int | None = None
    """started: updates to come."""
    attempt: int | None = None
    """started: 1, and more after a worker was lost."""
    url: str | None = None
    """frame: address of the picture, without the host."""
    error: Problem | None = None
    """failed: why."""

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen after this."""
        return self.kind in FINAL_EVENTS


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A picture on the way."""

    step: int
    url: str
    """Address, without the host."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Photos that were submitted together, as they stood when the service was asked."""

    id: str
    status: str
    """queued until one has started, running until all have ended; then failed, canceled or succeeded."""
    total: int
    counts: Mapping[str, int]
    """How many inversions are in each state, the deleted ones too."""
    created_at: datetime
    expires_at: datetime
    inversions: tuple[Inversion | None, ...]
    """In the order of the photos; None for one that was deleted."""
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether all have ended."""
        return self.status in FINAL


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One editing direction of a pack."""

    name: str
    label: str
    low: float
    """Lowest strength at which pictures stay plausible."""
    high: float


@dataclass(frozen=True, kw_only=True)
class Pack:
    """A pack that a live worker has announced."""

    name: str
    version: str
    resolution: int
    """Side of its pictures, px."""
    layers: int
    w_dim: int
    """A code of the pack has the shape (layers, w_dim)."""
    starts: tuple[str, ...]
    optimizers: tuple[str, ...]
    licence: str
    description: str = ""
    default: bool = False
    digest: str = ""
    default_optimizer: str = ""
    """What is taken where `optimizer` is left out; services of before say none."""
    focus: float = 0.0
    """Likewise where `focus` is left out."""
    directions: tuple[Direction, ...] = ()
