"""What the API answers with. Records of the seam stay inside; these add links and leave out keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from inversion_app import examples
from inversion_worker.contract import (
    BatchRecord,
    DiffusionRecord,
    FaceInfo,
    FaceSeen,
    JobOptions,
    JobRecord,
    JobStatus,
    MissingResult,
    PackInfo,
    PhotoSize,
    PhotoWarning,
    Problem,
    Seen,
    StopReason,
    UsageDay,
)


def shown(example: dict[str, Any]) -> ConfigDict:
    """The configuration of an answer that is shown in the OpenAPI document by this example."""
    return ConfigDict(frozen=True, json_schema_extra={"example": example})


class Answer(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(frozen=True)


class PackName(Answer):
    """The pack that a code belongs to. With another generator it renders a different face."""

    name: str = Field(description="Its name.", examples=["faces-128"])
    version: str = Field(description="Its version.", examples=["1.3"])
    digest: str | None = Field(
        None,
        description="sha256:... of the generator's weights. Codes work with every pack of the same digest.",
        examples=[examples.PACK_DIGEST],
    )


class SourceName(Answer):
    """What an inversion goes on from."""

    inversion: str = Field(description="Id of an inversion; it may be gone by now.", examples=[examples.SOURCE_ID])


class Links(Answer):
    """Links to whatever exists so far, relative to this host."""

    self: str = Field(description="The inversion itself.")
    events: str = Field(description="Its events, as Server-Sent Events.")
    frames: str = Field(description="Its frames.")
    cancel: str | None = Field(None, description="POST; present until the inversion has ended.")
    finish: str | None = Field(
        None, description="POST; present until it has ended. Ends it early, with the best code so far."
    )
    retry: str | None = Field(None, description="POST; present if it failed or was canceled.")
    batch: str | None = Field(None, description="Its batch.")
    retry_of: str | None = Field(None, description="The inversion that this one retries.")
    source: str | None = Field(None, description="The inversion that this one goes on from.")
    animation: str | None = Field(None, description="The frames as an animated WebP.")
    strip: str | None = Field(None, description="The frames side by side, PNG or WebP.")
    metrics: str | None = Field(None, description="Loss and time of every step, JSON or CSV.")
    aligned: str | None = Field(None, description="The crop to be inverted, PNG.")
    image: str | None = Field(None, description="The reconstruction, PNG.")
    latents: str | None = Field(None, description="The code, npy, safetensors or JSON.")
    render: str | None = Field(None, description="The code rendered with edits: add `?edit=smile:1.5`.")
    edits: str | None = Field(None, description="The saved edit lists.")
    pasted: str | None = Field(None, description="The photo with the reconstruction pasted in, JPEG.")


class Inversion(Answer):
    """An inversion and its current state."""

    id: str = Field(description="Its id, used in every URL.")
    batch: str | None = Field(None, description="Id of its batch.")
    retry_of: str | None = Field(None, description="Id of the inversion that this one retries.")
    status: JobStatus = Field(description="queued, then running, then one of the three final states.")
    step: int | None = Field(None, description="Steps done so far; null before the start code is known.")
    steps: int | None = Field(
        None,
        description="Steps of code and detail together. Null until a worker has started, if none was running to tell "
        "the pack's numbers.",
    )
    loss: float | None = Field(None, description="Loss at `step`.")
    best_step: int | None = Field(None, description="The step with the lowest loss: its code and image are the result.")
    best_loss: float | None = Field(None, description="Its loss.")
    optimizer: str | None = Field(None, description="The optimizer in use; known once a worker has started.")
    stopped_by: StopReason | None = Field(None, description="Which rule ended a successful inversion.")
    result_step: int | None = Field(
        None,
        description="The step whose code and image `links` lead to: the best so far, also if it was canceled or "
        "failed. Downloads state their own step in the header `Inversion-Step`.",
    )
    missing: list[MissingResult] = Field(
        default_factory=list,
        description="Results that could not be created although the code was found. Their URLs answer `result-failed`.",
    )
    queue_position: int | None = Field(
        None, description="Number of inversions ahead of this one; 0 when it is next. Null once it runs, and in lists."
    )
    attempts: int = Field(0, description="How often a worker has started it; more than 1 if a worker was lost.")
    created_at: datetime = Field(description="When it was submitted.")
    started_at: datetime | None = Field(None, description="When a worker first started it.")
    finished_at: datetime | None = Field(None, description="When it ended, whatever the outcome.")
    expires_at: datetime = Field(
        description="When the photo and all results are deleted: `ttl` after the end. Until it has ended, the time at "
        "which it will be given up."
    )
    seconds: float | None = Field(None, description="Processing time in seconds, without the time in the queue.")
    options: JobOptions = Field(description="The options, with defaults filled in.")
    masked: bool = Field(False, description="Whether a mask was sent.")
    diffusion: DiffusionRecord | None = Field(
        None, description="How the face of another photo was put into this one; null for a plain inversion."
    )
    source: SourceName | None = Field(None, description="The inversion that this one goes on from.")
    metadata: dict[str, JsonValue] | None = Field(None, description="The `metadata` that you sent.")
    pack: PackName | None = Field(None, description="Known once a worker has started.")
    photo: PhotoSize | None = Field(None, description="Size of the upright photo; known once a worker has started.")
    faces: list[FaceSeen] = Field(
        default_factory=list,
        description="All faces in the photo, largest first. Empty with `quad` or align=false, which skip detection.",
    )
    face_index: int | None = Field(
        None, description="Index into `faces` of the one that is inverted; null with `quad` or align=false."
    )
    face: FaceInfo | None = Field(
        None, description="How many faces were found, and which crop is inverted; null with align=false."
    )
    warnings: list[PhotoWarning] = Field(
        default_factory=list, description="What may spoil the result, although a face was found."
    )
    error: Problem | None = Field(None, description="Why it failed.")
    links: Links = Field(description="Links to everything about it.")

    model_config = shown(examples.INVERSION)

    @classmethod
    def of(cls, record: JobRecord, queue_position: int | None) -> Inversion:
        """The public view of a job record."""
        internal = {"tenant", "pack_name", "pack_version", "pack_digest", "pasted", "frames", "source", "steps"}
        same = record.model_dump(exclude=internal)
        pack = None
        if record.pack_name is not None and record.pack_version is not None:
            pack = PackName(name=record.pack_name, version=record.pack_version, digest=record.pack_digest)
        return cls(
            **same,
            steps=record.total_steps,
            queue_position=queue_position,
            pack=pack,
            source=SourceName(inversion=record.source) if record.source is not None else None,
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
        found |= {"cancel": f"{own}/cancel", "finish": f"{own}/finish"}
    if record.pack_name is not None:  # known together with the crop, before the start code
        found["aligned"] = f"{own}/aligned"
    if record.frames:
        found |= {"animation": f"{own}/animation", "strip": f"{own}/strip"}
    if record.status is JobStatus.SUCCEEDED or record.result_step is not None:
        found |= {"image": f"{own}/image", "latents": f"{own}/latents", "metrics": f"{own}/metrics"}
        found |= {"render": f"{own}/render", "edits": f"{own}/edits"}
    if record.pasted:
        found["pasted"] = f"{own}/pasted"
    if record.status in (JobStatus.FAILED, JobStatus.CANCELED):
        found["retry"] = f"{own}/retry"
    if record.batch is not None:
        found["batch"] = batch_address(record.batch)
    if record.retry_of is not None:
        found["retry_of"] = address(record.retry_of)
    if record.source is not None:
        found["source"] = address(record.source)
    for missing in record.missing:
        if missing.result != "frames":  # those that could be stored are there
            found.pop(missing.result, None)
    return Links(self=own, events=f"{own}/events", frames=f"{own}/frames", **found)


class Frame(Answer):
    """An intermediate image."""

    step: int = Field(description="The step that it shows.")
    url: str = Field(description="Its URL, relative to this host.")


class Frames(Answer):
    """The frames so far, ordered by step."""

    frames: list[Frame] = Field(description="Ordered by step.")

    model_config = shown(examples.FRAMES)


class Inversions(Answer):
    """A page of a list, newest first."""

    model_config = shown(examples.INVERSIONS)

    inversions: list[Inversion] = Field(description="Newest first.")
    next: str | None = Field(
        None, description="URL of the next page; null on the last. A page may have fewer items than requested, or none."
    )


class BatchCounts(Answer):
    """How many inversions of a batch are in each state."""

    queued: int = Field(0, description="Waiting in the queue.")
    running: int = Field(0, description="In progress.")
    succeeded: int = Field(0, description="Finished with a result.")
    failed: int = Field(0, description="Ended with an `error`.")
    canceled: int = Field(0, description="Canceled.")
    deleted: int = Field(0, description="Deleted.")


class BatchLinks(Answer):
    """Links of a batch, relative to this host."""

    self: str = Field(description="The batch itself.")
    cancel: str | None = Field(None, description="POST; present until all have ended.")


class Batch(Answer):
    """Photos that were submitted together, and their current state."""

    model_config = shown(examples.BATCH)

    id: str = Field(description="Its id, used in every URL.")
    status: JobStatus = Field(
        description="queued until the first has started, running until all have ended. Then failed if any failed, else "
        "canceled if any was canceled, else succeeded."
    )
    total: int = Field(description="Number of photos.")
    counts: BatchCounts = Field(description="Number of inversions in each state.")
    created_at: datetime = Field(description="When it was submitted.")
    expires_at: datetime = Field(description="When the last of its photos and results will be deleted.")
    inversions: list[Inversion | None] = Field(description="In the order of the photos; null if deleted.")
    links: BatchLinks = Field(description="Links to the batch.")

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
            expires_at=max((record.expires_at for record in records if record), default=batch.expires_at),
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
    """Usage totals."""

    submitted: int = Field(0, description="Inversions submitted.")
    succeeded: int = Field(0, description="Inversions that succeeded.")
    failed: int = Field(0, description="Inversions that failed.")
    canceled: int = Field(0, description="Inversions that were canceled.")
    seconds: float = Field(0.0, description="Processing time in seconds of the inversions that ended.")
    looked: int = Field(0, description="Face look-ups (`POST /v1/faces`).")
    rendered: int = Field(0, description="Renders, without those that had not changed.")


class Faces(Answer):
    """The faces of a photo."""

    model_config = shown(examples.FACES)

    photo: PhotoSize = Field(description="Size of the upright photo. All coordinates are pixels in it.")
    faces: list[FaceSeen] = Field(
        description="Largest first; the option `face` is an index into this list. Empty if none was found."
    )

    @classmethod
    def of(cls, seen: Seen) -> Faces:
        """The public view of what a worker has seen."""
        return cls(photo=seen.photo, faces=seen.faces)


class Usage(Answer):
    """Usage of the last days (UTC), including today."""

    model_config = shown(examples.USAGE)

    total: UsageTotals = Field(description="The sum over these days.")
    days: list[UsageDay] = Field(description="Oldest first.")


class MetricsRow(Answer):
    """One step."""

    step: int = Field(description="Steps done.", examples=[5])
    loss: float | None = Field(description="Null if it was not finite.", examples=[0.0412])
    seconds: float = Field(description="Processing time until then, in seconds.", examples=[0.21])


class Metrics(Answer):
    """Loss and time of every step."""

    metrics: list[MetricsRow] = Field(description="From step 0, the start code, on.")

    model_config = shown(examples.METRICS)


class Latents(Answer):
    """A W+ code: `latents[layer][dimension]`."""

    model_config = shown(examples.LATENTS)

    shape: list[int] = Field(description="(layers, dimensions).", examples=[[12, 256]])
    pack: PackName = Field(description="The pack that it belongs to.")
    step: int | None = Field(None, description="The step at which it was found.", examples=[98])
    latents: list[list[float]] = Field(description="The code itself, float32.")


class Packs(Answer):
    """The packs that running workers offer."""

    packs: list[PackInfo] = Field(description="Sorted by name and version.")
    workers: int = Field(description="Number of running workers.")

    model_config = shown(examples.PACKS)


class State(Answer):
    """The state of the service."""

    status: str = Field(description="One word.", examples=["ok"])

    model_config = shown({"status": "ok"})


class Readiness(State):
    """Whether the service can run inversions."""

    notes: list[str] = Field(description="Hints for the operator; normally empty.", examples=[[]])

    model_config = shown({"status": "ready", "notes": []})


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
