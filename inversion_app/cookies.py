"""Cookies with quotes go no further: unquoting them takes the framework seconds, whoever sends them."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class PlainCookies:
    """ASGI middleware that leaves out of `Cookie` what holds a quote or a backslash; nothing of ours does.

    http.cookies takes time by the square of such a cookie's length (CVE-2024-7592): 60 kB are five seconds of the event
    loop, and the framework reads the cookies of every request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = [
                (name, _plain(value) if name == b"cookie" else value) for name, value in scope["headers"]
            ]
        await self.app(scope, receive, send)


def _plain(cookies: bytes) -> bytes:
    if b'"' not in cookies and b"\\" not in cookies:
        return cookies
    return b";".join(each for each in cookies.split(b";") if b'"' not in each and b"\\" not in each)
