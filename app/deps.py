"""What the routes share: the client, the settings, the record behind an id."""

from __future__ import annotations

import re
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Path, Request

from app.caller import Caller
from app.errors import ProblemError
from app.settings import AppSettings
from worker.client import JobClient
from worker.contract import JobRecord

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{16,64}")
"""Any id that was ever given out; everything else is refused before it reaches a store."""


def get_client(request: Request) -> JobClient:
    """The client that the application was put together with."""
    client: JobClient = request.app.state.client
    return client


def get_settings(request: Request) -> AppSettings:
    """The settings that the application was put together with."""
    settings: AppSettings = request.app.state.settings
    return settings


def get_decode_slots(request: Request) -> CapacityLimiter:
    """The limit on uploads that are decoded at once."""
    slots: CapacityLimiter = request.app.state.decode_slots
    return slots


def get_caller(request: Request) -> Caller:
    """On whose behalf the request is; app/guard.py has found that out before any route."""
    caller: Caller = request.state.caller
    return caller


def get_tenant(request: Request) -> str:
    """Whose request it is: everyone is the same tenant while no keys are asked for."""
    return get_caller(request).tenant


Client = Annotated[JobClient, Depends(get_client)]
Settings = Annotated[AppSettings, Depends(get_settings)]
DecodeSlots = Annotated[CapacityLimiter, Depends(get_decode_slots)]
Tenant = Annotated[str, Depends(get_tenant)]
CurrentCaller = Annotated[Caller, Depends(get_caller)]


async def check_room(client: Client, tenant: Tenant) -> None:
    """Raise QueueFull or TooManyJobs before a body is read that would come to nothing."""
    await client.check_room(tenant)


async def get_record(
    client: Client,
    tenant: Tenant,
    inversion_id: Annotated[str, Path(description="The id that the upload was answered with.")],
) -> JobRecord:
    """The record of the inversion in the path; a wrong id, one that is gone and another tenant's are the same 404."""
    record = await client.get(inversion_id) if ID_PATTERN.fullmatch(inversion_id) else None
    if record is None or record.tenant != tenant:
        raise ProblemError("inversion-not-found")
    return record


Record = Annotated[JobRecord, Depends(get_record)]
