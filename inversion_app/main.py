"""Where the HTTP service is put together: `python -m inversion_app`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from inversion_app import cross_origin, errors, outages, told, uploads
from inversion_app.asked import check_asked
from inversion_app.cookies import PlainCookies
from inversion_app.egress import CheckedNetwork, Sender
from inversion_app.guard import Guard
from inversion_app.heads import Heads
from inversion_app.http_meters import HttpMeters
from inversion_app.looking import UploadLooks
from inversion_app.middleware import Envelope
from inversion_app.openapi import operation_id, use_problem_documents
from inversion_app.routes import (
    batches,
    diffusions,
    directions,
    edits,
    events,
    faces,
    frames,
    health,
    interpolations,
    inversions,
    metrics,
    packs,
    page,
    renders,
    results,
    session,
    usage,
)
from inversion_app.settings import AppSettings
from inversion_app.stores import Stores
from inversion_app.webhooks import Courier, Secrets
from inversion_worker.client import (
    JobClient,
    JobRefused,
    NobodyAnswers,
    Outbox,
    QueueFull,
    StorageFull,
    TooManyJobs,
    logs,
    tracing,
)

log = logging.getLogger(__name__)

DESCRIPTION = """
Finds the StyleGAN W+ code of a face photo, and shows the intermediate images.

1. `POST /v1/inversions` with the photo. The response, 202, has the id and links.
2. Poll `GET /v1/inversions/{id}`, or listen to `/events`.
3. Download the results in `links`: the code, the reconstruction, the aligned crop, the frames.

Photos and results are deleted when they expire, or immediately with `DELETE`.

**Errors** are `application/problem+json` documents whose `type` is explained under [/problems](/problems).

**Unknown input is refused**: unknown or repeated query parameters, form fields and JSON keys, a body where none is
expected, and a `Content-Encoding`.

**Authentication**: send `Authorization: Bearer inv_...` if the service requires a key. Inversions of other tenants
answer 404.

**Limits**: answers to a key have the fields `RateLimit` and `RateLimit-Policy`; every 429 says in `Retry-After` when to
come back. Sending again is safe with an `Idempotency-Key`.

Every answer has an `X-Request-ID`, which the service's logs have too; send one to choose it.
"""
TAGS = (
    ("inversions", "Submit photos, follow and manage inversions."),
    ("batches", "Submit up to 64 photos at once."),
    ("faces", "Detect faces without inverting the photo."),
    ("results", "Download results and intermediate images."),
    ("renders", "Render codes with edits, and put them back into the photo."),
    ("edits", "Edit lists that are saved with an inversion."),
    ("packs", "The available generators with their encoders, optimizers and editing directions."),
    ("directions", "Editing directions: those of a pack, and your own."),
    ("usage", "Your usage."),
    ("session", "Log in and out of the web page."),
    ("health", "For operators of the service."),
)
"""The groups of addresses, in the order of the reference."""


def create_app(
    settings: AppSettings | None = None, client: JobClient | None = None, stores: Stores | None = None
) -> FastAPI:
    """The application. What is not handed in is made from the settings when the application starts."""
    settings = settings or AppSettings()
    _set_up_logs(settings)
    traced = tracing.set_up("inversion-app")
    app = FastAPI(
        title="StyleGAN inversion",
        version="1",
        description=DESCRIPTION,
        openapi_tags=[{"name": name, "description": text} for name, text in TAGS],
        generate_unique_id_function=operation_id,
        webhooks=told.router,
        lifespan=_lifespan(settings, client, stores),
        docs_url=None,  # the stock pages load their scripts from elsewhere: see inversion_app/routes/page.py
        redoc_url=None,
        redirect_slashes=False,  # an address with a slash too many is no address
        telemetry={
            "tracing": traced,
            "tracer_provider": tracing.provider_in_use(),
            "metrics": False,  # see inversion_app/routes/metrics.py
            "logs": False,
            "operation_spans": False,
            "exclude": _is_not_traced,
            "auto_configure": False,
        },
    )
    app.state.settings = settings
    app.state.http_meters = HttpMeters()
    app.state.decode_slots = CapacityLimiter(settings.decode_slots)
    app.state.look_slots = CapacityLimiter(settings.look_slots)
    app.state.render_slots = CapacityLimiter(settings.render_slots)
    app.state.upload_looks = UploadLooks(settings.upload_look_s)
    app.state.body_lock = asyncio.Lock()
    for module in (
        inversions, batches, diffusions, faces, frames, results, renders, interpolations, edits, events, packs,
        directions, usage, session, health, metrics,
    ):  # fmt: skip
        app.include_router(module.router, dependencies=[Depends(check_asked)])
    app.include_router(page.router)  # an address that people pass on gains a parameter now and then
    page.mount_assets(app)
    _handle_errors(app)
    use_problem_documents(app, settings)
    app.add_middleware(Guard, settings=settings)
    cross_origin.allow(app, settings.cors_origins)
    app.add_middleware(Heads)
    app.add_middleware(PlainCookies)
    app.add_middleware(Envelope)  # the last one added is the outermost
    return app


def _is_not_traced(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request is of no interest: those that machines make every few seconds, and the page's files."""
    return scope["path"] in ("/livez", "/readyz", "/metrics") or scope["path"].startswith("/static/")


def _set_up_logs(settings: AppSettings) -> None:
    """Nothing where logging is set up already; else the server's own lines are written as ours are."""
    ours = logs.handler(settings.log_format, "%(levelname)s %(name)s %(message)s")
    logging.basicConfig(handlers=[ours])
    logging.getLogger("inversion_app").setLevel(settings.log_level)
    if ours in logging.getLogger().handlers:
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = name != "uvicorn.access"  # a request has one line: ours says more


def _handle_errors(app: FastAPI) -> None:
    app.add_exception_handler(errors.ProblemError, errors.on_problem)
    app.add_exception_handler(HTTPException, errors.on_http_exception)
    app.add_exception_handler(RequestValidationError, errors.on_validation)
    app.add_exception_handler(StorageFull, outages.on_storage_full)
    app.add_exception_handler(NobodyAnswers, outages.on_nobody)
    app.add_exception_handler(JobRefused, outages.on_refused)
    for no_room in (QueueFull, TooManyJobs):
        app.add_exception_handler(no_room, outages.on_no_room)
    for outage in outages.OUTAGES:
        app.add_exception_handler(outage, outages.on_outage)


STOP_WITHIN_S = 3.0
"""How long the shutdown waits for the tasks beside the requests."""


def _lifespan(
    settings: AppSettings, given: JobClient | None, given_stores: Stores | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        client = given or JobClient.from_settings(settings)
        stores = given_stores or Stores.from_settings(settings)
        app.state.client = client
        app.state.stores = stores
        beside = [asyncio.create_task(_sweep(client, settings.sweep_every_s)), asyncio.create_task(uploads.warm_up())]
        theirs = given is not None and given_stores is None  # a client without a Redis behind it has no outbox either
        if stores.outbox is not None and stores.secrets is not None and not theirs:
            beside.append(asyncio.create_task(_call_webhooks(stores.outbox, stores.secrets, settings)))
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            # Not for ever: a library that swallows the cancellation must not keep the process alive. What is left
            # is cancelled once more when the loop closes.
            await asyncio.wait(beside, timeout=STOP_WITHIN_S)
            if given is None:
                await client.close()
            if given_stores is None:
                await stores.close()

    return lifespan


async def _call_webhooks(outbox: Outbox, secrets: Secrets, settings: AppSettings) -> None:
    """Tell webhooks what happens, for as long as the application runs."""
    sender = Sender(CheckedNetwork(settings.webhook_allow_hosts), settings.webhook_timeout_s)
    try:
        await Courier(outbox, sender.post, secrets, settings).run()
    finally:
        await sender.close()


async def _sweep(client: JobClient, every_s: float) -> None:
    """Delete what has expired, for as long as the application runs; an outage only delays it."""
    while True:
        try:
            if swept := await client.sweep():
                log.info("deleted %d expired inversions", swept)
        except Exception:  # whatever it was, people's photos must go as soon as it is over
            log.exception("the sweep for expired inversions failed, and will be tried again")
        await asyncio.sleep(every_s)
