"""The application around a fake job client, in an event loop of its own thread."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal
from app_fakes import FakeJobClient, picture_bytes
from app_keyring import Ring, stores_of
from fastapi import FastAPI

from inversion_app.main import create_app
from inversion_app.settings import AppSettings
from inversion_app.stores import Stores

LIMIT_BYTES = 200_000
"""Longest body in tests."""


def url_of(data: bytes, kind: str = "image/png") -> str:
    """A data URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def refused(answer: httpx.Response, status: int, slug: str) -> str:
    """The detail of a problem document, which the answer must be."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert (body["status"], body["type"]) == (status, f"/problems/{slug}"), body
    detail: str = body["detail"]
    return detail


class Service:
    """The running application; requests block, as they do for a client on another machine."""

    def __init__(self, portal: BlockingPortal, http: httpx.AsyncClient, jobs: FakeJobClient, app: FastAPI) -> None:
        self.jobs = jobs
        self.app = app
        self._portal = portal
        self._http = http

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            return await self._http.request(method, url, **options)

        return self._portal.call(send)

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.request("POST", url, **options)

    def start(self, url: str, method: str = "GET", **options: Any) -> Future[httpx.Response]:
        """A request whose answer takes a while."""

        async def send() -> httpx.Response:
            return await self._http.request(method, url, **options)

        return self._portal.start_task_soon(send)

    def pause(self, seconds: float) -> None:
        """Let the application go on for a while."""
        self._portal.call(asyncio.sleep, seconds)

    def upload(
        self, photo: bytes | None = None, *, headers: Mapping[str, str] | None = None, **fields: str
    ) -> httpx.Response:
        """Submit a photo, a sound one where none is given."""
        photo = picture_bytes() if photo is None else photo
        return self.post("/v1/inversions", files={"image": ("face.jpg", photo)}, data=fields, headers=headers)

    def submitted(self, **fields: str) -> str:
        """The id of a new inversion."""
        answer = self.upload(**fields)
        assert answer.status_code == 202, answer.text
        identifier: str = answer.json()["id"]
        return identifier


@contextmanager
def running(
    portal: BlockingPortal, settings: AppSettings, jobs: FakeJobClient, stores: Stores | None = None
) -> Iterator[Service]:
    if "auth" not in settings.model_fields_set:  # most tests are about what lies behind the door
        settings = settings.model_copy(update={"auth": "off"})
    app = create_app(settings, jobs, stores or stores_of(Ring()))  # type: ignore[arg-type]  # a fake with the same methods
    with portal.wrap_async_context_manager(app.router.lifespan_context(app)):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        http = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        try:
            yield Service(portal, http, jobs, app)
        finally:
            portal.call(http.aclose)
