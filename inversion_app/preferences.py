"""Header fields by which a request says how it wants to be done: Prefer (RFC 7240) and Idempotency-Key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Header, Request

from inversion_app.bodies import Upload
from inversion_app.codes import Code
from inversion_app.errors import ProblemError
from inversion_worker.client import Claim, JobClient, OnceBusy, OnceReused
from inversion_worker.contract import BatchRecord, JobRecord

_WAIT = re.compile(r'\s*wait\s*=\s*"?(\d{1,6})"?\s*', re.IGNORECASE)
_BUSY_RETRY_AFTER_S = "1"

PREFER_DESCRIPTION = (
    "`wait=N` (RFC 7240): 200 if the inversion (or batch) ends within N seconds, else 202. "
    "`Preference-Applied` says how long the service waited at most. Other preferences are ignored, including "
    "`respond-async`: without `wait` the response is always an immediate 202."
)
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Your own text for this request, such as a UUID. For a day, repeating it with the same key "
        "returns the same inversion, with `Idempotent-Replayed: true`. A different request with the key gets 422; "
        "409 means that the first is still being accepted. If the inversion was deleted or has expired, the response "
        "is 410 once, and the key is free again.",
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
    code = upload.latents
    latents = code.facts if isinstance(code, Code) else None if code is None else _digest(code)
    parts: list[Any] = [what, [_digest(image) for image in upload.images], latents, dict(upload.fields)]
    parts.append(_digest(upload.mask) if upload.mask is not None else None)
    later = {"source": upload.source, "metadata": upload.metadata}
    parts += [{name: value} for name, value in later.items() if value is not None]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


Made = TypeVar("Made", JobRecord, BatchRecord)


@dataclass(frozen=True)
class Stored(Generic[Made]):
    """What a request makes, and how to find it by its id."""

    what: Literal["inversion", "batch"]
    get: Callable[[str], Awaitable[Made | None]]


@dataclass(frozen=True)
class Replayed(Generic[Made]):
    """What the same request under the same key made before."""

    made: Made


@asynccontextmanager
async def only_once(
    client: JobClient, tenant: str, key: str | None, print_: str, stored: Stored[Made]
) -> AsyncGenerator[Claim | Replayed[Made] | None]:
    """Hold an Idempotency-Key for the block. Yields the claim, or what the same request made before.

    None without a key. Raises: ProblemError where the key is another request's, or what it made is gone: then the key
    is free again.
    """
    if key is None:
        yield None
        return
    key = key.strip('"')
    try:
        claimed = await client.begin_once(tenant, key, print_)
        try:
            yield (
                claimed if isinstance(claimed, Claim) else Replayed(await _found(client, tenant, key, claimed, stored))
            )
        finally:
            if isinstance(claimed, Claim):
                await client.release_once(claimed)
    except OnceReused as error:
        raise ProblemError("idempotency-key-reused") from error
    except OnceBusy as error:
        raise ProblemError("idempotency-key-in-use", headers={"Retry-After": _BUSY_RETRY_AFTER_S}) from error


async def _found(client: JobClient, tenant: str, key: str, made: str, stored: Stored[Made]) -> Made:
    if (found := await stored.get(made)) is not None:
        return found
    ended = "expired" if await client.was_known(tenant, made) else "deleted"  # what is deleted leaves no tombstone
    await client.forget_once(tenant, key, made)
    raise ProblemError(f"{stored.what}-{ended}", f"This Idempotency-Key made the {stored.what} {made}, which is gone.")
