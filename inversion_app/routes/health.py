"""Is the process alive, and can it serve?"""

from __future__ import annotations

from fastapi import APIRouter, Response

from inversion_app.deps import Client, Settings
from inversion_app.errors import ProblemError, responses
from inversion_app.schemas import Readiness, State

router = APIRouter(tags=["health"])


@router.get("/livez", summary="Liveness check", response_description="The process is alive.", responses=responses())
async def livez() -> State:
    """200 as long as this process is alive. Checks nothing else."""
    return State(status="ok")


@router.get(
    "/readyz", summary="Readiness check", response_description="The service is ready.", responses=responses("not-ready")
)
async def readyz(client: Client, settings: Settings, response: Response) -> Readiness:
    """200 if Redis answers and a running worker has a pack loaded, else 503."""
    await client.ping()
    if not any(worker.packs for worker in await client.workers()):
        raise ProblemError(
            "not-ready",
            "No worker has announced a loaded pack.",
            {"Retry-After": str(settings.retry_after_s)},
        )
    response.headers["Cache-Control"] = "no-store"
    return Readiness(status="ready", notes=client.notes)
