"""What a worker says of itself: its packs, and what it has counted."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from inversion_worker.contract.message import Message
from inversion_worker.contract.options import StartKind


class DirectionInfo(Message):
    """One editing direction of a pack."""

    name: str = Field(description="Its name.")
    label: str = Field(description="What a positive strength does.")
    low: float = Field(description="Lowest strength at which pictures stay plausible.")
    high: float = Field(description="Highest such strength.")


class PackInfo(Message):
    """One pack, as a live worker announces it."""

    name: str = Field(description="What `pack` of a submission names.")
    version: str = Field(description="Changes with anything in the pack.")
    digest: str = Field(
        "",
        description="sha256:... of the generator's weights: codes of one digest render the same faces, whatever else "
        "of the pack changes. Workers of before say none.",
    )
    resolution: int = Field(description="Side of its pictures in pixels.")
    layers: int = Field(description="Rows of a code.")
    w_dim: int = Field(description="Columns of a code.")
    starts: list[StartKind] = Field(description="What an inversion can start from, beside a code that is sent along.")
    optimizers: list[str] = Field(description="What `optimizer` may be.")
    default_optimizer: str = Field(
        "adam", description="It is taken where `optimizer` is left out. Workers of before say none, and take Adam."
    )
    focus: float = Field(
        0.0, description="It is taken where `focus` is left out. Workers of before say none, and know no focus."
    )
    directions: list[DirectionInfo] = Field(
        default_factory=list, description="Directions in which its codes can be edited; workers of before say none."
    )
    licence: str = Field(description="On which terms its pictures may be used.")
    description: str = Field(description="What it draws.")
    default: bool = Field(description="It is taken where `pack` is left out.")


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
