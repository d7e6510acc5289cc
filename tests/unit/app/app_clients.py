"""Both clients around the application, with a line between that can misbehave. A test is written once, for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal

from inversion_client import AsyncInversionClient, InversionClient

LOST, REFUSED = "lost", "refused"
"""An answer that never arrives although the request was carried out; a connection that is not made."""


class Line(httpx.AsyncBaseTransport):
    """To the application in this process. `faults` are used up, one for each request; None is no fault."""

    def __init__(self, app: Any) -> None:
        self.faults: list[str | httpx.Response | None] = []
        self.seen: list[httpx.Request] = []
        self._app = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        fault = self.faults.pop(0) if self.faults else None
        if fault == REFUSED:
            raise httpx.ConnectError("nobody is there")
        if isinstance(fault, httpx.Response):
            return fault
        answer = await self._app.handle_async_request(request)
        await answer.aread()
        if fault == LOST:
            raise httpx.ReadError("cut off")
        if "retry-after" in answer.headers:
            answer.headers["retry-after"] = "0"  # tests do not wait; that it is honoured is seen in test_client.py
        return answer


class BlockingLine(httpx.BaseTransport):
    """The same for the client that blocks."""

    def __init__(self, portal: BlockingPortal, line: Line) -> None:
        self._portal = portal
        self._line = line

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        same = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        answer = self._portal.call(self._line.handle_async_request, same)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


class Awaited:
    """An AsyncInversionClient with the methods of InversionClient."""

    def __init__(self, portal: BlockingPortal, client: AsyncInversionClient) -> None:
        self._portal = portal
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: Any, **options: Any) -> Any:
            found = getattr(self._client, name)(*args, **options)
            return [each async for each in found] if isinstance(found, AsyncIterator) else await found

        def blocking(*args: Any, **options: Any) -> Any:
            found = self._portal.call(lambda: call(*args, **options))
            return iter(found) if isinstance(found, list) else found

        return blocking


AnyClient = InversionClient | Awaited
