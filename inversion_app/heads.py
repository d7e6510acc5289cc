"""HEAD, wherever there is a GET (RFC 9110, section 9.3.2)."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Heads:
    """ASGI middleware: a HEAD is answered as its GET would be, without the body. A stream ends after its head."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        answer = _Head(receive, send)
        scope["method"] = "GET"
        scope["asgi"] = {**scope["asgi"], "spec_version": "2.3"}  # so that streams look out for the disconnect
        await self.app(scope, answer.receive, answer.send)


class _Head:
    """What is left of an answer: its start. After it the caller seems to have hung up, so nothing goes on for long."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._asked = False
        self._out = asyncio.Event()

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return await self._receive()
        await self._out.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
            await self._send({"type": "http.response.body", "body": b""})
            self._out.set()
