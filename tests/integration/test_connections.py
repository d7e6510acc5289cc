"""Half-open connections, more than the process has descriptors for: it answers all the same, and they are ended."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from api_process import PATIENCE_S, ApiProcess

pytestmark = pytest.mark.integration

DESCRIPTORS, HALF_OPEN = 256, 300
HEADER_TIMEOUT_S = 3.0


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiProcess]:
    """A process that reaches no Valkey: it needs none to say that it is alive."""
    env = {
        "INVERSION_REDIS_URL": f"unix://{tmp_path}/nowhere",
        "INVERSION_ARTIFACTS_URL": f"file://{tmp_path}/artifacts",
        "INVERSION_HEADER_TIMEOUT_S": HEADER_TIMEOUT_S,
    }
    process = ApiProcess(env, tmp_path / "api.log", DESCRIPTORS)
    try:
        process.wait_ready()
        yield process
    finally:
        process.kill()


def test_half_open_connections_keep_nobody_out(api: ApiProcess) -> None:
    with ExitStack() as opened:
        half_open = []
        for _ in range(HALF_OPEN):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", api.port), timeout=PATIENCE_S))
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            half_open.append(connection)
            time.sleep(
                0.002
            )  # quicker than they are accepted, the kernel would have some of them try again in a second
        began_s = time.monotonic()
        assert httpx.get(f"{api.url}/livez", timeout=PATIENCE_S).status_code == 200
        took_s = time.monotonic() - began_s
        assert all(_is_ended(connection) for connection in half_open)
        ended_s = time.monotonic() - began_s
    print(
        f"/livez took {took_s * 1000:.0f} ms beside {HALF_OPEN} half-open connections; all ended after {ended_s:.1f} s"
    )
    assert took_s < HEADER_TIMEOUT_S
    assert "out of system resource" not in api.said


def _is_ended(connection: socket.socket) -> bool:
    """Whether the other side ends it, with a word or without; raises TimeoutError where it does not."""
    try:
        while data := connection.recv(1000):
            assert data.startswith(b"HTTP/1.1 408 ")
    except ConnectionResetError:
        pass
    return True
