"""What the API answers with. Records of the seam stay inside; these add links and leave out keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from worker.contract import FaceInfo, JobOptions, JobRecord, JobStatus, PackInfo, Problem

EXAMPLE_ID = "5f0c2a7e9d3b4c5f8a6b7c8d9e0f1a2b"
EXAMPLE_TIME = "2026-11-22T13:00:00Z"


class Answer(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(frozen=True)


class PackName(Answer):
    """The pack that a code belongs to: another pack, or another version, renders another face from it."""

    name: str = Field(examples=["faces-64"])
    version: str = Field(examples=["1.0.0"])


class Links(Answer):
    """Addresses of what exists by now, relative to this host."""

    self: str
    events: str
    frames: str
    cancel: str | None = Field(None, description="POST; while the inversion has not ended.")
    aligned: str | None = Field(None, description="The crop that is inverted, PNG.")
    image: str | None = Field(None, description="The reconstruction, PNG.")
    latents: str | None = Field(None, description="The code, npy or JSON.")


class Inversion(Answer):
    """One inversion, as it stands."""

    id: str
    status: JobStatus
    step: int | None = Field(None, description="Updates done so far; none before the start code.")
    steps: int = Field(description="Updates asked for.")
    loss: float | None = Field(None, description="Loss at `step`.")
    best_step: int | None = Field(None, description="The step whose code, loss and picture are the result.")
    best_loss: float | None = None
    queue_position: int | None = Field(
        None, description="Inversions ahead of this one, 0 when it is next; none once it runs."
    )
    attempts: int = Field(0, description="How often a worker has started it; more than 1 when a worker was lost.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime = Field(description="When the photo and all results are deleted.")
    seconds: float | None = Field(None, description="Seconds of work, without the time in the queue.")
    options: JobOptions
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
        same = record.model_dump(exclude={"tenant", "pack_name", "pack_version", "frames"})
        pack = None
        if record.pack_name is not None and record.pack_version is not None:
            pack = PackName(name=record.pack_name, version=record.pack_version)
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


def links_of(record: JobRecord) -> Links:
    """Links to what the record says exists."""
    own = address(record.id)
    found: dict[str, str] = {}
    if not record.status.is_final:
        found["cancel"] = f"{own}/cancel"
    if record.pack_name is not None:  # known together with the crop, before the start code
        found["aligned"] = f"{own}/aligned"
    if record.status is JobStatus.SUCCEEDED:
        found |= {"image": f"{own}/image", "latents": f"{own}/latents"}
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


def as_json(answer: Inversion) -> Mapping[str, Any]:
    """The inversion as JSON values; of the links only those that exist."""
    body: dict[str, Any] = json.loads(answer.model_dump_json())  # a loss that is not finite becomes null
    body["links"] = answer.links.model_dump(exclude_none=True)
    return body
