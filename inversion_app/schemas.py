"""What the API answers with. Records of the seam stay inside; these add links and leave out keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from inversion_app import examples
from inversion_worker.contract import (
    BatchRecord,
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


def _shown(example: dict[str, Any]) -> ConfigDict:
    """The configuration of an answer that is shown in the OpenAPI document by this example."""
    return ConfigDict(frozen=True, json_schema_extra={"example": example})


class Answer(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(frozen=True)


class PackName(Answer):
    """The pack that a code belongs to: another pack, or another version, renders another face from it."""

    name: str = Field(description="Its name.", examples=["faces-128"])
    version: str = Field(description="Its version.", examples=["1.3"])
    digest: str | None = Field(
        None,
        description="sha256:... of the generator's weights: a code belongs to every pack of the same digest.",
        examples=[examples.PACK_DIGEST],
    )


class Links(Answer):
    """Addresses of what exists by now, relative to this host."""

    self: str = Field(description="The inversion itself.")
    events: str = Field(description="Its events, as Server-Sent Events.")
    frames: str = Field(description="The list of its frames.")
    cancel: str | None = Field(None, description="POST; while the inversion has not ended.")
    finish: str | None = Field(
        None, description="POST; while it has not ended: it then ends with the best that it has found."
    )
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

    id: str = Field(description="Names it in every address.")
    batch: str | None = Field(None, description="Id of the batch that it came in.")
    retry_of: str | None = Field(None, description="Id of the inversion that it repeats.")
    status: JobStatus = Field(description="queued, running, and in the end one of the other three.")
    step: int | None = Field(None, description="Updates done so far; none before the start code.")
    steps: int = Field(description="Updates asked for.")
    loss: float | None = Field(None, description="Loss at `step`.")
    best_step: int | None = Field(None, description="The step whose code, loss and picture are the result.")
    best_loss: float | None = Field(None, description="Its loss.")
    optimizer: str | None = Field(None, description="The one that is used; known once a worker has taken it.")
    stopped_by: StopReason | None = Field(None, description="Which rule ended the loop of one that succeeded.")
    result_step: int | None = Field(
        None,
        description="The step whose code and picture `links` give: the best so far while it runs, the best in the end, "
        "also of one that was canceled or failed on the way. Bytes that are fetched say their own in `Inversion-Step`.",
    )
    missing: list[MissingResult] = Field(
        default_factory=list,
        description="Results that could not be made, although the code was found; their addresses answer "
        "`result-failed`.",
    )
    queue_position: int | None = Field(
        None, description="Inversions ahead of this one, 0 when it is next; none once it runs, and in lists."
    )
    attempts: int = Field(0, description="How often a worker has started it; more than 1 when a worker was lost.")
    created_at: datetime = Field(description="When it was accepted.")
    started_at: datetime | None = Field(None, description="When a worker took it first.")
    finished_at: datetime | None = Field(None, description="When it ended, however it did.")
    expires_at: datetime = Field(
        description="When the photo and all results are deleted: `ttl` after the end; while it has not ended, when "
        "it is given up."
    )
    seconds: float | None = Field(None, description="Seconds of work, without the time in the queue.")
    options: JobOptions = Field(description="As they were sent, with the defaults of those that were not.")
    masked: bool = Field(False, description="A mask came with the photo.")
    pack: PackName | None = Field(None, description="Known once a worker has taken the inversion.")
    photo: PhotoSize | None = Field(None, description="Size of the upright photo; known once a worker has taken it.")
    faces: list[FaceSeen] = Field(
        default_factory=list,
        description="Every face in the photo, the largest first; empty with `quad` or align=false: nobody looked.",
    )
    face_index: int | None = Field(
        None, description="Which of `faces` is inverted, from 0; none with `quad` or align=false."
    )
    face: FaceInfo | None = Field(
        None, description="How many faces there are, and what is inverted; none with align=false."
    )
    warnings: list[PhotoWarning] = Field(
        default_factory=list, description="What may spoil the result although a face was found."
    )
    error: Problem | None = Field(None, description="Why it failed.")
    links: Links = Field(description="Where everything about it is.")

    model_config = _shown(examples.INVERSION)

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
        found |= {"cancel": f"{own}/cancel", "finish": f"{own}/finish"}
    if record.pack_name is not None:  # known together with the crop, before the start code
        found["aligned"] = f"{own}/aligned"
    if record.frames:
        found |= {"animation": f"{own}/animation", "strip": f"{own}/strip"}
    if record.status is JobStatus.SUCCEEDED or record.result_step is not None:
        found |= {"image": f"{own}/image", "latents": f"{own}/latents", "metrics": f"{own}/metrics"}
    if record.pasted:
        found["pasted"] = f"{own}/pasted"
    if record.status in (JobStatus.FAILED, JobStatus.CANCELED):
        found["retry"] = f"{own}/retry"
    if record.batch is not None:
        found["batch"] = batch_address(record.batch)
    if record.retry_of is not None:
        found["retry_of"] = address(record.retry_of)
    for missing in record.missing:
        if missing.result != "frames":  # those that could be stored are there
            found.pop(missing.result, None)
    return Links(self=own, events=f"{own}/events", frames=f"{own}/frames", **found)


class Frame(Answer):
    """A picture on the way."""

    step: int = Field(description="The step whose code it shows.")
    url: str = Field(description="Its address.")


class Frames(Answer):
    """The frames written so far, in the order of their steps."""

    frames: list[Frame] = Field(description="Rising by step.")

    model_config = _shown(examples.FRAMES)


class Inversions(Answer):
    """A page of a list, newest first."""

    model_config = _shown(examples.INVERSIONS)

    inversions: list[Inversion] = Field(description="Newest first.")
    next: str | None = Field(
        None, description="Address of the next page; none at the end. A page may hold fewer than asked for, even none."
    )


class BatchCounts(Answer):
    """How many inversions of a batch are in each state."""

    queued: int = Field(0, description="Wait.")
    running: int = Field(0, description="A worker is at them.")
    succeeded: int = Field(0, description="Have a result.")
    failed: int = Field(0, description="Have an `error`.")
    canceled: int = Field(0, description="Were stopped.")
    deleted: int = Field(0, description="Are gone.")


class BatchLinks(Answer):
    """Addresses of a batch, relative to this host."""

    self: str = Field(description="The batch itself.")
    cancel: str | None = Field(None, description="POST; while not all have ended.")


class Batch(Answer):
    """Photos that were submitted together, as they stand."""

    model_config = _shown(examples.BATCH)

    id: str = Field(description="Names it in every address.")
    status: JobStatus = Field(
        description="queued until one has started, running until all have ended; then failed when one has failed, else "
        "canceled when one was canceled, else succeeded."
    )
    total: int = Field(description="Photos that it came with.")
    counts: BatchCounts = Field(description="How many are in each state.")
    created_at: datetime = Field(description="When it was accepted.")
    expires_at: datetime = Field(description="When the last of its photos and results is deleted.")
    inversions: list[Inversion | None] = Field(description="In the order of the photos; null for one that was deleted.")
    links: BatchLinks = Field(description="Where it is.")

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
    """What was used."""

    submitted: int = Field(0, description="Inversions that were accepted.")
    succeeded: int = Field(0, description="Inversions that ended with a result.")
    failed: int = Field(0, description="Inversions that ended without one.")
    canceled: int = Field(0, description="Inversions that were stopped.")
    seconds: float = Field(0.0, description="Seconds of work of the inversions that ended.")
    looked: int = Field(0, description="Photos that were only looked at.")


class Faces(Answer):
    """The faces of a photo."""

    model_config = _shown(examples.FACES)

    photo: PhotoSize = Field(description="Size of the upright photo: all coordinates are pixels of it.")
    faces: list[FaceSeen] = Field(
        description="The largest first; the option `face` counts them from 0. Empty where there is none."
    )

    @classmethod
    def of(cls, seen: Seen) -> Faces:
        """The public view of what a worker has seen."""
        return cls(photo=seen.photo, faces=seen.faces)


class Usage(Answer):
    """What was used in the last days, UTC, today included."""

    model_config = _shown(examples.USAGE)

    total: UsageTotals = Field(description="All of these days together.")
    days: list[UsageDay] = Field(description="Oldest first.")


class MetricsRow(Answer):
    """One step."""

    step: int = Field(description="Updates done.", examples=[5])
    loss: float | None = Field(description="None where it was not finite.", examples=[0.0412])
    seconds: float = Field(description="Seconds of work until then.", examples=[0.21])


class Metrics(Answer):
    """Loss and time of every step."""

    metrics: list[MetricsRow] = Field(description="From step 0 on; 0 is the start code.")

    model_config = _shown(examples.METRICS)


class Latents(Answer):
    """A W+ code: `latents[layer][dimension]`."""

    model_config = _shown(examples.LATENTS)

    shape: list[int] = Field(description="Layers and dimensions.", examples=[[12, 256]])
    pack: PackName = Field(description="The pack that it belongs to.")
    step: int | None = Field(None, description="Updates after which it was found.", examples=[98])
    latents: list[list[float]] = Field(description="The code itself, float32.")


class Packs(Answer):
    """The packs that live workers have announced."""

    packs: list[PackInfo] = Field(description="By name and version.")
    workers: int = Field(description="Workers alive.")

    model_config = _shown(examples.PACKS)


class State(Answer):
    """That the service is up."""

    status: str = Field(description="One word.", examples=["ok"])

    model_config = _shown({"status": "ok"})


class Readiness(State):
    """That inversions can be done."""

    notes: list[str] = Field(description="What whoever runs the service should know; empty is best.", examples=[[]])

    model_config = _shown({"status": "ready", "notes": []})


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
