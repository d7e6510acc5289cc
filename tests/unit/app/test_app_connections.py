"""What a client may take its time over, and what not: on real sockets, with limits of fractions of a second."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from anyio.from_thread import BlockingPortal
from starlette.types import Receive, Scope, Send

from inversion_app.connections import MOST, Connection, Limits, backlog, descriptors_to_spare, most_connections

pytestmark = pytest.mark.unit

QUICK = Limits(head_s=0.4, body_s=0.4, body_rate=1000, send_s=0.5)
PATIENCE_S = 5.0
"""More than any limit here, for a busy machine."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """/read answers with the length of the body, /refuse before reading one, /think after a while, /much and /chunks with 20 MB."""
    length = 0
    if scope["path"] == "/read":
        while (message := await receive())["type"] == "http.request":
            length += len(message["body"])
            if not message["more_body"]:
                break
        if message["type"] == "http.disconnect":
            return
    if scope["path"] == "/think":
        await asyncio.sleep(3 * QUICK.head_s)
    body = b"x" * 20_000_000 if scope["path"] == "/much" else str(length).encode()
    if scope["path"] == "/chunks":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(300):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        return
    fields = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served(portal: BlockingPortal, limits: Limits = QUICK) -> Iterator[Callable[[], socket.socket]]:
    """A way to connect to the application."""
    http: Any = partial(Connection, limits=limits)
    config = uvicorn.Config(app, http=http, ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    with socket.create_server(("127.0.0.1", 0)) as at, ExitStack() as opened:
        server = uvicorn.Server(config)
        serving = portal.start_task_soon(server.serve, [at])
        address = at.getsockname()
        try:
            yield lambda: opened.enter_context(socket.create_connection(address, timeout=PATIENCE_S))
        finally:
            server.should_exit = True
            opened.close()
            serving.result(timeout=30)


def head(path: str, **fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *(f"{name.replace('_', '-')}: {fields[name]}" for name in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the other side ends the connection. Raises TimeoutError where it does not."""
    said = b""
    try:
        while data := connection.recv(65536):
            said += data
    except ConnectionResetError:
        pass
    return said


def answer(connection: socket.socket) -> bytes:
    """One answer of the application, whose body is a number."""
    said = b""
    while b"\r\n\r\n" not in said or said.endswith(b"\r\n\r\n"):
        data = connection.recv(65536)
        assert data, said
        said += data
    return said


def drip(connection: socket.socket, data: bytes, every_s: float, stop: Callable[[], bool] = lambda: False) -> None:
    """Send byte by byte for as long as somebody listens."""
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return
        if stop():
            return
        time.sleep(every_s)


def test_a_connection_that_says_nothing_is_ended(portal: BlockingPortal) -> None:
    with served(portal) as connect:
        assert rest_of(connect()) == b""


@pytest.mark.parametrize("start", [b"G", b"POST /read HTTP/1.1\r\nHost: x\r\nX-A: b\r\n"])
def test_half_a_head_is_ended_with_a_reason(portal: BlockingPortal, start: bytes) -> None:
    with served(portal) as connect:
        connection = connect()
        connection.sendall(start)
        fields, _, body = rest_of(connection).partition(b"\r\n\r\n")
        assert fields.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in fields
        assert json.loads(body)["type"] == "/problems/request-timeout"


def test_a_head_that_drips_is_ended(portal: BlockingPortal) -> None:
    with served(portal) as connect:
        connection = connect()
        drip(connection, head("/read", **{f"X-{n}": "y" for n in range(40)}), every_s=0.01)
        assert not rest_of(connection).startswith(b"HTTP/1.1 200")


def test_half_a_head_after_a_whole_request_is_ended(portal: BlockingPortal) -> None:
    """Where uvicorn waits for ever: its time between two requests ends with the first byte."""
    with served(portal) as connect:
        connection = connect()
        connection.sendall(head("/read", Content_Length="0"))
        assert answer(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET / HT")
        assert rest_of(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_drips_is_ended(portal: BlockingPortal) -> None:
    with served(portal) as connect:
        connection = connect()
        connection.sendall(head("/read", Content_Length="1000"))
        began_s = time.monotonic()
        connection.settimeout(0)
        drip(connection, b"z" * 1000, every_s=0.01, stop=lambda: _has_answer(connection))
        connection.settimeout(PATIENCE_S)
        assert rest_of(connection).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began_s < PATIENCE_S


def _has_answer(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_a_chunked_body_that_never_ends_is_ended(portal: BlockingPortal) -> None:
    with served(portal) as connect:
        connection = connect()
        connection.sendall(head("/read", Transfer_Encoding="chunked") + b"5\r\nhello\r\n")
        assert rest_of(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_nobody_wants_any_more_is_ended(portal: BlockingPortal) -> None:
    with served(portal) as connect:
        connection = connect()
        connection.sendall(head("/refuse", Content_Length="1000000") + b"z" * 1000)
        assert rest_of(connection).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_does_not_read_is_ended(portal: BlockingPortal) -> None:
    with served(portal) as connect:
        connection = connect()
        connection.sendall(head("/much", Content_Length="0"))
        time.sleep(3 * QUICK.send_s)
        assert 0 < len(rest_of(connection)) < 20_000_000


def test_a_slow_but_steady_upload_goes_through(portal: BlockingPortal) -> None:
    with served(portal) as connect:
        connection = connect()
        connection.sendall(head("/read", Content_Length="30000"))
        for _ in range(30):
            connection.sendall(b"z" * 1000)
            time.sleep(0.03)
        assert answer(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/think", "/read"])
def test_the_service_may_take_its_time(portal: BlockingPortal, path: str) -> None:
    """Over an answer, and between two requests of one connection, up to uvicorn's own limit of 5 s."""
    with served(portal) as connect:
        connection = connect()
        for _ in range(2):
            connection.sendall(head(path, Content_Length="0"))
            assert answer(connection).startswith(b"HTTP/1.1 200 ")
            time.sleep(2 * QUICK.head_s)


def test_the_one_that_waited_longest_gives_way(portal: BlockingPortal) -> None:
    with served(portal, Limits(most=8, head_s=60)) as connect:
        waiting = [connect() for _ in range(30)]
        last = connect()
        last.sendall(head("/read", Content_Length="0"))
        assert answer(last).startswith(b"HTTP/1.1 200 ")
        assert [rest_of(each) for each in waiting[:20]] == [b""] * 20
        waiting[-1].sendall(head("/read", Content_Length="0"))
        assert answer(waiting[-1]).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_", [head("/chunks", Content_Length="0"), head("/refuse", Content_Length="1000000") + b"z" * 1000]
)
def test_neither_who_does_not_read_nor_who_goes_on_sending_keeps_others_out(
    portal: BlockingPortal, request_: bytes
) -> None:
    """Both are open to whoever has no key: a file of the page, and an upload that is refused at the door."""
    with served(portal, Limits(most=4)) as connect:
        for _ in range(4):
            each = connect()
            each.sendall(request_)
            assert each.recv(1) == b"H"
        time.sleep(0.1)
        last = connect()
        last.sendall(head("/read", Content_Length="0"))
        assert answer(last).startswith(b"HTTP/1.1 200 ")


def test_requests_that_are_being_answered_stay_and_the_next_is_told_so(portal: BlockingPortal) -> None:
    with served(portal, Limits(most=4)) as connect:
        busy = [connect() for _ in range(4)]
        for each in busy:
            each.sendall(head("/think", Content_Length="0"))
        time.sleep(0.1)
        refused = rest_of(connect())
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in refused
        assert all(answer(each).startswith(b"HTTP/1.1 200 ") for each in busy)


@pytest.mark.parametrize("soft_limit", [64, 256, 1024, 65_536, 1 << 20, -1])
def test_connections_leave_descriptors_for_the_rest(soft_limit: int) -> None:
    most, at_once = most_connections(soft_limit), backlog(soft_limit)
    assert 8 <= most <= MOST
    assert 1 <= at_once <= 128
    if soft_limit >= 256:
        assert most + at_once <= soft_limit - descriptors_to_spare(soft_limit) // 4


def test_what_is_no_http_keeps_nobody_out_either(portal: BlockingPortal) -> None:
    with served(portal, Limits(most=4)) as connect:
        for _ in range(12):
            connect().sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        last = connect()
        last.sendall(head("/read", Content_Length="0"))
        assert answer(last).startswith(b"HTTP/1.1 200 ")
