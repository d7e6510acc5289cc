"""One request and its answer: repeated where that may help, refused answers as errors.

Repeating does no harm: whatever makes something carries an Idempotency-Key, and all else can be done twice.
"""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx

from inversion_client.errors import ProblemError, ServiceUnreachable, problem_of
from inversion_client.plan import Call, Pause, Plan, Retries
from inversion_client.reading import AnswerInvalid, read

log = logging.getLogger(__name__)
T = TypeVar("T")

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Errors after which the service has seen nothing of the request."""
REMEDY = "Is the service running, and is this its address?"
REMEDY_IN_DOUBT = "It may have been done all the same: look, before you ask for it again."
BUSY = "/problems/idempotency-key-in-use"
TURNED_AWAY = (502, 503, 504)
"""Nobody was there to do it; but a proxy may say so of a request that was done."""


def send(call: Call, retries: Retries) -> Plan[httpx.Response]:
    """The answer: a success, or 304.

    Raises:
        ProblemError: the service refused; RateLimited when it still did after all tries.
        ServiceUnreachable: there was no answer.
        AnswerInvalid: something else than the API answered.
    """
    lost = False
    for pause_s in retries.pauses_s():
        try:
            response: httpx.Response = yield call
        except httpx.RequestError as error:
            if pause_s is None or not isinstance(error, httpx.TransportError):
                remedy = REMEDY if isinstance(error, NEVER_SENT) else REMEDY_IN_DOUBT
                raise ServiceUnreachable(f"{_said(call, error)}. {remedy}") from error
            lost = lost or not isinstance(error, NEVER_SENT)
            log.info("%s, again in %.1f s", _said(call, error), pause_s)
        else:
            if response.is_success or response.status_code == 304:
                return response
            problem = _refusal(response, repeated=lost)
            wait_s = pause_s if problem.retry_after_s is None else problem.retry_after_s
            if pause_s is None or wait_s is None or wait_s > retries.longest_s or not _passes(problem):
                raise problem
            log.info("%s %s: %s, again in %.1f s", call.method, call.path, problem.title, wait_s)
            pause_s = wait_s
        yield Pause(pause_s)
    raise AssertionError("the last pause is None")


def under_key(key: str | None) -> dict[str, str]:
    """Header fields of a request that makes something: however often it is sent, it makes it once."""
    return {"Idempotency-Key": key if key is not None else uuid.uuid4().hex}


def send_and_read(kind: type[T], call: Call, retries: Retries) -> Plan[T]:
    """The answer's JSON as a `kind`."""
    response = yield from send(call, retries)
    return body_of(kind, response)


def body_of(kind: type[T], response: httpx.Response) -> T:
    """The JSON of an answer as a `kind`. Raises: AnswerInvalid."""
    try:
        value = response.json()
    except ValueError as error:
        raise AnswerInvalid(f"{response.request.url} did not answer with JSON. Is it the service's address?") from error
    return read(kind, value)


def retry_after_s(response: httpx.Response) -> float | None:
    """What Retry-After says, in seconds or as a time (RFC 9110, section 10.2.3)."""
    text = response.headers.get("retry-after", "")
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):  # not there, or nothing that can be understood
        return None


def _refusal(response: httpx.Response, *, repeated: bool) -> ProblemError:
    if response.is_redirect:  # the key is not carried to wherever that may be
        raise AnswerInvalid(f"{response.request.url} leads to {response.headers.get('location')}: use that address.")
    return problem_of(response, retry_after_s=retry_after_s(response), repeated=repeated)


def _passes(problem: ProblemError) -> bool:
    """Whether the same request may go well in a while."""
    return problem.status == 429 or problem.type == BUSY or problem.status in TURNED_AWAY


def _said(call: Call, error: httpx.RequestError) -> str:
    try:
        where = str(error.request.url)
    except RuntimeError:  # a transport that does not say
        where = call.path
    return f"{call.method} {where}: {str(error) or type(error).__name__}"
