"""What it looks like when the server that holds the jobs, or the store of their bytes, is away."""

from __future__ import annotations

import logging

from fastapi import Request
from fastapi.responses import JSONResponse
from kombu.exceptions import OperationalError
from redis import exceptions as redis

from inversion_app.errors import ProblemError, of_worker, problem_response
from inversion_worker.client import JobRefused, TooManyJobs

log = logging.getLogger(__name__)

OUTAGES: tuple[type[Exception], ...] = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,  # a replica answered while its master is away
    redis.OutOfMemoryError,  # nothing is evicted, so a full server refuses writes
    OperationalError,  # Celery cannot reach its broker
    OSError,  # the artifact store's disk or host
)
"""Errors that pass: the caller is told to come back, 503. Everything else is a fault of ours, 500."""


async def on_outage(request: Request, error: Exception) -> JSONResponse:
    """Handler of OUTAGES."""
    return problem_response(unavailable(error), request.url.path)


def unavailable(error: Exception) -> ProblemError:
    """What a caller is told of an outage; the cause goes to the log alone."""
    log.error("unavailable: %s: %s", type(error).__name__, error)
    return ProblemError("service-unavailable", headers={"Retry-After": "5"})


async def on_no_room(request: Request, error: Exception) -> JSONResponse:
    """Handler of QueueFull and TooManyJobs: a further photo has to wait outside."""
    slug, wait_s = ("too-many-jobs", 5) if isinstance(error, TooManyJobs) else ("queue-full", 10)
    problem = ProblemError(slug, str(error), {"Retry-After": str(wait_s)})
    return problem_response(problem, request.url.path)


async def on_nobody(request: Request, error: Exception) -> JSONResponse:
    """Handler of NobodyAnswers: a short question that no worker has answered."""
    log.warning("no worker answers: %s", error)
    return problem_response(ProblemError("no-worker-answers", str(error), {"Retry-After": "2"}), request.url.path)


async def on_refused(request: Request, error: Exception) -> JSONResponse:
    """Handler of JobRefused: a short question that a worker refuses to answer."""
    assert isinstance(error, JobRefused)
    return problem_response(of_worker(error.problem), request.url.path)


async def on_storage_full(request: Request, error: Exception) -> JSONResponse:
    """Handler of StorageFull: the artifact store has no room for the photo."""
    log.error("storage full: %s", error)
    return problem_response(ProblemError("storage-full"), request.url.path)
