"""What the routes share: the client, the settings, the record behind an id.

All of it is asynchronous, also what never waits: the framework takes a plain function to a thread, at several times the
cost of the whole request, and a busy machine keeps the thread waiting.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import Depends, Path, Request

from inversion_app import examples
from inversion_app.caller import Caller
from inversion_app.errors import ProblemError
from inversion_app.looking import UploadLooks
from inversion_app.settings import AppSettings
from inversion_worker.client import JobClient
from inversion_worker.contract import BatchRecord, JobRecord

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{16,64}")
"""Any id that was ever given out; everything else is refused before it reaches a store."""


def _path(description: str) -> Any:
    """An id in the path. Its shape is told and not enforced: any other text is simply unknown, 404."""
    shape = {"pattern": f"^{ID_PATTERN.pattern}$"}
    return Path(description=description, examples=[examples.ID], json_schema_extra=shape)


async def get_client(request: Request) -> JobClient:
    """The client that the application was put together with."""
    client: JobClient = request.app.state.client
    return client


async def get_settings(request: Request) -> AppSettings:
    """The settings that the application was put together with."""
    settings: AppSettings = request.app.state.settings
    return settings


async def get_decode_slots(request: Request) -> CapacityLimiter:
    """The limit on uploads that are decoded at once."""
    slots: CapacityLimiter = request.app.state.decode_slots
    return slots


async def get_look_slots(request: Request) -> CapacityLimiter:
    """The limit on photos that wait at once for a worker to look at them."""
    slots: CapacityLimiter = request.app.state.look_slots
    return slots


async def get_upload_looks(request: Request) -> UploadLooks:
    """Who asks workers about photos that are being uploaded."""
    looks: UploadLooks = request.app.state.upload_looks
    return looks


async def get_caller(request: Request) -> Caller:
    """On whose behalf the request is; inversion_app/guard.py has found that out before any route."""
    caller: Caller = request.state.caller
    return caller


async def get_tenant(request: Request) -> str:
    """Whose request it is: everyone is the same tenant while no keys are asked for."""
    return (await get_caller(request)).tenant


Client = Annotated[JobClient, Depends(get_client)]
Settings = Annotated[AppSettings, Depends(get_settings)]
DecodeSlots = Annotated[CapacityLimiter, Depends(get_decode_slots)]
Looks = Annotated[UploadLooks, Depends(get_upload_looks)]
LookSlots = Annotated[CapacityLimiter, Depends(get_look_slots)]
Tenant = Annotated[str, Depends(get_tenant)]
CurrentCaller = Annotated[Caller, Depends(get_caller)]


async def require(client: JobClient, tenant: str, job_id: str, found: JobRecord | None) -> JobRecord:
    """The record, if it is the tenant's. A wrong id, a deleted one and another tenant's are the same 404.

    Raises: ProblemError; `inversion-expired` for a tenant's own that is past its time.
    """
    if found is not None and found.tenant == tenant:
        return found
    if found is None and await client.was_known(tenant, job_id):
        raise ProblemError("inversion-expired")
    raise ProblemError("inversion-not-found")


async def check_room(request: Request, client: Client, tenant: Tenant) -> None:
    """Raise QueueFull or TooManyJobs before a body is read that would come to nothing.

    With an Idempotency-Key it may be a repetition, which needs no room: that turns out later.
    """
    if "idempotency-key" not in request.headers:
        await client.check_room(tenant)


async def get_record(
    client: Client,
    tenant: Tenant,
    inversion_id: Annotated[str, _path("The id that the upload was answered with.")],
) -> JobRecord:
    """The record of the inversion in the path."""
    return await find_record(client, tenant, inversion_id)


async def find_record(client: JobClient, tenant: str, inversion_id: str) -> JobRecord:
    """The record of this id; as `require`."""
    if not ID_PATTERN.fullmatch(inversion_id):
        raise ProblemError("inversion-not-found")
    return await require(client, tenant, inversion_id, await client.get(inversion_id))


async def get_batch(
    client: Client,
    tenant: Tenant,
    batch_id: Annotated[str, _path("The id that the batch was answered with.")],
) -> BatchRecord:
    """The batch in the path; as `require` does for an inversion."""
    if not ID_PATTERN.fullmatch(batch_id):
        raise ProblemError("batch-not-found")
    batch = await client.batch(batch_id)
    if batch is None and await client.was_known(tenant, batch_id):
        raise ProblemError("batch-expired")
    if batch is None or batch.tenant != tenant:
        raise ProblemError("batch-not-found")
    return batch


Record = Annotated[JobRecord, Depends(get_record)]
Batch = Annotated[BatchRecord, Depends(get_batch)]
