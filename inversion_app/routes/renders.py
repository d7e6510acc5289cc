"""Renders: a code with edits as a picture, at once. No queue, and nothing kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter, WithJsonSchema

from inversion_app import codes, examples, json_bodies, renders
from inversion_app.answers import ETAG
from inversion_app.deps import Client, Record, Settings, Tenant, find_record
from inversion_app.errors import responses
from inversion_app.json_bodies import body_of, read_model
from inversion_app.middleware import KEPT_BY_BROWSER
from inversion_app.negotiation import chosen, names_any
from inversion_app.rendered import (
    EDIT_ID_PATTERN,
    PASTE_TEXT,
    InversionSource,
    LatentsSource,
    Render,
    RenderRequest,
    Source,
)
from inversion_app.renders import EditModel, Plan, Wanted
from inversion_app.routes.edits import saved_edit
from inversion_app.routes.results import Accept, named
from inversion_app.schemas import PackName
from inversion_app.settings import AppSettings
from inversion_app.strict_json import Limits
from inversion_worker.client import JobClient, SourceCode
from inversion_worker.contract import (
    MAX_EDITS,
    MAX_SIDE,
    MIN_SIDE,
    EditList,
    PasteMode,
    PictureFormat,
    RenderAs,
    Rendered,
)

router = APIRouter(tags=["renders"])

_PROBLEMS = (
    "inversion-not-found", "inversion-expired", "result-not-ready", "result-not-available", "edit-not-found",
    "option-invalid", "render-superseded", "pack-not-loaded", "no-worker-answers", "picture-invalid", "rate-limited",
)  # fmt: skip
_PICTURES = {format.media_type: {"schema": {"type": "string", "format": "binary"}} for format in PictureFormat}
_HEADERS = {
    "Inversion-Step": {"description": "The step of the code.", "schema": {"type": "integer"}},
    "Inversion-Offset": {
        "description": "Of a patch: where its top left corner belongs in the upright photo, `x,y`.",
        "schema": {"type": "string"},
    },
}
_LIMITS = Limits(values=codes.JSON_LIMITS.values + 4096, depth=10)
_SAVED: TypeAdapter[list[EditModel]] = TypeAdapter(EditList)

_QueryEdit = Annotated[
    str, WithJsonSchema({"type": "string", "pattern": r"^[a-z][a-z0-9-]{0,63}:-?[0-9]{1,2}(\.[0-9]{1,9})?$"})
]
Session = Annotated[
    str | None,
    Header(
        alias="X-Render-Session",
        pattern="^[A-Za-z0-9_.-]{1,64}$",
        description="Your own name for a series of renders, such as those of one slider. The newest request of a "
        "session wins; an older one that still waits or runs is answered 409 `render-superseded`.",
        examples=["slider-1"],
    ),
]


@router.get(
    "/v1/inversions/{inversion_id}/render",
    summary="Render an inversion with edits",
    response_class=Response,
    responses={
        200: {"description": "The picture.", "headers": {**_HEADERS, "ETag": ETAG}, "content": _PICTURES},
        304: {"description": "It is the one of the `ETag` in If-None-Match.", "headers": {"ETag": ETAG}},
        **responses(*_PROBLEMS),
    },
)
async def render(
    request: Request,
    client: Client,
    settings: Settings,
    tenant: Tenant,
    record: Record,
    edit: Annotated[
        list[_QueryEdit],
        Query(
            max_length=MAX_EDITS,
            description="A direction of the pack and how far to move along it, or `truncate:0.7`. Repeat it for "
            "several edits; they are applied in order.",
            examples=[["smile:1.5"]],
        ),
    ] = [],  # noqa: B006  # FastAPI copies it
    saved: Annotated[
        str | None,
        Query(
            pattern=EDIT_ID_PATTERN,
            description="Id of a saved edit of this inversion: its edits come before those in `edit`.",
            examples=[examples.EDIT_ID],
        ),
    ] = None,
    as_: Annotated[
        Literal["face", "photo", "patch"],
        Query(alias="as", description="The face, the upright photo with the edit in it, or the part that changes."),
    ] = "face",
    format: Annotated[
        Literal["png", "jpeg", "webp"] | None, Query(description="Takes precedence over `Accept`.", examples=["webp"])
    ] = None,
    side: Annotated[
        int | None,
        Query(
            ge=MIN_SIDE,
            le=MAX_SIDE,
            description="Side of a face in pixels, at most 2048; longest side of a photo, which is never enlarged.",
            examples=[512],
        ),
    ] = None,
    paste: Annotated[Literal["difference", "replace"], Query(description=PASTE_TEXT)] = "difference",
    accept: Accept = None,
    session: Session = None,
) -> Response:
    """A picture, made to be the `src` of an `<img>` behind a slider: it is answered at once, and has a strong `ETag`.

    While the inversion runs, or if it was canceled or failed, it is that of the best code so far. For other edits than
    moves along a direction, save an edit list and name it in `saved`, or use `POST /v1/renders`.

        <img src="/v1/inversions/ID/render?edit=smile:1.5&edit=age:-1&side=512&format=webp">
    """
    turn = await renders.begun(client, tenant, session)  # also of what is answered with 304: it is the newest
    kind = RenderAs(as_)
    kept = (await saved_edit(client, record, saved)).edits if saved is not None else []
    edits = [*_SAVED.validate_python(kept), *map(renders.query_edit, edit)]
    renders.check_number(edits)
    wanted = Wanted(edits=edits, kind=kind, format=_format(format, accept, kind), side=side, paste=PasteMode(paste))
    plan = await renders.of_inversion(client, settings, record, wanted)
    known = request.headers.get("if-none-match", "")
    headers = {"ETag": plan.etag(plan.step), "Cache-Control": KEPT_BY_BROWSER, "Vary": "Accept"}
    if known.strip() == "*" or headers["ETag"] in known:
        return Response(status_code=304, headers=headers)
    told, data = await renders.rendered(request, client, settings, tenant, plan, turn)
    return _picture(plan, told, data, headers)


@router.post(
    "/v1/renders",
    summary="Render a code with edits",
    response_model=Render,
    responses={
        200: {
            "description": "JSON, or with `Accept: image/*` the picture itself. With `as`: latents, the code: JSON, or "
            "an npy or safetensors file, by `Accept`.",
            "headers": _HEADERS,
            "content": {**_PICTURES, codes.NPY: _PICTURES["image/png"], codes.SAFETENSORS: _PICTURES["image/png"]},
        },
        **responses(*_PROBLEMS, *json_bodies.PROBLEMS, "data-url-invalid", "latents-invalid", "pack-not-found"),
    },
    openapi_extra=body_of(RenderRequest, examples.RENDER_ORDER),
)
async def renders_(
    request: Request, client: Client, settings: Settings, tenant: Tenant, accept: Accept = None, session: Session = None
) -> Response:
    """Render the code of an inversion, a code that you send, or a random face. Nothing is kept.

    A worker answers beside its jobs, however long the queue is. If none does within a few seconds, the response is 503
    with `Retry-After`.

        curl -H 'Content-Type: application/json' -H 'Accept: image/*' \\
          -d '{"source": {"seed": 7}, "edits": [{"direction": "smile", "strength": 2}]}' \\
          http://127.0.0.1:8000/v1/renders > face.png
    """
    turn = await renders.begun(client, tenant, session)
    asked = await read_model(request, RenderRequest, settings.max_render_bytes, _LIMITS)
    wants_picture = asked.as_ is not RenderAs.LATENTS and names_any(accept, "image/")
    format = asked.format or (_format(None, accept, asked.as_) if wants_picture else None)
    wanted = Wanted(edits=asked.edits, kind=asked.as_, format=format, side=asked.side, paste=asked.paste)
    plan = await _plan(client, settings, tenant, asked.source, wanted)
    told, data = await renders.rendered(request, client, settings, tenant, plan, turn)
    headers = {"Vary": "Accept"}
    if wants_picture:
        return _picture(plan, told, data, headers)
    if asked.as_ is RenderAs.LATENTS:
        media_type = chosen(accept, [codes.JSON, codes.NPY, codes.SAFETENSORS])
        if media_type != codes.JSON:
            return Response(_code(data, told, media_type), media_type=media_type, headers=headers)
    step = told.step if told.step is not None else plan.step
    answer = Render.of(told, data, asked.as_, plan.order.format, step)
    return JSONResponse(answer.model_dump(mode="json"), headers=headers)


async def _plan(client: JobClient, settings: AppSettings, tenant: str, source: Source, wanted: Wanted) -> Plan:
    if isinstance(source, InversionSource):
        record = await find_record(client, tenant, source.inversion)
        return await renders.of_inversion(client, settings, record, wanted)
    packs = [pack for worker in await client.workers() for pack in worker.packs]
    if isinstance(source, LatentsSource):
        code = renders.code_of(source.latents)
        return await renders.of_code(client, tenant, renders.pack_for(packs, source.pack, code), code, wanted)
    return await renders.of_seed(client, tenant, renders.pack_for(packs, source.pack), source.seed, wanted)


def _format(format: str | None, accept: str | None, kind: RenderAs) -> PictureFormat:
    if format is not None:
        return PictureFormat(format)
    offered = [each.media_type for each in renders.FORMATS[kind]]
    return PictureFormat(chosen(accept, offered).removeprefix("image/"))


def _picture(plan: Plan, told: Rendered, data: bytes, headers: dict[str, Any]) -> Response:
    step = told.step if told.step is not None else plan.step
    headers = headers | ({"Inversion-Step": str(step)} if step is not None else {})
    if "ETag" in headers:  # the code may have changed since the record was read
        headers["ETag"] = plan.etag(step)
    if plan.order.kind is RenderAs.PATCH:
        headers["Inversion-Offset"] = f"{told.left},{told.top}"
    if plan.record is not None:
        ending = "jpg" if plan.order.format is PictureFormat.JPEG else plan.order.format.value
        headers |= named(plan.record, f"{plan.order.kind.value}.{ending}")
    return Response(data, media_type=plan.order.format.media_type, headers=headers)


def _code(data: bytes, told: Rendered, media_type: str) -> bytes:
    """The code after the edits as a file."""
    code = SourceCode.from_bytes(data)
    if media_type == codes.NPY:
        return codes.to_npy(code.w_LD)
    return codes.to_safetensors(code, PackName(name=told.pack, version=told.version, digest=told.digest or None))
