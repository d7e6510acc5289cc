"""Look at a photo: which faces are in it? Nothing is queued, and nothing is kept."""

from __future__ import annotations

import time

import anyio
from fastapi import APIRouter, Request

from inversion_app.bodies import IMAGE, receive
from inversion_app.deps import Client, DecodeSlots, LookSlots, Settings, Tenant
from inversion_app.errors import responses
from inversion_app.forms import only_photo
from inversion_app.schemas import Faces
from inversion_app.uploads import check_photo
from inversion_worker.client import NobodyAnswers

router = APIRouter(prefix="/v1/faces", tags=["faces"])

_PROBLEMS = (
    "not-multipart", "form-invalid", "json-invalid", "data-url-invalid", "image-missing", "image-repeated",
    "body-too-large", "picture-unsupported", "picture-invalid", "picture-too-small", "picture-too-large",
    "option-unknown", "option-invalid", "storage-full", "no-worker-answers", "rate-limited",
)  # fmt: skip


@router.post(
    "",
    summary="Detect faces",
    response_model=Faces,
    response_description="The faces, possibly none.",
    responses=responses(*_PROBLEMS),
    openapi_extra=only_photo(),
)
async def faces(
    request: Request, client: Client, tenant: Tenant, settings: Settings, slots: DecodeSlots, looks: LookSlots
) -> Faces:
    """Find the faces in a photo without inverting it. A worker answers at once, however long the queue is.

    Pass the index of a face as the option `face` of a submission, or its corners, changed or not, as `quad`. The photo
    is not kept. If no worker answers within a few seconds, the response is 503 with `Retry-After`.

        curl -F image=@group.jpg http://127.0.0.1:8000/v1/faces
    """
    async with receive(request, settings.max_upload_bytes) as body:
        until_s = time.monotonic() + settings.look_timeout_s
        with anyio.move_on_after(settings.look_timeout_s) as waited:
            await looks.acquire_on_behalf_of(request)
        if waited.cancelled_caught:
            raise NobodyAnswers("Too many photos wait to be looked at.")
        try:
            async with slots:
                photo = await check_photo(await body.load(), (IMAGE,), settings.decode_timeout_s)
            return Faces.of(await client.look(photo, max(1.0, until_s - time.monotonic()), tenant=tenant))
        finally:
            looks.release_on_behalf_of(request)
