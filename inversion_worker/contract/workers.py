"""What a worker says of itself: its packs, and what it has counted."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from inversion_worker.contract.message import Message
from inversion_worker.contract.options import StartKind


class DirectionInfo(Message):
    """An editing direction of a pack."""

    name: str = Field(description="Its name.")
    label: str = Field(description="What a positive strength does.")
    low: float = Field(description="Lowest strength at which pictures stay plausible.")
    high: float = Field(description="Highest strength at which pictures stay plausible.")
    unit: str = Field("", description="What a strength of 1 is. Older workers do not send it.")
    source: str = Field("", description="What it was made of, and how. Older workers do not send it.")
    held_out_r2: float | None = Field(
        None,
        description="R^2 of the linear model of its attribute on pictures that it has not seen; null if it was not "
        "measured.",
    )
    side_effects: dict[str, float] = Field(
        default_factory=dict,
        description="What a strength of 1 does to the attributes of other directions, in their units; only what was "
        "measured on pictures.",
    )


class DetailInfo(Message):
    """How a pack finds detail where nobody says."""

    px: int = Field(description="Side of the features that it is added to.")
    after: int = Field(description="Steps of the code before it.")
    steps: int = Field(description="Steps of detail; 0: none unless it is asked for.")


class PackInfo(Message):
    """A pack that a running worker offers."""

    name: str = Field(description="The name to pass as `pack`.")
    version: str = Field(description="Changes whenever anything in the pack changes.")
    digest: str = Field(
        "",
        description="sha256:... of the generator's weights. Codes work with every pack of the same digest. Older "
        "workers do not send it.",
    )
    resolution: int = Field(description="Image size in pixels.")
    layers: int = Field(description="Rows of a code.")
    w_dim: int = Field(description="Columns of a code.")
    starts: list[StartKind] = Field(description="Supported start codes, besides a code that you send.")
    optimizers: list[str] = Field(description="Supported values of `optimizer`.")
    default_optimizer: str = Field(
        "adam", description="Used if `optimizer` is not set. Older workers do not send it and use Adam."
    )
    focus: float = Field(0.0, description="Used if `focus` is not set. Older workers do not send it and have no focus.")
    detail: DetailInfo | None = Field(
        None, description="Used if `steps`, `detail_steps` and `detail_px` are not set. Older workers do not send it."
    )
    directions: list[DirectionInfo] = Field(
        default_factory=list, description="Editing directions. Older workers do not send them."
    )
    licence: str = Field(description="Terms under which its images may be used.")
    description: str = Field(description="What it generates.")
    default: bool = Field(description="Whether it is used if `pack` is not set.")


class WorkerInfo(Message):
    """A live worker's announcement; gone when its heartbeat stops."""

    id: str
    packs: list[PackInfo]
    slots: int
    device: str


STEP_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Upper bounds of the step times that a worker counts apart."""


class WorkerFigures(BaseModel):
    """What a worker has counted since it started; unknown fields of a newer one are left aside."""

    model_config = ConfigDict(frozen=True)

    worker: str
    device: str
    slots: int = Field(ge=1)
    running: int = Field(description="Jobs at this moment.")
    frames: int
    step_seconds: float = Field(description="Sum of all step times.")
    steps_by_bucket: list[int] = Field(
        description="Steps by STEP_BUCKETS_S; the last is of those above all.",
        min_length=len(STEP_BUCKETS_S) + 1,
        max_length=len(STEP_BUCKETS_S) + 1,
    )
    answers: dict[str, tuple[int, float]] = Field(
        default_factory=dict, description="Short questions by kind: how many were answered, and the seconds they took."
    )
    process_memory_bytes: int | None = None
    device_memory_bytes: int | None = None
