"""Which packs can be chosen."""

from __future__ import annotations

from fastapi import APIRouter

from inversion_app.deps import Client
from inversion_app.errors import responses
from inversion_app.schemas import Packs

router = APIRouter(tags=["packs"])


@router.get("/v1/packs", summary="List the packs", response_description="The packs.", responses=responses())
async def packs(client: Client) -> Packs:
    """The packs that running workers offer; empty if no worker is running."""
    workers = await client.workers()
    found = {(pack.name, pack.version): pack for worker in workers for pack in worker.packs}
    return Packs(packs=[found[key] for key in sorted(found)], workers=len(workers))
