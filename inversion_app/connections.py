"""A connection to the service: how long its client may take over what, and how many there are at a time.

uvicorn ends connections that idle between two requests, and waits for ever for the rest of a request that has begun,
and for a client that does not read. Here each of them has its time:

    the head of a request    whole within `head_s`
    its body                 `body_rate` bytes a second at least, over each `body_s`, while the service wants more
    the answer               some bytes of it taken every `send_s`

What the service itself takes over a request counts nowhere, so a stream of events may stay open for hours. Where
there are as many connections as the process has descriptors for, the one that has waited longest for its client gives
way to the next: clients that send no request, or do not read, keep nobody out.

Used by `python -m inversion_app`, as the class that speaks HTTP for uvicorn.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
from dataclasses import dataclass
from functools import cache
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from inversion_app.errors import KINDS, MEDIA_TYPE
from inversion_app.settings import AppSettings

log = logging.getLogger(__name__)

MOST = 4096
"""Connections of a process that has descriptors for more; each takes some 20 kB."""
SAY_EVERY_S = 60.0
"""Pause between two lines in the log that say that connections are refused."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client is given."""

    head_s: float = 10.0
    """Seconds from the connection, or from the first byte of a further request, to the end of its head."""
    body_s: float = 20.0
    """Seconds over which the rate of a body is taken."""
    body_rate: int = 1024
    """Bytes a second that a body has to bring."""
    send_s: float = 60.0
    """Seconds in which a client that is sent something has to take some of it."""
    most: int = MOST
    """Connections at a time."""

    @property
    def look_every_s(self) -> float:
        """Pause between two looks at a connection; what is late is found at most that much later."""
        return min(1.0, self.head_s / 4, self.body_s / 4, self.send_s / 4)


def descriptors_to_spare(soft_limit: int) -> int:
    """How many of the process's descriptors are kept for everything but connections that were let in."""
    return max(96, soft_limit // 4)


def most_connections(soft_limit: int) -> int:
    """How many connections there can be where the process may have that many descriptors."""
    if soft_limit == resource.RLIM_INFINITY:
        return MOST
    return max(8, min(MOST, soft_limit - descriptors_to_spare(soft_limit)))


def backlog(soft_limit: int) -> int:
    """How many connections are accepted in one go, before any of them can be told to give way."""
    return 128 if soft_limit == resource.RLIM_INFINITY else min(128, descriptors_to_spare(soft_limit) * 2 // 3)


def soft_limit() -> int:
    """The number of descriptors that this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Connection(H11Protocol):
    """One connection, which looks at itself now and then and ends where its client is late."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._look_again: asyncio.TimerHandle | None = None
        now = self.loop.time()
        self._free_since = now
        """When it was made, or has answered last."""
        self._head_since: float | None = now
        """When the head that is being read began; None while none is."""
        self._heard = False
        """Whether anything of the present request has come."""
        self._body = _Window(limits, now)
        self._taken_at = now
        """When the client last took some of what it is sent."""
        self._unsent = 0

    @property
    def waits_since(self) -> float | None:
        """Since when it has waited for its client; None while the client waits for the service."""
        if self._reads_head or self.cycle is None or self.cycle.response_complete:
            return self._free_since
        return self._taken_at if self.flow.write_paused else None

    @property
    def _reads_head(self) -> bool:
        return self.conn.their_state is h11.IDLE

    # ---- what the transport tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look_again = self.loop.call_later(self._limits.look_every_s, self._look)
        if len(self.connections) > self._limits.most and not self._make_room():
            self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._body.arrived += len(data)
        super().data_received(data)
        self._body.held |= self.flow.read_paused
        if not self._reads_head:
            self._head_since = None
        elif self._head_since is None:
            self._head_since = self.loop.time()

    def resume_writing(self) -> None:
        self._taken_at = self.loop.time()
        super().resume_writing()

    def on_response_complete(self) -> None:
        self._free_since = self.loop.time()
        self._heard = False
        super().on_response_complete()

    # ---- what is late

    def _look(self) -> None:
        self._look_again = self.loop.call_later(self._limits.look_every_s, self._look)
        if self._is_late(self.loop.time()):
            self._end()

    def _is_late(self, now: float) -> bool:
        head = self._head_since is not None and now - self._head_since >= self._limits.head_s
        return head or self._body_is_late(now) or self._receiver_is_late(now)

    def _body_is_late(self, now: float) -> bool:
        if self.conn.their_state is not h11.SEND_BODY:
            self._body = _Window(self._limits, now)
            return False
        self._body.held |= self.flow.read_paused or self.cycle.waiting_for_100_continue
        if now - self._body.since < self._limits.body_s:
            return False
        late = self.cycle.response_complete or not self._body.is_quick_enough
        self._body = _Window(self._limits, now)
        return late

    def _receiver_is_late(self, now: float) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._taken_at = now
        self._unsent = unsent
        return now - self._taken_at >= self._limits.send_s

    def _end(self) -> None:
        """End the connection; a client that is in the middle of a request is told why."""
        answered = self.cycle is not None and self.cycle.response_started and not self._reads_head
        stuck = self.transport.is_closing() or self.transport.get_write_buffer_size() > 0
        if self._heard and not answered and not stuck:
            self.transport.write(_answer("request-timeout"))
            self.transport.close()
        else:
            self.transport.abort()

    # ---- too many

    def _make_room(self) -> bool:
        """End the connection that has waited longest for its client; whether there is one."""
        others = (each for each in self.connections if isinstance(each, Connection) and each is not self)
        waiting = [(since, each) for each in others if (since := each.waits_since) is not None]
        if not waiting:
            return False
        _, given_up = min(waiting, key=lambda pair: pair[0])
        self.connections.discard(given_up)  # it is lost a moment later, and counts no longer
        given_up.transport.abort()
        return True

    def _refuse(self) -> None:
        self.connections.discard(self)
        self.transport.write(_answer("service-unavailable", "retry-after: 5\r\n"))
        self.transport.close()
        _say_full(self.loop, self._limits.most)


@dataclass
class _Window:
    """What came of a body since a moment."""

    limits: Limits
    since: float
    arrived: int = 0
    held: bool = False
    """Whether the service had the client wait meanwhile: it was not the client who was slow."""

    @property
    def is_quick_enough(self) -> bool:
        return self.held or self.arrived >= self.limits.body_rate * self.limits.body_s


_said_full_at = -SAY_EVERY_S


def _say_full(loop: asyncio.AbstractEventLoop, most: int) -> None:
    global _said_full_at
    if loop.time() - _said_full_at >= SAY_EVERY_S:
        _said_full_at = loop.time()
        log.warning("all %d connections are in use, and further ones are refused: raise `ulimit -n`", most)


def _answer(slug: str, fields: str = "") -> bytes:
    """A problem document as bytes, for a client whose request the application never sees."""
    kind = KINDS[slug]
    problem = {"type": f"/problems/{slug}", "title": kind.title, "status": kind.status, "detail": kind.remedy}
    body = json.dumps(problem).encode()
    head = f"HTTP/1.1 {kind.status} {kind.title}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
    return f"{head}{fields}connection: close\r\n\r\n".encode() + body


@cache
def _limits() -> Limits:
    settings = AppSettings()
    can = most_connections(soft_limit())
    return Limits(
        head_s=settings.header_timeout_s,
        body_s=settings.body_timeout_s,
        send_s=settings.send_timeout_s,
        most=min(settings.max_connections or can, can),
    )


def from_settings(
    config: Config,
    server_state: ServerState,
    app_state: dict[str, Any],
    _loop: asyncio.AbstractEventLoop | None = None,
) -> Connection:
    """For uvicorn's option --http: a connection with the limits that the environment sets."""
    return Connection(config, server_state, app_state, _loop, limits=_limits())
