"""What the API answers with. Records of the seam stay inside; these add links and leave out keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from worker.contract import (
    BatchRecord,
    FaceInfo,
    JobOptions,
    JobRecord,
    JobStatus,
    PackInfo,
    Problem,
    StopReason,
    UsageDay,
)

EXAMPLE_ID = "5f0c2a7e9d3b4c5f8a6b7c8d9e0f1a2b"
EXAMPLE_TIME = "2026-11-22T13:00:00Z"


class Answer(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(frozen=True)


class PackName(Answer):
    """The pack that a code belongs to: another pack, or another version, renders another face from it."""

    name: str = Field(examples=["faces-64"])
    version: str = Field(examples=["1.0.0"])
    digest: str | None = Field(
        None,
        description="sha256:... of the generator's weights: a code belongs to every pack of the same digest.",
        examples=["sha256:" + 64 * "0"],
    )


class Links(Answer):
    """Addresses of what exists by now, relative to this host."""

    self: str
    events: str
    frames: str
    cancel: str | None = Field(None, description="POST; while the inversion has not ended.")
    retry: str | None = Field(None, description="POST; once it has failed or was canceled.")
    batch: str | None = Field(None, description="The batch that it came in.")
    retry_of: str | None = Field(None, description="The inversion that it repeats.")
    animation: str | None = Field(None, description="The frames as an animated WebP.")
    strip: str | None = Field(None, description="The frames side by side, PNG or WebP.")
    metrics: str | None = Field(None, description="Loss and time of every step, JSON or CSV.")
    aligned: str | None = Field(None, description="The crop that is inverted, PNG.")
    image: str | None = Field(None, description="The reconstruction, PNG.")
    latents: str | None = Field(None, description="The code, npy, safetensors or JSON.")
    pasted: str | None = Field(None, description="The photo with the reconstruction in it, JPEG.")


class Inversion(Answer):
    """One inversion, as it stands."""

    id: str
    batch: str | None = Field(None, description="Id of the batch that it came in.")
    retry_of: str | None = Field(None, description="Id of the inversion that it repeats.")
    status: JobStatus
    step: int | None = Field(None, description="Updates done so far; none before the start code.")
    steps: int = Field(description="Updates asked for.")
    loss: float | None = Field(None, description="Loss at `step`.")
    best_step: int | None = Field(None, description="The step whose code, loss and picture are the result.")
    best_loss: float | None = None
    stopped_by: StopReason | None = Field(None, description="Which rule ended the loop of one that succeeded.")
    queue_position: int | None = Field(
        None, description="Inversions ahead of this one, 0 when it is next; none once it runs, and in lists."
    )
    attempts: int = Field(0, description="How often a worker has started it; more than 1 when a worker was lost.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime = Field(description="When the photo and all results are deleted.")
    seconds: float | None = Field(None, description="Seconds of work, without the time in the queue.")
    options: JobOptions
    masked: bool = Field(False, description="A mask came with the photo.")
    pack: PackName | None = Field(None, description="Known once a worker has taken the inversion.")
    face: FaceInfo | None = Field(None, description="What was found in the photo; none with align=false.")
    error: Problem | None = Field(None, description="Why it failed.")
    links: Links

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "example": {
                "id": EXAMPLE_ID,
                "status": "running",
                "step": 45,
                "steps": 100,
                "loss": 0.0412,
                "best_step": 45,
                "best_loss": 0.0412,
                "queue_position": None,
                "attempts": 1,
                "created_at": EXAMPLE_TIME,
                "started_at": EXAMPLE_TIME,
                "finished_at": None,
                "expires_at": "2026-11-23T13:00:00Z",
                "seconds": None,
                "options": JobOptions.model_construct().model_dump(mode="json"),
                "pack": {"name": "faces-64", "version": "1.0.0"},
                "face": {"found": 1, "quad": [[210.0, 96.0], [208.5, 540.2], [652.7, 541.7], [654.2, 97.5]]},
                "error": None,
                "links": {
                    "self": f"/v1/inversions/{EXAMPLE_ID}",
                    "events": f"/v1/inversions/{EXAMPLE_ID}/events",
                    "frames": f"/v1/inversions/{EXAMPLE_ID}/frames",
                    "cancel": f"/v1/inversions/{EXAMPLE_ID}/cancel",
                    "aligned": f"/v1/inversions/{EXAMPLE_ID}/aligned",
                },
            }
        },
    )

    @classmethod
    def of(cls, record: JobRecord, queue_position: int | None) -> Inversion:
        """The public view of a job record."""
        same = record.model_dump(exclude={"tenant", "pack_name", "pack_version", "pack_digest", "pasted", "frames"})
        pack = None
        if record.pack_name is not None and record.pack_version is not None:
            pack = PackName(name=record.pack_name, version=record.pack_version, digest=record.pack_digest)
        return cls(
            **same,
            steps=record.options.steps,
            queue_position=queue_position,
            pack=pack,
            links=links_of(record),
        )


def address(job_id: str) -> str:
    """Where an inversion lives."""
    return f"/v1/inversions/{job_id}"


def batch_address(batch_id: str) -> str:
    """Where a batch lives."""
    return f"/v1/batches/{batch_id}"


def links_of(record: JobRecord) -> Links:
    """Links to what the record says exists."""
    own = address(record.id)
    found: dict[str, str] = {}
    if not record.status.is_final:
        found["cancel"] = f"{own}/cancel"
    if record.pack_name is not None:  # known together with the crop, before the start code
        found["aligned"] = f"{own}/aligned"
    if record.frames:
        found |= {"animation": f"{own}/animation", "strip": f"{own}/strip"}
    if record.status is JobStatus.SUCCEEDED:
        found |= {"image": f"{own}/image", "latents": f"{own}/latents", "metrics": f"{own}/metrics"}
    if record.pasted:
        found["pasted"] = f"{own}/pasted"
    if record.status in (JobStatus.FAILED, JobStatus.CANCELED):
        found["retry"] = f"{own}/retry"
    if record.batch is not None:
        found["batch"] = batch_address(record.batch)
    if record.retry_of is not None:
        found["retry_of"] = address(record.retry_of)
    return Links(self=own, events=f"{own}/events", frames=f"{own}/frames", **found)


class Frame(Answer):
    """A picture on the way."""

    step: int
    url: str


class Frames(Answer):
    """The frames written so far, in the order of their steps."""

    frames: list[Frame]

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={"example": {"frames": [{"step": 0, "url": f"/v1/inversions/{EXAMPLE_ID}/frames/0"}]}},
    )


class Inversions(Answer):
    """A page of a list, newest first."""

    inversions: list[Inversion]
    next: str | None = Field(
        None, description="Address of the next page; none at the end. A page may hold fewer than asked for, even none."
    )


class BatchCounts(Answer):
    """How many inversions of a batch are in each state."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    deleted: int = 0


class BatchLinks(Answer):
    """Addresses of a batch, relative to this host."""

    self: str
    cancel: str | None = Field(None, description="POST; while not all have ended.")


class Batch(Answer):
    """Photos that were submitted together, as they stand."""

    id: str
    status: JobStatus = Field(
        description="queued until one has started, running until all have ended; then failed when one has failed, else "
        "canceled when one was canceled, else succeeded."
    )
    total: int
    counts: BatchCounts
    created_at: datetime
    expires_at: datetime
    inversions: list[Inversion | None] = Field(description="In the order of the photos; null for one that was deleted.")
    links: BatchLinks

    @classmethod
    def of(cls, batch: BatchRecord, records: Sequence[JobRecord | None]) -> Batch:
        """The public view of a batch whose records these are."""
        states = [record.status.value if record else "deleted" for record in records]
        counts = BatchCounts(**{name: states.count(name) for name in BatchCounts.model_fields})
        own = batch_address(batch.id)
        status = _whole(counts)
        return cls(
            id=batch.id,
            status=status,
            total=len(records),
            counts=counts,
            created_at=batch.created_at,
            expires_at=batch.expires_at,
            inversions=[Inversion.of(record, None) if record else None for record in records],
            links=BatchLinks(self=own, cancel=None if status.is_final else f"{own}/cancel"),
        )


def _whole(counts: BatchCounts) -> JobStatus:
    ended = counts.succeeded + counts.failed + counts.canceled
    if counts.queued and not counts.running and not ended:
        return JobStatus.QUEUED
    if counts.queued or counts.running:
        return JobStatus.RUNNING
    if counts.failed:
        return JobStatus.FAILED
    return JobStatus.CANCELED if counts.canceled else JobStatus.SUCCEEDED


class UsageTotals(Answer):
    """What was used."""

    submitted: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    seconds: float = Field(0.0, description="Seconds of work of the inversions that ended.")


class Usage(Answer):
    """What was used in the last days, UTC, today included."""

    total: UsageTotals
    days: list[UsageDay] = Field(description="Oldest first.")


class MetricsRow(Answer):
    """One step."""

    step: int = Field(examples=[5])
    loss: float | None = Field(description="None where it was not finite.", examples=[0.0412])
    seconds: float = Field(description="Seconds of work until then.", examples=[0.21])


class Metrics(Answer):
    """Loss and time of every step."""

    metrics: list[MetricsRow]

    model_config = ConfigDict(
        frozen=True, json_schema_extra={"example": {"metrics": [{"step": 0, "loss": 0.0621, "seconds": 0.04}]}}
    )


class Latents(Answer):
    """A W+ code: `latents[layer][dimension]`."""

    shape: list[int] = Field(examples=[[10, 512]])
    pack: PackName
    latents: list[list[float]]


class Packs(Answer):
    """The packs that live workers have announced."""

    packs: list[PackInfo]
    workers: int = Field(description="Workers alive.")

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "example": {
                "packs": [
                    {
                        "name": "faces-64",
                        "version": "1.0.0",
                        "resolution": 64,
                        "layers": 10,
                        "w_dim": 512,
                        "starts": ["encoder", "mean", "random"],
                        "optimizers": ["adagrad", "adam", "lbfgs", "nag", "rmsprop", "sgd"],
                        "directions": [{"name": "smile", "label": "Smile", "low": -2.5, "high": 2.5}],
                        "licence": "Apache-2.0",
                        "description": "Faces at 64 px.",
                        "default": True,
                    }
                ],
                "workers": 1,
            }
        },
    )


class State(Answer):
    """That the service is up."""

    status: str = Field(examples=["ok"])


def as_json(answer: Answer) -> Mapping[str, Any]:
    """The answer as JSON values; of links only those that exist."""
    body: dict[str, Any] = json.loads(answer.model_dump_json())  # a loss that is not finite becomes null
    _drop_missing_links(body)
    return body


def _drop_missing_links(body: dict[str, Any]) -> None:
    if isinstance(links := body.get("links"), dict):
        body["links"] = {name: link for name, link in links.items() if link is not None}
    for inversion in body.get("inversions") or ():
        if inversion is not None:
            _drop_missing_links(inversion)
