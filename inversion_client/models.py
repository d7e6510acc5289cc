"""The service's responses as frozen dataclasses. The service's /docs describes every field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

FINAL = frozenset({"succeeded", "failed", "canceled"})
"""Final states."""
FINAL_EVENTS = frozenset({"done", "failed", "canceled", "expired", "deleted"})


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem document (RFC 9457)."""

    type: str
    """Stable, such as /problems/no-face-found."""
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
    """sha256:... of the generator's weights. Codes work with every pack of the same digest."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """The crop that is inverted."""

    found: int
    """Number of faces in the photo; 0 if `quad` was sent."""
    quad: tuple[tuple[float, ...], ...] | None = None
    """Corners (x, y) of the aligned crop in the upright photo, px: top left, bottom left, bottom right, top right."""


@dataclass(frozen=True, kw_only=True)
class MissingResult:
    """A result that could not be created."""

    result: str
    """The name of its link, or `frames` if some frames are missing."""
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
    """Stable, such as cut-by-border; newer services may add others."""
    detail: str
    """An explanation."""


@dataclass(frozen=True, kw_only=True)
class FaceSeen:
    """One face of a photo. Coordinates (x, y) are pixels of the upright photo."""

    box: tuple[float, ...]
    """Left, top, right, bottom."""
    landmarks: tuple[tuple[float, ...], ...]
    """Left eye, right eye, nose, left and right corner of the mouth; left and right in the picture."""
    score: float
    """Confidence of the detector, 0 to 1."""
    quad: tuple[tuple[float, ...], ...]
    """Corners of the crop: top left, bottom left, bottom right, top right. Can be passed as the option `quad`."""
    warnings: tuple[PhotoWarning, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Faces:
    """The faces in a photo."""

    photo: PhotoSize
    faces: tuple[FaceSeen, ...]
    """Largest first; the option `face` is an index into this."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an inversion goes on from."""

    inversion: str
    """Id of an inversion; it may be gone by now."""


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """An inversion and its state at the time of the request."""

    id: str
    status: str
    """queued, running, succeeded, failed or canceled."""
    created_at: datetime
    expires_at: datetime
    """When photo and results will be deleted. Until it has ended: when it will be given up."""
    steps: int | None = None
    """Steps of code and detail together; None while nobody knows the pack's numbers."""
    step: int | None = None
    """Steps done so far; None before the start code is known."""
    loss: float | None = None
    """Loss at `step`."""
    best_step: int | None = None
    """The step with the lowest loss: its code and image are the result."""
    best_loss: float | None = None
    optimizer: str | None = None
    """The optimizer in use; known once a worker has started."""
    stopped_by: str | None = None
    """Which rule ended it: steps, target_loss, max_seconds, plateau, not_finite or request."""
    result_step: int | None = None
    """The step whose code and image are available: the best so far while it runs."""
    missing: tuple[MissingResult, ...] = ()
    """Results that could not be created although the code was found."""
    queue_position: int | None = None
    """Number of inversions ahead of this one; 0 when it is next."""
    attempts: int = 0
    """How often a worker has started it."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    """Processing time in seconds, without the time in the queue."""
    options: Mapping[str, Any] = field(default_factory=dict)
    masked: bool = False
    diffusion: Mapping[str, Any] | None = None
    """How the face of another photo was put into this one; None for a plain inversion."""
    source: Source | None = None
    """The inversion that this one goes on from."""
    metadata: Mapping[str, Any] | None = None
    """What was sent as `metadata`."""
    pack: PackName | None = None
    """Known once a worker has started."""
    face: Face | None = None
    photo: PhotoSize | None = None
    """Known once a worker has started; older services do not send it."""
    faces: tuple[FaceSeen, ...] = ()
    """All faces in the photo; empty with `quad` or align=False."""
    face_index: int | None = None
    """Index into `faces` of the one that is inverted."""
    warnings: tuple[PhotoWarning, ...] = ()
    """What may spoil the result."""
    error: Problem | None = None
    """Why it failed."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Paths of whatever exists so far, without the host."""
    batch: str | None = None
    """Id of its batch."""
    retry_of: str | None = None
    """Id of the inversion that this one retries."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended, whatever the outcome."""
        return self.status in FINAL


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of an inversion."""

    id: str
    """Increases from event to event; `events(..., after=id)` continues after it."""
    kind: str
    """queued, started, frame, done, failed, canceled, expired or deleted; newer services may add others."""
    step: int | None = None
    """frame: its step. done: the best step."""
    loss: float | None = None
    """Loss at `step`."""
    steps: int | None = None
    """started: steps to come, of code and detail together."""
    attempt: int | None = None
    """started: 1, or more if a worker was lost."""
    url: str | None = None
    """frame: path of the image, without the host."""
    error: Problem | None = None
    """failed: why."""
    links: Mapping[str, str] = field(default_factory=dict)
    """done: paths of all results, without the host."""
    metadata: Mapping[str, Any] | None = None
    """What was sent as `metadata`."""

    @property
    def is_final(self) -> bool:
        """Whether this is the last event."""
        return self.kind in FINAL_EVENTS


@dataclass(frozen=True, kw_only=True)
class Frame:
    """An intermediate image."""

    step: int
    url: str
    """Path, without the host."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Photos that were submitted together, and their state at the time of the request."""

    id: str
    status: str
    """queued until the first has started, running until all have ended; then failed, canceled or succeeded."""
    total: int
    counts: Mapping[str, int]
    """Number of inversions in each state, including deleted ones."""
    created_at: datetime
    expires_at: datetime
    inversions: tuple[Inversion | None, ...]
    """In the order of the photos; None if deleted."""
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether all have ended."""
        return self.status in FINAL


@dataclass(frozen=True, kw_only=True)
class Direction:
    """An editing direction of a pack."""

    name: str
    label: str
    low: float
    """Lowest strength at which pictures stay plausible."""
    high: float
    unit: str = ""
    """What a strength of 1 is."""
    source: str = ""
    """What it was made of, and how."""
    held_out_r2: float | None = None
    """R^2 of the linear model of its attribute on pictures that it has not seen."""
    side_effects: Mapping[str, float] = field(default_factory=dict)
    """What a strength of 1 does to the attributes of other directions, in their units."""
    own: bool = False
    """Whether it is yours; otherwise it belongs to the pack."""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    """When one of yours will be deleted."""
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Render:
    """A rendered picture."""

    data: bytes
    """The file."""
    media_type: str
    offset: tuple[int, int] | None = None
    """Of a patch: x and y of its top left corner in the upright photo, px."""
    step: int | None = None
    """The step of an inversion whose code was rendered."""


@dataclass(frozen=True, kw_only=True)
class SavedEdit:
    """An edit list that is kept with an inversion."""

    id: str
    name: str
    edits: tuple[Mapping[str, Any], ...]
    created_at: datetime
    parent: str | None = None
    """Id of the saved edit that it was made from."""
    links: Mapping[str, str] = field(default_factory=dict)
    """`render` is the address of its picture."""


@dataclass(frozen=True, kw_only=True)
class Pack:
    """A pack that a running worker offers."""

    name: str
    version: str
    resolution: int
    """Image size, px."""
    layers: int
    w_dim: int
    """Codes have the shape (layers, w_dim)."""
    starts: tuple[str, ...]
    optimizers: tuple[str, ...]
    licence: str
    description: str = ""
    default: bool = False
    digest: str = ""
    default_optimizer: str = ""
    """Used if `optimizer` is not set; older services do not send it."""
    focus: float = 0.0
    """Used if `focus` is not set."""
    directions: tuple[Direction, ...] = ()
