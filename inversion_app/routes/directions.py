"""Editing directions of a pack, and a tenant's own: list, look at, make and delete them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_process
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from inversion_app import directions, examples, json_bodies, renders, sheets
from inversion_app.answers import ETAG
from inversion_app.bodies import read_small_form
from inversion_app.codes import JSON_LIMITS, MAX_CODE_BYTES
from inversion_app.deps import ID_PATTERN, Client, DecodeSlots, Settings, Tenant
from inversion_app.directions import MAX_SIDE_INVERSIONS, DirectionToMake, Known, PackDirection, PackDirections
from inversion_app.errors import ProblemError, explain, responses
from inversion_app.middleware import KEPT_BY_BROWSER
from inversion_app.negotiation import chosen
from inversion_app.renders import EditModel, Wanted
from inversion_app.routes.results import Accept
from inversion_app.schemas import as_json
from inversion_app.strict_json import Limits
from inversion_worker.client import DirectionExists, TooManyDirections
from inversion_worker.contract import (
    MAX_NAME_LENGTH,
    MAX_SEED,
    MIN_SIDE,
    RENDERER,
    DirectionRecord,
    MoveEdit,
    TruncateEdit,
)

router = APIRouter(prefix="/v1/packs/{pack}/directions", tags=["directions"])

_LIMITS = Limits(values=JSON_LIMITS.values)
_MAX_BYTES = MAX_CODE_BYTES * 4 // 3 + 65_536
"""Of a file in base64, and what comes with it."""
_FILE = "direction"
WEBP, PNG = "image/webp", "image/png"
SAMPLE_SEED = 13
"""Of the face in a strip, unless another one is asked for."""
_TRUNCATE = 0.7
"""How far that face lies from the average one: most faces are plausible there."""
_PROBLEMS = (
    *json_bodies.PROBLEMS, "form-invalid", "option-unknown", "no-such-pack", "direction-invalid", "direction-exists",
    "too-many-directions", "storage-full", "rate-limited",
)  # fmt: skip
PRIVATE = {"Cache-Control": "private, no-store"}
"""One's own directions are among them."""
PackName = Annotated[
    str, Path(max_length=MAX_NAME_LENGTH, description="Name of a pack in GET /v1/packs.", examples=["faces-128"])
]
DirectionName = Annotated[
    str, Path(max_length=MAX_NAME_LENGTH, description="Name of a direction of the pack.", examples=["smile"])
]


def _body() -> dict[str, Any]:
    """The request body of a new direction, as JSON and as a form."""
    found = json_bodies.body_of(DirectionToMake, examples.DIRECTION_TO_MAKE)
    content = found["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    form = {name: _form_field(name, field) for name, field in schema["properties"].items()}
    content["multipart/form-data"] = {
        "schema": {
            "type": "object", "properties": form, "required": schema["required"], "additionalProperties": False,
        },
    }  # fmt: skip
    return found


def _form_field(name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    """A form has no null: nothing chosen is the empty text; and no lists: ids stand between commas."""
    told = {"description": field["description"]}
    if name == _FILE:
        return {"type": "string", "format": "binary", **told}
    if name == "name":
        return {"type": "string", "pattern": field["pattern"], **told}
    chosen = next(kind for kind in field["anyOf"] if kind["type"] != "null")
    if chosen["type"] == "array":
        told["description"] += " In a form, separated by commas."
        one = ID_PATTERN.pattern
        pattern = f"^$|^ *{one}( *, *{one}){{0,{MAX_SIDE_INVERSIONS - 1}}} *$"
        return {"type": "string", "default": "", "pattern": pattern, **told}
    if chosen["type"] == "string":
        return {"type": "string", "default": "", "maxLength": chosen["maxLength"], **told}
    return {"anyOf": [chosen, {"type": "string", "enum": [""]}], "default": "", **told}


@router.get(
    "",
    summary="List the directions of a pack",
    response_model=PackDirections,
    response_description="The directions.",
    responses=responses("no-such-pack"),
)
async def list_(client: Client, tenant: Tenant, pack: PackName) -> JSONResponse:
    """The editing directions of the pack, and your own for it: what they do, how far, and what they were made of.

    Packs of the same `digest` share your directions.
    """
    known = await Known.of(client, tenant, pack)
    return JSONResponse(as_json(known.answers()), headers=PRIVATE)


@router.post(
    "",
    status_code=201,
    summary="Make a direction of your own",
    response_model=PackDirection,
    responses={
        201: {
            "description": "Kept; `Location` is where it is.",
            "headers": {"Location": {"description": "The direction.", "schema": {"type": "string"}}},
        },
        **responses(*_PROBLEMS),
    },
    openapi_extra=_body(),
)
async def add(request: Request, client: Client, tenant: Tenant, pack: PackName) -> JSONResponse:
    """Make a direction from a file, or from two lists of inversions: the mean of `plus` less the mean of `minus`.

    Edits then take its name as they take the pack's. It is kept until you delete it, or until `expires_at`. It is made
    of the codes as they are now, and stays when the inversions are deleted: delete it too where it must not.

        curl -F name=smirk -F plus=ID,ID,ID -F minus=ID,ID http://127.0.0.1:8000/v1/packs/faces-128/directions
        curl -F name=smirk -F direction=@smirk.npy http://127.0.0.1:8000/v1/packs/faces-128/directions
    """
    wanted = await _read(request)
    known = await Known.of(client, tenant, pack)
    record, step = await directions.made(client, known, wanted)
    try:
        kept = await client.add_direction(record, step, wanted.ttl)
    except DirectionExists as error:
        raise ProblemError("direction-exists", f"You have {wanted.name!r} already.") from error
    except TooManyDirections as error:
        raise ProblemError("too-many-directions") from error
    answer = PackDirection.of_record(pack, kept)
    return JSONResponse(as_json(answer), 201, PRIVATE | {"Location": answer.links.self})


async def _read(request: Request) -> DirectionToMake:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "multipart/form-data":
        return await json_bodies.read_model(request, DirectionToMake, _MAX_BYTES, _LIMITS)
    form: dict[str, Any] = dict(await read_small_form(request, _MAX_BYTES, (_FILE,)))
    if unknown := [name for name in form if name not in DirectionToMake.model_fields]:
        known = ", ".join(DirectionToMake.model_fields)
        raise ProblemError("option-unknown", f"`{unknown[0][:100]}` is no field. Known fields: {known}.")
    for name in ("plus", "minus"):
        if name in form:
            form[name] = [each.strip(" ") for each in form[name].split(",")]
    try:
        return DirectionToMake.model_validate(form)
    except ValidationError as error:
        told = error.errors(include_url=False, include_context=False, include_input=False)
        raise ProblemError("option-invalid", explain([{**each, "loc": each["loc"][:1]} for each in told])) from error


@router.get(
    "/{direction}",
    summary="Get a direction",
    response_model=PackDirection,
    response_description="The direction.",
    responses=responses("no-such-pack", "direction-not-found"),
)
async def look(client: Client, tenant: Tenant, pack: PackName, direction: DirectionName) -> JSONResponse:
    """What it does, in which range, what a strength of 1 is, and what it was made of."""
    known = await Known.of(client, tenant, pack)
    return JSONResponse(as_json(directions.public(pack, known.find(direction))), headers=PRIVATE)


@router.get(
    "/{direction}/strip",
    summary="Get a direction as a strip of pictures",
    response_class=Response,
    responses={
        200: {
            "description": "Pictures of one face, from the lowest strength to the highest.",
            "headers": {"ETag": ETAG},
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (WEBP, PNG)},
        },
        304: {"description": "It is the one of the `ETag` in If-None-Match.", "headers": {"ETag": ETAG}},
        **responses(
            "no-such-pack",
            "direction-not-found",
            "option-invalid",
            "pack-not-loaded",
            "no-worker-answers",
            "rate-limited",
        ),
    },
)
async def strip(
    request: Request,
    client: Client,
    settings: Settings,
    slots: DecodeSlots,
    tenant: Tenant,
    pack: PackName,
    direction: DirectionName,
    seed: Annotated[int, Query(ge=0, le=MAX_SEED, description="Seed of the face.")] = SAMPLE_SEED,
    side: Annotated[int, Query(ge=MIN_SIDE, le=512, description="Side of each picture in pixels.")] = 128,
    format: Annotated[
        Literal["webp", "png"] | None, Query(description="Takes precedence over `Accept`.", examples=["webp"])
    ] = None,
    accept: Accept = None,
) -> Response:
    """One random face, not far from the average one, at five strengths from `low` to `high`.

    The face itself is in the middle. WebP by default.

    A worker renders it at once; browsers keep it and ask with its `ETag` whether it has changed.
    """
    known = await Known.of(client, tenant, pack)
    found, offered = known.find(direction), known.required_pack()
    media_type = {"webp": WEBP, "png": PNG, None: chosen(accept, (WEBP, PNG))}[format]
    facts = [RENDERER, offered.digest, offered.version, found.model_dump(mode="json"), seed, side, media_type]
    etag = f'"{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": KEPT_BY_BROWSER, "Vary": "Accept"}
    asked = request.headers.get("if-none-match", "")
    if asked.strip() == "*" or etag in asked:
        return Response(status_code=304, headers=headers)
    pictures = []
    for strength in (found.low, found.low / 2, 0.0, found.high / 2, found.high):
        edits: list[EditModel] = [TruncateEdit(truncate=_TRUNCATE), MoveEdit(direction=direction, strength=strength)]
        plan = await renders.of_seed(client, tenant, offered, seed, Wanted(edits=edits, side=side))
        pictures.append((await renders.rendered(request, client, settings, tenant, plan, None))[1])
    kind = media_type.removeprefix("image/").upper()
    async with slots:
        data = await to_process.run_sync(sheets.strip, pictures, kind, limiter=CapacityLimiter(1))
    return Response(data, media_type=media_type, headers=headers)


@router.delete(
    "/{direction}",
    status_code=204,
    summary="Delete a direction of your own",
    responses={
        204: {"description": "It is deleted."},
        **responses("no-such-pack", "direction-not-found", "direction-of-pack"),
    },
)
async def delete(client: Client, tenant: Tenant, pack: PackName, direction: DirectionName) -> Response:
    """Delete it immediately. Saved edits that name it can then not be rendered."""
    known = await Known.of(client, tenant, pack)
    found = known.find(direction)
    if not isinstance(found, DirectionRecord):
        raise ProblemError("direction-of-pack", f"{direction!r} is one of pack {pack}.")
    if not await client.delete_direction(found):
        raise ProblemError("direction-not-found", f"{direction!r} was deleted meanwhile.")
    return Response(status_code=204)
