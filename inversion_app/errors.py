"""Every way in which a request can fail, in one table, and the RFC 9457 document that says so.

ProblemError     raised anywhere under a route; becomes its kind's status
HTTPException    the framework's own (404, 405)        -> the kind of that status
RequestValidationError  a path or query value          -> option-invalid, 422
anything else    our fault                             -> internal, 500, without internals
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from inversion_pictures.formats import MAX_PIXELS, MIN_SIDE_PX
from inversion_worker.contract import MAX_BATCH, MAX_DIRECTIONS, MAX_SAVED_EDITS, Problem

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class ProblemKind:
    """One row of the table: what `type` stands for, whatever the request was."""

    slug: str
    """Last part of `type`; never changes, so programs may test it."""
    title: str
    status: int
    remedy: str
    """What the caller can do about it."""


KINDS: dict[str, ProblemKind] = {
    kind.slug: kind
    for kind in (
        # The caller
        ProblemKind("key-missing", "An API key is needed", 401,
                    "Send one as `Authorization: Bearer inv_...`. Whoever runs this service makes one with "
                    "`inversion-keys create NAME`; the token that `make serve` prints does as well."),
        ProblemKind("key-invalid", "The API key is not valid", 401,
                    "Check that it is whole. A revoked key is not valid either: ask for a new one."),
        ProblemKind("scope-missing", "The API key does not open this", 403,
                    "Use a key that has the scope; `inversion-keys create NAME --scope SCOPE` makes one."),
        ProblemKind("cross-site", "A page of another site may not do this", 403,
                    "Send a key as `Authorization: Bearer ...`, or have whoever runs this service name the page's "
                    "origin in INVERSION_CORS_ORIGINS. A proxy in front has to pass `Host` on as it came."),
        ProblemKind("host-unknown", "The service is not known under this host name", 403,
                    "Use its IP address, or have whoever runs it add the name to INVERSION_ALLOWED_HOSTS."),
        ProblemKind("rate-limited", "Too many requests", 429,
                    "Wait `Retry-After` seconds. The fields RateLimit and RateLimit-Policy say how many are left."),
        ProblemKind("too-many-jobs", "Too many inversions at once", 429,
                    "Wait until some of yours have ended, or cancel some, then send the photo again."),
        ProblemKind("queue-full", "The queue is full", 429,
                    "Nothing was stored. Send the photo again after `Retry-After` seconds."),
        # The upload
        ProblemKind("not-multipart", "The upload is neither multipart/form-data nor JSON", 415,
                    "Send the photo as the form field `image`: curl -F image=@photo.jpg; or as JSON with a data URL."),
        ProblemKind("form-invalid", "The form cannot be read", 422,
                    "Send a whole multipart/form-data body; most HTTP clients build it for you."),
        ProblemKind("json-invalid", "The JSON body cannot be read", 422,
                    "Send one JSON object in UTF-8, with numbers that are finite."),
        ProblemKind("not-json", "The body is no JSON", 415,
                    "Send one JSON object, with `Content-Type: application/json`."),
        ProblemKind("data-url-invalid", "The data URL cannot be read", 422,
                    "Send data:image/jpeg;base64,... with the whole file in base64; other addresses are not fetched."),
        ProblemKind("image-missing", "There is no image", 422,
                    "Send one photo as a file in the form field `image`, or as `image` in JSON."),
        ProblemKind("image-repeated", "There is more than one image", 422,
                    "Send one photo for each request, or all of them to POST /v1/batches."),
        ProblemKind("batch-too-large", "The batch has too many photos", 422,
                    f"Send at most {MAX_BATCH} photos in a batch."),
        ProblemKind("mask-invalid", "The mask cannot be used", 422,
                    "Send a picture as large as the upright photo: white where the face must agree with it."),
        ProblemKind("quad-invalid", "The quad cannot be used", 422,
                    "Send four corners in pixels of the upright photo: top left, bottom left, bottom right, top right; "
                    "those of POST /v1/faces will do."),
        ProblemKind("latents-invalid", "The start code cannot be used", 422,
                    "Send a code of the same pack, (layers, dimensions), as npy, safetensors or JSON."),
        ProblemKind("body-too-large", "The request body is too large", 413,
                    "Send a smaller file, for instance the photo saved as JPEG."),
        ProblemKind("picture-unsupported", "The picture's format is not supported", 415,
                    "Send a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF. The content counts, not the file's name."),
        ProblemKind("picture-invalid", "The picture cannot be read", 422,
                    "The file is damaged or cut short: open it in a viewer, save it again and send that."),
        ProblemKind("picture-too-small", "The picture is too small", 422,
                    f"Send a picture whose shorter side has at least {MIN_SIDE_PX} px."),
        ProblemKind("picture-too-large", "The picture has too many pixels", 422,
                    f"Send a picture of at most {MAX_PIXELS // 1_000_000} megapixels; of formats that take much memory "
                    "to decode the answer says how many."),
        # What is asked for
        ProblemKind("encoding-unsupported", "The body's encoding is not supported", 415,
                    "Send the body as it is, without `Content-Encoding`."),
        ProblemKind("body-unexpected", "There is a body where none is taken", 400,
                    "Send none; what may be chosen here is in the address. A retry repeats the options as they were."),
        ProblemKind("header-unsupported", "A header field asks for what cannot be done", 400,
                    "Leave the field out; nothing was done."),
        # The options
        ProblemKind("option-unknown", "There is no such option", 422,
                    "Leave it out, or correct its name; the answer lists the known ones."),
        ProblemKind("option-invalid", "An option is not valid", 422,
                    "Correct the value: /docs has the range of each, and GET /v1/packs what each pack offers."),
        ProblemKind("pack-not-found", "The pack does not exist", 422,
                    "Choose one of GET /v1/packs, or leave `pack` out for the default."),
        # The directions
        ProblemKind("no-such-pack", "There is no such pack", 404,
                    "GET /v1/packs lists those that running workers offer."),
        ProblemKind("direction-not-found", "There is no such direction", 404,
                    "GET the directions of the pack; your own are deleted when they expire."),
        ProblemKind("direction-invalid", "The direction cannot be used", 422,
                    "Send a step of the pack's shape, (layers, dimensions) or one row for all layers, as npy, "
                    "safetensors or JSON; or two lists of inversions of the pack, `plus` and `minus`."),
        ProblemKind("direction-exists", "There is a direction of this name", 409,
                    "Choose another name, or delete that direction first if it is yours."),
        ProblemKind("direction-of-pack", "The direction belongs to the pack", 409,
                    "Only directions of your own can be deleted."),
        ProblemKind("too-many-directions", "There are too many directions", 409,
                    f"You may have {MAX_DIRECTIONS}, of all packs together: delete one of them first."),
        # The key
        ProblemKind("idempotency-key-in-use", "A request with this Idempotency-Key is being accepted", 409,
                    "Send the same request again after `Retry-After` seconds."),
        ProblemKind("idempotency-key-reused", "This Idempotency-Key came with another body", 422,
                    "Use a new key for a new request. A key is kept for a day."),
        # The inversion
        ProblemKind("inversion-not-found", "There is no such inversion", 404,
                    "Check the id. Inversions are deleted some time after their end: see `expires_at`."),
        ProblemKind("inversion-expired", "The inversion has expired", 410,
                    "Its photo and results were deleted at `expires_at`. Send the photo again, with a longer `ttl`."),
        ProblemKind("inversion-deleted", "The inversion was deleted", 410,
                    "Its photo and results are gone. Send the photo again to make a new one; the same Idempotency-Key "
                    "is free for it."),
        ProblemKind("batch-not-found", "There is no such batch", 404,
                    "Check the id. Batches are deleted some time after their end: see `expires_at`."),
        ProblemKind("batch-expired", "The batch has expired", 410,
                    "Its photos and results were deleted at `expires_at`. Send them again, with a longer `ttl`."),
        ProblemKind("batch-deleted", "The batch was deleted", 410,
                    "Its photos and results are gone. Send the photos again to make a new one; the same "
                    "Idempotency-Key is free for it."),
        ProblemKind("result-not-ready", "The result is not ready yet", 409,
                    "Ask again after `Retry-After` seconds, or follow the inversion's events."),
        ProblemKind("result-not-available", "There is no such result", 404,
                    "Look at the inversion's `status`, `error` and `links`: only what `links` names exists."),
        ProblemKind("result-failed", "The result could not be made", 404,
                    "Take another one of `links`: the code is there, and `missing` says what is not."),
        ProblemKind("frame-not-found", "There is no frame of that step", 404,
                    "GET the inversion's frames for the steps that have one."),
        ProblemKind("already-final", "The inversion has already ended", 409,
                    "There is nothing left to cancel or to finish; DELETE removes the inversion and its results."),
        ProblemKind("not-retryable", "The inversion cannot be retried", 409,
                    "Only one that failed or was canceled is repeated. To do it again, submit the photo again."),
        # Renders and saved edits
        ProblemKind("render-superseded", "A newer request of the session has taken its place", 409,
                    "Nothing is wrong: the newest request with this X-Render-Session is being answered instead."),
        ProblemKind("pack-not-loaded", "The pack of this code is not loaded", 503,
                    "Have whoever runs this service start a worker with the pack; GET /v1/packs shows those at work."),
        ProblemKind("edit-not-found", "There is no such saved edit", 404,
                    "GET the inversion's edits for those that there are."),
        ProblemKind("too-many-edits", "Too many edits are saved", 409,
                    f"An inversion keeps {MAX_SAVED_EDITS}. Delete those that are no longer needed."),
        # Why a job failed: these come in the inversion's `error`
        ProblemKind("no-face-found", "No face was found in the photo", 422,
                    "Send a photo with a clear face, or set align=false to use the picture as it is."),
        ProblemKind("no-such-face", "The photo has no such face", 422,
                    "Send a smaller `face`: they are counted from 0, and POST /v1/faces shows them."),
        ProblemKind("pack-invalid", "The pack is broken", 500,
                    "Choose another pack, and tell whoever runs this service."),
        ProblemKind("inversion-error", "The inversion could not be done", 500,
                    "Send the photo again; if it happens again, tell whoever runs this service."),
        ProblemKind("not-finite", "The inversion found no finite loss", 500,
                    "Try another start or optimizer."),
        ProblemKind("engine-full", "Too many inversions wait", 503,
                    "Send the photo again in a while; more workers, or more slots in each, take more at once."),
        ProblemKind("engine-closed", "The engine is closed", 503,
                    "The worker was stopped meanwhile. Send the photo again."),
        ProblemKind("worker-lost", "The worker was lost", 500,
                    "Send the photo again; if it happens again, tell whoever runs this service."),
        ProblemKind("photo-missing", "The photo is no longer stored", 500, "Send the photo again."),
        ProblemKind("storage-full", "The storage is full", 507,
                    "Delete inversions that are no longer needed, then send the photo again."),
        # The service
        ProblemKind("not-found", "There is nothing at this address", 404,
                    "See /docs for the addresses that exist."),
        ProblemKind("method-not-allowed", "The method is not allowed here", 405,
                    "The header `Allow` names the methods that are; see /docs."),
        ProblemKind("request-invalid", "The request cannot be understood", 400,
                    "See /docs for what is expected."),
        ProblemKind("request-timeout", "The request came too slowly", 408,
                    "Send it again, over a quicker connection or with a smaller file."),
        ProblemKind("not-ready", "The service is not ready", 503,
                    "Wait: a worker has to start and load its pack first."),
        ProblemKind("no-worker-answers", "No worker answers", 503,
                    "Ask again after `Retry-After` seconds: all workers are busy, or none is alive."),
        ProblemKind("service-unavailable", "The service cannot be reached for a moment", 503,
                    "Send the request again after `Retry-After` seconds."),
        ProblemKind("internal", "Something went wrong on our side", 500,
                    "Send the request again. If it happens again, report the `X-Request-ID` of the answer."),
    )
}  # fmt: skip
BY_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large", 503: "service-unavailable"}
"""Kind of an error that the framework raises by its status alone."""


FIELDS = {
    **dict.fromkeys(
        ("image-missing", "image-repeated", "batch-too-large", "no-face-found",
         "picture-unsupported", "picture-invalid", "picture-too-small", "picture-too-large"), "image",
    ),
    "mask-invalid": "mask", "latents-invalid": "latents", "quad-invalid": "quad", "no-such-face": "face",
    "pack-not-found": "pack", "direction-invalid": "direction",
}  # fmt: skip
"""The field of a submission that a kind of problem is about: every such refusal names it."""


class ProblemError(Exception):
    """A request that is refused. `detail` says what happened here; it may be shown to anyone."""

    def __init__(self, slug: str, detail: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        self.kind = KINDS[slug]
        self.said = detail
        told, field = f"{detail} {self.kind.remedy}" if detail else self.kind.remedy, FIELDS.get(slug)
        self.detail = told if field is None or f"`{field}" in told else f"`{field}`: {told}"
        self.headers = dict(headers or {})
        super().__init__(self.detail)


def of_worker(problem: Problem) -> ProblemError:
    """What a worker refused, as this service's own refusal; of a kind that is not known here: our fault."""
    slug = problem.type.removeprefix("/problems/")
    return ProblemError(slug, problem.detail) if slug in KINDS else ProblemError("internal")


def problem_response(error: ProblemError, instance: str) -> JSONResponse:
    """The problem document of `error`, at the address `instance`, with the status of its kind."""
    kind = error.kind
    body = Problem(
        type=f"/problems/{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=error.detail,
        instance=instance,
    )
    headers = {"Cache-Control": "no-store"} | error.headers
    return JSONResponse(body.model_dump(), kind.status, headers, media_type=MEDIA_TYPE)


async def on_problem(request: Request, error: Exception) -> JSONResponse:
    """Handler of ProblemError."""
    assert isinstance(error, ProblemError)
    return problem_response(error, request.url.path)


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Handler of the framework's own errors: no such route, no such method."""
    assert isinstance(error, HTTPException)
    slug = BY_STATUS.get(error.status_code, "request-invalid" if error.status_code < 500 else "internal")
    detail = f"{request.method} {request.url.path}." if error.status_code in (404, 405) else None
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods_at(request))
    return problem_response(ProblemError(slug, detail, headers), request.url.path)


def _methods_at(request: Request) -> list[str]:
    """What the address of this request takes: the framework names those of its first route alone."""
    routes = request.app.routes
    found = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return [*found, "HEAD"] if "GET" in found else found


async def on_validation(request: Request, error: Exception) -> JSONResponse:
    """Handler of path, query and header values that FastAPI refuses."""
    assert isinstance(error, RequestValidationError)
    return problem_response(ProblemError("option-invalid", explain(error.errors())), request.url.path)


def explain(errors: Iterable[Mapping[str, Any]]) -> str:
    """Pydantic's list of errors as one sentence: `steps`: Input should be less than or equal to 1000."""
    return " ".join(
        f"`{(error['loc'] or ('form',))[-1]}`: {error['msg'].removeprefix('Value error, ').rstrip('.')}."
        for error in errors
    )


_HEADERS: dict[int | str, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "Bearer, and what is wrong.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
}
"""Header fields that come with every problem of a status."""


def responses(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these kinds, for the OpenAPI document."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in (KINDS[slug] for slug in (*slugs, "service-unavailable", "internal")):
        examples = by_status.setdefault(kind.status, _empty_response())["content"][MEDIA_TYPE]["examples"]
        examples[kind.slug] = {"summary": kind.title, "value": _example(kind)}
    for status, response in by_status.items():
        if status in _HEADERS:
            response["headers"] = _HEADERS[status]
        examples = response["content"][MEDIA_TYPE]["examples"].values()
        response["description"] = "; ".join(example["summary"] for example in examples)
    return by_status


def _empty_response() -> dict[str, Any]:
    return {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}}}


def _example(kind: ProblemKind) -> dict[str, Any]:
    return {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.remedy,
        "instance": "/v1/inversions",
    }
