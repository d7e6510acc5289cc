"""Films: from one code to another, or through edits, at once. No queue, and nothing kept."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from inversion_app import codes, films, json_bodies, renders
from inversion_app.deps import Client, Settings, Tenant
from inversion_app.errors import responses
from inversion_app.films import InterpolationRequest
from inversion_app.json_bodies import body_of, read_model
from inversion_app.strict_json import Limits
from inversion_worker.contract import FilmFormat

router = APIRouter(prefix="/v1/interpolations", tags=["renders"])

_LIMITS = Limits(values=2 * codes.JSON_LIMITS.values + 4096, depth=10)
_PROBLEMS = (
    "inversion-not-found", "inversion-expired", "result-not-ready", "result-not-available", "latents-invalid",
    "data-url-invalid", "pack-not-found", "pack-not-loaded", "no-worker-answers", "rate-limited",
)  # fmt: skip


@router.post(
    "",
    summary="Film the way between two codes",
    response_class=Response,
    responses={
        200: {
            "description": "The film.",
            "content": {format.media_type: {"schema": {"type": "string", "format": "binary"}} for format in FilmFormat},
        },
        **responses(*_PROBLEMS, *json_bodies.PROBLEMS),
    },
    openapi_extra=body_of(InterpolationRequest, films.EXAMPLE),
)
async def interpolate(request: Request, client: Client, settings: Settings, tenant: Tenant) -> Response:
    """Film the way from one face to another, or from a face to the same with edits: animated WebP, GIF or MP4.

    A worker answers at once, beside its jobs, so a film has at most 60 frames of 512 px; nothing of it is kept.

        curl -H 'Content-Type: application/json' \\
          -d '{"from": {"inversion": "ID"}, "to": [{"direction": "smile", "strength": 2}], "there_and_back": true}' \\
          http://127.0.0.1:8000/v1/interpolations > smile.webp
    """
    asked = await read_model(request, InterpolationRequest, settings.max_render_bytes, _LIMITS)
    order = await films.ordered(client, settings, tenant, asked)
    data = await renders.filmed(request, client, settings, tenant, order)
    return Response(data, media_type=order.format.media_type)
