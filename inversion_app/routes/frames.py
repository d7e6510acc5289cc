"""The pictures on the way: one by one, as an animation, as a strip."""

from __future__ import annotations

from typing import Annotated, Literal

from anyio import CapacityLimiter, to_process
from fastapi import APIRouter, Path, Query, Response

from inversion_app import sheets
from inversion_app.deps import Client, DecodeSlots, Record, Settings
from inversion_app.errors import ProblemError, responses
from inversion_app.negotiation import chosen
from inversion_app.routes.results import PROBLEMS, Accept, binary, named, require
from inversion_app.schemas import Frame, Frames, address
from inversion_app.settings import AppSettings
from inversion_worker.client import JobClient
from inversion_worker.contract import MAX_STEPS, ArtifactKey, JobRecord

router = APIRouter(prefix="/v1/inversions/{inversion_id}", tags=["results"])
WEBP, PNG = "image/webp", "image/png"


@router.get(
    "/frames",
    summary="List the frames",
    response_description="The frames so far.",
    responses=responses("inversion-not-found", "inversion-expired"),
)
async def frames(record: Record) -> Frames:
    """The steps that have a frame so far, with the URL of each."""
    own = address(record.id)
    return Frames(frames=[Frame(step=step, url=f"{own}/frames/{step}") for step in record.frames])


@router.get(
    "/frames/{step}",
    summary="Get a frame",
    response_class=Response,
    responses={
        **binary(WEBP, "The picture of that step, WebP."),
        **responses("inversion-not-found", "inversion-expired", "frame-not-found", "option-invalid"),
    },
)
async def frame(
    client: Client,
    record: Record,
    step: Annotated[int, Path(ge=0, le=MAX_STEPS, description="A step from the list of frames.", examples=[5])],
) -> Response:
    """The reconstruction at `step`, WebP. 404 if there is no such frame, or not yet."""
    data = await client.read(ArtifactKey.frame(record.id, step)) if step in record.frames else None
    if data is None:
        last = f"the last is of step {record.frames[-1]}" if record.frames else "there is none yet"
        raise ProblemError("frame-not-found", f"No frame of step {step}; {last}.")
    return Response(data, media_type=WEBP)


@router.get(
    "/animation",
    summary="Get the frames as an animation",
    response_class=Response,
    responses={**binary(WEBP, "The frames by now, an animated WebP."), **PROBLEMS, **responses("option-invalid")},
)
async def animation(
    client: Client,
    settings: Settings,
    slots: DecodeSlots,
    record: Record,
    frames: Annotated[
        int, Query(ge=1, le=sheets.MAX_ANIMATED, description="Maximum number of frames, evenly spaced.")
    ] = 60,
    frame_ms: Annotated[int, Query(ge=20, le=2000, description="Duration of each frame in milliseconds.")] = 80,
) -> Response:
    """An endless loop that pauses on the last frame."""
    async with slots:
        data = await to_process.run_sync(
            sheets.animation, await _read(client, settings, record, frames), frame_ms, limiter=CapacityLimiter(1)
        )
    return Response(data, media_type=WEBP, headers=named(record, "animation.webp"))


@router.get(
    "/strip",
    summary="Get the frames as a strip",
    response_class=Response,
    responses={
        200: {
            "description": "The frames so far, side by side.",
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (PNG, WEBP)},
        },
        **PROBLEMS,
        **responses("option-invalid"),
    },
)
async def strip(
    client: Client,
    settings: Settings,
    slots: DecodeSlots,
    record: Record,
    frames: Annotated[
        int, Query(ge=1, le=sheets.MAX_STRIP, description="Maximum number of frames, evenly spaced.")
    ] = 10,
    format: Annotated[
        Literal["png", "webp"] | None, Query(description="Takes precedence over `Accept`.", examples=["webp"])
    ] = None,
    accept: Accept = None,
) -> Response:
    """All frames in a row, the start on the left. PNG by default."""
    media_type = {"png": PNG, "webp": WEBP, None: chosen(accept, (PNG, WEBP))}[format]
    kind = media_type.removeprefix("image/")
    async with slots:
        data = await to_process.run_sync(
            sheets.strip, await _read(client, settings, record, frames), kind.upper(), limiter=CapacityLimiter(1)
        )
    headers = named(record, f"strip.{kind}") | {"Vary": "Accept"}
    return Response(data, media_type=media_type, headers=headers)


async def _read(client: JobClient, settings: AppSettings, record: JobRecord, most: int) -> list[bytes]:
    steps = sheets.evenly(record.frames, most)
    found = [await client.read(ArtifactKey.frame(record.id, step)) for step in steps]
    there = [data for data in found if data is not None]
    require(there[0] if there else None, record, settings, "frames")
    return there
