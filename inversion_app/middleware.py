"""Around every request: its id, the headers that keep browsers strict, one log line, and no leaking 500."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inversion_app.caller import Caller
from inversion_app.errors import ProblemError, problem_response
from inversion_app.http_meters import HttpMeters
from inversion_worker.client import logs

log = logging.getLogger(__name__)

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
HTTPS_ALONE = "max-age=31536000"
"""Strict-Transport-Security, where the service is reached over TLS."""
PERSONAL = (
    "/v1/inversions", "/v1/batches", "/v1/diffusions", "/v1/faces", "/v1/renders", "/v1/interpolations", "/v1/usage",
)  # fmt: skip
"""Everything below is someone's photo, or made of it: no cache may keep it, unless a route lets the browser's own one
keep a picture, and ask each time whether it may be shown still."""
KEPT_BY_BROWSER = "private, no-cache"
_ABOUT = {"job_id": "inversion_id", "batch_id": "batch_id"}
"""Fields of a log line by the part of an address that holds them; a route puts what it has made into `state.made`."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Envelope:
    """ASGI middleware; outside of everything but the framework's last resort."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await _Exchange(scope, send).run(self.app, receive)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]  # as it came: see inversion_app/heads.py
        self.told_path: str = logs.one_line(scope["path"])
        """The path as logs have it: decoded, it can hold line ends and terminal commands."""
        self._send = send
        self.request_id = _request_id(scope)
        self.started_s = time.perf_counter()
        self.status: int | None = None

    async def run(self, app: ASGIApp, receive: Receive) -> None:
        with logs.about(request_id=self.request_id):
            await self._run(app, receive)

    async def _run(self, app: ASGIApp, receive: Receive) -> None:
        try:
            await app(self.scope, receive, self.send)
        except Exception:
            log.exception("request_id=%s %s %s failed", self.request_id, self.method, self.told_path)
            if self.status is not None:
                raise  # half an answer is out: all that is left is to cut the connection
            await problem_response(ProblemError("internal"), self.scope["path"])(self.scope, receive, self.send)
        finally:
            self._log()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self.scope["scheme"] == "https":
                headers.setdefault("Strict-Transport-Security", HTTPS_ALONE)
            is_kept = headers.get("Cache-Control") == KEPT_BY_BROWSER
            if self.scope["path"].startswith(PERSONAL) and not is_kept:
                headers["Cache-Control"] = "private, no-store"
        await self._send(message)

    def _log(self) -> None:
        took_s = time.perf_counter() - self.started_s
        method, path = self.method, self.told_path
        took_ms = round(took_s * 1000, 1)
        facts: dict[str, object] = {"method": method, "path": path, "status": self.status, "took_ms": took_ms}
        log.info(
            "request_id=%s %s %s %s %.0f ms", self.request_id, method, path, self.status, took_s * 1000,
            extra=facts | self._who(),
        )  # fmt: skip
        meters: HttpMeters = self.scope["app"].state.http_meters
        meters.count(self.scope, self.status, took_s)

    def _who(self) -> dict[str, str]:
        """The ids of the key, the inversion and the batch, where there are any."""
        state, path = self.scope.get("state", {}), self.scope.get("path_params", {})
        caller: Caller | None = state.get("caller")
        found = {"key_id": caller.key_id if caller else "", **{name: path.get(_ABOUT[name], "") for name in _ABOUT}}
        found |= state.get("made", {})
        return {name: str(value) for name, value in found.items() if value}


def _request_id(scope: Scope) -> str:
    """The caller's X-Request-ID when it is harmless in a log, else a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
