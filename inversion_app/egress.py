"""Calls to addresses that strangers have named: to public hosts alone, whatever their names resolve to.

The name is resolved here, every address is checked, and the connection goes to an address that was checked: a name
that resolves otherwise a moment later (DNS rebinding) gains nothing. TLS still asks for the name's certificate.
Redirects are not followed, no proxy of the environment is used, and no connection is kept for later.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

import anyio
import certifi
import httpcore

from inversion_app.special_addresses import is_public

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> IP addresses, in the order in which to try them. Raises: OSError."""
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")


class Forbidden(Exception):
    """The host is, or resolves to, an address that strangers may not make us call."""


async def resolve(host: str, port: int) -> list[str]:
    """The system's own answer."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def looks_local(host: str) -> bool:
    """Whether a host can be refused by its name alone: an address that is not public, or a name of a local network."""
    try:
        return not is_public(host)
    except ValueError:
        return host == "localhost" or host.endswith(_LOCAL_SUFFIXES)


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses alone, and to the hosts that were allowed by name."""

    def __init__(
        self,
        allowed_hosts: Collection[str],
        resolve: Resolve = resolve,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._allowed_hosts = allowed_hosts
        self._resolve = resolve
        self._network = network or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises: Forbidden, httpcore.ConnectError, httpcore.ConnectTimeout."""
        error: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await self._addresses(host, port):
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved") from error
        if host not in self._allowed_hosts and not all(is_public(address) for address in found):
            raise Forbidden(host)
        return found

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise Forbidden("a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class Sender:
    """Posts to strangers' addresses. Make it inside the event loop that will use it, and close it."""

    def __init__(self, network: httpcore.AsyncNetworkBackend, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_trusted(), network_backend=network, max_connections=None, max_keepalive_connections=0
        )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send `body`; the status of the answer, whose own body is not read.

        Raises: Forbidden, TimeoutError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException.
        """
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        with anyio.fail_after(self._timeout_s):  # of the whole exchange: a receiver that drips bytes gains nothing
            async with self._pool.stream("POST", url, headers=pairs, content=body) as answer:
                return int(answer.status)

    async def close(self) -> None:
        await self._pool.aclose()


def _trusted() -> ssl.SSLContext:
    """The system's certificates (or those of SSL_CERT_FILE) and Mozilla's."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
