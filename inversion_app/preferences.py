"""Header fields by which a request says how it wants to be done: Prefer (RFC 7240) and Idempotency-Key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Header, Request

from inversion_app.bodies import Upload
from inversion_app.errors import ProblemError
from inversion_worker.client import Claim, JobClient, OnceBusy, OnceReused

_WAIT = re.compile(r'\s*wait\s*=\s*"?(\d{1,6})"?\s*', re.IGNORECASE)
_BUSY_RETRY_AFTER_S = "1"

PREFER_DESCRIPTION = (
    "`wait=N` (RFC 7240): answer with what has ended, 200, if that is within N seconds, else 202. "
    "`Preference-Applied` says how long was waited at most. Other preferences are ignored, `respond-async` too: "
    "without `wait` every answer is 202 at once."
)
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Any text of one's own for this request, a UUID for instance. The same request with the same key "
        "is answered with the same inversion (and `Idempotent-Replayed: true`) for a day; another request with it is "
        "refused, 422; while the first is still being accepted, 409.",
        examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ),
]
Prefer = Annotated[str | None, Header(description=PREFER_DESCRIPTION, examples=["wait=30"])]


def wait_s(request: Request, most_s: int) -> int | None:
    """Seconds that the request prefers to wait, at most `most_s`; None where it does not say.

    Of several the first counts (RFC 7240, section 2). `respond-async, wait=10` is to wait for 10 seconds (section 4.3).
    """
    for line in request.headers.getlist("prefer"):
        for preference in re.split(r"[,;]", line):
            if found := _WAIT.fullmatch(preference):
                return min(int(found[1]), most_s)
    return None


def fingerprint(what: str, upload: Upload) -> str:
    """What a request asks for, whatever its boundaries, order of fields and encoding."""
    latents = upload.latents
    latents = _digest(latents) if isinstance(latents, bytes) else latents
    parts: list[Any] = [what, [_digest(image) for image in upload.images], latents, dict(upload.fields)]
    parts.append(_digest(upload.mask) if upload.mask is not None else None)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@asynccontextmanager
async def only_once(client: JobClient, tenant: str, key: str | None, print_: str) -> AsyncGenerator[Claim | str | None]:
    """Hold an Idempotency-Key for the block. Yields the claim, or the id of what the same request made before.

    None without a key. Raises: ProblemError where the key is another request's.
    """
    if key is None:
        yield None
        return
    try:
        claimed = await client.begin_once(tenant, key.strip('"'), print_)
        try:
            yield claimed
        finally:
            if isinstance(claimed, Claim):
                await client.release_once(claimed)
    except OnceReused as error:
        raise ProblemError("idempotency-key-reused") from error
    except OnceBusy as error:
        raise ProblemError("idempotency-key-in-use", headers={"Retry-After": _BUSY_RETRY_AFTER_S}) from error
