"""Plans of following: polling until the end, and the event stream across every disconnect."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx

from inversion_client.errors import InversionCanceled, InversionFailed, ServiceUnreachable, WaitTimedOut
from inversion_client.models import Batch, Event, Inversion, Problem
from inversion_client.plan import Call, Chunk, Close, Emit, Pause, Plan, Retries
from inversion_client.reading import AnswerInvalid, read
from inversion_client.sending import body_of, retry_after_s, send, send_and_read
from inversion_client.sse import Decoder, Message

T = TypeVar("T", Inversion, Batch)

POLL_S = 1.0
"""Between two looks where the service says nothing of it."""
SILENCE_S = 60.0
"""An event stream that is silent for so long is dead: the service comments every 15 seconds."""
RECONNECT_S = 1.0
"""Before connecting again where the service has said nothing of it."""
_NOTHING_LEFT = 204
"""It has ended, and the last event has been seen."""


def wait(
    retries: Retries,
    kind: type[T],
    path: str,
    *,
    timeout_s: float | None,
    on_progress: Callable[[T], object] | None,
) -> Plan[T]:
    """Look at `path` until what is there has ended, as often as the service wants; `on_progress` gets every change."""
    ends_s = None if timeout_s is None else time.monotonic() + timeout_s
    found: T | None = None
    headers: dict[str, str] = {}
    while True:
        response = yield from send(Call(method="GET", path=path, headers=headers), retries)
        if found is None or response.status_code != 304:
            found = body_of(kind, response)
            headers = {"If-None-Match": response.headers["etag"]} if "etag" in response.headers else {}
            if on_progress is not None:
                on_progress(found)
        if found.is_final:
            return found
        left_s = _left_s(ends_s, f"{path} is {found.status} after {timeout_s} s.")
        pause_s = retry_after_s(response)
        yield Pause(min(POLL_S if pause_s is None else pause_s, left_s))


def wait_for_result(
    retries: Retries, path: str, *, timeout_s: float | None, on_progress: Callable[[Inversion], object] | None
) -> Plan[Inversion]:
    """As `wait`, and only one that has succeeded is returned."""
    found = yield from wait(retries, Inversion, path, timeout_s=timeout_s, on_progress=on_progress)
    if found.status == "canceled":
        raise InversionCanceled(found)
    if found.status != "succeeded":
        raise InversionFailed(found, found.error or Problem(type="about:blank", title="It failed", status=500))
    return found


def events(retries: Retries, path: str, *, after: str | None, timeout_s: float | None) -> Plan[None]:
    """Emit each event once, in order, to the last. Lost connections are made again behind the last event that came.

    Where `after` was the last event already there is none left, and it ends.
    """
    ends_s = None if timeout_s is None else time.monotonic() + timeout_s
    late = f"{path} has not ended after {timeout_s} s."
    last, mute, had_ended = after, 0, False
    while True:
        heard = yield from _listen(retries, path, last, ends_s, late)
        last = heard.last
        if heard.final:
            return
        if after is not None and heard.nothing_new:
            # If it had ended before this connection already, then `after` was the end.
            if had_ended:
                return
            had_ended = (yield from send_and_read(Inversion, Call(method="GET", path=path), retries)).is_final
        mute = mute + 1 if heard.mute else 0
        if mute > retries.times:
            raise ServiceUnreachable(f"{path}/events ends again and again without a word.") from heard.error
        yield Pause(min(heard.retry_s, retries.longest_s, _left_s(ends_s, late)))


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """What one connection has brought."""

    last: str | None
    """Id of the last event, also of an earlier connection."""
    final: bool
    """Whether nothing will come after it."""
    nothing_new: bool
    """Whether it had no event, and ended well."""
    mute: bool
    """Whether not one byte came, no comment even."""
    retry_s: float
    error: Exception | None
    """What cut it off."""


def _listen(retries: Retries, path: str, last: str | None, ends_s: float | None, late: str) -> Plan[_Heard]:
    """One connection, until it ends: every read of it within SILENCE_S."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last is not None else {})
    silence_s = min(SILENCE_S, _left_s(ends_s, late))
    call = Call(method="GET", path=f"{path}/events", headers=headers, read_timeout_s=silence_s, stream=True)
    response = yield from send(call, retries)
    if response.status_code == _NOTHING_LEFT:
        yield Close()
        return _Heard(last=last, final=True, nothing_new=True, mute=False, retry_s=RECONNECT_S, error=None)
    _check_stream(response)
    decoder, mute, told, final = Decoder(), True, False, False
    error: Exception | None = None
    try:
        while not final and (chunk := (yield Chunk())) is not None:
            mute = False
            for message in decoder.feed(chunk):
                if _is_new(message, last):
                    event, last, told = _event(message), message.id or last, True
                    final = final or event.is_final
                    yield Emit(event)
            if not final:
                _left_s(ends_s, late)
    except httpx.RequestError as cut_off:
        error = cut_off
    yield Close()
    retry_s = RECONNECT_S if decoder.retry_s is None else decoder.retry_s
    nothing_new = error is None and not told
    return _Heard(last=last, final=final, nothing_new=nothing_new, mute=mute, retry_s=retry_s, error=error)


def _left_s(ends_s: float | None, message: str) -> float:
    """Seconds that are left. Raises: WaitTimedOut where there are none."""
    if ends_s is None:
        return float("inf")
    left_s = ends_s - time.monotonic()
    if left_s <= 0:
        raise WaitTimedOut(f"{message} It goes on; wait again, or cancel it.")
    return left_s


def _check_stream(response: httpx.Response) -> None:
    kind = response.headers.get("content-type", "")
    if not kind.startswith("text/event-stream"):
        raise AnswerInvalid(f"{response.request.url} answered with {kind or 'nothing'}, not with events.")


def _is_new(message: Message, last: str | None) -> bool:
    """Whether it comes after the last one; whoever replays too much is not believed."""
    if last is None or not message.id:
        return True
    try:
        return _place(message.id) > _place(last)
    except ValueError:  # a service that numbers otherwise
        return message.id != last


def _place(event_id: str) -> tuple[int, ...]:
    """Of 1763816400000-0: a time and a number within it."""
    return tuple(int(part) for part in event_id.split("-"))


def _event(message: Message) -> Event:
    try:
        data = json.loads(message.data)
    except ValueError as error:
        raise AnswerInvalid(f"The event {message.id} holds no JSON.") from error
    told = data if isinstance(data, dict) else {}
    return read(Event, {**told, "id": message.id, "kind": message.event})
