"""Calls to strangers' addresses: which hosts are reached, and under which name."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import pytest
from anyio.from_thread import BlockingPortal

from inversion_app.egress import CheckedNetwork, Forbidden, Sender
from inversion_app.special_addresses import is_public

pytestmark = pytest.mark.unit

PUBLIC = "93.184.215.14"


class Stream(httpcore.AsyncNetworkStream):
    """Answers `status` to whatever is written."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._answer = network.answer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        answer, self._answer = self._answer, b""
        if not answer:
            await asyncio.sleep(self._network.silence_s)
        return answer

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._network.written += buffer

    async def aclose(self) -> None:
        self._network.closed += 1

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        self._network.tls_name = server_hostname
        assert ssl_context.check_hostname
        assert ssl_context.verify_mode is ssl.CERT_REQUIRED
        return self

    def get_extra_info(self, info: str) -> Any:
        return None


class Network(httpcore.AsyncNetworkBackend):
    """Notes which addresses are connected to."""

    def __init__(self, answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n", silence_s: float = 0) -> None:
        self.answer = answer
        self.silence_s = silence_s
        self.connected: list[tuple[str, int]] = []
        self.unreachable: set[str] = set()
        self.written = b""
        self.tls_name: str | None = None
        self.closed = 0

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append((host, port))
        if host in self.unreachable:
            raise httpcore.ConnectError
        return Stream(self)


def post(
    portal: BlockingPortal,
    url: str,
    network: Network,
    *addresses: str,
    allowed: Iterable[str] = (),
    timeout_s: float = 5,
) -> int:
    """Post to `url`, whose host resolves to these addresses."""

    async def resolve(host: str, port: int) -> list[str]:
        if not addresses:
            raise OSError("no such host")
        return list(addresses)

    async def send() -> int:
        sender = Sender(CheckedNetwork(set(allowed), resolve, network), timeout_s)
        try:
            return await sender.post(url, {"content-type": "text/plain"}, b"hello")
        finally:
            await sender.close()

    return portal.call(send)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::a00:1", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::", "::127.0.0.1",
        "fd00:ec2::254",
    ],
)  # fmt: skip
def test_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public(address: str) -> None:
    assert is_public(address)


def test_connects_to_the_checked_address_under_the_name(portal: BlockingPortal) -> None:
    network = Network()
    assert post(portal, "https://editor.example/hook?x=1", network, PUBLIC) == 204
    assert network.connected == [(PUBLIC, 443)]  # the address, so that nothing resolves the name again
    assert network.tls_name == "editor.example"
    assert network.written.startswith(b"POST /hook?x=1 HTTP/1.1\r\nHost: editor.example\r\n")
    assert network.written.endswith(b"hello")
    assert network.closed >= 1  # no connection is kept: the next call is checked anew


@pytest.mark.parametrize("addresses", [("10.0.0.1",), (PUBLIC, "127.0.0.1"), ("::1", PUBLIC), ("169.254.169.254",)])
def test_a_name_that_leads_inside_is_not_connected_to(portal: BlockingPortal, addresses: tuple[str, ...]) -> None:
    network = Network()
    with pytest.raises(Forbidden):
        post(portal, "https://rebound.example/", network, *addresses)
    assert network.connected == []


def test_hosts_that_are_allowed_by_name(portal: BlockingPortal) -> None:
    network = Network()
    assert post(portal, "http://hooks.lan:8080/", network, "10.0.0.1", allowed=["hooks.lan"]) == 204
    assert network.connected == [("10.0.0.1", 8080)]
    with pytest.raises(Forbidden):
        post(portal, "http://other.lan:8080/", network, "10.0.0.1", allowed=["hooks.lan"])


def test_the_next_address_where_one_is_unreachable(portal: BlockingPortal) -> None:
    network = Network()
    network.unreachable = {PUBLIC}
    assert post(portal, "https://editor.example/", network, PUBLIC, "8.8.8.8") == 204
    with pytest.raises(httpcore.ConnectError):
        post(portal, "https://editor.example/", network, PUBLIC)
    with pytest.raises(httpcore.ConnectError):
        post(portal, "https://editor.example/", network)


def test_redirects_are_not_followed(portal: BlockingPortal) -> None:
    network = Network(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n")
    assert post(portal, "https://editor.example/", network, PUBLIC) == 302
    assert len(network.connected) == 1


def test_no_proxy_of_the_environment(portal: BlockingPortal, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://10.0.0.1:3128")
    network = Network()
    post(portal, "https://editor.example/", network, PUBLIC)
    assert network.connected == [(PUBLIC, 443)]


def test_a_receiver_that_says_nothing_is_not_waited_for(portal: BlockingPortal) -> None:
    with pytest.raises(TimeoutError):
        post(portal, "https://editor.example/", Network(b"HTTP/1.1 ", silence_s=10), PUBLIC, timeout_s=0.1)
