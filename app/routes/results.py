"""What an inversion leaves: frames, the aligned crop, the reconstruction, the code.

A result of an inversion that has not ended is 409 `result-not-ready`; one that will never be is 404.
"""

from __future__ import annotations

import io
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Header, Path, Query, Response

from app.deps import Client, Record, Settings
from app.errors import ProblemError, responses
from app.schemas import Frame, Frames, Latents, PackName, address
from app.settings import AppSettings
from worker.client import JobClient
from worker.contract import MAX_STEPS, ArtifactKey, JobRecord, JobStatus

router = APIRouter(prefix="/v1/inversions/{inversion_id}", tags=["results"])

NPY = "application/octet-stream"
"""npy has no registered media type."""
_PROBLEMS = responses("inversion-not-found", "result-not-ready", "result-not-available")


def _binary(media_type: str, description: str) -> dict[int | str, dict[str, Any]]:
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"description": description, "content": content}}


@router.get("/frames", summary="List the frames", responses=responses("inversion-not-found"))
async def frames(record: Record) -> Frames:
    """The steps that have a frame by now, rising, with the address of each."""
    own = address(record.id)
    return Frames(frames=[Frame(step=step, url=f"{own}/frames/{step}") for step in record.frames])


@router.get(
    "/frames/{step}",
    summary="Get a frame",
    response_class=Response,
    responses={
        **_binary("image/webp", "The picture of that step, WebP."),
        **responses("inversion-not-found", "frame-not-found", "option-invalid"),
    },
)
async def frame(client: Client, record: Record, step: Annotated[int, Path(ge=0, le=MAX_STEPS)]) -> Response:
    """The picture that the code of `step` renders; 404 while there is none, and if there never will be."""
    data = await client.read(ArtifactKey.frame(record.id, step)) if step in record.frames else None
    if data is None:
        last = f"the last is of step {record.frames[-1]}" if record.frames else "there is none yet"
        raise ProblemError("frame-not-found", f"No frame of step {step}; {last}.")
    return Response(data, media_type="image/webp")


@router.get(
    "/aligned",
    summary="Get the aligned crop",
    response_class=Response,
    responses={**_binary("image/png", "The crop that is inverted, PNG."), **_PROBLEMS},
)
async def aligned(client: Client, settings: Settings, record: Record) -> Response:
    """The face, cut out and turned as FFHQ does it, or the centre crop with align=false."""
    data = await client.read(ArtifactKey.aligned(record.id))
    return Response(_require(data, record, settings), media_type="image/png", headers=_named(record, "aligned.png"))


@router.get(
    "/image",
    summary="Get the reconstruction",
    response_class=Response,
    responses={**_binary("image/png", "The reconstruction, PNG."), **_PROBLEMS},
)
async def image(client: Client, settings: Settings, record: Record) -> Response:
    """The picture that the best code renders."""
    data = await _final(client, settings, record, ArtifactKey.image(record.id))
    return Response(data, media_type="image/png", headers=_named(record, "image.png"))


@router.get(
    "/latents",
    summary="Get the code",
    response_class=Response,
    responses={
        200: {
            "description": "The W+ code of the best step: (layers, dimensions), float32.",
            "content": {
                NPY: {"schema": {"type": "string", "format": "binary"}},
                "application/json": {"schema": Latents.model_json_schema(ref_template="#/components/schemas/{model}")},
            },
        },
        **_PROBLEMS,
        **responses("option-invalid"),
    },
)
async def latents(
    client: Client,
    settings: Settings,
    record: Record,
    format: Annotated[Literal["npy", "json"] | None, Query(description="Goes before `Accept`.")] = None,
    accept: Annotated[str | None, Header(description="application/json for JSON, anything else for npy.")] = None,
) -> Response:
    """The W+ code: npy by default, JSON with ?format=json or `Accept: application/json`."""
    data = await _final(client, settings, record, ArtifactKey.latents(record.id))
    if format == "json" or (format is None and _prefers_json(accept or "")):
        body = _latents_json(data, record).model_dump_json()
        return Response(
            body, media_type="application/json", headers=_named(record, "latents.json") | {"Vary": "Accept"}
        )
    return Response(data, media_type=NPY, headers=_named(record, "latents.npy") | {"Vary": "Accept"})


def _latents_json(data: bytes, record: JobRecord) -> Latents:
    w_LD = np.load(io.BytesIO(data), allow_pickle=False)  # L style layer, D latent width
    assert record.pack_name is not None, "a succeeded inversion has a pack"
    assert record.pack_version is not None, "a succeeded inversion has a pack"
    pack = PackName(name=record.pack_name, version=record.pack_version)
    return Latents(shape=list(w_LD.shape), pack=pack, latents=w_LD.tolist())


def _prefers_json(accept: str) -> bool:
    """Whether JSON is named in an Accept header, and no binary type before it."""
    for part in accept.split(","):
        media_type = part.split(";")[0].strip().lower()
        if media_type == "application/json":
            return True
        if media_type in (NPY, "*/*"):
            return False
    return False


async def _final(client: JobClient, settings: AppSettings, record: JobRecord, key: str) -> bytes:
    data = await client.read(key) if record.status is JobStatus.SUCCEEDED else None
    return _require(data, record, settings)


def _require(data: bytes | None, record: JobRecord, settings: AppSettings) -> bytes:
    if data is not None:
        return data
    if not record.status.is_final:
        wait = {"Retry-After": str(settings.retry_after_s)}
        raise ProblemError("result-not-ready", f"The inversion is {record.status.value}.", wait)
    raise ProblemError("result-not-available", f"The inversion is {record.status.value}.")


def _named(record: JobRecord, name: str) -> dict[str, str]:
    return {"Content-Disposition": f'inline; filename="{record.id[:8]}-{name}"'}
