"""What the client decides: its plans, run by hand, with answers made up and nothing waited for."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import inversion_client as ic
from inversion_client import following, managing
from inversion_client.connection import http_arguments
from inversion_client.plan import Call, Chunk, Close, Do, Emit, Pause, Plan, Retries
from inversion_client.reading import AnswerInvalid, read
from inversion_client.sending import send
from inversion_client.sse import Decoder
from inversion_client.uploading import form_of

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
GET = Call(method="GET", path="/v1/packs")
POST = Call(method="POST", path="/v1/inversions/a/retry")
THRICE = Retries(times=2, first_s=1)
EVENTS = "/v1/inversions/a"
Reply = httpx.Response | httpx.RequestError | bytes | None


@dataclass
class Run:
    """What became of a plan."""

    result: Any
    calls: list[Call]
    pauses_s: list[float]
    values: list[Any]


def run(plan: Plan[Any], *replies: Reply) -> Run:
    """Give a plan these answers to its calls and chunks, in order; all of them must be asked for."""
    left, done = list(replies), Run(None, [], [], [])
    effect = next(plan)
    try:
        while True:
            reply: Any = None
            match effect:
                case Call():
                    done.calls.append(effect)
                    reply = left.pop(0)
                case Chunk():
                    reply = left.pop(0)
                case Pause(seconds):
                    done.pauses_s.append(seconds)
                case Emit(value):
                    done.values.append(value)
                case Do(function):
                    reply = function()
                case Close():
                    pass
            effect = plan.throw(reply) if isinstance(reply, httpx.RequestError) else plan.send(reply)
    except StopIteration as end:
        done.result = end.value
    assert left == []
    return done


def answer(status: int = 200, body: object = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers=named, request=httpx.Request("GET", "http://here/v1/packs"))


def refusal(status: int, kind: str = "x", **headers: str) -> httpx.Response:
    return answer(status, {"type": f"/problems/{kind}", "title": "No", "status": status, "detail": "Why."}, **headers)


# ---- sending


def test_waits_as_long_as_the_service_says() -> None:
    soon = formatdate(usegmt=True)  # a time that has come: no wait
    done = run(send(GET, THRICE), refusal(429, retry_after="7"), refusal(503, retry_after=soon), answer())
    assert done.pauses_s == [7, 0]
    assert done.result.status_code == 200


def test_waits_longer_and_longer_where_nothing_is_said() -> None:
    done = run(send(GET, THRICE), httpx.ReadTimeout("late"), refusal(502), answer())
    first_s, second_s = done.pauses_s
    assert 0.75 <= first_s <= 1.25
    assert 1.5 <= second_s <= 2.5


@pytest.mark.parametrize(
    ("call", "reply", "tries"),
    [
        (GET, refusal(429), 3),
        (GET, refusal(503), 3),
        (GET, refusal(409, "idempotency-key-in-use"), 3),
        (GET, refusal(429, retry_after="3600"), 1),
        (GET, refusal(500), 1),
        (GET, refusal(409, "already-final"), 1),
        (POST, refusal(503), 3),
        (POST, refusal(429), 3),
        (GET, httpx.ReadError("cut"), 3),
        (POST, httpx.ReadError("cut"), 3),
        (POST, httpx.ConnectError("nobody"), 3),
        (GET, httpx.UnsupportedProtocol("ftp"), 3),
        (GET, httpx.DecodingError("gzip"), 1),
    ],
)
def test_what_is_tried_again(call: Call, reply: Reply, tries: int) -> None:
    """Only what passes, and not for ever."""
    with pytest.raises(ic.ClientError):
        run(send(call, THRICE), *[reply] * tries)


def test_an_answer_of_something_else() -> None:
    page = httpx.Response(502, text="<html>", request=httpx.Request("GET", "http://here/"))
    with pytest.raises(ic.ProblemError, match="502 Bad Gateway") as caught:
        run(send(GET, Retries(times=0)), page)
    assert caught.value.type == "about:blank"
    with pytest.raises(AnswerInvalid, match="http://elsewhere"):
        run(send(GET, THRICE), answer(302, location="http://elsewhere"))
    with pytest.raises(AnswerInvalid, match="JSON"):
        run(managing.packs(THRICE), httpx.Response(200, text="hello", request=page.request))


@pytest.mark.parametrize("body", [{}, [], {"packs": None}, {"packs": [{"name": "x"}]}, {"packs": [1]}])
def test_an_answer_of_another_shape(body: object) -> None:
    with pytest.raises(AnswerInvalid):
        run(managing.packs(THRICE), answer(200, body))


def test_the_next_page_is_asked_of_the_same_service() -> None:
    """An address on another host would be given the key."""
    pages = (
        answer(200, {"inversions": [], "next": "http://evil.example/v1/inversions?cursor=c&limit=5"}),
        answer(200, {"inversions": [], "next": None}),
    )
    filters: dict[str, Any] = {"status": None, "pack": None, "created_after": None, "created_before": None}
    done = run(managing.inversions(THRICE, page_size=5, **filters), *pages)
    assert [call.path for call in done.calls] == ["/v1/inversions"] * 2
    assert done.calls[1].params == {"cursor": "c", "limit": "5"}


@pytest.mark.parametrize("wrong", ["", ".", "..", "a/b", "a?b", "\u00e4", 200 * "a"])
def test_no_id(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no id"):
        managing.inversion_path(wrong)


# ---- following


def inversion(status: str) -> httpx.Response:
    time = "2026-11-22T13:00:00Z"
    body = {"id": "a", "status": status, "steps": 5, "created_at": time, "expires_at": time, "from_tomorrow": {}}
    return answer(200, body, etag='"1"', retry_after="3")


def test_polls_as_the_service_wants() -> None:
    plan = following.wait(THRICE, ic.Inversion, EVENTS, timeout_s=60, on_progress=None)
    done = run(plan, inversion("queued"), answer(304, retry_after="2"), answer(304), inversion("succeeded"))
    assert done.pauses_s == [3, 2, following.POLL_S]
    assert [call.headers.get("If-None-Match") for call in done.calls] == [None, '"1"', '"1"', '"1"']
    assert done.result.status == "succeeded"


STREAM = httpx.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"})
CUT = httpx.ReadError("cut off")


def event(number: int, kind: str = "frame", **data: object) -> bytes:
    return f"id: {number}-0\nevent: {kind}\ndata: {json.dumps(data)}\nretry: 1500\n\n".encode()


def heard(*replies: Reply, after: str | None = None, retries: Retries = THRICE) -> Run:
    return run(following.events(retries, EVENTS, after=after, timeout_s=None), *replies)


def test_goes_on_behind_the_last_event_that_came_whole() -> None:
    half = event(2, step=5)[:-1]
    done = heard(
        STREAM, event(1, step=0), half, CUT,
        STREAM, event(2, step=5) + event(10, step=9), None,
        httpx.ConnectError("restarting"), STREAM, event(11, "done"),
    )  # fmt: skip
    assert [(value.id, value.step) for value in done.values] == [("1-0", 0), ("2-0", 5), ("10-0", 9), ("11-0", None)]
    assert [call.headers.get("Last-Event-ID") for call in done.calls] == [None, "1-0", "10-0", "10-0"]
    assert done.pauses_s[:2] == [1.5, 1.5]


def test_what_is_replayed_is_not_told_twice() -> None:
    done = heard(STREAM, event(9), event(10), CUT, STREAM, event(9), event(10), event(11, "canceled"))
    assert [value.id for value in done.values] == ["9-0", "10-0", "11-0"]


def test_nothing_is_left_after_the_last_event() -> None:
    ended = inversion("succeeded")
    assert heard(STREAM, None, ended, STREAM, b": ping\n\n", None, after="5-0").values == []
    # It ended between the stream's end and the look: the next connection has the rest.
    rest = heard(STREAM, None, ended, STREAM, event(6, "done"), after="5-0")
    assert [value.id for value in rest.values] == ["6-0"]
    # Or the service says at once that there is nothing.
    at_once = heard(httpx.Response(204, request=httpx.Request("GET", "http://here/")), after="5-0")
    assert (at_once.values, len(at_once.calls), at_once.pauses_s) == ([], 1, [])


def test_a_stream_that_never_says_a_word() -> None:
    with pytest.raises(ic.ServiceUnreachable, match="without a word"):
        heard(*[STREAM, CUT] * 3)


def test_a_newer_service_says_more() -> None:
    done = heard(STREAM, event(1, "paused", mood="good") + event(2, "done"))
    assert [value.kind for value in done.values] == ["paused", "done"]


@pytest.mark.parametrize("wrong", [b"id: 1-0\ndata: {\n\n", b'id: 1-0\ndata: {"step": "x"}\n\n'])
def test_events_that_are_none(wrong: bytes) -> None:
    with pytest.raises(AnswerInvalid):
        heard(STREAM, wrong)


def test_a_page_in_the_place_of_a_stream() -> None:
    with pytest.raises(AnswerInvalid, match="text/html"):
        heard(httpx.Response(200, html="<p>", request=httpx.Request("GET", "http://here/")))


def test_listening_ends_at_its_time() -> None:
    plan = following.events(THRICE, EVENTS, after=None, timeout_s=0.0)
    with pytest.raises(ic.WaitTimedOut):
        run(plan)


SAID = (
    '\ufeff: hello\r\nid: 7\r\nretry: 20\r\nevent: frame\r\ndata: a\u2028b\x85\r\ndata:c\r\n\r\n'
    "data: \u00e4\n\nid\ndata\n\nevent: lost\n\ndata: x\r\rdata: cut off"
)  # fmt: skip


@given(cuts=st.lists(st.integers(0, len(SAID.encode())), max_size=30))
def test_a_stream_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    data = SAID.encode()
    places = [0, *sorted(cuts), len(data)]
    decoder = Decoder()
    chunks = [data[begin:end] for begin, end in itertools.pairwise(places)]
    found = [message for chunk in chunks for message in decoder.feed(chunk)]
    told = [(message.id, message.event, message.data) for message in found]
    assert told == [
        ("7", "frame", "a\u2028b\x85\nc"), ("7", "message", "\u00e4"), ("", "message", ""), ("", "message", "x")
    ]  # fmt: skip
    assert decoder.retry_s == 0.02


# ---- the rest


def test_options_as_a_form_has_them() -> None:
    options = {"align": False, "steps": 5, "target_loss": 0.25, "pack": None, "webhook_events": ("done", "failed")}
    assert form_of(options) == {"align": "false", "steps": "5", "target_loss": "0.25", "webhook_events": "done,failed"}


def test_reading_keeps_what_it_knows() -> None:
    found = read(ic.Problem, {"type": "t", "title": "T", "status": 404, "colour": "red"})
    assert found == ic.Problem(type="t", title="T", status=404)
    with pytest.raises(AnswerInvalid, match=r"Problem\.status"):
        read(ic.Problem, {"type": "t", "title": "T", "status": True})


@pytest.mark.parametrize(
    ("url", "key", "timeout_s"),
    [("ftp://x", None, 1.0), ("localhost:8000", None, 1.0), ("http://x", "inv_a\n", 1.0), ("http://x", None, 0.0)],
)
def test_a_client_that_cannot_work(url: str, key: str | None, timeout_s: float) -> None:
    with pytest.raises(ValueError, match=r"url|key|timeout_s"):
        http_arguments(url, key, timeout_s)


def test_it_needs_httpx_alone() -> None:
    """No package of ours beside it, no numpy, no progress bar: importing any of them would fail here."""
    code = """
import sys
for name in ("numpy", "torch", "pydantic", "tqdm", "inversion_app", "inversion_worker", "inversion_core"):
    sys.modules[name] = None
import inversion_client
try:
    list(inversion_client.results.code(inversion_client.Retries(), "/v1/inversions/a"))
except ModuleNotFoundError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "pip install numpy" in result.stdout
