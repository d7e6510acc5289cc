"""Tells webhooks what happens to inversions: at least once, in order, at most twice a second for each inversion.

A frame that is not sent yet gives way to a later one, and to the end. What fails is tried again, later and later;
the bytes of a message stay the same, so `webhook-id` tells a receiver what it has seen already.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import httpcore

from inversion_app.egress import Forbidden
from inversion_app.outages import OUTAGES
from inversion_app.routes.events import public
from inversion_app.settings import AppSettings
from inversion_app.signing import signed_headers
from inversion_app.turns import Turns
from inversion_worker.client import Unsent, logs
from inversion_worker.contract import FINAL_EVENTS, EventKind, FrameReady, JobEvent, JobRecord

log = logging.getLogger(__name__)

PAUSE_S = 0.5
"""Between two messages of one inversion."""
LOOK_EVERY_S = 0.2
LOOK_ON_S = 0.02
"""Pause where as many were due as there were free hands: there may be more."""
BUSY_S = 1.0
"""How long a message waits whose host, or tenant, has as many calls under way as it may."""
AFTER_OUTAGE_S = 5.0
AT_ONCE = 32
"""Messages on their way from one process."""
_GONE = 410
_LONGEST_WAIT_S = 3600.0
_FAILURES = (
    Forbidden, TimeoutError, OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException,
)  # fmt: skip


class Queue(Protocol):
    """inversion_worker.client.Outbox, or a test's."""

    async def claim(self, most: int, for_s: float) -> list[str]: ...
    async def unsent(self, job_id: str) -> Unsent | None: ...
    async def settle(self, job_id: str, after: str, tries: int, again_s: float) -> None: ...
    async def rest(self, job_id: str, after: str) -> None: ...
    async def forget(self, job_id: str) -> None: ...


Post = Callable[[str, dict[str, str], bytes], Awaitable[int]]
"""(address, header fields, body) -> status; egress.Sender.post, or a test's."""
Secrets = Callable[[str], Awaitable[Sequence[str]]]
"""A tenant's webhook secrets, the newest first."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is told at once."""

    event_id: str
    kind: EventKind
    body: bytes


def next_message(record: JobRecord, events: Sequence[tuple[str, JobEvent]], wanted: Collection[str]) -> Message | None:
    """The first of these events that is told: the last of the frames before anything else, and none before an end."""
    told = [(event_id, event) for event_id, event in events if event.kind in wanted]
    if any(event.kind in FINAL_EVENTS for _, event in told):
        told = [(event_id, event) for event_id, event in told if not isinstance(event, FrameReady)]
    if not told:
        return None
    chosen = told[0]
    for later in told[1:]:
        if not (isinstance(chosen[1], FrameReady) and isinstance(later[1], FrameReady)):
            break
        chosen = later
    return _message(record, *chosen)


def _message(record: JobRecord, event_id: str, event: JobEvent) -> Message:
    happened = datetime.fromtimestamp(int(event_id.partition("-")[0]) / 1000, UTC)
    body = {
        "type": f"inversion.{event.kind}",
        "timestamp": happened.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {"id": record.id, **public(record, event)},
    }
    return Message(event_id=event_id, kind=EventKind(event.kind), body=json.dumps(body, separators=(",", ":")).encode())


class Courier:
    """Delivers what is in the queue. Several processes may do so side by side."""

    def __init__(self, queue: Queue, post: Post, secrets: Secrets, settings: AppSettings) -> None:
        self._queue = queue
        self._post = post
        self._secrets = secrets
        self._settings = settings
        self._turns = Turns()
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Deliver until cancelled; an outage of Redis only delays it."""
        try:
            while True:
                await asyncio.sleep(await self.look())
        finally:
            for task in self._under_way:
                task.cancel()  # the claim ends by itself, and another process sends it again

    async def look(self) -> float:
        """Begin to deliver what is due, as far as there is a free hand; in how many seconds to look again."""
        free = AT_ONCE - len(self._under_way)
        if free <= 0:
            return LOOK_EVERY_S
        try:
            claimed = await self._queue.claim(free, 2 * self._settings.webhook_timeout_s + 10)
        except OUTAGES as error:
            log.warning("webhooks have to wait: %s", type(error).__name__)
            return AFTER_OUTAGE_S
        for job_id in claimed:
            task = asyncio.create_task(self._deliver_or_leave(job_id))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return LOOK_ON_S if len(claimed) == free else LOOK_EVERY_S

    async def _deliver_or_leave(self, job_id: str) -> None:
        with logs.about(job_id=job_id):
            try:
                await self.deliver(job_id)
            except OUTAGES as error:
                log.warning("webhook of job=%s has to wait: %s", job_id, type(error).__name__)
            except Exception:
                log.exception("webhook of job=%s failed", job_id)

    async def deliver(self, job_id: str) -> None:
        """Send the job's next message, if there is one, and note what became of it."""
        unsent = await self._queue.unsent(job_id)
        options = unsent.record.options if unsent is not None else None
        if unsent is None or options is None or options.webhook is None:
            await self._queue.forget(job_id)
            return
        message = next_message(unsent.record, unsent.events, options.webhook_events)
        if message is None:
            await self._queue.rest(job_id, unsent.events[-1][0] if unsent.events else unsent.after)
            return
        with logs.about(request_id=unsent.record.request_id):
            await self._deliver(unsent, options.webhook, message)

    async def _deliver(self, unsent: Unsent, url: str, message: Message) -> None:
        job_id = unsent.record.id
        secrets = await self._secrets_of(unsent.record.tenant)
        if not secrets:
            log.warning("webhook of job=%s dropped: nothing to sign it with", job_id)
            await self._queue.forget(job_id)
            return
        with self._turns.taking(url, unsent.record.tenant) as free:
            if free:
                await self._note(unsent, message, await self._send(unsent, url, message, secrets))
            else:
                await self._queue.settle(job_id, unsent.after, unsent.tries, BUSY_S)

    async def _secrets_of(self, tenant: str) -> Sequence[str]:
        if tenant:
            return await self._secrets(tenant)
        secret = self._settings.webhook_secret
        return [secret.get_secret_value()] if secret is not None else []

    async def _send(self, unsent: Unsent, url: str, message: Message, secrets: Sequence[str]) -> int | None:
        """The status of the receiver's answer; None where there was none."""
        job_id, now_s = unsent.record.id, unsent.now_s
        headers = {
            "content-type": "application/json",
            "user-agent": "stylegan-inversion",
            **signed_headers(f"{job_id}.{message.event_id}", now_s, message.body, secrets),
        }
        try:
            return await self._post(url, headers, message.body)
        except _FAILURES as error:
            log.info("webhook of job=%s not delivered: %s", job_id, type(error).__name__)
            return None

    async def _note(self, unsent: Unsent, message: Message, status: int | None) -> None:
        job_id, tries = unsent.record.id, unsent.tries + 1
        if status is not None and 200 <= status < 300:
            await self._queue.settle(job_id, message.event_id, 0, PAUSE_S)
        elif status == _GONE:
            log.info("webhook of job=%s is gone, and told nothing more", job_id)
            await self._queue.forget(job_id)
        elif tries >= self._settings.webhook_tries:
            log.warning("webhook of job=%s given up: event=%s tries=%d", job_id, message.kind, tries)
            await self._queue.settle(job_id, message.event_id, 0, PAUSE_S)
        else:
            wait_s = max(PAUSE_S, backoff_s(tries, self._settings.webhook_retry_s))
            await self._queue.settle(job_id, unsent.after, tries, wait_s)


def backoff_s(tries: int, first_s: float) -> float:
    """How long to wait after so many failures: doubled each time, and from half to one and a half of that by chance."""
    return min(_LONGEST_WAIT_S, first_s * 2.0 ** (tries - 1)) * random.uniform(0.5, 1.5)
