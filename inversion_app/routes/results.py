"""What an inversion leaves: the aligned crop, the reconstruction, the photo with it, the code, the metrics.

Code and picture of one that has not succeeded are those of its best step so far; `Inversion-Step` says which it is.
A result that is not there yet is 409 `result-not-ready`; one that will never be is 404.
"""

from __future__ import annotations

import io
import math
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from anyio import CapacityLimiter, to_process
from fastapi import APIRouter, Depends, Header, Query, Request, Response

from inversion_app import codes, sheets
from inversion_app.deps import Client, DecodeSlots, Record, Settings
from inversion_app.errors import ProblemError, responses
from inversion_app.negotiation import chosen
from inversion_app.schemas import Latents, Metrics, MetricsRow, PackName
from inversion_app.settings import AppSettings
from inversion_worker.client import Code, Found, JobClient
from inversion_worker.contract import ArtifactKey, JobRecord, JobStatus

router = APIRouter(prefix="/v1/inversions/{inversion_id}", tags=["results"])

T = TypeVar("T")

CSV = "text/csv"
_CODE_TYPES = {"npy": codes.NPY, "safetensors": codes.SAFETENSORS, "json": codes.JSON}
_IMAGE_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
_METRICS_TYPES = {"json": codes.JSON, "csv": CSV}
PROBLEMS = responses(
    "inversion-not-found", "inversion-expired", "result-not-ready", "result-not-available", "result-failed"
)
_TEXT = {"schema": {"type": "string"}}
_STEP_HEADERS = {
    "Inversion-Step": {
        "description": "The step of this code or image.",
        "schema": {"type": "integer"},
    }
}
_PACK_HEADERS = {
    "Inversion-Pack": {"description": "The pack that the code belongs to.", **_TEXT},
    "Inversion-Pack-Version": {"description": "The pack's version.", **_TEXT},
    "Inversion-Pack-Digest": {"description": "sha256:... of the generator's weights, if known.", **_TEXT},
}


async def accept_lines(
    request: Request,
    accept: Annotated[
        str | None,
        Header(max_length=1000, description="The media types that you accept.", examples=["application/json"]),
    ] = None,
) -> str | None:
    """The Accept field, which may come in several lines."""
    return ", ".join(request.headers.getlist("accept"))[:1000] if accept is not None else None


Accept = Annotated[str | None, Depends(accept_lines)]


def binary(media_type: str, description: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers with bytes."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"description": description, "content": content}}


@router.get(
    "/aligned",
    summary="Get the aligned crop",
    response_class=Response,
    responses={**binary("image/png", "The crop that is inverted, PNG."), **PROBLEMS},
)
async def aligned(client: Client, settings: Settings, record: Record) -> Response:
    """The face, cropped and rotated as in FFHQ, or the centre crop with align=false.

    `face.quad` of the inversion says where the crop is in the upright photo.
    """
    data = await client.read(ArtifactKey.aligned(record.id))
    data = require(data, record, settings, "aligned")
    return Response(data, media_type="image/png", headers=named(record, "aligned.png"))


@router.get(
    "/image",
    summary="Get the reconstruction",
    response_class=Response,
    responses={
        200: {
            "description": "The reconstruction.",
            "headers": _STEP_HEADERS,
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _IMAGE_TYPES.values()},
        },
        **PROBLEMS,
        **responses("option-invalid"),
    },
)
async def image(
    client: Client,
    settings: Settings,
    slots: DecodeSlots,
    record: Record,
    format: Annotated[
        Literal["png", "webp", "jpeg"] | None, Query(description="Takes precedence over `Accept`.", examples=["jpeg"])
    ] = None,
    accept: Accept = None,
) -> Response:
    """The reconstruction from the best code. PNG by default; choose another format by `Accept` or ?format=.

    PNG and WebP are lossless, JPEG has quality 95. While the inversion runs, or if it was canceled or failed, this is
    the best so far.
    """
    data, step = await _image(client, settings, record)
    media_type = _IMAGE_TYPES[format] if format else chosen(accept, list(_IMAGE_TYPES.values()))
    kind = media_type.removeprefix("image/")
    if kind != "png":
        async with slots:
            data = await to_process.run_sync(sheets.encoded, data, kind.upper(), limiter=CapacityLimiter(1))
    headers = named(record, f"image.{kind}") | {"Vary": "Accept"} | _of_step(step)
    return Response(data, media_type=media_type, headers=headers)


@router.get(
    "/pasted",
    summary="Get the photo with the reconstruction pasted in",
    response_class=Response,
    responses={**binary("image/jpeg", "The upright photo, JPEG."), **PROBLEMS},
)
async def pasted(client: Client, settings: Settings, record: Record) -> Response:
    """The upright photo with the reconstruction blended in where the face was.

    Not available with align=false or paste=false.
    """
    data = await client.read(ArtifactKey.pasted(record.id)) if record.status is JobStatus.SUCCEEDED else None
    data = require(data, record, settings, "pasted")
    return Response(data, media_type="image/jpeg", headers=named(record, "pasted.jpg"))


@router.get(
    "/latents",
    summary="Get the code",
    response_class=Response,
    responses={
        200: {
            "description": "The W+ code of the best step: (layers, dimensions), float32. Its pack is named in the "
            "headers, in the safetensors metadata (`pack`, `version`, `digest`), and in JSON. Safetensors has the code "
            "as `w_plus` and, where there is any, `detail`: (channels, height, width), float16, 4 MiB at most.",
            "headers": _PACK_HEADERS | _STEP_HEADERS,
            "content": {
                codes.NPY: {"schema": {"type": "string", "format": "binary"}},
                codes.SAFETENSORS: {"schema": {"type": "string", "format": "binary"}},
            },
            "model": Latents,
        },
        **PROBLEMS,
        **responses("option-invalid"),
    },
)
async def latents(
    client: Client,
    settings: Settings,
    record: Record,
    format: Annotated[
        Literal["npy", "safetensors", "json"] | None,
        Query(description="Takes precedence over `Accept`.", examples=["safetensors"]),
    ] = None,
    accept: Accept = None,
) -> Response:
    """The W+ code. npy by default; choose another format by `Accept` or ?format=. Each can be sent as a start code.
    Detail is in safetensors alone.

    While the inversion runs, or if it was canceled or failed, this is the best so far.
    """
    code, step = await _code(client, settings, record)
    media_type = _CODE_TYPES[format] if format else chosen(accept, list(_CODE_TYPES.values()))
    pack = _pack(record)
    if media_type == codes.JSON:
        body, ending = codes.to_json(code.w_LD, pack, step), "json"
    elif media_type == codes.SAFETENSORS:
        body, ending = codes.to_safetensors(code, pack), "safetensors"
    else:
        body, ending = codes.to_npy(code.w_LD), "npy"
    headers = named(record, f"latents.{ending}") | {"Vary": "Accept"} | _of_step(step)
    headers |= {"Inversion-Pack": pack.name, "Inversion-Pack-Version": pack.version}
    headers |= {"Inversion-Pack-Digest": pack.digest} if pack.digest else {}
    return Response(body, media_type=media_type, headers=headers)


@router.get(
    "/metrics",
    summary="Get the metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Loss and processing time of every step so far.",
            "content": {
                CSV: {"schema": {"type": "string"}, "example": "step,loss,seconds\r\n0,0.0621,0.04\r\n"},
            },
            "model": Metrics,
        },
        **PROBLEMS,
        **responses("option-invalid"),
    },
)
async def metrics(
    client: Client,
    settings: Settings,
    record: Record,
    format: Annotated[
        Literal["json", "csv"] | None, Query(description="Takes precedence over `Accept`.", examples=["csv"])
    ] = None,
    accept: Accept = None,
) -> Response:
    """JSON by default, CSV by `Accept` or ?format=. While the inversion runs they may lag by half a second."""
    rows = _rows(require(await client.read(ArtifactKey.metrics(record.id)), record, settings, "metrics"))
    media_type = _METRICS_TYPES[format] if format else chosen(accept, list(_METRICS_TYPES.values()))
    if media_type == CSV:
        lines = ["step,loss,seconds", *(f"{r.step},{'' if r.loss is None else r.loss},{r.seconds}" for r in rows)]
        body, ending = "".join(f"{line}\r\n" for line in lines), "csv"
    else:
        body, ending = Metrics(metrics=rows).model_dump_json(), "json"
    headers = named(record, f"metrics.{ending}") | {"Vary": "Accept"}
    return Response(body, media_type=media_type, headers=headers)


def _rows(data: bytes) -> list[MetricsRow]:
    found = np.load(io.BytesIO(data), allow_pickle=False)
    return [
        MetricsRow(step=int(step), loss=loss if math.isfinite(loss) else None, seconds=seconds)
        for step, loss, seconds in found.tolist()
    ]


def _pack(record: JobRecord) -> PackName:
    assert record.pack_name is not None, "an inversion that has found something has a pack"
    assert record.pack_version is not None, "an inversion that has found something has a pack"
    return PackName(name=record.pack_name, version=record.pack_version, digest=record.pack_digest)


async def _code(client: JobClient, settings: AppSettings, record: JobRecord) -> tuple[Code, int | None]:
    """The code with its detail, and the step that it is of. Raises: as `require`."""
    if record.status is JobStatus.SUCCEEDED:
        return require(await client.code(record.id), record, settings), record.best_step
    found = require(await _found(client, record), record, settings)
    return Code(w_LD=found.code, detail_CHW=found.detail), found.step


async def _image(client: JobClient, settings: AppSettings, record: JobRecord) -> tuple[bytes, int | None]:
    """The picture as PNG, and the step that it is of. Raises: as `require`."""
    if record.status is JobStatus.SUCCEEDED:
        return require(await client.read(ArtifactKey.image(record.id)), record, settings, "image"), record.best_step
    found = require(await _found(client, record), record, settings)
    return require(found.picture, record, settings, "image"), found.step


async def _found(client: JobClient, record: JobRecord) -> Found | None:
    """What an inversion has found that has not succeeded."""
    return await client.found(record.id) if record.result_step is not None else None


def _of_step(step: int | None) -> dict[str, str]:
    return {"Inversion-Step": str(step)} if step is not None else {}


def require(found: T | None, record: JobRecord, settings: AppSettings, result: str = "") -> T:
    """A result. Raises: ProblemError where it is not there, yet or ever; `result` is its name in `missing`."""
    if found is not None:
        return found
    for missing in record.missing:
        if missing.result == result:
            raise ProblemError("result-failed", missing.detail)
    if not record.status.is_final:
        wait = {"Retry-After": str(settings.retry_after_s)}
        raise ProblemError("result-not-ready", f"The inversion is {record.status.value}.", wait)
    raise ProblemError("result-not-available", f"The inversion is {record.status.value}.")


def named(record: JobRecord, name: str) -> dict[str, str]:
    """The header that gives a download its name."""
    return {"Content-Disposition": f'inline; filename="{record.id[:8]}-{name}"'}
