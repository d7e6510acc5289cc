"""What has been used."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from inversion_app.deps import Client, Tenant
from inversion_app.errors import responses
from inversion_app.schemas import Usage, UsageTotals

router = APIRouter(prefix="/v1/usage", tags=["usage"])
MAX_DAYS = 366


@router.get(
    "",
    summary="Get usage",
    response_description="Usage in total and by day.",
    responses=responses("option-invalid"),
)
async def usage(
    client: Client,
    tenant: Tenant,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS, description="Number of days, including today.")] = 30,
) -> Usage:
    """Number of inversions and processing time, by day (UTC) and in total.

    Deleting an inversion does not change its usage.
    """
    found = await client.usage(tenant, days)
    names = UsageTotals.model_fields
    total = UsageTotals(**{name: sum(getattr(day, name) for day in found) for name in names})
    return Usage(total=total, days=found)
